"""`groundlift migrate transfer`: copy the disks into the pool, live; the last pass at rest."""

import itertools
import math
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click

from commands import rest
from commands.access import rescue_option
from commands.connect import Case, open_case, site_option
from commands.console import progress
from core.errors import OutsideFailed, UsageProblem
from core.progress import Report, pause
from core.quantities import MIB, duration, size
from core.state import State, lock
from migrate import past, quiesce
from migrate.plan import Plan, read
from migrate.transfer import DEFAULTS, Options, PassResult, Rounds, Transfer, copy, finish

NEAR = 900.0  # seconds between deltas over which connections stay


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A range holds what is no number, since nothing is smaller or larger than that."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("a number is needed")
    return value


@click.command()
@click.argument("host")
@site_option
@rescue_option
@click.option(
    "--pass",
    "kind",
    type=click.Choice(["full", "delta", "final"]),
    default="full",
    show_default=True,
    help="full: everything in use, once, continuing where it stopped. delta: what changed since. "
    "final: stop the services, make the file systems read-only, copy the rest and prove it.",
)
@click.option("--consent", metavar="HOST", help="For --pass final: yes, stop HOST's services.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1, max=100_000),
    callback=_finite,
    help="At most so many MiB per second from the server.",
)
@click.option("--compress", is_flag=True, help="Compress on the server; for slow lines.")
@click.option(
    "--connections",
    type=click.IntRange(0, 16),
    default=0,
    show_default=True,
    help="How many ssh connections share the work; 0: as many as were measured to pay.",
)
@click.option(
    "--slowdown",
    type=click.FloatRange(min=0, max=1000),
    callback=_finite,
    default=DEFAULTS.slowdown,
    show_default=True,
    help="Leave the server's disk to others while it answers so many times slower; 0: never.",
)
@click.option(
    "--index/--no-index",
    default=True,
    show_default=True,
    help="Take blocks that the pool holds from another server from there.",
)
@click.option(
    "--relay", is_flag=True, help="Through this machine, even where a direct way is agreed."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1, max=1440),
    callback=_finite,
    metavar="MINUTES",
    help="For --pass delta: another one every so many minutes, until Ctrl-C.",
)
@click.option("--times", type=click.IntRange(min=1), help="For --every: end after so many.")
@click.option("--again", is_flag=True, help="Go on with a transfer that was finished before.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def transfer(
    state: State,
    host: str,
    site_path: Path | None,
    kind: str,
    consent: str | None,
    rate: float | None,
    compress: bool,
    connections: int,
    slowdown: float,
    index: bool,
    relay: bool,
    every: float | None,
    times: int | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy HOST's disks to its hypervisor. Interrupted, the same command continues."""
    if (every and kind != "delta") or (times and not every):
        raise UsageProblem(
            "--times needs --every" if times else "only deltas are repeated",
            hint=f"`groundlift migrate transfer {host} --pass delta --every 30`",
        )
    case = open_case(state, host, site_path)
    past.refuse(host, case.folder, "its domain stands on what was copied")
    plan = read(case.folder)
    if dry_run:
        click.echo(intent(plan, kind))
        return
    if kind == "final" and consent != host:
        raise UsageProblem(
            f"the last pass stops {', '.join(plan.quiesce.services) or 'nothing'} on {host}",
            hint=f"`groundlift migrate transfer {host} --pass final --consent {host}`, in the "
            "maintenance window",
        )
    options = Options(
        rate=int((rate or 0) * MIB), compress=compress, again=again,
        connections=connections, slowdown=slowdown, index=index, limits=case.limits(),
        rescue=case.rescue, direct=None if relay else case.direct(plan.hypervisor),
    )  # fmt: skip
    if every:
        with lock(case.folder / "lock", f"the migration of {host}"):
            repeat(case, plan, options, 60 * every, times or 0, as_json=as_json)
        return
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        if kind == "final":
            with rest.told(case):
                proof = prove(case, plan, options, report)
            click.echo(proof.model_dump_json(indent=2) if as_json else describe(proof))
            return
        results = live(case, plan, kind, options, report)
    tell(results, as_json=as_json)


def tell(results: tuple[PassResult, ...], *, as_json: bool) -> None:
    """A pass over all disks, on stdout."""
    if as_json:
        click.echo("[" + ",\n".join(result.model_dump_json() for result in results) + "]")
    else:
        click.echo("\n".join(figures(result) for result in results) or "nothing left to copy")


def live(
    case: Case, plan: Plan, kind: str, options: Options, report: Report
) -> tuple[PassResult, ...]:
    """One live pass. The caller holds the lock."""
    source, target = case.source_host(), case.node_host(plan.hypervisor)
    try:
        return copy(source, target, plan, case.folder, kind, options, report)
    finally:
        source.close()
        target.close()


def repeat(
    case: Case, plan: Plan, options: Options, every: float, times: int, *, as_json: bool
) -> None:
    """A delta every so many seconds, 0 times: until it is stopped. After the first one a delta that
    fails is told, and the next one comes in time. The caller holds the lock."""
    source, target = case.source_host(), case.node_host(plan.hypervisor)
    with Rounds(source, target, plan, case.folder, options) as rounds:
        for number in itertools.count(1):
            began = time.monotonic()
            try:
                with progress() as report:
                    results = rounds.go("delta", report)
                tell(results, as_json=as_json)
            except OutsideFailed as fault:
                rounds.rest()
                if number == 1:
                    raise
                click.secho(f"error: {fault}", fg="red", err=True)
                click.echo("  → the next delta goes on: what was copied is kept", err=True)
            if number == times:
                return
            if every > NEAR:
                rounds.rest()
            left = max(0.0, began + every - time.monotonic())
            begin = datetime.now() + timedelta(seconds=left)
            with progress() as report:
                pause(left, report, f"next delta at {begin:%H:%M:%S}")


def prove(case: Case, plan: Plan, options: Options, report: Report) -> Transfer:
    """The last pass. The caller holds the lock and has the consent. A server that was woken since
    has moved on: its proof is void, the pass is done again."""
    source, target = case.source_host(), case.node_host(plan.hypervisor)
    try:
        woken = quiesce.left_behind(source, case.folder)
        options = replace(options, again=options.again or woken)
        return finish(source, target, plan, case.folder, options, report)
    finally:
        source.close()
        target.close()


def wake(case: Case, report: Report) -> bool:
    """The way back from the last pass. The caller holds the lock."""
    source = case.source_host()
    try:
        return quiesce.release(source, case.folder, report)
    finally:
        source.close()


def intent(plan: Plan, kind: str) -> str:
    """What a pass would do."""
    lines = [f"{disk.source} → {plan.pool_path}/{disk.replica}" for disk in plan.disks]
    if kind == "final":
        lines = [f"stop {name}" for name in plan.quiesce.services] + [
            *(f"make {path} read-only" for path in plan.quiesce.mountpoints),
            *lines,
            "compare every used chunk at both ends",
        ]
    return "\n".join(lines)


def figures(result: PassResult) -> str:
    """One pass on a line."""
    speed = size(result.used / max(result.seconds, 0.001))
    straight = f" ({size(result.direct)} of it straight)" if result.direct else ""
    return (
        f"{result.kind:5} {size(result.used)} in use, {size(result.sent)} sent, "
        f"{size(result.wire)} on the wire{straight}, {duration(result.seconds)} ({speed}/s)"
    )


def describe(proof: Transfer) -> str:
    """The proof in a few lines."""
    lines = []
    for disk in proof.disks:
        lines += [f"{disk.source} → {proof.hypervisor}:{proof.pool_path}/{disk.replica}"]
        lines += [f"  {figures(entry)}" for entry in disk.passes]
        lines += [
            f"  {disk.chunks} chunks compared at both ends ({disk.hash}), {disk.differing} differ"
            + (f", {disk.unreadable} sectors unreadable" if disk.unreadable else "")
        ]
    since = time.time() - proof.downtime_started.timestamp()
    lines.append(f"  {proof.host} is at rest since {duration(since)}")
    return "\n".join(lines)
