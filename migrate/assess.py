"""Assessment: rules over what discovery learned, the verdict, and the book of waivers."""

from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated

import yaml
from pydantic import Field

from core.documents import Document
from core.errors import UsageProblem
from core.rules import Answer, Finding, Severity, Waiver, blockers, judge
from migrate.rules.catalogue import RULES
from migrate.rules.subject import Subject
from migrate.target import Target

VERSION = 1
Text = Annotated[str, Field(min_length=2, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Verdict(StrEnum):
    """Whether the server can move."""

    FEASIBLE = "feasible"
    CONDITIONAL = "conditional"
    UNDECIDED = "undecided"
    NOT_FEASIBLE = "not feasible"


class Accepted(Document):
    """Who accepted which finding of this server, why and when."""

    rule: str
    person: Text
    reason: Text
    day: date


class Waivers(Document):
    """waivers.yml."""

    version: int = Field(default=1, ge=1, le=1)
    waivers: tuple[Accepted, ...] = ()


class Report(Document):
    """report.json: no time stamp, so that the same facts give the same file."""

    version: int = VERSION
    host: str
    source_sha256: str
    verdict: Verdict
    target: Target
    findings: tuple[Finding, ...]


def assess(subject: Subject, source_sha256: str, book: Waivers) -> Report:
    """Judge ``subject`` by all rules."""
    accepted = [Waiver(rule=w.rule, person=w.person, reason=w.reason) for w in book.waivers]
    findings = judge(RULES, subject, accepted)
    return Report(
        host=subject.host.name,
        source_sha256=source_sha256,
        verdict=verdict(findings),
        target=subject.target,
        findings=findings,
    )


def verdict(findings: Sequence[Finding]) -> Verdict:
    """A failed blocker decides; one that could not be judged leaves the matter open."""
    open_blockers = blockers(findings)
    if any(finding.answer is Answer.FAIL for finding in open_blockers):
        return Verdict.NOT_FEASIBLE
    if open_blockers or any(finding.answer is Answer.ERROR for finding in findings):
        return Verdict.UNDECIDED
    return Verdict.CONDITIONAL if any(map(_is_condition, findings)) else Verdict.FEASIBLE


def _is_condition(finding: Finding) -> bool:
    """An accepted blocker is a condition too: somebody has taken it on."""
    return finding.answer is not Answer.PASS and (
        finding.severity is Severity.BLOCKER
        or (finding.severity is Severity.WARNING and finding.waiver is None)
    )


def waive(book: Waivers, rules: Iterable[str], person: str, reason: str, day: date) -> Waivers:
    """``book`` with these rules accepted. Raises UsageProblem for a rule that does not exist."""
    known = {rule.id for rule in RULES}
    kept = {waiver.rule: waiver for waiver in book.waivers}
    for rule in rules:
        if rule not in known:
            raise UsageProblem(
                f"there is no rule {rule}",
                hint="the ids stand in the findings and in docs/rules.md",
            )
        kept[rule] = Accepted(rule=rule, person=person, reason=reason, day=day)
    return Waivers(waivers=tuple(kept[rule] for rule in sorted(kept)))


def waivers_text(book: Waivers) -> str:
    """waivers.yml."""
    head = (
        "# Who accepted which finding of this server, and why. Remove an entry to take it back.\n"
    )
    data = {"version": book.version, "waivers": [w.model_dump(mode="json") for w in book.waivers]}
    return head + yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
