"""`groundlift migrate run`: all stages in a row, durable: killed anywhere, it continues."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import click

from adapters.engine import DbosEngine
from commands import migrate_assess, migrate_discover, migrate_plan, migrate_warm, rest
from commands.access import rescue_option
from commands.connect import Case, open_case, site_option
from commands.console import progress, show_findings
from commands.migrate_convert import converted, describe
from commands.migrate_cutover import confirmed, fenced, off_option, switched_on
from commands.migrate_cutover import describe as describe_end
from commands.migrate_define import defined
from commands.migrate_verify import refuse, rehearsed
from core.documents import load
from core.errors import Interrupted, OutsideFailed, UsageProblem
from core.progress import Report, silent, track
from core.rules import Answer
from core.state import State, lock
from migrate import forecast, past, quiesce, transfer, workflow
from migrate import plan as planning
from migrate import warm as warming
from migrate.convert import Converted
from migrate.cutover import CutOver
from migrate.forecast import Way
from migrate.times import timed
from migrate.transfer import Options
from migrate.verify import Verified
from migrate.workflow import Actions


@click.command()
@click.argument("host")
@site_option
@rescue_option
@click.option("--consent", metavar="HOST", help="Yes, stop HOST's services, and cut over.")
@click.option("--rehearse", is_flag=True, help="With --consent: try the copy, do not cut over.")
@off_option
@click.option("--again", is_flag=True, help="Rehearse anew from the first step.")
@click.option("--dry-run", is_flag=True, help="Only list the steps and which are finished.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def run(
    state: State,
    host: str,
    site_path: Path | None,
    consent: str | None,
    rehearse: bool,
    off: bool,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move HOST as far as you consent. Without --consent: discover, assess, plan and copy live.
    Continues where an earlier run stopped, however it stopped."""
    case = open_case(state, host, site_path)
    way = _way(host, consent, rehearse=rehearse)
    engine = DbosEngine(state.root / "workflows")
    if dry_run:
        _list(engine, case, way)
        return
    path = case.folder / "cutover.json"
    if path.exists():
        done = load(path, CutOver)
        told = f"nothing changed: {describe_end(done)}"
        click.echo(done.model_dump_json(indent=2) if as_json else told)
        return
    if again or way != "cutover":
        past.refuse(host, case.folder, f"all that is left is --consent {host}")
    try:
        with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
            if again or _left_behind(case, engine, way, report):
                engine.forget(f"{host}-{way}")
            workflow.run(engine, host, actions(case, report, consent or "", way, off=off), way)
    except KeyboardInterrupt:
        rest.tell(case)
        click.echo("error: stopped\n  → run the same command again to continue", err=True)
        # A step in its thread would go on for minutes; every step may be killed, so end it now.
        os._exit(Interrupted.exit_code)
    except Exception:
        rest.tell(case)
        raise
    _tell(case, way, as_json)


def _left_behind(case: Case, engine: DbosEngine, way: str, report: Report) -> bool:
    """Whether the server went back to work after the copy that an earlier run ended with: then that
    run's steps are worth nothing. A server that can't be asked may be switched off already."""
    begun = "finish" in set(engine.finished(f"{case.source.name}-{way}"))
    if way != "cutover" or not begun or (case.folder / "fenced.json").exists():
        return False
    source = case.source_host()
    try:
        behind = quiesce.left_behind(source, case.folder)
    except OutsideFailed:
        return False
    finally:
        source.close()
    if behind:
        with track(report, f"cutover of {case.source.name}") as meter:
            meter.note("the server worked since its last copy: begin with the copy again")
    return behind


def _way(host: str, consent: str | None, *, rehearse: bool) -> str:
    if consent is not None and consent != host:
        raise UsageProblem(f"--consent {consent} does not name {host}", hint=f"--consent {host}")
    if rehearse and consent is None:
        raise UsageProblem(
            "a rehearsal stops the services for the last pass",
            hint=f"--rehearse --consent {host}, in the maintenance window",
        )
    if consent is None:
        return "prepare"
    return "rehearse" if rehearse else "cutover"


