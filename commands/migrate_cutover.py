"""`groundlift migrate cutover`: the source goes off, the domain takes its place."""

import contextlib
import hashlib
from datetime import timedelta
from pathlib import Path

import click

from adapters.clock import SystemClock
from adapters.web import HttpWeb
from commands import rest
from commands.access import rescue_option
from commands.connect import Case, open_case, site_option
from commands.console import progress, show_findings
from commands.migrate_verify import compare
from core.documents import load
from core.errors import NoAnswer, OutsideFailed, PastReturn, TurnedAway, UsageProblem
from core.ports import Hypervisor
from core.progress import Report
from core.quantities import duration
from core.rules import blockers
from core.state import State, lock, publish_model
from migrate import cutover as cutting
from migrate import forecast, quiesce, transfer
from migrate import plan as planning
from migrate.convert import Converted
from migrate.cutover import CutOver, Fenced
from migrate.plan import Plan
from migrate.verify import UUID, Verified, alike

JUST = timedelta(minutes=2)  # since it was seen that the source is off

off_option = click.option(
    "--off", is_flag=True, help="HOST is switched off: somebody looked. It need not answer then."
)


@click.command()
@click.argument("host")
@site_option
@rescue_option
@click.option("--consent", default="", help="The server's name: its owner agrees to the cutover.")
@off_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print cutover.json.")
@click.pass_obj
def cutover(
    state: State,
    host: str,
    site_path: Path | None,
    consent: str,
    off: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Switch HOST off and start its domain under the same address. Needs --consent HOST."""
    case = open_case(state, host, site_path)
    plan = planning.read(case.folder)
    if dry_run:
        click.echo(f"would switch {host} ({plan.address}) off and start domain {plan.domain}")
        return
    cutting.consent(plan, consent)
    with (
        lock(case.folder / "lock", f"the migration of {host}"),
        rest.told(case),
        progress() as report,
    ):
        done = cut_over(case, consent, report, off=off)
    if as_json:
        click.echo(done.model_dump_json(indent=2))
        return
    show_findings(done.findings, passes=True)
    click.echo(describe(done))


def describe(done: CutOver) -> str:
    """The end of a migration on one line."""
    return (
        f"{done.host} runs as domain {done.domain} on {done.hypervisor}, {done.address}; "
        f"downtime {duration(done.downtime)}"
        + (f", forecast {duration(done.forecast)}" if done.forecast else "")
    )


def cut_over(case: Case, consent: str, report: Report, *, off: bool) -> CutOver:
    """All of it, from wherever an earlier run stopped. The caller holds the lock."""
    path = case.folder / "cutover.json"
    if path.exists():
        return load(path, CutOver)
    fenced(case, consent, report, off=off)
    switched_on(case, report, off=off)
    return confirmed(case, report)


def ready(case: Case) -> Plan:
    """The plan, if everything before the cutover is done and still holds."""
    plan, path = planning.read(case.folder), case.folder / "verify.json"
    name = case.source.name
    if not path.exists() or blockers(load(path, Verified).findings):
        raise UsageProblem(
            f"{name} has not passed verification", hint=f"`groundlift migrate verify {name}`"
        )
    held = quiesce.record(case.folder)
    if held is None or held.working:
        raise stale(case)
    if not _of_this_copy(case.folder):
        raise UsageProblem(
            f"what was converted and verified is an older copy of {name}",
            hint=f"`groundlift migrate convert {name}`, `define`, `verify`, then the cutover",
        )
    return plan


def _of_this_copy(folder: Path) -> bool:
    """Whether verify.json speaks of the conversion of the copy that transfer.json proves."""

    def digest(name: str) -> str:
        path = folder / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""

    converted = folder / "convert.json"
    return (
        converted.exists()
        and load(converted, Converted).replica_sha256 == digest("transfer.json")
        and load(folder / "verify.json", Verified).converted_sha256 == digest("convert.json")
    )


def stale(case: Case) -> UsageProblem:
    """What is to be said when the source works again."""
    name = case.source.name
    return UsageProblem(
        f"{name} was put back to work after its last copy, which is stale now",
        hint=f"`groundlift migrate run {name} --consent {name}` copies what changed first",
    )


def fenced(case: Case, consent: str, report: Report, *, off: bool) -> None:
    """Switch the source off. That it heard the order, and that it is off, are on the record."""
    path, intent = case.folder / "fenced.json", case.folder / "fencing.json"
    if path.exists():
        return
    plan = ready(case)
    cutting.consent(plan, consent)
    clock, held = SystemClock(), quiesce.record(case.folder)
    if held is None:
        raise stale(case)
    if held.rescue and not case.rescue:
        raise UsageProblem(
            f"{plan.host} was copied in its rescue system", hint="say --rescue FILE here, too"
        )
    source = case.source_host()

    def standing() -> bool:
        return cutting.still_source(plan, source, held)

    def told() -> bool:
        """An order from before this rest was given to a server that came back since."""
        return intent.exists() and load(intent, Fenced).when >= held.started

    def heard() -> None:
        """Not before: an order without an answer may be lost with the line, or never sent."""
        publish_model(intent, Fenced(host=plan.host, consent=consent, when=clock.now()))

    try:
        cutting.fence(plan, source, standing, told, heard, clock, report, off=off)
    finally:
        source.close()
    publish_model(path, Fenced(host=plan.host, consent=consent, when=clock.now()))
    intent.unlink(missing_ok=True)


def switched_on(case: Case, report: Report, *, off: bool = False) -> None:
    """Start the domain where the source was."""
    plan = planning.read(case.folder)
    hypervisor = case.hypervisor(plan.hypervisor)
    try:
        _still_off(case, plan, hypervisor, off=off)
        cutting.switch_on(plan, hypervisor, report)
    finally:
        hypervisor.close()


def _still_off(case: Case, plan: Plan, hypervisor: Hypervisor, *, off: bool) -> None:
    """Raises PastReturn when the source was switched on again since it was fenced: that is the way
    back, which whoever runs this again days later may not know of. What is there and lets nobody
    in may be the domain, if that runs."""
    if SystemClock().now() - load(case.folder / "fenced.json", Fenced).when < JUST:
        return
    source = case.own().source_host()
    try:
        shown = source.run(UUID, timeout=10).text
    except NoAnswer:
        return
    except OutsideFailed as fault:
        seen_off = off and not isinstance(fault, TurnedAway)
        if seen_off or hypervisor.domains().get(plan.domain) == "running":
            return
        raise PastReturn(
            f"something is under {plan.address}, and {plan.domain} does not run: {fault.message}",
            where=plan.host,
            hint="find out what it is and switch it off, then run again; with --off when only the "
            "network answers for it",
        ) from fault
    finally:
        source.close()
    with contextlib.suppress(ValueError):
        if alike(shown, plan.uuid):
            return
    raise PastReturn(
        f"{plan.host} was switched on again, and its domain must not start beside it",
        where=plan.host,
        hint='switch it off, then run again. Or see "The way back" in docs/migrate-run.md',
    )


def confirmed(case: Case, report: Report) -> CutOver:
    """Compare the domain under the real address with the source, and write cutover.json."""
    plan = planning.read(case.folder)
    guest = case.own().source_host()
    try:
        seen = compare(
            case, plan, guest, HttpWeb(), plan.uuid, report, where=plan.hypervisor, converted=""
        )
    except OutsideFailed as problem:
        raise _past(plan, problem.message) from problem
    finally:
        guest.close()
    stand = sorted({finding.rule for finding in blockers(seen.findings)})
    if stand:
        raise _past(plan, f"it is not what it was: {', '.join(stand)}")
    started = transfer.read(case.folder).downtime_started
    told = forecast.read(case.folder)
    done = CutOver(
        host=plan.host, domain=plan.domain, hypervisor=plan.hypervisor, address=plan.address,
        downtime=round((seen.when - started).total_seconds(), 1),
        forecast=told.seconds if told and told.purpose == "cutover" else None,
        findings=seen.findings, when=seen.when,
    )  # fmt: skip
    publish_model(case.folder / "cutover.json", done)
    return done


def _past(plan: Plan, text: str) -> PastReturn:
    return PastReturn(
        f"{plan.host} is off and its domain is on, but {text}",
        where=plan.host,
        hint=f"mend it and run `groundlift migrate cutover {plan.host} --consent {plan.host}` "
        "again. Or go back: stop the domain, switch the old server on; it is as it was",
    )
