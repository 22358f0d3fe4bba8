"""How many connections to the source pay: one cipher stream fills one processor, not always the
line. Measured with random bytes, before the first copy of a large disk."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from core.beside import beside
from core.ports import Host
from core.progress import Report, silent
from migrate.transfer_dd import reading
from migrate.transfer_wire import Kind, Session, session

SAMPLE = 16 * 1024 * 1024  # bytes per connection
PAYS = 1.3  # so much quicker must twice as many be
TWICE = 1.4  # where they take processors from others
FULL = 1.75  # quicker by less, where a delay held all up: it is the line that does now
QUICK = 100e6  # bytes per second of a connection that no delay holds up
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
        self, count: int, report: Report = silent, *, stay: bool = False
    ) -> Iterator[list[Session]]:
        """So many of them for a pass, 0: as many as pay; one where dd does the reading. Whatever
        fails ends all. Without ``stay`` they end with the pass, and so does dd, which reads one
        disk."""
        try:
            if without_python(self.one(report)):
                count = 1
            elif count > len(self._found):
                self._found += self._stack.enter_context(
                    _more(self._source, count - len(self._found))
                )
            elif not count:
                _grow(self._source, self._found, self._stack)
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


def _grow(source: Host, found: list[Session], stack: ExitStack) -> None:
    """Twice as many readers, and again, while that makes the line quicker. Half of the processors
    are left to those that hash and write, unless delays hold the connections up: then twice as
    many are quicker by two fifths at least, and nothing is tried on a line that is full: a trial of
    eight costs it 128 MiB. Those that measured do the work."""
    half = _processors(found[0]) // 2
    rate = _rate(found)
    while 2 * len(found) <= MOST:
        spare = 2 * len(found) <= half
        if not spare and rate > QUICK * len(found):
            return
        tried = stack.enter_context(ExitStack())
        more = tried.enter_context(_more(source, len(found)))
        now = _rate([*found, *more])
        if now < (PAYS if spare else TWICE) * rate:
            for reader in more:
                reader.bye()
            tried.close()
            return
        found += more
        if not spare and now < FULL * rate:
            return
        rate = now


def _processors(reader: Session) -> int:
    """Of the poorer side."""
    return min(reader.hello.cpus, os.cpu_count() or 1)


def _rate(found: list[Session]) -> float:
    """Bytes per second that all together bring."""

    def taking(reader: Session) -> Callable[[], None]:
        def take() -> None:
            reader.send(Kind.PROBE, length=SAMPLE)
            left = SAMPLE
            while left > 0:
                left -= len(reader.expect(Kind.PROBE).payload)

        return take

    start = time.monotonic()
    beside([taking(reader) for reader in found])
    return len(found) * SAMPLE / max(time.monotonic() - start, 1e-6)
