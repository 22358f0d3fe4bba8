"""One pass over one disk: frames from the reader to the writer, digests into the manifest.

Three flows at once: the reader's frames are passed on; the writer's acknowledgements become
manifest, journal and new credit; the manifest streams to the reader a little ahead of its reading.
At most ``WINDOW`` bytes are under way, so that is the most that a crash can cost.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.errors import OutsideFailed, Problem
from core.progress import Meter, Report, Unit, track
from core.quantities import duration, size
from migrate.transfer_manifest import Journal, Manifest
from migrate.transfer_wire import CHUNK, Frame, Kind, Session

WINDOW = 48 * 1024 * 1024
AHEAD = 1024 * 1024 * 1024  # of the disk: half a megabyte of digests
STEP = 1024 * CHUNK
STALL = 1800.0  # seconds without a sign of life


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with which disk."""

    kind: str
    device: str
    start: int = 0
    rate: int = 0
    compress: bool = False
    room: int = 2**63  # bytes that the pool can still take for this file


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass came to; ``wire`` counts both directions of the source's connection."""

    used: int
    read: int
    sent: int
    wire: int
    chunks: int
    bad: int
    seconds: float
    areas: str


@dataclass(slots=True)
class _Sent:
    """A frame that the writer has not acknowledged yet."""

    offset: int
    end: int
    digests: bytes
    cost: int


