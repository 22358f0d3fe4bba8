"""How many connections to the source pay: one cipher stream fills one processor, not always the
line. Measured with random bytes, before the first copy of a large disk."""

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate, chain
from typing import Self

from core.beside import beside
from core.ports import Host
from core.progress import Report, silent
from migrate.limits import FREE, Toll
from migrate.transfer_dd import reading
from migrate.transfer_wire import Kind, Session, session

SAMPLE = 8 * 1024 * 1024  # bytes per connection: four windows of ssh
PIECE = 256 * 1024  # bytes, asked for first; then twice as much as came
AHEAD = 4 * 1024 * 1024  # bytes that one connection is asked for at most
BRIEF = 0.1  # seconds; a line that brings that sooner is measured with twice as much
LONG = 1.0  # seconds; nothing more is asked for then
PAYS = 1.3  # so much quicker must more connections be
FAR = 1.4  # where they take processors from others
FULL = 0.85  # where each brings less of what it brought, the line is full
QUICK = 100e6  # bytes per second of a connection that no delay holds up
MANY = 4  # are tried at once over a far line: each trial takes a second
MOST = 8


class Readers:
    """The connections to one source, for one pass after another: a far one takes half a second to
    make. They stay as polite as their first pass made them, so live passes share them among
    themselves, and last passes do."""

    def __init__(self, source: Host) -> None:
        self._source = source
        self._stack = ExitStack()
        self._found: list[Session] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def starting(self, count: int, report: Report) -> list[Callable[[], Session]]:
        """What starts as many as are missing; for ``beside``."""

        def start() -> Session:
            reader = self._stack.enter_context(reading(self._source, report))
            self._found.append(reader)
            return reader

        return [start] * (count - len(self._found))

    def one(self, report: Report = silent) -> Session:
        """Any of them."""
        beside(self.starting(1, report))
        return self._found[0]

    @contextmanager
    def lent(
        self, count: int, report: Report = silent, *, stay: bool = False, toll: Toll = FREE
    ) -> Iterator[list[Session]]:
        """So many of them for a pass, 0: as many as pay, measured with what ``toll`` lets go; one
        where dd does the reading. Whatever fails ends all. Without ``stay`` they end with the pass,
        and so does dd, which reads one disk."""
        try:
            if without_python(self.one(report)):
                count = 1
            elif count > len(self._found):
                self._found += self._stack.enter_context(
                    _more(self._source, count - len(self._found))
                )
            elif not count:
                _grow(self._source, self._found, self._stack, toll)
                count = len(self._found)
            yield self._found[:count]
        except BaseException:
            self.close()
            raise
        if not stay or without_python(self._found[0]):
            for reader in self._found:
                reader.bye()
            self.close()

    def close(self) -> None:
        """End all; the next pass makes new ones."""
        self._found = []
        self._stack.close()


def without_python(reader: Session) -> bool:
    """Whether it is dd that reads there."""
    return reader.hello.python == "dd"


@contextmanager
def _more(source: Host, count: int) -> Iterator[list[Session]]:
    with ExitStack() as stack:
        yield beside([lambda: stack.enter_context(session(source, "reader"))] * count)


def _grow(source: Host, found: list[Session], stack: ExitStack, toll: Toll) -> None:
    """More readers, and more again, while that makes the line quicker. Half of the processors are
    left to those that hash and write, unless delays hold the connections up. Nothing is tried on a
    line that is full: a trial costs bytes. Those that measured do the work."""
    half = _processors(found[0]) // 2
    rate = _rate(found, toll)
    while len(found) < MOST:
        held = rate < QUICK * len(found)
        count = max(MANY if held else 0, 2 * len(found))
        spare = count <= half
        if (not spare and not held) or rate > FULL * toll.most or not rate:  # 0: not to be told
            return
        tried = stack.enter_context(ExitStack())
        more = tried.enter_context(_more(source, count - len(found)))
        now = _rate([*found, *more], toll)
        if now < (PAYS if spare else FAR) * rate:
            for reader in more:
                reader.bye()
            tried.close()
            return
        full = now / count < FULL * rate / len(found)
        found += more
        if full and not spare:
            return
        rate = now


def _processors(reader: Session) -> int:
    """Of the poorer side."""
    return min(reader.hello.cpus, os.cpu_count() or 1)


def _rate(found: list[Session], toll: Toll) -> float:
    """Bytes per second that all together bring."""
    sample = Sample(len(found), toll)
    return in_full_swing(beside([partial(sample.taken, reader) for reader in found]))


def in_full_swing(flows: list[list[tuple[float, int]]]) -> float:
    """Bytes per second of all flows, (moment, size) each, together: the later half of what came
    until the first of them came to its end."""
    end = min(flow[-1][0] for flow in flows)
    came = [(moment, size) for moment, size in sorted(chain(*flows)) if moment <= end]
    total = list(accumulate(size for _, size in came))
    half = bisect_left(total, total[-1] / 2)
    return (total[-1] - total[half]) / max(end - came[half][0], 1e-6)


class Sample:
    """What several connections bring together; one that is in full swing brings more of it than
    one whose TCP is still finding out how much it may send."""

    def __init__(self, count: int, toll: Toll = FREE) -> None:
        self._toll = toll
        self._start = time.monotonic()
        self._left = self._again = count * SAMPLE
        self._lock = threading.Lock()

    def taken(self, reader: Session) -> list[tuple[float, int]]:
        """What came when. Twice as much is asked for as came, so a slow line is not asked for what
        it brings in minutes."""
        came: list[tuple[float, int]] = []
        under_way = PIECE
        self._toll.spend(PIECE)
        reader.send(Kind.PROBE, length=PIECE)
        while under_way:
            size = len(reader.expect(Kind.PROBE).payload)
            came.append((time.monotonic(), size))
            under_way -= size
            more = self.more(min(2 * size, AHEAD - under_way))
            if more:
                self._toll.spend(more)
                reader.send(Kind.PROBE, length=more)
            under_way += more
        return came

    def more(self, wanted: int) -> int:
        """How much of that is still to be brought; 0 when it took long enough."""
        past = time.monotonic() - self._start
        with self._lock:
            if self._left < wanted and past < BRIEF:
                self._left, self._again = self._left + self._again, 0
            part = min(wanted, self._left) if past < LONG else 0
            self._left -= part
        return part
