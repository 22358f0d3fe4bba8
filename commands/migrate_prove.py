"""`groundlift migrate prove`: the replica against what the source held at rest, read anew."""

from pathlib import Path

import click

from commands.connect import Case, open_case, site_option
from commands.console import progress
from core.errors import Blocked
from core.progress import Report
from core.quantities import duration, size
from core.state import State, lock
from migrate.plan import read
from migrate.proof import Proof
from migrate.proof import prove as read_back


@click.command()
@click.argument("host")
@site_option
@click.option("--json", "as_json", is_flag=True, help="Print proof.json.")
@click.pass_obj
def prove(state: State, host: str, site_path: Path | None, as_json: bool) -> None:
    """Read HOST's replicas back from the hypervisor's disk and compare every chunk with what the
    source held. Changes nothing; the source need not be there any more."""
    case = open_case(state, host, site_path)
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        found = proved(case, report)
    click.echo(found.model_dump_json(indent=2) if as_json else describe(found))
    if found.differing:
        raise Blocked(
            f"{found.differing} chunks differ from what the source held",
            hint="the hypervisor's disk or memory is bad, or somebody wrote to the replica; "
            "nothing that stands on it is to be trusted",
            where=f"{found.hypervisor}",
        )


def proved(case: Case, report: Report) -> Proof:
    """The proof, made now. The caller holds the lock."""
    plan = read(case.folder)
    source, target = case.source_host(), case.node_host(plan.hypervisor)
    try:
        return read_back(source, target, plan, case.folder, report)
    finally:
        source.close()
        target.close()


def describe(found: Proof) -> str:
    """The proof for people."""
    lines = []
    for disk in found.disks:
        lines += [
            f"{disk.source} → {found.hypervisor}: {disk.replica}",
            f"  blocks of {size(disk.chunk)} read on the source   {disk.blocks_read}",
            f"  blocks verified on the target    {disk.blocks_verified}",
            f"  blocks that differ               {disk.blocks_differing}",
            *(f"    at byte {place}" for place in disk.places),
            f"  {disk.hash}, manifest {disk.manifest_sha256}",
            f"  read back in {duration(disk.seconds)}",
        ]
    lines.append(
        f"{found.host} at rest since {found.at_rest:%F %T} UTC, proved {found.proved:%F %T}, "
        f"read back {found.when:%F %T}"
    )
    return "\n".join(lines)
