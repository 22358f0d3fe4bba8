"""`groundlift migrate verify`: boot the converted server isolated, and compare it."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from adapters.clock import SystemClock
from adapters.web_through import HostWeb
from commands.connect import Case, open_case, site_option
from commands.console import progress, show_findings
from core.documents import load
from core.errors import Locked, UsageProblem
from core.ports import Host, Web
from core.progress import Report, track
from core.quantities import duration
from core.rules import blockers, judge
from core.state import State, lock, publish_model
from migrate import past
from migrate import plan as planning
from migrate.discover import discover as survey
from migrate.plan import Plan
from migrate.rehearse import Rehearsal
from migrate.source import SourceHost
from migrate.verify import RULES, Comparison, NotVerified, Verified, await_guest, await_services

PAUSE = 1.0  # between two looks whether another rehearsal has ended


@click.command()
@click.argument("host")
@site_option
@click.option("--again", is_flag=True, help="Rehearse anew, even though it passed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be compared.")
@click.option("--json", "as_json", is_flag=True, help="Print verify.json.")
@click.pass_obj
def verify(
    state: State, host: str, site_path: Path | None, again: bool, dry_run: bool, as_json: bool
) -> None:
    """Boot the migrated HOST on a network without uplink and compare it with the source."""
    case = open_case(state, host, site_path)
    if dry_run:
        for rule in RULES:
            click.echo(f"{rule.id}: {rule.title}")
        return
    with lock(case.folder / "lock", f"the migration of {host}"), progress() as report:
        done = rehearsed(case, report, again=again)
    if as_json:
        click.echo(done.model_dump_json(indent=2))
    else:
        show_findings(done.findings, passes=True)
        click.echo(f"rehearsed on {done.where}, up after {duration(done.seconds)}")
    refuse(host, done)


def refuse(host: str, done: Verified) -> None:
    """Raise NotVerified if the migrated server is not what the source was."""
    stand = sorted({finding.rule for finding in blockers(done.findings)})
    if stand:
        raise NotVerified(
            f"the migrated {host} is not what it was: {', '.join(stand)}",
            hint="the source is untouched: mend what the findings name, convert and verify again; "
            f"`groundlift migrate unquiesce {host}` puts the source back to work meanwhile",
        )


def rehearsed(case: Case, report: Report, *, again: bool = False) -> Verified:
    """Rehearse unless this conversion passed already. The caller holds the lock."""
    plan = planning.read(case.folder)
    path = case.folder / "verify.json"
    if not (case.folder / "convert.json").exists():
        raise UsageProblem(
            f"{plan.host} is not converted yet", hint=f"`groundlift migrate convert {plan.host}`"
        )
    converted = hashlib.sha256((case.folder / "convert.json").read_bytes()).hexdigest()
    if path.exists() and not again:
        old = load(path, Verified)
        if old.converted_sha256 == converted and not blockers(old.findings):
            return old
    past.refuse(plan.host, case.folder, "its domain runs from the disk that would be tried")
    node, hypervisor = case.node_host(plan.hypervisor), case.hypervisor(plan.hypervisor)
    guest = case.own().source_host(jump=case.node_login(plan.hypervisor))
    rehearsal = Rehearsal(plan, node, hypervisor)
    try:
        with _turn(case, plan.hypervisor, report), rehearsal.running():
            done = compare(
                case, plan, guest, HostWeb(node), rehearsal.uuid, report,
                where=plan.hypervisor, converted=converted,
            )  # fmt: skip
    finally:
        for end in (guest, node, hypervisor):
            end.close()
    publish_model(path, done)
    return done


@contextmanager
def _turn(case: Case, hypervisor: str, report: Report) -> Iterator[None]:
    """One rehearsal at a time on a hypervisor: bridge, probe address and routing table are one."""
    path = case.state.root / "rehearsals" / f"{hypervisor}.lock"
    what = f"the rehearsal network of {hypervisor}"
    with ExitStack() as stack:
        if not _taken(stack, path, what):
            with track(report, f"wait for another rehearsal on {hypervisor}") as meter:
                while not _taken(stack, path, what):
                    meter.advance(0)
                    time.sleep(PAUSE)
        yield


def _taken(stack: ExitStack, path: Path, what: str) -> bool:
    with suppress(Locked):
        stack.enter_context(lock(path, what))
        return True
    return False


def compare(
    case: Case, plan: Plan, guest: Host, web: Web, uuid: str, report: Report,
    *, where: str, converted: str,
) -> Verified:  # fmt: skip
    """Wait for the guest, take its facts as its services come up, and judge."""
    clock = SystemClock()
    before = load(case.folder / "source.json", SourceHost)

    def facts() -> SourceHost:
        return survey(
            guest, plan.address, pages=plan.pages, web=web, clock=clock,
            folder=case.folder / "facts-migrated",
        )  # fmt: skip

    begun = clock.monotonic()
    with track(report, f"boot {plan.domain} on {where}") as meter:
        await_guest(guest, clock, meter)
    seconds = clock.monotonic() - begun
    with track(report, f"compare {plan.domain} with the source") as meter:
        comparison: Comparison = await_services(
            guest, before, clock, facts, uuid, web, told=lambda text: meter.advance(0, text)
        )
    return Verified(
        where=where, seconds=round(seconds, 1), converted_sha256=converted,
        findings=judge(RULES, comparison), when=clock.now(),
    )  # fmt: skip
