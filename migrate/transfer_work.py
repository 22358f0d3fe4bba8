"""The two agents at work on one disk: reader at the source, writer at the target, and the
manifest and journal between them."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core.beside import beside
from core.errors import OutsideFailed
from core.ports import Host
from core.progress import Report, silent
from migrate.limits import UNLIMITED, Limits, Toll
from migrate.moment import Moment
from migrate.plan import DiskPlan, Plan
from migrate.transfer_direct import Direct, routed
from migrate.transfer_index import ALGORITHM, Index, path_of
from migrate.transfer_lane import STEP
from migrate.transfer_manifest import WIDTHS, Journal, Manifest
from migrate.transfer_order import Order, Outcome
from migrate.transfer_pass import Pump
from migrate.transfer_speed import Readers
from migrate.transfer_wire import Frame, Kind, Session, lively, session

LARGE = 4 * 1024**3
LITTLE = 64 * 1024**2  # bytes that one connection brings soon enough, be it a far one
QUICK = 400  # MB per second
WORKERS = 4  # as the reader has it
HOLDS_DATA = "17"  # EEXIST


@dataclass(frozen=True, slots=True)
class Options:
    """``rate`` in bytes per second on the source's connection, 0 for no limit; ``compress`` says
    zlib, without it the reader measures what pays; ``again`` goes on with a replica that was
    finished before; ``workers`` are processes at the source, 0: by its processors; ``slowdown``
    is how much slower the reader may become for a busy disk's sake, 0: it does not look;
    ``connections`` share the disk, 0: as many as were measured to pay; ``index`` asks the
    pool for chunks that it may hold already; ``limits`` bind live passes; ``direct`` is the way
    past the controller, if there is one. ``rehearsal``: the last pass is followed by no cutover;
    ``moment`` is what it reads then. ``rescue``: the source runs another system, and its disks are
    at rest. ``quick``: a delta compares checksums, which the last pass never does."""

    rate: int = 0
    compress: bool = False
    again: bool = False
    workers: int = 0
    slowdown: float = 4.0
    connections: int = 0
    index: bool = True
    limits: Limits = UNLIMITED
    direct: Direct | None = None
    rehearsal: bool = False
    rescue: bool = False
    moment: Moment | None = None
    quick: bool = True


DEFAULTS = Options()


@dataclass(slots=True)
class Work:
    """One disk with both agents and its two files open."""

    readers: Readers
    writer: Session
    disk: DiskPlan
    manifest: Manifest
    journal: Journal
    room: int
    published: bool
    pool: str
    index: Path

    def walk(self, kind: str, options: Options, report: Report, *, stay: bool = False) -> Outcome:
        """One pass; with ``stay`` the readers are wanted again after it."""
        order = Order(
            kind=kind,
            device=self.disk.source,
            start=self.journal.resume("full") if kind == "full" else 0,
            begin=self._begin() if kind != "full" else 0,
            rate=options.rate,
            compress=options.compress,
            room=self.room,
            pool=self.disk.device or self.pool,
            blank=self._has_a_past() and not self.journal.blanked(),
            workers=options.workers,
            slowdown=options.slowdown,
            limits=options.limits if kind != "final" else UNLIMITED,
            moment=options.moment if kind == "final" else None,
            quick=options.quick and kind == "delta" and self.manifest.sums is not None,
        )
        count = _connections(kind, options, self.disk, self.journal)
        toll = Toll(options.rate, order.limits, lambda: False)
        with (
            self.readers.lent(count, report, stay=stay, toll=toll) as found,
            routed(options.direct, found, self.writer, report) as straight,
            self._index(kind, options) as index,
        ):
            if not count:
                self.journal.add("connections", count=len(found))
            hints = index if index else None
            order = replace(order, direct=straight, stay=stay)
            pump = Pump(found, self.writer, self.manifest, self.journal, order, hints)
            outcome = pump.run(report)
            if index is not None and not self.disk.device:
                index.add(self.disk.replica, self.manifest)
        return outcome

    def _begin(self) -> int:
        """What changed most last time is read first, and sent while the rest is read."""
        place = self.journal.hottest()
        return place if place % STEP == 0 and 0 < place < self.disk.size else 0

    def _has_a_past(self) -> bool:
        """Whether the target may hold something that the manifest does not tell of."""
        return bool(self.disk.device) or self.journal.reused()

    @contextmanager
    def _index(self, kind: str, options: Options) -> Iterator[Index | None]:
        """What the pool holds, for the first copy; it goes by SHA-256 alone."""
        if kind != "full" or not options.index or self.manifest.algorithm != ALGORITHM:
            yield None
            return
        with contextlib.closing(Index(self.index)) as index:
            yield index

    def publish(self) -> None:
        """The replica is proved: it gets its name."""
        with lively(self.writer):
            self.writer.send(Kind.PUBLISH)
            self.writer.expect(Kind.PUBLISH)
        self.journal.add("publish")


def _connections(kind: str, options: Options, disk: DiskPlan, journal: Journal) -> int:
    """As told; else as was measured before the first copy, which is done for large disks, and is
    still to be done where it says 0. A delta that follows one with little to send is quicker by one
    connection alone, also where others stand already."""
    if options.connections:
        return options.connections
    little = kind != "full" and journal.last_delta() < LITTLE
    if disk.size < LARGE or little:
        return 1
    return journal.connections() or int(kind != "full")


def _due(kind: str, options: Options, journal: Journal) -> bool:
    """Whether there will be a pass of this kind, as far as is known before the writer runs."""
    if not kind or (kind == "full" and journal.finished("full")):
        return False
    return options.again or not journal.published()


@contextmanager
def opened(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    disk: DiskPlan,
    options: Options,
    kind: str = "",
    report: Report = silent,
    readers: Readers | None = None,
) -> Iterator[Work]:
    """One disk's agents and files. Those readers for a pass of ``kind`` that ``readers`` does not
    have yet start beside the writer."""
    name = disk.replica.removesuffix(".replica.raw")
    disks = folder / "disks"
    path = disks / f"{name}.manifest"
    known = path.exists()
    if not kind and not known:
        raise _lost(str(path), disk)
    journal = Journal(disks / f"{name}.journal")
    try:
        with contextlib.ExitStack() as stack:
            count = 0
            if _due(kind, options, journal):
                count = _connections(kind, options, disk, journal) or 1
            readers = readers or stack.enter_context(Readers(source))
            writer, *_ = beside(
                [
                    lambda: stack.enter_context(session(target, "writer")),
                    *readers.starting(count, report),
                ]
            )
            algorithm = ""
            if known:
                with contextlib.closing(Manifest.open(path)) as manifest:
                    algorithm = manifest.algorithm
            if algorithm not in writer.hello.hashes:
                if not kind:
                    raise _lost(str(path), disk)
                algorithm = _choose(readers.one(report), writer)
            answer = _open(writer, plan, disk, journal, algorithm, again=options.again, known=known)
            created = answer.number("created")
            if not kind and created:
                raise _lost(disk.device, disk)
            manifest = _manifest(path, journal, disk, algorithm, created, anew=bool(kind))
            identity = answer.fields.get("identity", "")
            if identity != journal.target():
                journal.add("target", identity=identity)
            try:
                room = answer.number("free") + answer.number("allocated")
                published = bool(answer.number("published"))
                index = path_of(folder, plan.pool, plan.pool_path)
                yield Work(
                    *(readers, writer, disk, manifest, journal, room, published),
                    *(plan.pool_path, index),
                )
            finally:
                manifest.close()
            writer.bye()
    finally:
        journal.close()


def _open(
    writer: Session, plan: Plan, disk: DiskPlan, journal: Journal, algorithm: str,
    *, again: bool, known: bool,
) -> Frame:  # fmt: skip
    """The writer's answer. A device is taken up again only if it is the one we began with, and a
    file that we know is not made anew."""
    writer.say(
        Kind.OPEN,
        directory=plan.pool_path,
        name=disk.replica,
        size=disk.size,
        hash=algorithm,
        again=int(again),
        known=int(known),
        device=disk.device,
        overwrite=disk.overwrite,
        mine=journal.target(),
        finished=int(journal.published()),
    )
    try:
        with lively(writer):
            return writer.expect(Kind.OPEN)
    except OutsideFailed as fault:
        if writer.trouble.get("gone"):
            manifest = journal.path.with_suffix(".manifest")
            raise OutsideFailed(
                fault.message,
                hint=f"is {plan.pool_path} mounted there? If the replica is really lost, remove "
                f"{manifest} and {journal.path.name} beside it: all that is in use is sent again",
                where=fault.where,
            ) from fault
        if writer.trouble.get("errno") != HOLDS_DATA:
            raise
        raise OutsideFailed(
            fault.message,
            hint=f"if all on it may be lost, write `overwrite: {disk.device}` beside its `device:` "
            "in plan.yml",
            where=fault.where,
        ) from fault


def _lost(what: str, disk: DiskPlan) -> OutsideFailed:
    return OutsideFailed(
        f"{what} is not what {disk.source} was copied with: nothing can be proved by it",
        hint="bring it back, or copy again with `groundlift migrate transfer HOST`",
    )


def _manifest(
    path: Path, journal: Journal, disk: DiskPlan, algorithm: str, created: int, *, anew: bool
) -> Manifest:
    """The manifest of this file; a new one when the file is new, or of another kind."""
    if path.exists() and not created:
        manifest = Manifest.open(path)
        if manifest.size == disk.size and manifest.algorithm == algorithm:
            return manifest
        manifest.close()
        if not anew:
            raise _lost(str(path), disk)
    journal.add("reset", reused=not created)
    return Manifest.create(path, disk.size, algorithm)


def _choose(reader: Session, writer: Session) -> str:
    """SHA-256 where it keeps up with a quick disk, all workers of the source together; else it is
    left for a hash that both sides have and that is more than twice as fast."""
    hands = min(reader.hello.cpus, WORKERS)
    speeds = {
        name: min(speed * hands, writer.hello.hashes[name])
        for name, speed in reader.hello.hashes.items()
        if name in writer.hello.hashes and name in WIDTHS
    }
    if not speeds:
        raise OutsideFailed("the two agents have no hash in common", where=reader.host)
    best = max(speeds, key=lambda name: speeds[name])
    sha256 = speeds.get("sha256", 0)
    return "sha256" if sha256 >= QUICK or sha256 * 2 >= speeds[best] else best
