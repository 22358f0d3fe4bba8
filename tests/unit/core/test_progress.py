"""Progress is a record, and a failure is part of it."""

import time

import pytest

from commands.console import show_findings
from core.errors import Problem
from core.progress import Event, Kind, Unit, pause, track
from core.quantities import GIB, duration, plain, size
from core.rules import Rule, Severity, failed, judge


def test_a_task_reports_its_start_its_work_and_its_end() -> None:
    events: list[Event] = []
    with track(events.append, "copy", 10, Unit.BYTES) as meter:
        meter.advance(4)
        meter.advance(6)
    assert [event.kind for event in events] == [Kind.START, Kind.ADVANCE, Kind.FINISH]
    assert events[-1] == Event(Kind.FINISH, "copy", 10, 10, Unit.BYTES)


def test_a_task_that_fails_says_why() -> None:
    events: list[Event] = []
    with pytest.raises(ValueError, match="broken"), track(events.append, "copy"):
        raise ValueError("broken")
    assert (events[-1].kind, events[-1].text) == (Kind.FAIL, "broken")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1536, "1.5 KiB"), (3 * GIB, "3.0 GiB"), (5000 * GIB, "4.9 TiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (75, "1 min 15 s"), (7260, "2 h 1 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_another_machines_words_command_no_terminal() -> None:
    assert plain("a\x1b[2J\x07b\u202ec\n磁盘 ✓") == "a?[2J?b?c\n磁盘 ✓"
    shown = Problem("said \x1b]0;x\x07", where="old\r", hint="\x9b31m")
    assert "\x1b" not in f"{shown}{shown.hint}"
    assert shown.where == "old?"


def test_findings_command_no_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    rule = Rule("a.b", "A title", Severity.BLOCKER, "do that", lambda _: failed("\x1b[2Jno"))
    show_findings(judge((rule,), None))
    assert "\x1b[2J" not in capsys.readouterr().out


def test_a_pause_shows_how_long_it_lasts_and_ends() -> None:
    seen: list[Event] = []
    begun = time.monotonic()
    pause(0.5, seen.append, "next at noon")
    assert 0.5 <= time.monotonic() - begun < 5
    assert [seen[0].kind, seen[-1].kind] == [Kind.START, Kind.FINISH]
    assert seen[-1].done == seen[-1].total == 1
