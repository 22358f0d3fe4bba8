"""One connection to the source during a pass: what its reader tells, and what it is told.

Several lanes share a disk by stripes; each checks the place of every frame it gets. A walk may
begin in the middle of the disk and goes round it then: what changes much is read first, and is on
its way while the rest is read.
"""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from core.errors import OutsideFailed
from migrate.limits import Toll
from migrate.transfer_index import Index, Place
from migrate.transfer_manifest import Manifest
from migrate.transfer_order import Order
from migrate.transfer_sums import WIDTH
from migrate.transfer_wire import CHUNK, HEADER, LIMIT, Frame, Kind, Session

AHEAD = 8 * 1024**3  # of the disk: the short digests of that take 1 MiB
STEP = 4096 * CHUNK
SHORT = 8
STRIPE = 4 * 1024 * 1024


class Hub(Protocol):
    """Where the lanes meet: the writer, the manifest, the pass as a whole."""

    alive: float
    done: bool
    index: Index | None

    @property
    def manifest(self) -> Manifest: ...
    @property
    def order(self) -> Order: ...
    @property
    def lanes(self) -> int: ...
    @property
    def window(self) -> int: ...
    def note(self, text: str) -> None: ...
    def mapped(self, used: int) -> None: ...
    def moved(self) -> None: ...
    def pass_on(
        self, lane: "Lane", frame: Frame, digests: bytes, body: bytes, cost: int = 0
    ) -> None: ...
    def clear(self, lane: "Lane", start: int, end: int) -> None: ...
    def copy(
        self, lane: "Lane", offset: int, digest: bytes, place: Place, told: Callable[[bool], None]
    ) -> None: ...


class _Offer:
    """One question of a reader, answered when the last of its chunks is looked for."""

    def __init__(self, lane: "Lane", base: int, count: int) -> None:
        self._lane, self._base, self.count = lane, base, count
        self._left = count
        self._wanted = bytearray(b"\1" * count)
        self._copied: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def teller(self, number: int, offset: int, digest: bytes) -> Callable[[bool], None]:
        """What the writer's word on one chunk is told to."""
        return lambda had: self.settle(number, offset, digest if had else b"")

    def settle(self, number: int, offset: int, digest: bytes) -> None:
        """One chunk is looked for; ``digest`` when it was found."""
        with self._lock:
            if digest:
                self._wanted[number] = 0
                self._copied[offset] = digest
            self._left -= 1
            whole = not self._left
        if whole:
            self._lane.answered(self._base, bytes(self._wanted), self._copied)


