"""`groundlift migrate plan`: write down how the server will move, for a person to correct."""

from pathlib import Path

import click

from commands.connect import Case, open_case, site_option
from commands.migrate_assess import refuse, subject_of
from core.documents import load
from core.errors import UsageProblem
from core.quantities import size
from core.state import State, lock, publish
from migrate.assess import Report
from migrate.plan import Plan, draft, edited, read, text


@click.command()
@click.argument("host")
@site_option
@click.option("--force", is_flag=True, help="Draft it anew, even over edits of yours.")
@click.option("--dry-run", is_flag=True, help="Print the draft and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_obj
def plan(
    state: State, host: str, site_path: Path | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Draft plan.yml of HOST from its facts and the site; check and keep the one you edited."""
    case = open_case(state, host, site_path)
    if dry_run:
        click.echo(drafted(case), nl=False)
        return
    with lock(case.folder / "lock", f"the migration of {host}"):
        said = settle(case, force=force)
        settled = read(case.folder)
    if as_json:
        click.echo(settled.model_dump_json(indent=2))
        return
    click.echo(describe(settled))
    click.echo(f"  {case.folder / 'plan.yml'}: {said}")


def settle(case: Case, *, force: bool = False) -> str:
    """Make plan.yml what it should be, and say what was done. The caller holds the lock."""
    path, new = case.folder / "plan.yml", drafted(case)
    old = path.read_text() if path.exists() else ""
    if old == new:
        return "unchanged"
    if old and edited(old) and not force:
        return "edited by hand, checked and kept (--force drafts it anew)"
    publish(path, new)
    return "drafted; correct what is wrong"


def drafted(case: Case) -> str:
    """The text of a new plan. Raises Blocked while blockers stand open."""
    path = case.folder / "report.json"
    name = case.source.name
    if not path.exists():
        raise UsageProblem(
            f"{name} was not assessed yet", hint=f"`groundlift migrate assess {name}` first"
        )
    report = load(path, Report)
    subject, digest = subject_of(case, report.target)
    if report.source_sha256 != digest:
        raise UsageProblem(
            f"the assessment of {name} belongs to an older discovery",
            hint=f"`groundlift migrate assess {name}` again",
        )
    refuse(report)
    return text(draft(subject, digest))


def describe(plan: Plan) -> str:
    """The plan on a few lines."""
    lines = [
        f"{plan.host} → domain {plan.domain} on {plan.hypervisor}, pool {plan.pool}",
        f"  {plan.vcpus} CPUs, {size(plan.memory)} memory, uuid {plan.uuid}",
        *(
            f"  disk {disk.source} {size(disk.size)} → {disk.target} on {disk.bus}"
            + (", one leg of a mirror" if disk.leg else "")
            for disk in plan.disks
        ),
        *(f"  card {nic.mac} ({nic.model}) → {nic.bridge}" for nic in plan.nics),
        f"  stops {', '.join(plan.quiesce.services) or 'no service'}; then read-only: "
        f"{', '.join(plan.quiesce.mountpoints) or 'nothing'}",
    ]
    return "\n".join(lines)
