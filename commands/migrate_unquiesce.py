"""`groundlift migrate unquiesce`: the way back from the last pass."""

from pathlib import Path

import click

from commands.connect import open_case, site_option
from commands.console import progress
from commands.migrate_transfer import wake
from core.state import State, lock
from migrate import past, quiesce


@click.command()
@click.argument("host")
@site_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def unquiesce(state: State, host: str, site_path: Path | None, dry_run: bool) -> None:
    """Make HOST's file systems writable and start its services again."""
    case = open_case(state, host, site_path)
    held = quiesce.record(case.folder)
    if dry_run or held is None:
        paths = reversed(held.mountpoints) if held else ()
        names = reversed(held.services) if held else ()
        steps = [
            *(f"remove the snapshot {name}" for name in (held.snapshots if held else ())),
            *(f"make {path} writable" for path in paths),
            *(f"start {name}" for name in names),
        ]
        click.echo("\n".join(steps) or f"{host} is not at rest: nothing to do")
        return
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        past.refuse(host, case.folder, "what answers under its address is the domain")
        wake(case, report)
    click.echo(f"switch {host} on with its own system" if held.rescue else f"{host} serves again")
