"""How many connections to the source pay: one cipher stream fills one processor, not always the
line. Measured with random bytes, before the first copy of a large disk."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from core.beside import beside
from core.ports import Host
from core.progress import Report, silent
from migrate.transfer_dd import reading
from migrate.transfer_wire import Kind, Session, session

SAMPLE = 16 * 1024 * 1024  # bytes per connection
PAYS = 1.3  # so much quicker must twice as many be
TWICE = 1.5  # where they take processors from others
QUICK = 100e6  # bytes per second of a connection that no delay holds up
MOST = 8


@contextmanager
def readers(
    source: Host, count: int, report: Report = silent, early: Sequence[Session] = ()
) -> Iterator[list[Session]]:
    """So many readers on ``source``, 0: as many as pay; one where dd does the reading. When all
    went well they part in peace. ``early`` are those that run already."""
    with ExitStack() as stack:
        found = list(early) or [stack.enter_context(reading(source, report))]
        if without_python(found[0]):
            count, found = 1, found[:1]
        if count > len(found):
            found += stack.enter_context(_more(source, count - len(found)))
        if not count:
            _grow(source, found, stack)
        yield found
        for reader in found:
            reader.bye()


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
    many are half as quick again at least. Those that measured do the work."""
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
