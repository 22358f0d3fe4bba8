"""Judging: rules are pure, answer pass, fail, unknown or error, and always say what to do.

The same engine serves media verification, site rules, prechecks, assessment, verification after a
migration and acceptance. Unknown and error never pass.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Subject = TypeVar("Subject")


class Severity(StrEnum):
    """What a finding means for going on."""

    INFO = "info"
    WARNING = "warning"
    BLOCKER = "blocker"


class Answer(StrEnum):
    """What a rule said."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer of a rule: what was seen, and where."""

    answer: Answer
    evidence: str = ""
    where: str = ""


def passed(evidence: str = "", where: str = "") -> Outcome:
    """The rule holds."""
    return Outcome(Answer.PASS, evidence, where)


def failed(evidence: str, where: str = "") -> Outcome:
    """The rule does not hold; ``evidence`` is the value that says so."""
    return Outcome(Answer.FAIL, evidence, where)


def unknown(evidence: str, where: str = "") -> Outcome:
    """The fact that the rule needs is missing; ``evidence`` says why."""
    return Outcome(Answer.UNKNOWN, evidence, where)


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """``id`` is ``area.subject_condition``; ``judge`` returns one outcome or one per place."""

    id: str
    title: str
    severity: Severity
    remediation: str
    judge: Callable[[Subject], Outcome | Iterable[Outcome]]


class Waiver(BaseModel):
    """Somebody's recorded acceptance of a finding."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rule: str
    person: str
    reason: str


class Finding(BaseModel):
    """A rule's answer about one place, as it stands in reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rule: str
    title: str
    severity: Severity
    answer: Answer
    evidence: str = ""
    where: str = ""
    remediation: str = ""
    waiver: Waiver | None = None

    @property
    def blocks(self) -> bool:
        """Whether the work must not go on because of this."""
        return (
            self.severity is Severity.BLOCKER
            and self.answer is not Answer.PASS
            and self.waiver is None
        )


def judge(
    rules: Iterable[Rule[Subject]], subject: Subject, waivers: Sequence[Waiver] = ()
) -> tuple[Finding, ...]:
    """Ask every rule; a rule that raises has answered ``error``, which never passes."""
    book = {waiver.rule: waiver for waiver in waivers}
    return tuple(
        Finding(
            rule=rule.id,
            title=rule.title,
            severity=rule.severity,
            answer=outcome.answer,
            evidence=outcome.evidence,
            where=outcome.where,
            remediation="" if outcome.answer is Answer.PASS else rule.remediation,
            waiver=None if outcome.answer is Answer.PASS else book.get(rule.id),
        )
        for rule in rules
        for outcome in _outcomes(rule, subject)
    )


def _outcomes(rule: Rule[Subject], subject: Subject) -> list[Outcome]:
    try:
        answer = rule.judge(subject)
        return [answer] if isinstance(answer, Outcome) else list(answer) or [passed()]
    except Exception as fault:  # a crashing rule must be seen, and must not hide the others
        return [Outcome(Answer.ERROR, f"{type(fault).__name__}: {fault}")]


def blockers(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that stand in the way."""
    return tuple(finding for finding in findings if finding.blocks)