class Pump:
    """The three flows of one pass."""

    def __init__(
        self, reader: Session, writer: Session, manifest: Manifest, journal: Journal, order: Order
    ) -> None:
        self._reader, self._writer = reader, writer
        self._manifest, self._journal, self._order = manifest, journal, order
        self._pending: deque[_Sent] = deque()
        self._wake = threading.Condition()
        self._acknowledged = 0
        self._position = order.start  # of the reader, by its own word
        self._end = order.start  # of the last frame
        self._owed = self._chunks = self._bad = self._used = 0
        self._alive = time.monotonic()
        self._done = False
        self._fault: Problem | None = None

    def run(self, report: Report) -> Outcome:
        """The whole pass. Raises OutsideFailed when any party does not do its part."""
        order = self._order
        start = time.monotonic()
        self._journal.add("start", **{"pass": order.kind, "from": order.start})
        before = self._reader.received + self._reader.sent
        self._ask()
        threads = [
            threading.Thread(target=self._guarded, args=(flow,), daemon=True)
            for flow in (self._acknowledge, self._feed)
        ]
        for thread in threads:
            thread.start()
        try:
            mapped = self._reader.expect(Kind.MAPPED)
            self._check_room(mapped.number("used"))
            name = f"{order.kind} pass {order.device}"
            with track(report, name, mapped.number("used"), Unit.BYTES) as meter:
                end = self._relay(meter)
            self._clear(self._end, self._manifest.size)
            self._writer.send(Kind.FLUSH)
            threads[0].join()
            if self._fault:
                raise self._fault
        except BaseException as fault:
            self._give_up(threads, fault)
            raise
        finally:
            self._finish()
            threads[1].join(5)
        outcome = Outcome(
            used=end.number("used"),
            read=end.number("read"),
            sent=end.number("sent"),
            wire=self._reader.received + self._reader.sent - before,
            chunks=self._chunks,
            bad=self._bad,
            seconds=round(time.monotonic() - start, 3),
            areas=mapped.fields.get("areas", ""),
        )
        self._journal.add(
            "end",
            **{"pass": order.kind, "used": outcome.used, "read": outcome.read},
            **{"sent": outcome.sent, "wire": outcome.wire, "seconds": outcome.seconds},
        )
        return outcome

    def _ask(self) -> None:
        order, final = self._order, self._order.kind == "final"
        self._reader.say(
            Kind.PASS,
            device=order.device,
            size=self._manifest.size,
            hash=self._manifest.algorithm,
            codec="zlib" if order.compress else "raw",
            start=order.start,
            rate=order.rate,
            final=int(final),
            polite=int(not final),
        )
        self._reader.send(Kind.CREDIT, offset=WINDOW)

    def _check_room(self, used: int) -> None:
        # A little more than used is written: the zeros inside chunks that are partly used.
        if used > self._order.room:
            raise OutsideFailed(
                f"{size(used)} are in use on {self._order.device}, the pool has room for "
                f"{size(max(0, self._order.room))}",
                hint="make room in the pool or choose another one in plan.yml",
                where=self._writer.host,
            )

    # -- from the reader to the writer

    def _relay(self, meter: Meter) -> Frame:
        began = time.monotonic()
        while True:
            frame = self._reader.receive()
            self._alive = time.monotonic()
            if frame.kind is Kind.DATA:
                self._data(frame)
            elif frame.kind is Kind.ZERO:
                self._zero(frame)
            elif frame.kind is Kind.SAME:
                self._same(frame)
            elif frame.kind is Kind.POSITION:
                self._moved(frame, meter, began)
            elif frame.kind is Kind.BAD:
                self._bad += 1
                meter.note(f"unreadable: {frame.length} bytes at {frame.offset}, kept as zeros")
            elif frame.kind is Kind.END:
                return frame
            else:
                raise self._reader.failed(f"{frame.kind.name} came in the middle of a pass")

    def _advance(self, frame: Frame) -> int:
        """Check a frame's place; what lies between it and the last one is not used any more."""
        end = frame.offset + frame.length
        whole = end == self._manifest.size or end % CHUNK == 0
        if frame.offset % CHUNK or frame.offset < self._end or not frame.length or not whole:
            raise self._reader.failed("a frame has an impossible place")
        if end > self._manifest.size:
            raise self._reader.failed("a frame leads out of the disk")
        self._clear(self._end, frame.offset)
        self._end = end
        count = -(-frame.length // CHUNK)
        self._chunks += count
        return count

    def _data(self, frame: Frame) -> None:
        count = self._advance(frame)
        digests = frame.payload[: count * self._manifest.width]
        if len(digests) != count * self._manifest.width:
            raise self._reader.failed("a data frame is too short")
        self._pass_on(frame.offset, frame.length, digests, frame.head, frame.payload)

    def _zero(self, frame: Frame) -> None:
        self._advance(frame)
        whole, rest = divmod(frame.length, CHUNK)
        digests = self._manifest.zero(CHUNK) * whole
        if rest:
            digests += self._manifest.zero(rest)
        self._pass_on(frame.offset, frame.length, digests, frame.head, b"")

    def _same(self, frame: Frame) -> None:
        self._advance(frame)
        if frame.payload != self._manifest.get(frame.offset, frame.length):
            raise self._reader.failed("it calls chunks unchanged that are not")
        self._owed += len(frame.head)
        if self._owed > CHUNK:
            self._reader.send(Kind.CREDIT, offset=self._owed)
            self._owed = 0

    def _pass_on(self, offset: int, length: int, digests: bytes, head: bytes, body: bytes) -> None:
        self._manifest.withdraw(offset, length)
        with self._wake:
            cost = len(head) + len(body)
            self._pending.append(_Sent(offset, offset + length, digests, cost))
        self._writer.relay(head, body)

    def _clear(self, start: int, end: int) -> None:
        """Chunks that were in use before and are not now: zeros in the replica, too."""
        for offset, length, _ in self._manifest.runs(start, end):
            self._manifest.withdraw(offset, length)
            with self._wake:
                self._pending.append(_Sent(offset, offset + length, b"", 0))
            self._writer.send(Kind.ZERO, offset=offset, length=length)

    def _moved(self, frame: Frame, meter: Meter, began: float) -> None:
        used = int.from_bytes(frame.payload[:8], "big")
        with self._wake:
            self._position = max(self._position, frame.offset)
            self._wake.notify_all()
        rate = used / max(time.monotonic() - began, 0.001)
        left = max(0, (meter.total or 0) - used) / rate if rate else 0.0
        meter.advance(used - self._used, f"{size(rate)}/s, {duration(left)} left")
        self._used = used

    # -- from the writer to manifest, journal and credit

    def _acknowledge(self) -> None:
        while (frame := self._writer.receive()).kind is not Kind.FLUSH:
            if frame.kind is not Kind.ACK:
                raise self._writer.failed(f"{frame.kind.name} came where ACK should have")
            self._alive = time.monotonic()
            self._commit(frame.offset)
        if self._pending:
            raise self._writer.failed("it did not acknowledge everything")

    def _commit(self, upto: int) -> None:
        cost = position = 0
        while self._acknowledged < upto:
            with self._wake:
                if not self._pending:
                    raise self._writer.failed("it acknowledges what was never sent")
                sent = self._pending.popleft()
            self._acknowledged += 1
            if sent.digests:
                self._manifest.put(sent.offset, sent.digests)
            cost, position = cost + sent.cost, sent.end
        self._manifest.sync()
        self._journal.add("upto", at=position)
        if cost and not self._done:
            self._reader.send(Kind.CREDIT, offset=cost)

    # -- the manifest to the reader

    def _feed(self) -> None:
        told, whole = self._order.start // STEP * STEP, self._manifest.size
        while not self._done:
            with self._wake:
                position = self._position
                if told >= min(whole, position + AHEAD):
                    self._wake.wait(1.0)
                    self._watch()
                    continue
            told = max(told, position // STEP * STEP)
            length = min(STEP, whole - told)
            if length <= 0:
                continue
            digests = self._manifest.get(told, length)
            payload = digests if digests.count(0) != len(digests) else b""
            self._reader.send(Kind.MANIFEST, payload, told, length)
            told += length

    def _watch(self) -> None:
        if time.monotonic() - self._alive > STALL:
            raise self._reader.failed(f"no sign of life for {duration(STALL)}")

    # -- ends

    def _guarded(self, flow: Callable[[], None]) -> None:
        """A thread's fault ends both agents, so that nobody waits for ever."""
        try:
            flow()
        except Problem as fault:
            if not self._done:
                self._fault = self._fault or fault
                self._reader.kill()
                self._writer.kill()

    def _give_up(self, threads: list[threading.Thread], fault: BaseException) -> None:
        """The writer's own words, which a thread may still be reading, tell more than the broken
        pipe that they caused."""
        if isinstance(fault, Problem) and fault.where == self._writer.host:
            threads[0].join(2)
        self._finish()
        self._reader.kill()
        self._writer.kill()
        if isinstance(fault, Problem) and self._fault and self._fault is not fault:
            raise self._fault from fault

    def _finish(self) -> None:
        with self._wake:
            self._done = True
            self._wake.notify_all()


def verify(writer: Session, manifest: Manifest, report: Report) -> tuple[int, list[int]]:
    """Let the target read itself back. (chunks compared, offsets of those that differ)"""
    compared, asked, different = 0, 0, []
    questions, total = _questions(manifest), manifest.known() * CHUNK
    with track(report, f"read back {manifest.path.stem}", total, Unit.BYTES) as meter:
        for number, (offset, length, digests) in enumerate(_questions(manifest)):
            while asked < number + 16:  # requests are small, and so are the answers
                ahead = next(questions, None)
                if ahead is None:
                    break
                writer.send(Kind.VERIFY, offset=ahead[0], length=ahead[1])
                asked += 1
            frame = writer.expect(Kind.DIGESTS)
            if frame.offset != offset or len(frame.payload) != len(digests):
                raise writer.failed("it answered another question")
            for index in range(0, len(digests), manifest.width):
                own, other = (d[index : index + manifest.width] for d in (digests, frame.payload))
                if own != other:
                    different.append(offset + index // manifest.width * CHUNK)
            compared += len(digests) // manifest.width
            meter.advance(length)
    return compared, different


def _questions(manifest: Manifest) -> Iterator[tuple[int, int, bytes]]:
    for offset, length, digests in manifest.runs(0, manifest.size):
        for start in range(0, length, 64 * CHUNK):
            at = start // CHUNK * manifest.width
            size_ = min(64 * CHUNK, length - start)
            yield offset + start, size_, digests[at : at + 64 * manifest.width]
