"""`groundlift migrate warm`: bring the copy up to date, and say how long a standstill will be."""

from pathlib import Path

import click

from commands.connect import Case, open_case, site_option
from commands.console import progress
from core.errors import UsageProblem
from core.progress import Report
from core.quantities import duration, size
from core.state import State, lock
from migrate import forecast as forecasting
from migrate import past, quiesce
from migrate.forecast import Forecast, Way
from migrate.plan import read
from migrate.transfer import Options
from migrate.warm import MOST, Warm
from migrate.warm import warm as rounds


@click.command()
@click.argument("host")
@site_option
@click.option(
    "--rounds", "most", type=click.IntRange(1, 100), default=MOST, show_default=True,
    help="At most so many; fewer when another one would not help.",
)  # fmt: skip
@click.option(
    "--for", "way", type=click.Choice(["rehearse", "cutover"]), default="cutover",
    show_default=True, help="What the forecast is for.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell the forecast as it was made last.")
@click.option("--json", "as_json", is_flag=True, help="Print rounds and forecast as JSON.")
@click.pass_obj
def warm(
    state: State, host: str, site_path: Path | None, most: int, way: Way, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Copy what changed on HOST, round by round while it works, and forecast its standstill. Ends
    with exit code 3 when that is longer than `downtime_minutes` in plan.yml allows."""
    case = open_case(state, host, site_path)
    if dry_run:
        told = forecasting.read(case.folder)
        click.echo("\n".join(forecasting.lines(told)) if told else "nothing is forecast yet")
        return
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        found, told = warmed(case, way, report, most)
    if as_json:
        click.echo(f'{{"warm": {found.model_dump_json()}, "forecast": {told.model_dump_json()}}}')
    else:
        click.echo("\n".join((*describe(found), *forecasting.lines(told))))
    forecasting.gate(told)


def warmed(case: Case, way: Way, report: Report, most: int = MOST) -> tuple[Warm, Forecast]:
    """The rounds and the forecast. The caller holds the lock."""
    past.refuse(case.source.name, case.folder, "there are no rounds to come")
    if quiesce.record(case.folder) is not None:
        raise UsageProblem(
            f"{case.source.name} is at rest: rounds are for a server that works",
            hint=f"`groundlift migrate unquiesce {case.source.name}` first, or go on with the "
            "last pass",
        )
    plan = read(case.folder)
    source, target = case.source_host(), case.node_host(plan.hypervisor)
    options = Options(limits=case.limits(), direct=case.direct(plan.hypervisor))
    try:
        found = rounds(source, target, plan, case.folder, options, report, most)
    finally:
        source.close()
        target.close()
    return found, forecasting.forecast(plan, case.folder, found, way)


def describe(found: Warm) -> list[str]:
    """The rounds, one on a line."""
    told = [
        f"round {number}: {size(turn.sent)} had changed, {size(turn.wire)} on the wire, "
        f"{duration(turn.seconds)}"
        for number, turn in enumerate(found.rounds, 1)
    ]
    if found.rate is not None:
        told.append(f"the server changes {size(found.rate)}/s")
    if not found.settled:
        told.append("it still becomes shorter: another run would help")
    if found.differing:
        told.append(f"{found.differing} chunks read back differently; they are sent again")
    return told
