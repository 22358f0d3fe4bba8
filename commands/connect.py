"""From a name on the command line to the site, the folder and the logged-in hosts it stands for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from adapters.hypervisor import LibvirtHypervisor, ssh_program, ssh_uri
from adapters.ssh import Login, SshHost, ssh_options
from core.documents import load
from core.errors import UsageProblem
from core.state import State
from deploy.site import Site, Source

Command = TypeVar("Command", bound=Callable[..., Any])


def site_option(command: Command) -> Command:
    """--site, for every verb of `migrate`."""
    return click.option(
        "--site",
        "site_path",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="GROUNDLIFT_SITE",
        help="The cloud.yml that names the server. "
        "Default: the one among inventories/*/cloud.yml that does.",
    )(command)


@dataclass(frozen=True, slots=True)
class Case:
    """One server to migrate: where it is described, and where its results lie."""

    state: State
    site: Site
    site_path: Path
    source: Source

    @property
    def folder(self) -> Path:
        """<state>/migrate/<host>/."""
        return self.state.migrate(self.source.name)

    def source_login(self, jump: str | None = None) -> Login:
        """How to log in to the server; its own key wins over the site's."""
        ssh = self.site.ssh
        return Login(
            address=str(self.source.address),
            user=self.source.user,
            port=self.source.port,
            key=self.state.root / (self.source.key or ssh.key),
            known_hosts=self.state.root / (self.source.known_hosts or ssh.known_hosts),
            jump=jump,
        )

    def source_host(self, jump: str | None = None) -> SshHost:
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
        return found[0]
    where = ", ".join(str(path) for path in paths) or "inventories/*/cloud.yml"
    problem = "more than one site names" if found else "no site names"
    raise UsageProblem(
        f"{problem} the server {host}: {where}",
        hint="put it under `sources:` of the site's cloud.yml" if not found else "say --site FILE",
    )
