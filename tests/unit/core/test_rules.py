"""The rule engine: unknown and error never pass; a waiver is recorded, not forgotten."""

from collections.abc import Iterator

from core.rules import (
    Answer,
    Outcome,
    Rule,
    Severity,
    Waiver,
    blockers,
    failed,
    judge,
    passed,
    unknown,
)


def rule(judgement: Outcome, severity: Severity = Severity.BLOCKER) -> Rule[int]:
    return Rule("area.subject_condition", "Title", severity, "do this", lambda _: judgement)


def test_a_failing_blocker_blocks_and_says_what_to_do() -> None:
    (finding,) = judge([rule(failed("seen 3"))], 3)
    assert finding.blocks
    assert (finding.evidence, finding.remediation) == ("seen 3", "do this")


def test_a_passing_rule_needs_no_remedy() -> None:
    (finding,) = judge([rule(passed("fine"))], 3)
    assert not finding.blocks
    assert finding.remediation == ""


def test_unknown_never_passes() -> None:
    assert blockers(judge([rule(unknown("no answer"))], 3))


def test_a_rule_that_crashes_has_answered_error_and_hides_no_other() -> None:
    def crash(_: int) -> Outcome:
        raise ValueError("bad fact")

    crashing = Rule("a.b_c", "T", Severity.BLOCKER, "r", crash)
    findings = judge([crashing, rule(passed())], 3)
    assert [finding.answer for finding in findings] == [Answer.ERROR, Answer.PASS]
    assert "bad fact" in findings[0].evidence
    assert findings[0].blocks


def test_a_rule_may_answer_for_several_places() -> None:
    def places(_: int) -> Iterator[Outcome]:
        yield failed("full", "/dev/sda1")
        yield passed("", "/dev/sda2")

    findings = judge([Rule("a.b_c", "T", Severity.WARNING, "r", places)], 3)
    assert [finding.where for finding in findings] == ["/dev/sda1", "/dev/sda2"]


def test_a_rule_with_nothing_to_say_passes() -> None:
    (finding,) = judge([Rule("a.b_c", "T", Severity.WARNING, "r", lambda _: ())], 3)
    assert finding.answer is Answer.PASS


def test_a_waived_blocker_no_longer_blocks_and_keeps_the_name() -> None:
    waiver = Waiver(rule="area.subject_condition", person="Li", reason="spare part ordered")
    (finding,) = judge([rule(failed("x"))], 3, [waiver])
    assert not finding.blocks
    assert finding.waiver == waiver