def actions(case: Case, report: Report, consent: str, way: str, *, off: bool = False) -> Actions:
    """Each step as a call without arguments. They are called under the migration's lock."""

    def long(part: str, step: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            with timed(case.folder, part):
                step()

        return call

    def discover() -> None:
        if not (case.folder / "source.json").exists():
            if case.rescue:
                raise UsageProblem(
                    f"{case.source.name} was never discovered, and runs its rescue system now",
                    hint=f"`groundlift migrate run {case.source.name}` while its own system runs",
                )
            migrate_discover.ask_all(case, report)

    def assess() -> None:
        with track(report, f"assess {case.source.name}") as meter:
            book = migrate_assess.accept(case, (), None, None)
            found = migrate_assess.report_of(case, book)
            migrate_assess.keep(case, found, book)
            open_ = sum(finding.answer is not Answer.PASS for finding in found.findings)
            meter.note(f"{found.verdict.value}, {open_} findings in {case.folder}/report.json")
            migrate_assess.refuse(found)

    return Actions(
        discover=discover,
        assess=assess,
        plan=lambda: _quiet(migrate_plan.settle(case)),
        copy=lambda: _copy(case, report),
        warm=lambda: _warm(case, report, "rehearse" if way == "rehearse" else "cutover"),
        finish=lambda: _finish(case, report, way),
        convert=long("convert", lambda: converted(case, report)),
        define=long("define", lambda: defined(case)),
        verify=long("verify", lambda: refuse(case.source.name, rehearsed(case, report))),
        wake=long("wake", lambda: _wake(case, report)),
        fence=long("fence", lambda: fenced(case, consent, report, off=off)),
        switch_on=lambda: switched_on(case, report, off=off),
        confirm=long("confirm", lambda: confirmed(case, report)),
    )


def _quiet(_: object) -> None:
    """A step has no result: what it found out is in its file."""


def _copy(case: Case, report: Report) -> None:
    plan = planning.read(case.folder)
    source, node = case.source_host(), case.node_host(plan.hypervisor)
    try:
        if not (case.folder / "transfer.json").exists():
            options = Options(limits=case.limits(), direct=case.direct(plan.hypervisor))
            transfer.copy(source, node, plan, case.folder, options=options, report=report)
    finally:
        source.close()
        node.close()


def _warm(case: Case, report: Report, way: Way) -> None:
    """Rounds while the server works, and the gate. Where it is at rest already every second
    counts, and the decision was made."""
    held = quiesce.record(case.folder)
    if case.rescue or (held is not None and not held.working):
        return
    found, told = migrate_warm.warmed(case, way, report)
    with track(report, "forecast") as meter:
        for line in (*migrate_warm.describe(found), *forecast.lines(told)):
            meter.note(line.strip())
    forecast.gate(told)


def _finish(case: Case, report: Report, way: str) -> None:
    """The last pass. A copy whose source was put back to work since is brought up to date."""
    plan = planning.read(case.folder)
    rounds = warming.read(case.folder)
    change = rounds.change if rounds else None
    source, node = case.source_host(), case.node_host(plan.hypervisor)
    try:
        stale = quiesce.left_behind(source, case.folder)
        options = Options(
            again=stale, rehearsal=way == "rehearse", rescue=case.rescue,
            direct=case.direct(plan.hypervisor),
        )  # fmt: skip
        transfer.finish(source, node, plan, case.folder, options, report, change)
    finally:
        source.close()
        node.close()


def _wake(case: Case, report: Report) -> None:
    source = case.source_host()
    try:
        quiesce.release(source, case.folder, report)
    finally:
        source.close()


def _list(engine: DbosEngine, case: Case, way: str) -> None:
    done = set(engine.finished(f"{case.source.name}-{way}"))
    for step in workflow.WAYS[way](actions(case, silent, "", way)):
        click.echo(f"{'done' if step.name in done else 'to do':6} {step.name}")


def _tell(case: Case, way: str, as_json: bool) -> None:
    name, folder = case.source.name, case.folder
    tried = (folder / "verify.json").exists()
    further = f"groundlift migrate run {name}{'' if tried else ' --rehearse'} --consent {name}"
    if way == "prepare":
        shown = json.dumps({"host": name, "copied": True, "next": further})
        click.echo(shown if as_json else f"{name} is copied and still at work. Next: {further}")
        return
    done: CutOver | Verified
    if way == "cutover":
        done = load(folder / "cutover.json", CutOver)
        end = describe_end(done)
    else:
        done = load(folder / "verify.json", Verified)
        end = f"{name} was tried and is at work. Next: {further}"
    if as_json:
        click.echo(done.model_dump_json(indent=2))
        return
    click.echo(describe(load(folder / "convert.json", Converted)))
    show_findings(done.findings, passes=True)
    click.echo(end)
