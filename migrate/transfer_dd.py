"""A source without Python: its disk is read by dd, and the reader's work is done here.

The reader's own program runs in a thread of the controller; only its disk is another one: ranges
that a shell loop on the source reads by dd and sends. Maps, digests, manifest, proof and resuming
are the same. What differs: all that is in use crosses the network in every pass, uncompressed.
"""

import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, BinaryIO

from core.errors import OutsideFailed
from core.ports import Host
from core.progress import Event, Kind, Report, silent
from migrate.transfer_remote import MIB, SERVER, Remote
from migrate.transfer_wire import NoPython, Session, program, session

NO_PYTHON = "no Python there: dd reads the disk, all that is in use crosses the network"
SECTOR = 512
TASK = 4 * MIB  # of the disk at once
AHEAD = 2  # tasks asked for while one is worked on, half of them
BRIDGED = MIB // 4
FLUSH_EVERY = 64 * MIB


class Disk:
    """What the reader's program calls Device, over a Remote: what was announced is already under
    way when it is read, the rest is asked for alone."""

    block = False  # the reader must not flush the controller's own disks

    def __init__(self, remote: Remote, path: str) -> None:
        self.bad: list[tuple[int, int]] = []
        self.took = self._unflushed = 0
        self._remote, self._buffer, self._start = remote, b"", 0
        self._map = (0, b"")
        self._kept: deque[tuple[int, bytes, bool]] = deque()  # taken before its turn
        self.size, self._guard = remote.open(path)
        if self._guard == "no":
            raise OutsideFailed(
                "neither `dd iflag=direct` nor `blockdev --flushbufs` is there: what is read could "
                "be older than what the server wrote",
                hint="install util-linux's blockdev or a Python on the server",
            )

    def fresh(self) -> None:
        """Nothing that was read before may be given again."""
        self._drain()
        self._buffer, self._map, self._unflushed = b"", (0, b""), 0
        if self._guard == "yes":
            self._remote.flush()

    def close(self) -> None:
        """As of a device."""
        self._drain()

    def expect(self, pieces: Sequence[tuple[int, int]]) -> None:
        """These will be read next, in order: ask for them now. Small gaps are read along."""
        self._unflushed += sum(end - start for start, end in pieces)
        if self._unflushed >= FLUSH_EVERY and self._guard == "yes":
            self._unflushed = 0
            self._remote.flush()
        start, end = pieces[0]
        for first, last in pieces[1:]:
            if first - end > BRIDGED:
                self._ask(start, end)
                start = first
            end = last
        self._ask(start, end)

    def read(self, offset: int, length: int) -> bytes:
        """Never fails for a bad sector: that is zeros, and is remembered."""
        self.took += length
        length = min(length, self.size - offset)
        parts = []
        while length > 0:
            if self._start <= offset < self._start + len(self._buffer) or self._reached(offset):
                at = offset - self._start
                part = self._buffer[at : at + length]
            else:
                part = self._alone(offset, length)
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _reached(self, offset: int) -> bool:
        """Whether this was announced: then it is in the buffer now. What lies before is passed."""
        ranges = [(start, len(data)) for start, data, _ in self._kept]
        for number, (start, count) in enumerate((*ranges, *self._remote.asked)):
            if start <= offset < start + count:
                for _ in range(number):
                    self._next()
                self._start, data, whole = self._next()
                self._buffer = data if whole else self._bisect(start, count)
                return True
        return False

    def _alone(self, offset: int, length: int) -> bytes:
        """A map, between data that is under way. What is read next often lies in the same."""
        start, data = self._map
        if not start <= offset < start + len(data):
            self._ask(offset, offset + length)
            start, count = self._remote.asked[-1]
            self._keep(but=1)
            data, whole = self._remote.take()
            self._map = start, data if whole else self._bisect(start, count)
        return self._map[1][offset - start :][:length]

    def _next(self) -> tuple[int, bytes, bool]:
        """(offset, bytes, whether all could be read) of the oldest announcement."""
        if self._kept:
            return self._kept.popleft()
        start, _ = self._remote.asked[0]
        return start, *self._remote.take()

    def _keep(self, *, but: int = 0) -> None:
        """Take what is under way, all but the last ones: never more than is announced at once."""
        while len(self._remote.asked) > but:
            start, _ = self._remote.asked[0]
            self._kept.append((start, *self._remote.take()))

    def _ask(self, start: int, end: int) -> None:
        start -= start % SECTOR
        self._remote.ask(start, min(self.size, end + -end % SECTOR) - start)

    def _bisect(self, offset: int, length: int) -> bytes:
        """A range that dd could not read: by halves, down to the sectors."""
        if length <= SECTOR:
            self.bad.append((offset, length))
            return bytes(length)
        self._keep()
        half = max(SECTOR, length // (2 * SECTOR) * SECTOR)
        parts = []
        for start, count in ((offset, half), (offset + half, length - half)):
            self._remote.ask(start, count)
            data, whole = self._remote.take()
            parts.append(data if whole else self._bisect(start, count))
        return b"".join(parts)

    def _drain(self) -> None:
        self._kept.clear()
        while self._remote.asked:
            self._remote.take()


class Local:
    """A Channel to the reader's program in a thread here."""

    def __init__(self, names: dict[str, Any], remote: Remote) -> None:
        self._remote = remote
        theirs, ours = os.pipe()
        answers, told = os.pipe()
        self.stdin: BinaryIO = os.fdopen(ours, "wb", 0)
        self.stdout: BinaryIO = os.fdopen(answers, "rb")
        self._thread = threading.Thread(target=self._serve, args=(names, theirs, told), daemon=True)
        self._thread.start()

    def _serve(self, names: dict[str, Any], source: int, sink: int) -> None:
        try:
            names["serve"]("reader", names["handlers"], source, sink)
        except OutsideFailed as fault:
            names["complain"](names["Link"](source, sink), fault.message, 0)
        finally:
            os.close(source)
            os.close(sink)

    def wait(self, timeout: float) -> int:
        """Its end."""
        self._thread.join(timeout)
        return 0

    def errors(self) -> str:
        """It has no standard error of its own."""
        return ""

    def kill(self) -> None:
        """End it: its disk and its orders are gone."""
        self._remote.kill()
        self.stdin.close()

    def close(self) -> None:
        """End it and give up the pipes."""
        self.kill()
        self._thread.join(10)
        self.stdout.close()


class DdSession(Session):
    """``received`` and ``sent`` are what crossed the network."""

    def __init__(self, host: str, channel: Local, remote: Remote) -> None:
        self._remote = remote
        super().__init__(host, "reader", channel)

    @property
    def received(self) -> int:
        """Bytes from the source."""
        return self._remote.received

    @received.setter
    def received(self, _: int) -> None:
        pass

    @property
    def sent(self) -> int:
        """Bytes to the source."""
        return self._remote.sent

    @sent.setter
    def sent(self, _: int) -> None:
        pass

    def charge(self, spend: Callable[[int], None]) -> bool:
        """All that dd brings, not only what goes on to the writer."""
        self._remote.spend = spend
        return True


def _program(remote: Remote) -> dict[str, Any]:
    """The reader's names, with another disk below them and nothing that touches the controller."""
    names: dict[str, Any] = {"__name__": "agent"}
    exec(compile(program("reader"), "reader", "exec"), names)  # noqa: S102 - our own program
    plain = names["areas"]

    def areas(read: Callable[[int, int], bytes], size: int, final: bool) -> list[tuple[Any, ...]]:
        return [
            (*area[:3], f"{area[3]}, read by dd", *area[4:]) for area in plain(read, size, final)
        ]

    names.update(
        Device=lambda path: Disk(remote, path),
        FORKS=False,
        SCHEDSTAT="",
        politely=lambda: None,
        areas=areas,
        TASK=TASK,
    )
    names["Crew"] = _announcing(names)
    names["holders"] = lambda _: []
    return names


def _announcing(names: dict[str, Any]) -> Callable[..., Any]:
    """The reader's crew, telling the disk what will be read as soon as that is known."""
    plain: Any = names["Crew"]

    class Crew(plain):  # type: ignore[misc]
        def __init__(self, link: Any, device: Disk, *rest: Any) -> None:
            super().__init__(link, device, *rest)
            self.count, self.device = AHEAD, device

        def give(self, order: bytes) -> None:
            super().give(order)
            size = struct.calcsize(names["ORDER"])
            count = struct.unpack(names["ORDER"], order[:size])[-2]
            flat = struct.unpack(f"!{2 * count}Q", order[size : size + 16 * count])
            self.device.expect(list(zip(flat[::2], flat[1::2], strict=True)))

    return Crew


@contextmanager
def reading(host: Host, report: Report = silent) -> Iterator[Session]:
    """A greeted reader for ``host``: there, if it has a Python, else here, with dd there."""
    with ExitStack() as stack:
        try:
            agent = stack.enter_context(session(host, "reader"))
        except NoPython:
            report(Event(Kind.NOTE, f"reader on {host.name}", text=NO_PYTHON))
            agent = stack.enter_context(by_dd(host))
        yield agent


@contextmanager
def by_dd(host: Host) -> Iterator[Session]:
    """A greeted reader here, over dd on ``host``."""
    with host.stream(("sh", "-c", SERVER)) as channel:
        remote = Remote(channel, host.name)
        local = Local(_program(remote), remote)
        try:
            agent = DdSession(host.name, local, remote)
            agent.greet()
            agent.hello = replace(agent.hello, python="dd", cpus=1)
            yield agent
        finally:
            local.close()