class Lane:
    """A reader at work."""

    def __init__(self, hub: Hub, reader: Session, number: int) -> None:
        self._hub, self.reader, self._number = hub, reader, number
        self._wake = threading.Condition()
        self._asked = threading.Event()  # a reader ignores a manifest that comes before its PASS
        self._way = hub.order.start  # how far the reader is on its way, by its own word
        self._end = hub.order.start or hub.order.begin  # of the last frame
        self._turned = False  # whether the disk's end is behind it
        self._owed = 0
        self._last: Frame | None = None
        self._copied: dict[int, bytes] = {}  # digests of chunks that the writer had, not yet SAME
        self.safe = hub.order.start  # up to here the writer has synced all
        self.chunks = self.used = self.total = 0
        self.straight = 0  # bytes that went to the hypervisor without us
        self.heat: Counter[int] = Counter()  # bytes that were sent, by step of the disk
        self.areas = ""
        self.throttled = self.compressed = False
        self.finished = False
        self.charged = False

    # -- from the reader to the writer

    def relay(self) -> None:
        """The reader's frames, until its END."""
        self._ask()
        self._asked.set()
        mapped = self.reader.expect(Kind.MAPPED)
        self.areas = mapped.fields.get("areas", "")
        self.total = mapped.number("used")
        self._hub.mapped(self.total)
        handlers = {
            Kind.DATA: self._data,
            Kind.DIRECT: self._direct,
            Kind.ZERO: self._zero,
            Kind.SAME: self._same,
            Kind.POSITION: self._moved,
            Kind.BAD: self._unreadable,
            Kind.OFFER: self._offered,
        }
        width = self._hub.manifest.width
        while (frame := self.reader.receive(width)).kind is not Kind.END:
            self._hub.alive = time.monotonic()
            self._hub.order.limits.check()
            if self._hub.order.moment is not None:
                self._hub.order.moment.check()
            handler = handlers.get(frame.kind)
            if handler is None:
                raise self.reader.failed(f"{frame.kind.name} came in the middle of a pass")
            handler(frame)
        self._turn()
        self._clear(self._end, self._hub.order.begin)
        self._last = frame
        self.finished = True

    def ended(self) -> Frame:
        """The reader's last word."""
        if self._last is None:
            raise self.reader.failed("it did not come to an end")
        return self._last

    def _ask(self) -> None:
        order, manifest = self._hub.order, self._hub.manifest
        final = order.kind == "final"
        polite = not final or order.moment is not None  # else the server stands still
        toll = Toll(order.rate, order.limits, lambda: self._hub.done)
        self.charged = self.reader.charge(toll.spend)
        views = order.moment.tell(self.reader, order.device) if order.moment else ""
        self.reader.say(
            Kind.PASS,
            device=order.device,
            size=manifest.size,
            hash=manifest.algorithm,
            codec=order.codec,
            start=order.start,
            begin=order.begin,
            rate=0 if self.charged else order.rate // self._hub.lanes,  # kept here, for dd
            final=int(final),
            polite=int(polite),
            slowdown=f"{order.slowdown:g}" if polite else "0",
            workers=order.workers,
            lane=self._number,
            lanes=self._hub.lanes,
            offer=int(self._hub.index is not None),
            views=views,
            direct=int(order.direct),
            quick=int(order.quick),
        )
        self.reader.send(Kind.CREDIT, offset=self._hub.window)

    def _advance(self, frame: Frame) -> int:
        """Check a frame's place; what lies between it and the last one is not used any more."""
        size, end = self._hub.manifest.size, frame.offset + frame.length
        whole = end == size or end % CHUNK == 0
        if end <= self._hub.order.begin:
            self._turn()
        if frame.offset % CHUNK or frame.offset < self._end or not frame.length or not whole:
            raise self.reader.failed("a frame has an impossible place")
        if end > (self._hub.order.begin if self._turned else size):
            raise self.reader.failed("a frame leads out of the disk")
        if self._foreign(frame.offset) or self._foreign(end - 1):
            raise self.reader.failed("a frame lies in another connection's part")
        self._clear(self._end, frame.offset)
        self._end = end
        return -(-frame.length // CHUNK)

    def _turn(self) -> None:
        """The disk's end is reached; what comes now lies before the beginning of the walk."""
        if not self._turned:
            self._clear(self._end, self._hub.manifest.size)
            self._end, self._turned = 0, True

    def _foreign(self, offset: int) -> bool:
        return offset // STRIPE % self._hub.lanes != self._number

    def _clear(self, start: int, end: int) -> None:
        for first, last in self._own(start, end):
            self._hub.clear(self, first, last)

    def _own(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a span that are this lane's."""
        if self._hub.lanes == 1:
            if start < end:
                yield start, end
            return
        while start < end:
            last = min(end, start - start % STRIPE + STRIPE)
            if not self._foreign(start):
                yield start, last
            start = last

    def _data(self, frame: Frame) -> None:
        count, width = self._advance(frame), self._hub.manifest.width
        if len(frame.payload) != count * width:
            raise self.reader.failed("a data frame is too short")
        self.chunks += count
        self.heat[frame.offset // STEP] += frame.length
        self._hub.pass_on(self, frame, frame.payload, frame.payload)

    def _direct(self, frame: Frame) -> None:
        """Data that went straight: its size and digests. The writer waits for this word."""
        count, width = self._advance(frame), self._hub.manifest.width
        size, digests = int.from_bytes(frame.payload[:4], "big"), frame.payload[4:]
        whole = len(digests) == count * width and len(digests) < size <= HEADER.size + LIMIT
        if not self._hub.order.direct or not whole:
            raise self.reader.failed("it tells of data that went straight, and none should have")
        self.chunks += count
        self.heat[frame.offset // STEP] += frame.length
        self.straight += size
        self._hub.pass_on(self, frame, digests, frame.payload, size)

    def _zero(self, frame: Frame) -> None:
        self.chunks += self._advance(frame)
        self._hub.pass_on(self, frame, self._hub.manifest.zeros(frame.length), b"")

    def _same(self, frame: Frame) -> None:
        """Equal chunks, told by one digest over theirs, or over their checksums. Those between them
        are not in use; what may lie there on the target goes."""
        self._advance(frame)
        manifest, quick = self._hub.manifest, self._hub.order.quick
        if quick:
            width = WIDTH
            table = manifest.shorts(frame.offset, frame.length, SHORT, quick=True)
        else:
            width, table = manifest.width, manifest.get(frame.offset, frame.length)
        digests, gaps = self._known(frame.offset, table, width)
        found = hashlib.new(manifest.algorithm, digests, usedforsecurity=False).digest()
        if found != frame.payload:
            manifest.withdraw(frame.offset, frame.length)
            manifest.sync()
            raise self.reader.failed("it calls chunks unchanged that are not")
        for first, last in gaps:
            self._clear(first, min(last, frame.offset + frame.length))
        self.chunks += len(digests) // width
        self._owed += len(frame.head) + len(frame.payload)
        if self._owed > CHUNK:
            self.pay(self._owed)
            self._owed = 0

    def _known(self, offset: int, table: bytes, width: int) -> tuple[bytes, list[tuple[int, int]]]:
        """Of a span's chunks those that are known, or were just copied, joined; where the others
        lie."""
        none = bytes(width)
        if not self._copied and none not in table:
            return table, []
        chunks: list[bytes] = []
        gaps: list[tuple[int, int]] = []
        for at in range(0, len(table), width):
            chunk, place = table[at : at + width], offset + at // width * CHUNK
            copied = self._copied.pop(place, none)
            if chunk != none or copied != none:
                chunks.append(copied if chunk == none else chunk)
            elif gaps and gaps[-1][1] == place:
                gaps[-1] = gaps[-1][0], place + CHUNK
            else:
                gaps.append((place, place + CHUNK))
        return b"".join(chunks), gaps

    def _offered(self, frame: Frame) -> None:
        """Chunks that the reader would send: those that the writer finds at its side it need not.
        The answer tells for each whether it is wanted."""
        index, width, size = self._hub.index, self._hub.manifest.width, 8 + self._hub.manifest.width
        if index is None or not frame.payload or len(frame.payload) % size:
            raise self.reader.failed("an offer that is none")
        offer = _Offer(self, frame.offset, len(frame.payload) // size)
        for number in range(offer.count):
            entry = frame.payload[number * size : (number + 1) * size]
            offset, digest = int.from_bytes(entry[:8], "big"), entry[8 : 8 + width]
            place = index.find(digest)
            if offset % CHUNK or not self._end <= offset < self._hub.manifest.size:
                raise self.reader.failed("an offer has an impossible place")
            if place is None or self._foreign(offset):
                offer.settle(number, offset, b"")
            else:
                self._hub.copy(self, offset, digest, place, offer.teller(number, offset, digest))

    def answered(self, base: int, wanted: bytes, copied: dict[int, bytes]) -> None:
        """All chunks of an offer are looked for."""
        self._copied.update(copied)
        self.reader.send(Kind.ANSWERED, wanted, base)

    def _unreadable(self, frame: Frame) -> None:
        self._hub.note(f"unreadable: {frame.length} bytes at {frame.offset}, kept as zeros")

    def _moved(self, frame: Frame) -> None:
        if len(frame.payload) < 26:
            raise self.reader.failed("a position frame is too short")
        if frame.offset > self._hub.manifest.size:
            raise self.reader.failed("a position leads out of the disk")
        self.used = int.from_bytes(frame.payload[:8], "big")
        self.throttled, self.compressed = bool(frame.payload[24]), bool(frame.payload[25])
        with self._wake:
            self._way = max(self._way, self._along(frame.offset))
            self._wake.notify_all()
        self._hub.moved()

    # -- to the reader

    def pay(self, cost: int) -> None:
        """Credit for what has arrived."""
        if self.finished or self._hub.done:
            return
        try:
            self.reader.send(Kind.CREDIT, offset=cost)
        except OutsideFailed:
            # A reader that said END waits for nothing; any other's silence is heard by relay.
            return

    def feed(self) -> None:
        """The manifest, in short, a little ahead of the reading."""
        manifest = self._hub.manifest
        while not self._asked.wait(1.0) and not self._hub.done:
            pass
        for offset, length in self._steps():
            if not self._due(self._along(offset), length):
                continue
            if self._hub.done or self.finished:
                return
            payload = b""
            if any(self._own(offset, offset + length)):
                payload = manifest.shorts(offset, length, SHORT, quick=self._hub.order.quick)
            self.reader.send(Kind.MANIFEST, payload, offset, length)

    def _steps(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of the manifest's pieces, in the order of the walk."""
        order, size = self._hub.order, self._hub.manifest.size
        for low, high in ((order.start // STEP * STEP or order.begin, size), (0, order.begin)):
            for offset in range(low, high, STEP):
                yield offset, min(STEP, high - offset)

    def _due(self, way: int, length: int) -> bool:
        """Wait for the reader to come near. False where it is already farther."""
        with self._wake:
            while way >= self._way + AHEAD and not self._hub.done and not self.finished:
                self._wake.wait(1.0)
            return way + length > self._way

    def _along(self, offset: int) -> int:
        """How far on its way the walk is at a place of the disk."""
        begin = self._hub.order.begin
        return offset - begin if offset >= begin else offset - begin + self._hub.manifest.size

    def close(self) -> None:
        """Wake whoever waits here: the pass is over."""
        with self._wake:
            self._wake.notify_all()
