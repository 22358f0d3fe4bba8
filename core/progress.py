"""Progress as records. Stages report; somebody else decides how it looks."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a task counts."""

    BYTES = "bytes"
    ITEMS = "items"
    STEPS = "steps"


class Kind(StrEnum):
    """What happened to a task."""

    START = "start"
    ADVANCE = "advance"
    NOTE = "note"
    FINISH = "finish"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing worth showing. ``total`` is None while it is not known."""

    kind: Kind
    task: str
    done: int = 0
    total: int | None = None
    unit: Unit = Unit.STEPS
    text: str = ""


Report = Callable[[Event], None]


def silent(_: Event) -> None:
    """The report nobody reads."""


class Meter:
    """Counts one task and reports at most ten times a second, so that counting stays cheap."""

    def __init__(self, report: Report, task: str, total: int | None, unit: Unit) -> None:
        self._report, self._task, self._unit = report, task, unit
        self._next = 0.0
        self.total, self.done = total, 0

    def advance(self, count: int = 1, text: str = "") -> None:
        """Add ``count`` units of work done."""
        self.done += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.1
            self.emit(Kind.ADVANCE, text)

    def note(self, text: str) -> None:
        """Say something that belongs to this task."""
        self.emit(Kind.NOTE, text)

    def emit(self, kind: Kind, text: str = "") -> None:
        """Report the present count as an event of ``kind``."""
        self._report(Event(kind, self._task, self.done, self.total, self._unit, text))


def pause(seconds: float, report: Report, task: str) -> None:
    """Wait, and show how long it will still last."""
    end = time.monotonic() + seconds
    with track(report, task, math.ceil(seconds)) as meter:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(0.2, left))
            meter.advance(max(0, math.ceil(seconds) - math.ceil(left) - meter.done))
        meter.done = math.ceil(seconds)


@contextmanager
def track(
    report: Report, task: str, total: int | None = None, unit: Unit = Unit.STEPS
) -> Iterator[Meter]:
    """Report the start and the end of a task, and its failure when the body raises."""
    meter = Meter(report, task, total, unit)
    meter.emit(Kind.START)
    try:
        yield meter
    except BaseException as problem:
        meter.emit(Kind.FAIL, str(problem) or type(problem).__name__)
        raise
    meter.emit(Kind.FINISH)
