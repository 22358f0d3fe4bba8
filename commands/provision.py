"""`groundlift provision`: bare machines from the network; check, render, serve, status."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters.web import HttpWeb
from commands.console import progress
from commands.deploy import open_cloud
from commands.provision_line import attend, line_of
from core.documents import read_bounded
from core.errors import UsageProblem
from core.quantities import duration
from core.state import State, lock
from deploy import kickstart, pxe
from deploy import provision as provisioning
from deploy.kickstart import Secrets
from deploy.provision import Machine, Stage, Wanted
from deploy.run import Cloud
from deploy.site import Site

Command = TypeVar("Command", bound=Callable[..., Any])
SECRET = 64 * 1024  # bytes of a hash or a public key
NOT_YET = "not seen"


def _site(command: Command) -> Command:
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.argument("site", type=kind, required=False, metavar="[CLOUD.YML]")(command)


def _allowed(command: Command) -> Command:
    for name, text in (
        ("--rescue", "Offer this old server (of sources:) the rescue system; repeatable."),
        ("--again", "Wipe this node once more, though it has reported done; repeatable."),
        ("--consent", "Yes, wipe this node's disk; repeatable. Nobody else's is touched."),
    ):
        command = click.option(name, multiple=True, metavar="NAME", help=text)(command)
    return command


def _line(command: Command) -> Command:
    command = click.option(
        "--port", default=8078, show_default=True, type=click.IntRange(1, 65535),
        help="Where kickstarts are fetched and reports are taken.",
    )(command)  # fmt: skip
    command = click.option(
        "--mode", type=click.Choice(["full", "proxy"]), default="full", show_default=True,
        help="full: give the site's machines addresses. proxy: another server does.",
    )(command)  # fmt: skip
    return click.option(
        "--interface", required=True, help="The card that is plugged into the installation network."
    )(command)


@click.group("provision")
def provision() -> None:
    """Install bare machines over the network, and see how far each one is."""


@provision.command()
@_site
@click.option("--json", "as_json", is_flag=True, help="Print whose kickstarts are right.")
@click.pass_obj
def check(state: State, site: Path | None, as_json: bool) -> None:
    """Judge the site and every kickstart as the installer of 6.3 would. Changes nothing."""
    cloud = open_cloud(state, site)
    described = cloud.site
    floor = provisioning.floor_of(described, Wanted(), None)
    secrets = _secrets(state, described)
    for machine in floor.machines:
        _kickstart(described, machine, secrets, "http://192.0.2.1:8078/")
    named = [machine.name for machine in floor.machines]
    nameless = [node.name for node in described.nodes if node.mac is None]
    if as_json:
        click.echo(json.dumps({"right": named, "without_mac": nameless}))
        return
    click.echo(f"{len(named)} kickstarts are right")
    for name in nameless:
        click.echo(f"{name} has no mac: it is not installed from here")


@provision.command()
@_site
@_line
@_allowed
@click.option("--dry-run", is_flag=True, help="Only say what each machine would be told.")
@click.pass_obj
def serve(
    state: State,
    site: Path | None,
    interface: str,
    mode: pxe.Mode,
    port: int,
    consent: tuple[str, ...],
    again: tuple[str, ...],
    rescue: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Answer the site's machines on one interface until Ctrl-C: addresses, kernel, kickstart.

    A node that is not named by --consent starts from its own disk. `groundlift mirror serve` must
    run as well: packages come from there."""
    cloud = open_cloud(state, site)
    folder = _folder(cloud)
    wanted = Wanted(frozenset(consent), frozenset(again), frozenset(rescue))
    line = line_of(interface, mode, port)
    described = cloud.site
    pxe.network_of_line(described, line)  # a wrong card is told before anything is fetched
    floor = provisioning.floor_of(described, wanted, provisioning.read(folder))
    secrets = _secrets(state, described)

    def render(machine: Machine) -> str:
        return _kickstart(described, machine, secrets, line.base)

    for machine in floor.machines:
        render(machine)  # every fault is told before the first machine asks
    for machine in floor.machines:
        click.echo(f"{machine.name:12} {machine.mac}  {_told(machine)}")
    if dry_run:
        return
    with lock(folder / "lock", f"the installation of {described.site}"):
        with progress() as report:
            config = pxe.write(described, floor, line, folder, HttpWeb(), report)
        provisioning.write(folder, floor)
        attend(described, floor, line, folder, config, render)


@provision.command()
@_site
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(state: State, site: Path | None, as_json: bool) -> None:
    """Say how far each machine has come: asked, kernel, kickstart, done."""
    cloud = open_cloud(state, site)
    floor = provisioning.read(_folder(cloud))
    if floor is None:
        raise UsageProblem(
            "no machine was served yet", hint="`groundlift provision serve --interface …` first"
        )
    if as_json:
        shown = [machine.model_dump(mode="json", exclude={"token"}) for machine in floor.machines]
        click.echo(json.dumps({"site": floor.site, "machines": shown}, indent=2))
        return
    for machine in floor.machines:
        click.echo(standing(machine, datetime.now(UTC)))


def standing(machine: Machine, now: datetime) -> str:
    """One line: the furthest stage, and how long ago."""
    stages = [(stage, getattr(machine, stage.value)) for stage in Stage]
    last = [(stage, when) for stage, when in stages if when is not None]
    said = NOT_YET
    if last:
        stage, when = last[-1]
        said = f"{stage.value}, {duration((now - when).total_seconds())} ago"
    refused = f"; refused: {machine.refused}" if machine.refused else ""
    return f"{machine.name:12} {machine.mac}  {machine.address:15} {said}{refused}"


def _told(machine: Machine) -> str:
    if machine.rescue:
        return "gets the rescue system; nothing is wiped"
    if machine.boots_installer:
        return "WILL BE WIPED and installed"
    return "installed already" if machine.done else "starts from its own disk: no --consent"


def _folder(cloud: Cloud) -> Path:
    return cloud.folder / "provision"


def _secrets(state: State, site: Site) -> Secrets:
    install = provisioning.install_of(site)
    key = install.authorized_key or f"{site.ssh.key}.pub"
    return Secrets(
        _text(state.root / install.root_password, "install.root_password"),
        _text(state.root / key, "install.authorized_key"),
    )


def _text(path: Path, field: str) -> str:
    try:
        return read_bounded(path, SECRET).decode("ascii", "replace").strip()
    except OSError as fault:
        raise UsageProblem(
            f"can't read {path}: {fault.strerror}", where=field,
            hint="paths are relative to the state directory",
        ) from fault  # fmt: skip


def _kickstart(site: Site, machine: Machine, secrets: Secrets, base: str) -> str:
    if machine.rescue:
        return kickstart.rescuing(site, machine, secrets)
    node = next(node for node in site.nodes if node.name == machine.name)
    return kickstart.installing(site, node, machine, secrets, base)
