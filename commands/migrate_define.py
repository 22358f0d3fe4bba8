"""`groundlift migrate define`: make the converted disks a domain of the hypervisor."""

from pathlib import Path

import click

from commands.connect import Case, open_case, site_option
from core.documents import load
from core.state import State, lock
from migrate import plan as planning
from migrate.define import define as define_domain
from migrate.define import domain_xml, offered
from migrate.source import SourceHost


@click.command()
@click.argument("host")
@site_option
@click.option("--dry-run", is_flag=True, help="Print the domain's XML and define nothing.")
@click.pass_obj
def define(state: State, host: str, site_path: Path | None, dry_run: bool) -> None:
    """Define the domain of HOST from its plan and what the hypervisor can do. Starts nothing."""
    case = open_case(state, host, site_path)
    plan = planning.read(case.folder)
    if dry_run:
        hypervisor = case.hypervisor(plan.hypervisor)
        click.echo(domain_xml(plan, offered(hypervisor.capabilities())), nl=False)
        return
    with lock(case.folder / "lock", f"the migration of {host}"):
        changed = defined(case)
    word = "defined" if changed else "unchanged"
    click.echo(f"domain {plan.domain} on {plan.hypervisor}: {word} ({case.folder / 'domain.xml'})")


def defined(case: Case) -> bool:
    """Define the domain; True when that changed anything. The caller holds the lock."""
    plan = planning.read(case.folder)
    clock_local = load(case.folder / "source.json", SourceHost).clock_local
    hypervisor = case.hypervisor(plan.hypervisor)
    try:
        return define_domain(plan, hypervisor, case.folder, clock_local=clock_local)
    finally:
        hypervisor.close()
