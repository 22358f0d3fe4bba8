"""One pass over one disk: frames from the reader to the writer, digests into the manifest.

Three flows at once: the reader's frames are passed on (one lane per connection); the writer's
acknowledgements become manifest, journal and new credit; the manifest streams to the reader a
little ahead of its reading. At most ``WINDOW`` bytes are under way, so that is the most that a
crash can cost.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.errors import OutsideFailed, Problem
from core.progress import Meter, Report, Unit, track
from core.quantities import duration, size
from migrate.transfer_index import Index, Place
from migrate.transfer_lane import STEP, Lane
from migrate.transfer_manifest import Journal, Manifest
from migrate.transfer_order import Order, Outcome
from migrate.transfer_sums import WIDTH, zeros
from migrate.transfer_wire import CHUNK, STALL, Frame, Kind, Session

WINDOW = 48 * 1024 * 1024
BLANK = 16 * 1024 * 1024  # zeros asked for at once
MANY = 16384  # frames under way


@dataclass(slots=True)
class _Sent:
    """A frame that the writer has not acknowledged yet. ``end`` is 0 where later frames may lie
    before it; ``data`` chunks of it get their checksums from the writer, zeros have theirs. Of
    ``blank`` chunks nothing will be known: they are not in use."""

    lane: Lane
    offset: int
    end: int
    digests: bytes
    cost: int
    data: int = 0
    blank: int = 0
    sums: bytes = b""
    told: Callable[[bool], None] | None = None


@dataclass(slots=True)
class _Faults:
    """What went wrong first, and what the writer's own words are."""

    first: BaseException | None = None
    writer: Problem | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Pump:
    """The flows of one pass."""

    def __init__(
        self,
        readers: Session | Sequence[Session],
        writer: Session,
        manifest: Manifest,
        journal: Journal,
        order: Order,
        index: Index | None = None,
    ) -> None:
        self._readers = (readers,) if isinstance(readers, Session) else tuple(readers)
        self._writer = writer
        self._manifest, self._journal, self._order = manifest, journal, order
        self._lanes = [Lane(self, reader, number) for number, reader in enumerate(self._readers)]
        self.index = index
        self._pending: deque[_Sent] = deque()
        self._copies: deque[_Sent] = deque()
        self._lock = threading.Lock()
        self._passing = threading.Lock()
        self._wake = threading.Event()
        self._notes: deque[str] = deque()
        self._faults = _Faults()
        self.alive = time.monotonic()
        self.done = False

    # -- what the lanes need

    @property
    def manifest(self) -> Manifest:
        """The digests of the disk."""
        return self._manifest

    @property
    def order(self) -> Order:
        """What is to be done."""
        return self._order

    @property
    def lanes(self) -> int:
        """How many connections share the disk."""
        return len(self._lanes)

    @property
    def window(self) -> int:
        """Bytes that one lane may have under way."""
        return WINDOW // len(self._lanes)

    def note(self, text: str) -> None:
        """Something the user should read."""
        self._notes.append(text)

    def mapped(self, used: int) -> None:
        """A reader told how much is in use. Raises OutsideFailed when the pool is too small."""
        self._check_room(used)
        self._wake.set()

    def _check_room(self, used: int) -> None:
        # A little more than used is written: the zeros inside chunks that are partly used.
        if used > self._order.room:
            raise OutsideFailed(
                f"{size(used)} are in use on {self._order.device}, the pool has room for "
                f"{size(max(0, self._order.room))}",
                hint="make room in the pool or choose another one in plan.yml",
                where=self._writer.host,
            )

    def pass_on(self, lane: Lane, frame: Frame, digests: bytes, body: bytes, cost: int = 0) -> None:
        """A frame of the reader goes to the writer as it came. ``cost`` in bytes, where the data
        itself goes another way."""
        cost = cost or len(frame.head) + len(body) + frame.rest
        if not lane.charged:
            self._order.limits.spend(cost, lambda: self.done)
        self._manifest.withdraw(frame.offset, frame.length)
        with self._passing:
            with self._lock:
                sent = _Sent(lane, frame.offset, frame.offset + frame.length, digests, cost)
                if frame.kind is Kind.ZERO:
                    sent.sums = zeros(frame.length)
                else:
                    sent.data = -(-frame.length // CHUNK)
                self._pending.append(sent)
            self._writer.relay(frame.head, body, frame.rest, lane.reader)

    def copy(
        self, lane: Lane, offset: int, digest: bytes, place: Place, told: Callable[[bool], None]
    ) -> None:
        """Let the writer look whether it has a chunk, and take it from there."""
        length = min(CHUNK, self._manifest.size - offset)
        self._manifest.withdraw(offset, length)
        with self._passing:
            sent = _Sent(lane, offset, 0, digest, 0, data=1, told=told)
            with self._lock:
                self._pending.append(sent)
                self._copies.append(sent)
            payload = digest + place.offset.to_bytes(8, "big") + place.replica.encode()
            self._writer.send(Kind.COPY, payload, offset, length)

    def clear(self, lane: Lane, start: int, end: int) -> None:
        """Chunks that are not in use: zeros in the replica, too. Those that never were are zeros
        there already, unless the target has a past."""
        if self._order.blank:
            for at in range(start, end, BLANK):
                self._zero(lane, at, min(BLANK, end - at))
            return
        for offset, length in self._manifest.written(start, end):
            self._zero(lane, offset, length)

    def _zero(self, lane: Lane, offset: int, length: int) -> None:
        while len(self._pending) > MANY and not self.done and self._faults.first is None:
            time.sleep(0.01)  # it costs no credit: a few bytes, but a large device has many of them
        self._manifest.withdraw(offset, length)
        count = -(-length // CHUNK)
        with self._passing:
            with self._lock:
                self._pending.append(_Sent(lane, offset, offset + length, b"", 0, blank=count))
            self._writer.send(Kind.ZERO, offset=offset, length=length)

    # -- the pass

    def run(self, report: Report) -> Outcome:
        """The whole pass. Raises OutsideFailed when any party does not do its part."""
        order, start = self._order, time.monotonic()
        self._journal.add("start", **{"pass": order.kind, "from": order.start})
        before = sum(reader.received + reader.sent for reader in self._readers)
        acknowledging = self._thread(self._acknowledge)
        relays = [self._thread(lane.relay) for lane in self._lanes]
        feeding = [self._thread(lane.feed) for lane in self._lanes]
        try:
            self._watch(relays, report)
            if not order.direct and not order.stay:  # direct: they may still be handing on
                for reader in self._readers:
                    reader.part()
            self._writer.send(Kind.FLUSH)
            while acknowledging.is_alive():
                acknowledging.join(1.0)
                self._look()
            self._look()
        except BaseException as fault:
            self._give_up(acknowledging, fault)
            raise
        finally:
            self._finish()
        for feed in feeding:  # nothing of this pass may come in the middle of the next one
            feed.join()
        wire = sum(reader.received + reader.sent for reader in self._readers) - before
        outcome = self._told(wire, round(time.monotonic() - start, 3))
        self._journal.add(
            "end",
            **{"pass": order.kind, "used": outcome.used, "read": outcome.read},
            **{"sent": outcome.sent, "wire": outcome.wire, "seconds": outcome.seconds},
            direct=outcome.direct,
            blank=order.blank,
            hot=self._hottest(),
        )
        return outcome

    def _hottest(self) -> int | None:
        """Where on the disk most was sent, if anything was."""
        heat = sum((lane.heat for lane in self._lanes), start=Counter[int]())
        return max(heat, key=lambda step: (heat[step], -step)) * STEP if heat else None

    def _told(self, wire: int, seconds: float) -> Outcome:
        ends = [lane.ended() for lane in self._lanes]
        straight = sum(lane.straight for lane in self._lanes)
        return Outcome(
            used=sum(end.number("used") for end in ends),
            read=sum(end.number("read") for end in ends),
            sent=sum(end.number("sent") for end in ends),
            wire=wire + straight,
            chunks=sum(lane.chunks for lane in self._lanes),
            bad=sum(end.number("bad") for end in ends),
            seconds=seconds,
            areas=self._lanes[0].areas,
            paused=max(end.number("paused") for end in ends) / 1000,
            direct=straight,
        )

    def _watch(self, relays: list[threading.Thread], report: Report) -> None:
        """Show the progress until all lanes have come to their end."""
        while not any(lane.total for lane in self._lanes):
            if not any(relay.is_alive() for relay in relays):
                self._look()
                break
            self._wake.wait(0.5)
            self._wake.clear()  # a flow that ended early sets it, too
            self._look()
        name = f"{self._order.kind} pass {self._order.device}"
        began = time.monotonic()
        with track(report, name, self._lanes[0].total, Unit.BYTES) as meter:
            while any(relay.is_alive() for relay in relays):
                self._wake.wait(0.5)
                self._look()
                self._show(meter, began)
            self._look()
            self._show(meter, began)

    def moved(self) -> None:
        """A reader told where it is."""
        self._wake.set()

    def _show(self, meter: Meter, began: float) -> None:
        self._wake.clear()
        while self._notes:
            meter.note(self._notes.popleft())
        used = sum(lane.used for lane in self._lanes)
        if used <= meter.done:
            return
        text = f"{size(used / max(time.monotonic() - began, 0.001))}/s"
        if any(lane.throttled for lane in self._lanes):
            text += ", throttled: the disk is busy"
        if any(lane.compressed for lane in self._lanes):
            text += ", compressed"
        meter.advance(used - meter.done, text)

    def _look(self) -> None:
        if self._faults.first:
            raise self._faults.first
        if time.monotonic() - self.alive > STALL:
            raise self._readers[0].failed(f"no sign of life for {duration(STALL)}")

    # -- from the writer to manifest, journal and credit

    def _acknowledge(self) -> None:
        try:
            while (frame := self._writer.receive()).kind is not Kind.FLUSH:
                if frame.kind is Kind.COPIED:
                    self._copied(frame)
                    continue
                if frame.kind is not Kind.ACK:
                    raise self._writer.failed(f"{frame.kind.name} came where ACK should have")
                self.alive = time.monotonic()
                self._commit(frame.offset, frame.payload)
            if self._pending:
                raise self._writer.failed("it did not acknowledge everything")
        except Problem as fault:
            self._faults.writer = self._full(fault)
            raise self._faults.writer from fault

    def _copied(self, frame: Frame) -> None:
        with self._lock:
            sent = self._copies.popleft() if self._copies else None
        if sent is None or sent.told is None or sent.offset != frame.offset:
            raise self._writer.failed("it copied what was not asked for")
        if not frame.length:
            sent.digests = b""
        sent.told(bool(frame.length))

    def _commit(self, upto: int, sums: bytes) -> None:
        """What the writer has synced, with the checksums of all data in it."""
        told = 0
        costs: dict[Lane, int] = {}
        while self._writer.acknowledged < upto:
            with self._lock:
                if not self._pending:
                    raise self._writer.failed("it acknowledges what was never sent")
                sent = self._pending.popleft()
            self._writer.acknowledged += 1
            start, told = told, told + sent.data * WIDTH
            digests = sent.digests or self._manifest.none * sent.blank
            if digests:
                self._manifest.put(sent.offset, digests, sent.sums or sums[start:told])
            costs[sent.lane] = costs.get(sent.lane, 0) + sent.cost
            sent.lane.safe = max(sent.lane.safe, sent.end)
        if told != len(sums):
            raise self._writer.failed("it acknowledges other chunks than were sent")
        self._settle()
        self._manifest.sync()
        if self._order.kind == "full":  # any other pass compares from its start, interrupted or not
            self._journal.add("upto", at=min(lane.safe for lane in self._lanes))
        for lane, cost in costs.items():
            if cost:
                lane.pay(cost)

    def _settle(self) -> None:
        """A lane that has come to its end holds the others' position back no more."""
        with self._lock:
            busy = {sent.lane for sent in self._pending} if self.lanes > 1 else set(self._lanes)
        for lane in self._lanes:
            if lane.finished and lane not in busy:
                lane.safe = self._manifest.size

    def _full(self, fault: Problem) -> Problem:
        """A full pool, with its name and what it lacks."""
        trouble = self._writer.trouble
        if trouble.get("errno") != "28":
            return fault
        total, used = self._lanes[0].total, sum(lane.used for lane in self._lanes)
        free = int(trouble["free"]) if trouble.get("free", "").isdigit() else 0
        return OutsideFailed(
            f"No space left in the pool {self._order.pool or 'of the replica'}: about "
            f"{size(max(CHUNK, total - used - free))} are missing",
            hint="make room in the pool and run again: what was copied is kept",
            where=self._writer.host,
        )

    # -- ends

    def _thread(self, flow: Callable[[], None]) -> threading.Thread:
        """A thread whose fault ends both agents, so that nobody waits for ever."""

        def guarded() -> None:
            try:
                flow()
            except BaseException as fault:  # whatever it is, it is raised in the main thread
                with self._faults.lock:
                    self._faults.first = self._faults.first or fault
            self._wake.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _give_up(self, acknowledging: threading.Thread, fault: BaseException) -> None:
        """The writer's own words, which a thread may still be reading, tell more than the broken
        pipe that they caused."""
        if isinstance(fault, Problem) and fault.where == self._writer.host:
            acknowledging.join(2)
        own = self._faults.writer
        self._finish()
        for session in (*self._readers, self._writer):
            session.kill()
        if isinstance(fault, Problem) and own and own is not fault:
            raise own from fault

    def _finish(self) -> None:
        self.done = True
        for lane in self._lanes:
            lane.close()
