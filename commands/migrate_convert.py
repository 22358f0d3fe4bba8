"""`groundlift migrate convert`: make the copied disks boot as a virtual machine."""

import hashlib
from pathlib import Path

import click

from adapters import nbdkit_device
from adapters.local import LocalHost
from adapters.machine import look
from commands.connect import Case, open_case, site_option
from commands.console import progress
from core.progress import Report
from core.quantities import duration, size
from core.state import State, lock
from migrate import plan as planning
from migrate import transfer
from migrate.convert import Converted, Share
from migrate.convert import convert as run_conversion


@click.command()
@click.argument("host")
@site_option
@click.option("--dry-run", is_flag=True, help="Only say what would be converted.")
@click.option("--json", "as_json", is_flag=True, help="Print convert.json.")
@click.pass_obj
def convert(state: State, host: str, site_path: Path | None, dry_run: bool, as_json: bool) -> None:
    """Convert HOST's replicas with virt-v2v, on overlays: the replicas stay as they are."""
    case = open_case(state, host, site_path)
    if dry_run:
        plan = planning.read(case.folder)
        for disk in plan.disks:
            click.echo(f"{plan.hypervisor}:{plan.pool_path}/{disk.replica} → {disk.overlay}")
        return
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        done = converted(case, report)
    click.echo(done.model_dump_json(indent=2) if as_json else describe(done))


def converted(case: Case, report: Report) -> Converted:
    """Convert unless the same replicas are converted already. The caller holds the lock."""
    plan = planning.read(case.folder)
    transfer.read(case.folder)
    digest = hashlib.sha256((case.folder / "transfer.json").read_bytes()).hexdigest()
    login, node = case.node_login(plan.hypervisor), case.node_host(plan.hypervisor)
    share = Share(
        f"{login.user}@{login.address}", case.ssh_program(login), Path(nbdkit_device.__file__)
    )
    try:
        return run_conversion(
            plan,
            LocalHost(),
            node,
            share,
            case.folder,
            report,
            replica_sha256=digest,
            kvm=look(case.state.root).kvm,
        )
    finally:
        node.close()


def describe(done: Converted) -> str:
    """The conversion on a few lines."""
    files = ", ".join(f"{name} {size(count)}" for name, count in done.overlays.items())
    lines = [f"converted in {duration(done.seconds)}: {files}"]
    lines += [f"  warning: {warning}" for warning in done.warnings]
    return "\n".join(lines)
