"""The proof of a replica, made anew whenever it is asked for: the target reads it back from its
disk, and every chunk is compared with what the source held when it was at rest.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

from core.documents import Document
from core.errors import OutsideFailed
from core.ports import Host
from core.progress import Report
from core.state import publish_model
from migrate import transfer
from migrate.plan import DiskPlan, Plan
from migrate.transfer import DiskResult
from migrate.transfer_reread import verify
from migrate.transfer_wire import CHUNK
from migrate.transfer_work import DEFAULTS, opened

FILE = "proof.json"


class DiskProof(Document):
    """One disk. Blocks are of ``chunk`` bytes: read on the source at rest, verified on the target;
    ``places`` are the first that differ, in bytes."""

    source: str
    replica: str
    blocks_read: int
    blocks_verified: int
    blocks_differing: int
    hash: str
    manifest_sha256: str
    seconds: float
    unreadable: int
    chunk: int = CHUNK
    places: tuple[int, ...]


class Proof(Document):
    """proof.json: ``at_rest`` is since when the source stood still, ``proved`` when the transfer
    was, ``when`` this reading."""

    version: int = 1
    host: str
    hypervisor: str
    at_rest: datetime
    proved: datetime
    when: datetime
    disks: tuple[DiskProof, ...]

    @property
    def differing(self) -> int:
        """Chunks that differ, on all disks."""
        return sum(disk.blocks_differing for disk in self.disks)


def prove(source: Host, target: Host, plan: Plan, folder: Path, report: Report) -> Proof:
    """Read every replica back. Raises UsageProblem before there is one, OutsideFailed when the
    manifest is not the one that was proved. Written to proof.json, also when chunks differ."""
    done = transfer.read(folder)
    results = {disk.replica: disk for disk in done.disks}
    planned = {disk.replica for disk in plan.disks}
    if planned != set(results):
        raise OutsideFailed(
            f"plan.yml names {', '.join(sorted(planned))}, proved were "
            f"{', '.join(sorted(results))}",
            hint="the plan of the transfer is needed for its proof",
            where=str(folder),
        )
    disks = tuple(
        _disk(source, target, plan, folder, disk, results[disk.replica], report)
        for disk in plan.disks
    )
    found = Proof(
        host=plan.host, hypervisor=plan.hypervisor, at_rest=done.downtime_started,
        proved=done.proved, when=datetime.now(UTC), disks=disks,
    )  # fmt: skip
    publish_model(folder / FILE, found)
    return found


def _disk(
    source: Host, target: Host, plan: Plan, folder: Path, disk: DiskPlan, result: DiskResult,
    report: Report,
) -> DiskProof:  # fmt: skip
    start = time.monotonic()
    with opened(source, target, plan, folder, disk, DEFAULTS) as work:
        digest = work.manifest.digest()
        if digest != result.manifest_sha256:
            raise OutsideFailed(
                f"the manifest of {disk.replica} is not the one that was proved: its SHA-256 is "
                f"{digest}, it was {result.manifest_sha256}",
                hint=f"`groundlift migrate transfer {plan.host} --pass final` proves it anew, if "
                "the source is still there",
                where=str(folder / "disks"),
            )
        verified, different = verify(work.writer, work.manifest, report)
    return DiskProof(
        source=disk.source, replica=disk.replica, hash=result.hash, manifest_sha256=digest,
        blocks_read=result.chunks, blocks_verified=verified, blocks_differing=len(different),
        places=tuple(different[:16]), unreadable=result.unreadable,
        seconds=round(time.monotonic() - start, 2),
    )  # fmt: skip
