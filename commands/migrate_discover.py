"""`groundlift migrate discover`: ask an old server what it is, without changing it."""

from collections.abc import Iterator
from pathlib import Path

import click

from adapters.clock import SystemClock
from adapters.web import HttpWeb
from commands.connect import Case, open_case, site_option
from commands.console import progress
from core.documents import load
from core.errors import UsageProblem
from core.progress import Report
from core.quantities import size
from core.state import State, lock, publish_model
from migrate import past, quiesce
from migrate.discover import FACTS
from migrate.discover import discover as survey
from migrate.reading import reading
from migrate.source import SourceHost


@click.command()
@click.argument("host")
@site_option
@click.option("--again", is_flag=True, help="Ask anew, even though the answers are there.")
@click.option("--dry-run", is_flag=True, help="Only list the commands that would be run there.")
@click.option("--json", "as_json", is_flag=True, help="Print source.json.")
@click.pass_obj
def discover(
    state: State, host: str, site_path: Path | None, again: bool, dry_run: bool, as_json: bool
) -> None:
    """Collect facts of HOST over SSH, read-only, and keep the raw answers as evidence."""
    case = open_case(state, host, site_path)
    if dry_run:
        for fact in FACTS:
            click.echo(f"{fact.name}: {fact.question}\n    {' '.join(fact.argv)}")
        return
    path = case.folder / "source.json"
    if path.exists() and not again:
        found = load(path, SourceHost)
    else:
        with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
            found = ask_all(case, report)
    click.echo(found.model_dump_json(indent=2) if as_json else describe(found, case.folder))


def ask_all(case: Case, report: Report) -> SourceHost:
    """Ask the server and write source.json. The caller holds the lock."""
    past.refuse(case.source.name, case.folder, "its address is the migrated domain's now")
    if quiesce.record(case.folder) is not None:
        raise UsageProblem(
            f"{case.source.name} is at rest: what it is at work can't be learned now",
            hint=f"`groundlift migrate unquiesce {case.source.name}` first",
        )
    host = case.source_host()
    try:
        found = survey(
            host,
            str(case.source.address),
            pages=case.source.pages,
            web=HttpWeb(),
            clock=SystemClock(),
            folder=case.folder / "facts",
            report=report,
        )
        way = {"ssh_banner": host.banner, "ssh_weak": host.algorithms.weak}
        found = found.model_copy(update=way)
    finally:
        host.close()
    publish_model(case.folder / "source.json", found)
    return found


def _disks(found: SourceHost) -> Iterator[str]:
    """What is there, and what of it is not read."""
    read = reading(found)
    for unit in read.units:
        paths = f" over {len(unit.disks)} paths" if len(unit.disks) > 1 else ""
        yield f"{unit.source} {size(unit.size)}{paths}"
    for leg in read.legs:
        yield f"{leg.left.source} {size(leg.left.size)} (all on {leg.kept.source} too)"
    for disk in found.disks:
        if disk.removable:
            yield f"{disk.path} {size(disk.size)} (removable)"


def describe(found: SourceHost, folder: Path) -> str:
    """The server on a few lines."""
    used = sum(fs.used for fs in found.filesystems if not fs.remote)
    disks = ", ".join(_disks(found))
    running = sum(service.running for service in found.services)
    lines = [
        f"{found.name}  {found.os.name}, kernel {found.os.kernel}, {found.os.arch}",
        f"  machine   {found.product or 'make unknown'}, {found.cpu.count} CPUs, "
        f"{size(found.memory)} memory, {found.firmware or 'firmware unknown'}",
        f"  disks     {disks or 'unknown'}; {size(used)} used in file systems",
        f"  network   {', '.join(a for card in found.interfaces for a in card.addresses)}",
        f"  software  {running} services, {len(found.listeners)} listening sockets",
        f"  ssh       {found.ssh_banner or 'version unknown'}"
        + (f"; needs {found.ssh_weak}" if found.ssh_weak else ""),
        *(f"  page      {page.url} answered {page.status}" for page in found.pages),
        *(f"  missing   {name}: {why}" for name, why in found.missing.items()),
        f"  asked {found.taken:%F %T} UTC, kept in {folder / 'source.json'}; "
        f"raw answers in {folder / 'facts'}",
    ]
    return "\n".join(lines)
