"""Copy the disks of a running server into the pool: live passes first, then one at rest, proved.

The last pass runs at rest, reads the maps of used blocks anew, and every used chunk's digest at
the source equals the manifest's and that of what the target reads back. Earlier passes may be
arbitrarily wrong: they only save time.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from core.documents import Document, load
from core.errors import OutsideFailed, PastReturn, UsageProblem
from core.ports import Host
from core.progress import Report, silent
from core.state import publish_model
from migrate import quiesce
from migrate.plan import DiskPlan, Plan
from migrate.transfer_manifest import WIDTHS, Journal, Manifest
from migrate.transfer_pass import Order, Outcome, Pump, verify
from migrate.transfer_wire import Kind, Session, python_of, session

VERSION = 1
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """``rate`` in bytes per second on the source's connection, 0 for no limit; ``again`` goes on
    with a replica that was finished before."""

    rate: int = 0
    compress: bool = False
    again: bool = False


class PassResult(Document):
    """One pass in figures. ``sent`` are the disk's bytes in chunks that went over, ``wire`` all
    bytes on the source's connection."""

    kind: str
    used: int
    read: int
    sent: int
    wire: int
    seconds: float


class DiskResult(Document):
    """The proof of one disk: ``chunks`` were compared at both ends."""

    source: str
    replica: str
    size: int
    hash: str
    manifest_sha256: str
    used: int
    chunks: int
    differing: int
    repaired: int
    unreadable: int
    areas: tuple[str, ...]
    passes: tuple[PassResult, ...]


class Transfer(Document):
    """transfer.json: written when every disk is proved and has its final name."""

    version: int = VERSION
    host: str
    hypervisor: str
    pool_path: str
    downtime_started: datetime
    proved: datetime
    disks: tuple[DiskResult, ...]


def read(folder: Path) -> Transfer:
    """transfer.json of ``folder``."""
    path = folder / "transfer.json"
    if not path.exists():
        raise UsageProblem(
            "the disks are not transferred yet", hint="`groundlift migrate transfer HOST` first"
        )
    return load(path, Transfer)


def copy(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    kind: str = "full",
    options: Options = Options(),
    report: Report = silent,
) -> tuple[PassResult, ...]:
    """A live pass over every disk: ``full`` goes on where it was stopped and is not repeated once
    it is finished, ``delta`` compares all that is used. The source keeps serving."""
    results = []
    if options.again:
        _take_back(plan, folder)
    for disk in plan.disks:
        with _opened(source, target, plan, folder, disk, options) as work:
            if work.published or (kind == "full" and work.journal.finished("full")):
                continue
            results.append(_told(kind, work.walk(kind, options, report)))
    return tuple(results)


def finish(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    options: Options = Options(),
    report: Report = silent,
) -> Transfer:
    """The last pass: quiesce, copy what changed, prove it, give the replicas their names. The
    source stays at rest when all went well, and is woken when anything failed."""
    path = folder / "transfer.json"
    if path.exists() and not options.again:
        return read(folder)
    _take_back(plan, folder)
    options = replace(options, again=True)  # a name that was given without a proof is taken back
    held = quiesce.hold(source, plan, folder, report)
    try:
        disks = tuple(
            _prove(source, target, plan, folder, disk, options, report) for disk in plan.disks
        )
        if not quiesce.at_rest(source, held):
            raise OutsideFailed(
                "the source did not stay at rest during the last pass",
                hint="see what remounted its file systems or rebooted it, then run again",
                where=source.name,
            )
        for disk in plan.disks:
            with _opened(source, target, plan, folder, disk, Options()) as work:
                work.writer.send(Kind.PUBLISH)
                work.writer.expect(Kind.PUBLISH)
    except BaseException:
        # The copy's own failure is the one to tell; what could not be woken is on the record.
        with contextlib.suppress(OutsideFailed):
            quiesce.release(source, folder, report)
        raise
    result = Transfer(
        host=plan.host,
        hypervisor=plan.hypervisor,
        pool_path=plan.pool_path,
        downtime_started=held.started,
        proved=datetime.now(UTC),
        disks=disks,
    )
    publish_model(path, result)
    return result


def _take_back(plan: Plan, folder: Path) -> None:
    """The proof is void from here on. Never once the domain lives on the replica."""
    if (folder / "cutover.json").exists():
        raise PastReturn(
            f"{plan.host} was cut over: the domain {plan.domain} writes on top of this replica",
            hint="nothing is copied over it any more; the proof is in transfer.json",
            where=str(folder / "cutover.json"),
        )
    (folder / "transfer.json").unlink(missing_ok=True)


