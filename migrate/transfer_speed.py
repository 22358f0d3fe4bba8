"""How many connections to the source pay: one cipher stream fills one processor, not always the
line. Measured with random bytes, before the first copy of a large disk."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from core.errors import Problem
from core.ports import Host
from core.progress import Report, silent
from migrate.transfer_dd import reading
from migrate.transfer_wire import Kind, Session, session

SAMPLE = 16 * 1024 * 1024  # bytes per connection
PAYS = 1.3  # so much quicker must twice as many be
MOST = 8


@contextmanager
def readers(
    source: Host, count: int, report: Report = silent, first: Session | None = None
) -> Iterator[list[Session]]:
    """So many readers on ``source``, one where dd does the reading; when all went well they part
    in peace. ``first`` is one that runs already."""
    with ExitStack() as stack:
        found = [first or stack.enter_context(reading(source, report))]
        if count > 1 and not without_python(found[0]):
            more = (session(source, "reader") for _ in range(count - 1))
            found += [stack.enter_context(reader) for reader in more]
        yield found
        for reader in found:
            reader.bye()


def without_python(reader: Session) -> bool:
    """Whether it is dd that reads there."""
    return reader.hello.python == "dd"


def connections(source: Host) -> int:
    """The number of connections from which on more of them bring nothing."""
    best, rate = 1, 0.0
    count = 1
    while count <= MOST:
        with readers(source, count) as found:
            if without_python(found[0]):
                return 1
            now = _rate(found)
            processors = found[0].hello.cpus
        if count > 1 and now < PAYS * rate:
            break
        best, rate, count = count, now, count * 2
        if count > processors:
            break
    return best


def _rate(found: list[Session]) -> float:
    """Bytes per second that all together bring."""
    faults: list[Problem] = []

    def take(reader: Session) -> None:
        try:
            reader.send(Kind.PROBE, length=SAMPLE)
            left = SAMPLE
            while left > 0:
                left -= len(reader.expect(Kind.PROBE).payload)
        except Problem as fault:
            faults.append(fault)

    start = time.monotonic()
    threads = [threading.Thread(target=take, args=(reader,), daemon=True) for reader in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return len(found) * SAMPLE / max(time.monotonic() - start, 1e-6)
