"""From a name on the command line to the site, the folder and the logged-in hosts it stands for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters.hypervisor import LibvirtHypervisor, ssh_program, ssh_uri
from adapters.ssh import SshHost
from adapters.ssh_login import Login, pins
from adapters.ssh_program import ssh_options
from commands.access import access_options, given, password_of, rescue_password
from core.documents import load
from core.errors import UsageProblem
from core.quantities import MIB
from core.state import State
from deploy.site import Site, Source
from migrate.limits import Budget, Hours, Limits
from migrate.transfer_direct import Direct

Command = TypeVar("Command", bound=Callable[..., Any])


def site_option(command: Command) -> Command:
    """--site, --password-file and --jump, for every verb of `migrate`."""
    return click.option(
        "--site",
        "site_path",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="GROUNDLIFT_SITE",
        help="The cloud.yml that names the server. "
        "Default: the one among inventories/*/cloud.yml that does.",
    )(access_options(command))


@dataclass(frozen=True, slots=True)
class Case:
    """One server to migrate: where it is described, and where its results lie."""

    state: State
    site: Site
    site_path: Path
    source: Source
    password: str | None = field(default=None, repr=False)
    # of root in the rescue system, which has keys of its own; None: the server runs its own system
    rescue_password: str | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """<state>/migrate/<host>/."""
        return self.state.migrate(self.source.name)

    def limits(self) -> Limits:
        """What binds the server's live copies: its own rate, its group's, and everybody's."""
        traffic, source = self.site.traffic, self.source
        group = source.group or ""
        rates = {
            "all": traffic.rate_mib,
            f"group-{group}": traffic.groups.get(group),
            f"server-{source.name}": source.rate_mib,
        }
        folder = self.state.root / "limits" / self.site.site
        return Limits(
            tuple(Budget(folder / name, rate * MIB) for name, rate in rates.items() if rate),
            tuple(Hours.parse(text) for text in traffic.hours),
        )

    @property
    def rescue(self) -> bool:
        """Whether the server runs its rescue system."""
        return self.rescue_password is not None

    def own(self) -> "Case":
        """The same with the server's own system: the domain runs that, too."""
        return replace(self, rescue_password=None)

    def source_login(self, jump: Login | None = None) -> Login:
        """How to log in to the server; its own key wins over the site's, and ``jump`` over the
        described way to it."""
        ssh, source, root = self.site.ssh, self.source, self.state.root
        known = source.known_hosts or ssh.known_hosts
        if self.rescue_password is not None:
            return Login(
                address=str(source.address), user="root", key=None,
                known_hosts=root / f"{known}.rescue", jump=jump or self.jump_login(),
                password=self.rescue_password,
            )  # fmt: skip
        return Login(
            address=str(source.address),
            user=source.user,
            port=source.port,
            key=None if source.login == "password" else root / (source.key or ssh.key),
            known_hosts=root / known,
            jump=jump or self.jump_login(),
            password=self.password,
            sudo=source.sudo != "no",
            algorithms=source.algorithms,
        )

    def jump_login(self) -> Login | None:
        """The machine on the way to the server: --jump's, else the description's."""
        jump, root = given().jump or self.source.jump, self.state.root
        if jump is None:
            return None
        return Login(
            address=str(jump.address),
            user=jump.user,
            port=jump.port,
            key=root / (jump.key or self.site.ssh.key),
            known_hosts=root / (jump.known_hosts or self.site.ssh.known_hosts),
        )

    def source_host(self, jump: Login | None = None) -> SshHost:
        """The old server; through ``jump`` also the migrated one under the same address."""
        return SshHost(self.source.name, self.source_login(jump))

    def node_login(self, name: str) -> Login:
        """How to log in to a node of the cloud."""
        ssh = self.site.ssh
        for node in self.site.nodes:
            if node.name == name:
                return Login(
                    address=str(node.address),
                    user=ssh.user,
                    key=self.state.root / ssh.key,
                    known_hosts=self.state.root / ssh.known_hosts,
                )
        raise UsageProblem(
            f"{self.site_path} has no node {name}", hint="name one of its nodes as the target"
        )

    def direct(self, name: str) -> Direct | None:
        """The way from the server to a node past this machine, if both descriptions agree on it
        and the node's host key is pinned."""
        agreed = any(node.name == name and node.direct for node in self.site.nodes)
        if not (agreed and self.source.direct):
            return None
        login = self.node_login(name)
        pinned = pins(login, name).lookup(login.host_id)
        return Direct(
            address=login.address,
            port=login.port,
            user=login.user,
            known=tuple(f"{k.get_name()} {k.get_base64()}" for k in (pinned or {}).values()),
            origin=str(self.source.address),
        )

    def hypervisor(self, name: str) -> LibvirtHypervisor:
        """libvirt on a node of the cloud."""
        login = self.node_login(name)
        return LibvirtHypervisor(ssh_uri(login.address, login.user, self.ssh_program(login)))

    def ssh_program(self, login: Login) -> Path:
        """A program that is ssh with all that ``login`` needs."""
        ssh = ("ssh", *ssh_options(login))
        return ssh_program(login.address, ssh, self.state.root / "ssh")

    def node_host(self, name: str) -> SshHost:
        """A node of the cloud."""
        return SshHost(name, self.node_login(name))


def open_case(state: State, host: str, site_path: Path | None) -> Case:
    """Find the site that names ``host`` under ``sources``."""
    paths = [site_path] if site_path else sorted(Path("inventories").glob("*/cloud.yml"))
    found = [
        Case(state, site, path, source)
        for path in paths
        for site in (load(path, Site),)
        for source in site.sources
        if source.name == host
    ]
    if len(found) == 1:
        case = found[0]
        return replace(
            case,
            password=password_of(case.source, state.root),
            rescue_password=rescue_password(case.source),
        )
    where = ", ".join(str(path) for path in paths) or "inventories/*/cloud.yml"
    problem = "more than one site names" if found else "no site names"
    raise UsageProblem(
        f"{problem} the server {host}: {where}",
        hint="put it under `sources:` of the site's cloud.yml" if not found else "say --site FILE",
    )
