"""The report of a whole run as one HTML file that needs nothing else: no script, no network.

Everything in it may have come from an old server, so everything is escaped, and a policy in the
page forbids whatever could be loaded.
"""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from acceptance.gather import Run, Status, Subject
from core.documents import Document, load
from core.rules import Answer, Finding, Severity

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh_CN")
ORDER = (Severity.BLOCKER, Severity.WARNING, Severity.INFO)


class RuleWords(Document):
    """A rule in another language."""

    title: str
    remediation: str


class Words(Document):
    """One language: its own name, labels, and rules. What it lacks is shown as it is."""

    language: str
    labels: dict[str, str] = {}
    rules: dict[str, RuleWords] = {}

    def label(self, key: str) -> str:
        """A label; ``disk.size`` falls back to its parts, and unknown words stay themselves."""
        if key in self.labels:
            return self.labels[key]
        head, dot, tail = key.rpartition(".")
        if dot:
            return f"{self.label(head)}: {self.label(tail)}"
        return key.replace("_", " ")

    def value(self, text: str) -> str:
        """A value that is itself one of our words, as a verdict is."""
        return self.labels.get(text, text)

    def title(self, finding: Finding) -> str:
        """The finding's sentence."""
        words = self.rules.get(finding.rule)
        return words.title if words else finding.title

    def remedy(self, finding: Finding) -> str:
        """What to do about it."""
        words = self.rules.get(finding.rule)
        return words.remediation if words and finding.remediation else finding.remediation


def words(language: str) -> Words:
    """The words of ``language``."""
    return load(HERE / f"{language}.yml", Words)


def render(run: Run, language: str) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = words(language)
    return environment.get_template("report.html.j2").render(
        run=run,
        words=own,
        say=own.label,
        lang=language.replace("_", "-"),
        counts=counts(run.findings),
        bars=bars(counts(run.findings)),
        ordered=ordered,
        status=status,
        fails=Answer.FAIL,
        passes=Answer.PASS,
    )


def ordered(findings: tuple[Finding, ...]) -> list[Finding]:
    """The open ones first, the worst on top."""
    return sorted(
        findings, key=lambda f: (f.answer is Answer.PASS, ORDER.index(f.severity), f.rule)
    )


def counts(findings: tuple[Finding, ...]) -> Mapping[str, int]:
    """Open findings by severity, and those that somebody has accepted."""
    found = {
        severity.value: sum(f.severity is severity and f.waiver is None for f in findings)
        for severity in ORDER
    }
    return {**found, "accepted": sum(f.waiver is not None for f in findings)}


def bars(found: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Name, count and width in pixels of each bar of the chart."""
    longest = max(found.values(), default=0) or 1
    return [(name, count, round(280 * count / longest)) for name, count in found.items()]


def status(subject: Subject) -> Status:
    """The worst of its stages, as one word."""
    found = {stage.status for stage in subject.stages}
    if Status.BLOCKED in found:
        return Status.BLOCKED
    return Status.OPEN if Status.OPEN in found else Status.DONE
