"""One connection to the source during a pass: what its reader tells, and what it is told.

Several lanes share a disk by stripes; each checks the place of every frame it gets.
"""

import hashlib
import threading
from collections.abc import Iterator
from typing import Protocol

from core.errors import OutsideFailed
from migrate.transfer_manifest import Manifest
from migrate.transfer_wire import CHUNK, Frame, Kind, Session

AHEAD = 1024 * 1024 * 1024  # of the disk: the short digests of that take 128 KiB
STEP = 1024 * CHUNK
SHORT = 8
STRIPE = 256 * 1024 * 1024


class Order(Protocol):
    """What a lane must know of the pass."""

    @property
    def kind(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def rate(self) -> int: ...
    @property
    def codec(self) -> str: ...
    @property
    def workers(self) -> int: ...
    @property
    def slowdown(self) -> float: ...


class Hub(Protocol):
    """Where the lanes meet: the writer, the manifest, the pass as a whole."""

    alive: float
    done: bool

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
        self, lane: "Lane", offset: int, length: int, digests: bytes, head: bytes, body: bytes
    ) -> None: ...
    def clear(self, lane: "Lane", start: int, end: int) -> None: ...


class Lane:
    """A reader at work."""

    def __init__(self, hub: Hub, reader: Session, number: int) -> None:
        self._hub, self._reader, self._number = hub, reader, number
        self._wake = threading.Condition()
        self._position = hub.order.start  # of the reader, by its own word
        self._end = hub.order.start  # of the last frame
        self._owed = 0
        self._last: Frame | None = None
        self.safe = hub.order.start  # up to here the writer has synced all
        self.chunks = self.bad = self.used = self.total = 0
        self.areas = ""
        self.throttled = self.compressed = False
        self.finished = False

    # -- from the reader to the writer

    def relay(self) -> None:
        """The reader's frames, until its END."""
        self._ask()
        mapped = self._reader.expect(Kind.MAPPED)
        self.areas = mapped.fields.get("areas", "")
        self.total = mapped.number("used")
        self._hub.mapped(self.total)
        handlers = {
            Kind.DATA: self._data,
            Kind.ZERO: self._zero,
            Kind.SAME: self._same,
            Kind.POSITION: self._moved,
            Kind.BAD: self._unreadable,
        }
        while (frame := self._reader.receive()).kind is not Kind.END:
            handler = handlers.get(frame.kind)
            if handler is None:
                raise self._reader.failed(f"{frame.kind.name} came in the middle of a pass")
            handler(frame)
        self._clear(self._end, self._hub.manifest.size)
        self._last = frame
        self.finished = True

    def ended(self) -> Frame:
        """The reader's last word."""
        if self._last is None:
            raise self._reader.failed("it did not come to an end")
        return self._last

    def _ask(self) -> None:
        order, manifest = self._hub.order, self._hub.manifest
        final = order.kind == "final"
        self._reader.say(
            Kind.PASS,
            device=order.device,
            size=manifest.size,
            hash=manifest.algorithm,
            codec=order.codec,
            start=order.start,
            rate=order.rate // self._hub.lanes,
            final=int(final),
            polite=int(not final),
            slowdown="0" if final else f"{order.slowdown:g}",
            workers=order.workers,
            lane=self._number,
            lanes=self._hub.lanes,
        )
        self._reader.send(Kind.CREDIT, offset=self._hub.window)

    def _advance(self, frame: Frame) -> int:
        """Check a frame's place; what lies between it and the last one is not used any more."""
        size, end = self._hub.manifest.size, frame.offset + frame.length
        whole = end == size or end % CHUNK == 0
        if frame.offset % CHUNK or frame.offset < self._end or not frame.length or not whole:
            raise self._reader.failed("a frame has an impossible place")
        if end > size:
            raise self._reader.failed("a frame leads out of the disk")
        if self._foreign(frame.offset) or self._foreign(end - 1):
            raise self._reader.failed("a frame lies in another connection's part")
        self._clear(self._end, frame.offset)
        self._end = end
        return -(-frame.length // CHUNK)

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
        digests = frame.payload[: count * width]
        if len(digests) != count * width:
            raise self._reader.failed("a data frame is too short")
        self.chunks += count
        self._hub.pass_on(self, frame.offset, frame.length, digests, frame.head, frame.payload)

    def _zero(self, frame: Frame) -> None:
        self.chunks += self._advance(frame)
        digests = self._hub.manifest.zeros(frame.length)
        self._hub.pass_on(self, frame.offset, frame.length, digests, frame.head, b"")

    def _same(self, frame: Frame) -> None:
        """Equal chunks, told by one digest over theirs: those between them are neither in use nor
        in the manifest."""
        self._advance(frame)
        manifest = self._hub.manifest
        runs = manifest.runs(frame.offset, frame.offset + frame.length)
        digests = b"".join(known for _, _, known in runs)
        found = hashlib.new(manifest.algorithm, digests, usedforsecurity=False).digest()
        if found != frame.payload:
            manifest.withdraw(frame.offset, frame.length)
            manifest.sync()
            raise self._reader.failed("it calls chunks unchanged that are not")
        self.chunks += len(digests) // manifest.width
        self._owed += len(frame.head) + len(frame.payload)
        if self._owed > CHUNK:
            self.pay(self._owed)
            self._owed = 0

    def _unreadable(self, frame: Frame) -> None:
        self.bad += 1
        self._hub.note(f"unreadable: {frame.length} bytes at {frame.offset}, kept as zeros")

    def _moved(self, frame: Frame) -> None:
        if len(frame.payload) < 26:
            raise self._reader.failed("a position frame is too short")
        self.used = int.from_bytes(frame.payload[:8], "big")
        self.throttled, self.compressed = bool(frame.payload[24]), bool(frame.payload[25])
        with self._wake:
            self._position = max(self._position, frame.offset)
            self._wake.notify_all()
        self._hub.moved()

    # -- to the reader

    def pay(self, cost: int) -> None:
        """Credit for what has arrived."""
        if self.finished or self._hub.done:
            return
        try:
            self._reader.send(Kind.CREDIT, offset=cost)
        except OutsideFailed:
            # A reader that said END waits for nothing; any other's silence is heard by relay.
            return

    def feed(self) -> None:
        """The manifest, in short, a little ahead of the reading."""
        manifest = self._hub.manifest
        told, whole = self._hub.order.start // STEP * STEP, manifest.size
        while not self._hub.done and not self.finished and told < whole:
            with self._wake:
                position = self._position
                if told >= min(whole, position + AHEAD):
                    self._wake.wait(1.0)
                    continue
            told = max(told, position // STEP * STEP)
            length = min(STEP, whole - told)
            payload = b""
            if any(self._own(told, told + length)):
                payload = manifest.shorts(told, length, SHORT)
            self._reader.send(Kind.MANIFEST, payload, told, length)
            told += length

    def close(self) -> None:
        """Wake whoever waits here: the pass is over."""
        with self._wake:
            self._wake.notify_all()
