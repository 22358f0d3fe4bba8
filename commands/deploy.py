"""`groundlift deploy`: check, run, status."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters.clock import SystemClock
from adapters.playbooks import Access, AnsiblePlaybooks
from adapters.web import HttpWeb
from commands.console import progress, show_findings
from core.documents import load
from core.errors import OutsideFailed, UsageProblem
from core.rules import Answer, Finding, blockers
from core.state import State
from deploy import check as checking
from deploy import run as running
from deploy.bundle import open_bundle
from deploy.run import Cloud, Options, SiteBlocked, Summary, World
from deploy.site import Site

ROOT = Path(__file__).resolve().parent.parent
Command = TypeVar("Command", bound=Callable[..., Any])


def _site(command: Command) -> Command:
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.argument("site", type=kind, required=False, metavar="[CLOUD.YML]")(command)


def _json(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")(command)


@click.group()
def deploy() -> None:
    """Install the cloud that a cloud.yml describes. Default: the only inventories/*/cloud.yml."""


@deploy.command()
@_site
@_json
@click.pass_obj
def check(state: State, site: Path | None, as_json: bool) -> None:
    """Say every fault of the site at once, and whether mirror and nodes answer. Changes nothing."""
    cloud = open_cloud(state, site)
    with progress() as report:
        findings = checking.check(cloud, world(state, cloud), report)
    _findings(findings, as_json)
    if blockers(findings):
        raise SiteBlocked(findings)
    if not as_json:
        passes = sum(finding.answer is Answer.PASS for finding in findings)
        click.echo(f"{cloud.site.site} can be installed: {passes} of {len(findings)} answers pass")


@deploy.command()
@_site
@click.option("--from", "begin", default="", metavar="PHASE", help="Run this phase and all after.")
@click.option("--only", default="", metavar="PHASE", help="Run this phase alone.")
@click.option("--again", is_flag=True, help="Run phases that are done, too.")
@click.option("--check", "--dry-run", "dry", is_flag=True, help="Only say what would change.")
@_json
@click.pass_obj
def run(
    state: State, site: Path | None, begin: str, only: str, again: bool, dry: bool, as_json: bool
) -> None:
    """Install, phase by phase; a run that was stopped continues where it was."""
    cloud = open_cloud(state, site)
    options = Options(begin=begin, only=only, again=again, check=dry)
    try:
        with progress() as report:
            summary = running.run(cloud, world(state, cloud), options, report)
    except SiteBlocked as blocked:
        _findings(blocked.findings, as_json)
        raise
    except OutsideFailed as fault:
        log = _folder(state, cloud.site) / "ansible"
        fault.hint = f"{fault.hint} (logs: {log})"
        raise
    _summary(summary, dry, as_json)


@deploy.command()
@_site
@_json
@click.pass_obj
def status(state: State, site: Path | None, as_json: bool) -> None:
    """Say which phases are done, when, and what they changed. Asks no node."""
    cloud = open_cloud(state, site)
    rows = [_row(cloud, phase.name) for phase in cloud.content.bundle.phases]
    if as_json:
        click.echo(json.dumps({"site": cloud.site.site, "phases": rows}, indent=2))
        return
    for row in rows:
        when = f"{row['finished']}, {row['changed']} changes on {row['hosts']} hosts"
        click.echo(f"{row['phase']:12} {row['state']:8} {when if row['finished'] else ''}".rstrip())


def open_cloud(state: State, path: Path | None) -> Cloud:
    """The site of a file, or of the only inventories/*/cloud.yml, with its bundle."""
    found = [path] if path else sorted(Path("inventories").glob("*/cloud.yml"))
    if len(found) != 1:
        names = ", ".join(str(one) for one in found) or "none"
        raise UsageProblem(
            f"which site? inventories/*/cloud.yml are: {names}", hint="name the file as argument"
        )
    site = load(found[0], Site)
    content = open_bundle(ROOT, site.bundle)
    return Cloud(site, content, found[0].absolute().parent, _folder(state, site))


def world(state: State, cloud: Cloud) -> World:
    """The real one: Ansible over SSH with pinned host keys, the web, the clock."""
    ssh = cloud.site.ssh
    access = Access(ssh.user, state.root / ssh.key, state.root / ssh.known_hosts)
    for path in (access.key, access.known_hosts):
        if path is not None and not path.exists():
            raise UsageProblem(
                f"there is no {path}",
                hint="correct `ssh:` in cloud.yml; paths are relative to the state directory",
            )
    # Mitogen unless it is missing or `linear` is asked for: plain SSH, slower, for when it fails.
    strategy = os.environ.get("GROUNDLIFT_STRATEGY", "")
    playbooks = AnsiblePlaybooks(ROOT, _folder(state, cloud.site) / "ansible", access, strategy)
    return World(playbooks, HttpWeb(), SystemClock())


def _folder(state: State, site: Site) -> Path:
    return state.deploy(site.site)


def _row(cloud: Cloud, name: str) -> dict[str, Any]:
    phase = next(phase for phase in cloud.content.bundle.phases if phase.name == name)
    done = running.read(cloud.result(phase))
    word = "open" if done is None else "done" if running.fresh(cloud, phase, done) else "outdated"
    return {
        "phase": name,
        "state": word,
        "finished": f"{done.finished:%Y-%m-%d %H:%M} UTC" if done else None,
        "changed": len(done.changes) if done else 0,
        "hosts": len(done.hosts) if done else 0,
    }


def _findings(findings: tuple[Finding, ...], as_json: bool) -> None:
    if as_json:
        shown = [finding.model_dump(mode="json") for finding in findings]
        click.echo(json.dumps({"findings": shown}, indent=2))
    else:
        show_findings(findings)


def _summary(summary: Summary, dry: bool, as_json: bool) -> None:
    ran = [phase for phase in summary.phases if phase.result is not None]
    changed = sum(phase.changed for phase in ran)
    if as_json:
        phases = [
            {
                "phase": phase.phase,
                "ran": phase.result is not None,
                "changes": [
                    {"host": event.host, "task": event.task}
                    for event in (phase.result.changes if phase.result else ())
                ],
            }
            for phase in summary.phases
        ]
        click.echo(json.dumps({"changed": changed, "check": dry, "phases": phases}, indent=2))
        return
    for phase in ran:
        counts = phase.result.stats if phase.result else {}
        hosts = ", ".join(f"{host} {count['changed']}" for host, count in sorted(counts.items()))
        click.echo(f"{phase.phase:12} {'would change' if dry else 'changed'}: {hosts}")
    if not ran:
        click.echo("nothing changed: every phase was done before")
    else:
        verb = "would be made" if dry else "made"
        click.echo(f"{changed} changes {verb} in {len(ran)} of {len(summary.phases)} phases")
