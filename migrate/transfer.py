"""Copy the disks of a running server into the pool: live passes first, then one at rest, proved.

The last pass runs at rest, reads the maps of used blocks anew, and every used chunk's digest at
the source equals the manifest's and that of what the target reads back. Earlier passes may be
arbitrarily wrong: they only save time.
"""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from core.documents import Document, load
from core.errors import OutsideFailed, Problem, UsageProblem
from core.ports import Host
from core.progress import Report, silent
from core.state import publish_model
from migrate import legs, quiesce
from migrate.moment import look
from migrate.plan import DiskPlan, Plan, Quiesce
from migrate.times import timed
from migrate.transfer_order import Outcome
from migrate.transfer_reread import verify
from migrate.transfer_rounds import PassResult, Rounds, refuse, take_back
from migrate.transfer_speed import Readers
from migrate.transfer_wire import python_of
from migrate.transfer_work import DEFAULTS, Options, Work, opened

VERSION = 1
ATTEMPTS = 3


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
    options: Options = DEFAULTS,
    report: Report = silent,
) -> tuple[PassResult, ...]:
    """One live pass over every disk. The source keeps serving."""
    with Rounds(source, target, plan, folder, options) as rounds:
        return rounds.go(kind, report, last=True)


def finish(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    options: Options = DEFAULTS,
    report: Report = silent,
    change: float | None = None,
) -> Transfer:
    """The last pass: quiesce, copy what changed, prove it, give the replicas their names. The
    source stays at rest when all went well, and is woken when anything failed.

    ``rehearsal`` in the options lets it be a moment of the server at work, where the plan says so;
    ``change`` are the bytes that are expected to change meanwhile."""
    path, old = folder / "transfer.json", quiesce.record(folder)
    if options.rescue:
        plan = plan.model_copy(update={"quiesce": Quiesce()})
    rehearsal = options.rehearsal and plan.quiesce.rehearse != "stopped"
    if old is not None and (old.working or rehearsal):
        refuse(plan, folder)
        quiesce.release(source, folder, report)  # whoever made that died over it
        options = replace(options, again=True)
    if path.exists() and not options.again:
        return read(folder)
    take_back(plan, folder)
    legs.check(source, plan, rescue=options.rescue)
    moment = look(source, plan, quiesce.writable(source), change) if rehearsal else None
    # a name that was given without a proof is taken back
    options = replace(options, again=True, moment=moment)
    try:
        with timed(folder, "moment" if moment else "quiesce"):
            held = quiesce.hold(source, plan, folder, report, moment, rescue=options.rescue)
        disks = _named(source, target, plan, folder, held, options, report)
        result = Transfer(
            host=plan.host,
            hypervisor=plan.hypervisor,
            pool_path=plan.pool_path,
            downtime_started=held.started,
            proved=datetime.now(UTC),
            disks=disks,
        )
        publish_model(path, result)
    except BaseException:
        if moment:
            moment.close()
        # The copy's own failure is the one to tell; what could not be woken is on the record.
        with contextlib.suppress(Problem):
            quiesce.release(source, folder, report)
        raise
    return result


def _named(
    source: Host, target: Host, plan: Plan, folder: Path, held: quiesce.Quiesced,
    options: Options, report: Report,
) -> tuple[DiskResult, ...]:  # fmt: skip
    """Every disk proved; the replicas have their names, for the rest lasted until then."""
    moment = options.moment
    with moment.watched() if moment else contextlib.nullcontext(), Readers(source) as readers:
        disks = tuple(
            _prove(source, target, plan, folder, disk, options, report, readers)
            for disk in plan.disks
        )
    if moment:
        moment.end()
    legs.check(source, plan, rescue=options.rescue)
    if not quiesce.at_rest(source, held):
        raise OutsideFailed(
            "the source did not stay at rest during the last pass",
            hint="see what remounted its file systems or rebooted it, then run again",
            where=source.name,
        )
    for disk in plan.disks:
        with opened(source, target, plan, folder, disk, DEFAULTS) as work:
            work.publish()
    return disks


def _prove(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    disk: DiskPlan,
    options: Options,
    report: Report,
    readers: Readers,
) -> DiskResult:
    """The last pass and the comparison. A chunk that differs on the target is sent again: that
    happens when the controller lost its power between two writes, or the pool's disk is bad."""
    stay = disk is not plan.disks[-1]
    with opened(source, target, plan, folder, disk, options, "final", report, readers) as work:
        repaired = 0
        for _ in range(ATTEMPTS):
            outcome = work.walk("final", options, report, stay=stay)
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


def _proof(work: Work, outcome: Outcome, chunks: int, repaired: int) -> DiskResult:
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
    keys = ("used", "read", "sent", "wire", "seconds", "direct")
    return {key: line.get(key, 0) for key in keys}


__all__ = [
    "DEFAULTS",
    "Options",
    "PassResult",
    "Rounds",
    "Transfer",
    "copy",
    "finish",
    "python_of",
    "read",
]