@dataclass(slots=True)
class _Work:
    """One disk with both agents and its two files open."""

    source: Host
    writer: Session
    disk: DiskPlan
    manifest: Manifest
    journal: Journal
    room: int
    published: bool

    def walk(self, kind: str, options: Options, report: Report) -> Outcome:
        order = Order(
            kind=kind,
            device=self.disk.source,
            start=self.journal.resume("full") if kind == "full" else 0,
            rate=options.rate,
            compress=options.compress,
            room=self.room,
        )
        with session(self.source, "reader") as reader:
            pump = Pump(reader, self.writer, self.manifest, self.journal, order)
            outcome = pump.run(report)
            reader.bye()
        return outcome


@contextmanager
def _opened(
    source: Host, target: Host, plan: Plan, folder: Path, disk: DiskPlan, options: Options
) -> Iterator[_Work]:
    name = disk.replica.removesuffix(".replica.raw")
    disks = folder / "disks"
    journal = Journal(disks / f"{name}.journal")
    try:
        with session(target, "writer") as writer:
            path = disks / f"{name}.manifest"
            algorithm = Manifest.open(path).algorithm if path.exists() else ""
            if algorithm not in writer.hello.hashes:
                algorithm = _choose(source, writer)
            writer.say(
                Kind.OPEN,
                directory=plan.pool_path,
                name=disk.replica,
                size=disk.size,
                hash=algorithm,
                again=int(options.again),
            )
            opened = writer.expect(Kind.OPEN)
            manifest = _manifest(path, journal, disk.size, algorithm, opened.number("created"))
            try:
                room = opened.number("free") + opened.number("allocated")
                published = bool(opened.number("published"))
                yield _Work(source, writer, disk, manifest, journal, room, published)
            finally:
                manifest.close()
            writer.bye()
    finally:
        journal.close()


def _manifest(path: Path, journal: Journal, size: int, algorithm: str, created: int) -> Manifest:
    """The manifest of this file; a new one when the file is new, or of another kind."""
    if path.exists() and not created:
        manifest = Manifest.open(path)
        if manifest.size == size and manifest.algorithm == algorithm:
            return manifest
        manifest.close()
    journal.add("reset")
    return Manifest.create(path, size, algorithm)


def _choose(source: Host, writer: Session) -> str:
    """SHA-256, unless a hash that both sides have is more than twice as fast as it."""
    with session(source, "reader") as reader:
        speeds = {
            name: min(speed, writer.hello.hashes[name])
            for name, speed in reader.hello.hashes.items()
            if name in writer.hello.hashes and name in WIDTHS
        }
        reader.bye()
    if not speeds:
        raise OutsideFailed("the two agents have no hash in common", where=source.name)
    best = max(speeds, key=lambda name: speeds[name])
    return "sha256" if speeds.get("sha256", 0) * 2 >= speeds[best] else best


def _prove(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    disk: DiskPlan,
    options: Options,
    report: Report,
) -> DiskResult:
    """The last pass and the comparison. A chunk that differs on the target is sent again: that
    happens when the controller lost its power between two writes, or the pool's disk is bad."""
    with _opened(source, target, plan, folder, disk, options) as work:
        repaired = 0
        for _ in range(ATTEMPTS):
            outcome = work.walk("final", options, report)
            chunks, different = verify(work.writer, work.manifest, report)
            if not different:
                break
            repaired += len(different)
            for offset in different:
                work.manifest.withdraw(offset, 1)
        else:
            raise OutsideFailed(
                f"{len(different)} chunks of {disk.replica} read back differently, "
                f"{ATTEMPTS} times",
                hint="check the hypervisor's disk and memory",
                where=target.name,
            )
        if chunks != outcome.chunks:
            raise OutsideFailed(
                f"{outcome.chunks} chunks are in use, {chunks} were compared", where=target.name
            )
        work.manifest.sync()
        return _proof(work, outcome, chunks, repaired)


def _proof(work: _Work, outcome: Outcome, chunks: int, repaired: int) -> DiskResult:
    return DiskResult(
        source=work.disk.source,
        replica=work.disk.replica,
        size=work.disk.size,
        hash=work.manifest.algorithm,
        manifest_sha256=work.manifest.digest(),
        used=outcome.used,
        chunks=chunks,
        differing=0,
        repaired=repaired,
        unreadable=outcome.bad,
        areas=tuple(area for area in outcome.areas.split(" | ") if area),
        passes=tuple(
            PassResult.model_validate({"kind": line["pass"], **_figures(line)})
            for line in work.journal.lines
            if line["event"] == "end"
        ),
    )


def _figures(line: dict[str, object]) -> dict[str, object]:
    return {key: line[key] for key in ("used", "read", "sent", "wire", "seconds")}


def _told(kind: str, outcome: Outcome) -> PassResult:
    return PassResult(
        kind=kind,
        used=outcome.used,
        read=outcome.read,
        sent=outcome.sent,
        wire=outcome.wire,
        seconds=outcome.seconds,
    )


__all__ = ["Options", "Transfer", "copy", "finish", "python_of", "read"]
