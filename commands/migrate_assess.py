"""`groundlift migrate assess`: can this server move, and what must be done first?"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ValidationError

from commands.connect import Case, open_case, site_option
from commands.console import show_findings
from core.documents import load
from core.errors import Blocked, OutsideFailed, UsageProblem
from core.rules import blockers
from core.state import State, lock, publish, publish_model
from migrate.assess import Report, Verdict, Waivers, waive, waivers_text
from migrate.assess import assess as judge_all
from migrate.rules.subject import Subject
from migrate.source import SourceHost
from migrate.target import Target, look, unseen

COLOURS = {
    Verdict.FEASIBLE: "green",
    Verdict.CONDITIONAL: "yellow",
    Verdict.UNDECIDED: "yellow",
    Verdict.NOT_FEASIBLE: "red",
}


@click.command()
@click.argument("host")
@site_option
@click.option("--waive", "waived", multiple=True, metavar="RULE", help="Accept a finding; repeat.")
@click.option("--person", help="Who accepts it.")
@click.option("--reason", help="Why.")
@click.option("--all", "passes", is_flag=True, help="Show the rules that passed, too.")
@click.option("--dry-run", is_flag=True, help="Judge, but write neither report nor waiver.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json.")
@click.pass_obj
def assess(
    state: State,
    host: str,
    site_path: Path | None,
    waived: tuple[str, ...],
    person: str | None,
    reason: str | None,
    passes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Judge what discovery learned of HOST by all rules; say what to do about each finding."""
    case = open_case(state, host, site_path)
    with lock(case.folder / "lock", f"the migration of {host}"):
        book = accept(case, waived, person, reason)
        report = report_of(case, book)
        if not dry_run:
            keep(case, report, book)
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        show_findings(report.findings, passes=passes)
        click.secho(f"{host}: {report.verdict.value}", fg=COLOURS[report.verdict], bold=True)
    refuse(report)


def accept(case: Case, waived: tuple[str, ...], person: str | None, reason: str | None) -> Waivers:
    """The book of waivers with those of this call."""
    path = case.folder / "waivers.yml"
    book = load(path, Waivers) if path.exists() else Waivers()
    if not waived:
        return book
    if not person or not reason:
        raise UsageProblem(
            "a waiver needs --person and --reason",
            hint="say who takes the finding on, and why it may stand",
        )
    try:
        return waive(book, waived, person, reason, datetime.now(UTC).date())
    except ValidationError as fault:
        raise UsageProblem(f"not a waiver: {fault.errors()[0]['msg']}") from fault


def report_of(case: Case, book: Waivers) -> Report:
    """Judge source.json. The hypervisor is asked what it has; if it is away, that is unknown."""
    subject, digest = subject_of(case, _target(case))
    return judge_all(subject, digest, book)


def subject_of(case: Case, target: Target) -> tuple[Subject, str]:
    """What rules and plan start from, and the digest of source.json."""
    path = case.folder / "source.json"
    if not path.exists():
        raise UsageProblem(
            f"{case.source.name} was not discovered yet",
            hint=f"`groundlift migrate discover {case.source.name}` first",
        )
    subject = Subject(
        host=load(path, SourceHost),
        site=case.site,
        described=case.source,
        target=target,
        others=_others(case),
    )
    return subject, hashlib.sha256(path.read_bytes()).hexdigest()


def keep(case: Case, report: Report, book: Waivers) -> None:
    """Write report.json and waivers.yml, each only if it changed."""
    path, text = case.folder / "report.json", report.model_dump_json(indent=2) + "\n"
    if not path.exists() or path.read_text() != text:
        publish_model(path, report)
    path = case.folder / "waivers.yml"
    if book.waivers and (not path.exists() or load(path, Waivers) != book):
        publish(path, waivers_text(book))


def refuse(report: Report) -> None:
    """Raise Blocked if blockers stand open."""
    stand = sorted({finding.rule for finding in blockers(report.findings)})
    if stand:
        raise Blocked(
            f"{report.host} can't move yet: {', '.join(stand)}",
            hint="do what the findings say and discover again, or accept one by "
            "`groundlift migrate assess HOST --waive RULE --person NAME --reason TEXT`",
        )


def _target(case: Case) -> Target:
    wanted = case.source.target
    pools = {pool.name: pool.path for pool in case.site.pools}
    if wanted.pool not in pools or wanted.network not in {n.name for n in case.site.networks}:
        raise UsageProblem(
            f"{case.site_path} has no pool {wanted.pool} or no network {wanted.network}",
            hint="`groundlift deploy check` names every such fault",
        )
    target = Target(
        node=wanted.hypervisor,
        pool=wanted.pool,
        pool_path=pools[wanted.pool],
        network=wanted.network,
    )
    node = case.node_host(wanted.hypervisor)
    try:
        return look(node, target)
    except OutsideFailed as problem:
        return unseen(target, problem.message)
    finally:
        node.close()


def _others(case: Case) -> tuple[SourceHost, ...]:
    paths = sorted(case.state.root.glob("migrate/*/source.json"))
    return tuple(load(path, SourceHost) for path in paths if path.parent.name != case.source.name)
