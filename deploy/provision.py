"""Bare machines to installed nodes: what each is told, and how far each has come.

A machine is wiped only when it is named in a consent, once: whoever has reported done starts from
its own disk from then on.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path

from core.documents import Document, load
from core.errors import BadDocument, UsageProblem
from core.state import publish_model
from deploy.addressing import network_of
from deploy.site import Install, Network, Node, Site, Source

VERSION = 1
TRIES = 3  # kickstarts a machine gets without ever reporting done


class Stage(StrEnum):
    """How far a machine has come, in order."""

    ASKED = "asked"
    KERNEL = "kernel"
    KICKSTART = "kickstart"
    DONE = "done"


class Machine(Document):
    """What was seen of one machine. ``consent`` says that it may be wiped; ``token`` is in its
    kickstart alone, so that only the machine that got it can say that it is done."""

    name: str
    mac: str
    address: str
    rescue: bool = False
    consent: bool = False
    token: str = ""
    fetched: int = 0
    asked: datetime | None = None
    kernel: datetime | None = None
    kickstart: datetime | None = None
    done: datetime | None = None
    refused: str = ""

    @property
    def boots_installer(self) -> bool:
        """Whether the network offers it more than its own disk."""
        return self.rescue or (self.consent and self.done is None and self.fetched < TRIES)


class Floor(Document):
    """machines.json: all machines of the site that have a hardware address."""

    version: int = VERSION
    site: str
    machines: tuple[Machine, ...]

    def by_mac(self, mac: str) -> Machine | None:
        return next((m for m in self.machines if m.mac == mac.lower()), None)

    def by_name(self, name: str) -> Machine | None:
        return next((m for m in self.machines if m.name == name), None)

    def by_address(self, address: str) -> Machine | None:
        return next((m for m in self.machines if m.address == address), None)

    def changed(self, machine: Machine) -> "Floor":
        """With ``machine`` in the place of the one of its name."""
        rest = tuple(machine if m.name == machine.name else m for m in self.machines)
        return self.model_copy(update={"machines": rest})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the engineer allows: nodes to wipe, done ones to wipe again, servers to rescue."""

    consent: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    rescue: frozenset[str] = frozenset()


def read(folder: Path) -> Floor | None:
    """What was seen before."""
    path = folder / "machines.json"
    return load(path, Floor) if path.exists() else None


def write(folder: Path, floor: Floor) -> None:
    """Keep what was seen."""
    publish_model(folder / "machines.json", floor)


def floor_of(site: Site, wanted: Wanted, before: Floor | None) -> Floor:
    """The machines of ``site`` with what ``wanted`` allows and what was seen before. Raises
    UsageProblem for a name that is none of them."""
    nodes = {node.name: node for node in site.nodes if node.mac}
    servers = {source.name: source for source in site.sources if source.mac}
    for name in (*wanted.consent, *wanted.again):
        _must(name in nodes, name, "node")
    for name in wanted.rescue:
        _must(name in servers, name, "server")
    machines = [_node(node, wanted, before) for node in nodes.values()]
    machines += [_server(servers[name]) for name in sorted(wanted.rescue)]
    return Floor(site=site.site, machines=tuple(machines))


def _must(known: bool, name: str, kind: str) -> None:
    if not known:
        raise UsageProblem(
            f"{name} is no {kind} with a hardware address in cloud.yml",
            hint="write its `mac:`, or correct the name",
        )


def _node(node: Node, wanted: Wanted, before: Floor | None) -> Machine:
    old = before.by_name(node.name) if before else None
    fresh = Machine(
        name=node.name, mac=node.mac or "", address=str(node.address), token=secrets.token_hex(16)
    )
    if old is None or (old.mac, old.address) != (fresh.mac, fresh.address):
        old = fresh
    if node.name in wanted.again:
        old = fresh.model_copy(update={"consent": True})
    if node.name in wanted.consent and old.done is None:
        old = old.model_copy(update={"fetched": 0, "refused": ""})
    allowed = node.name in wanted.consent or node.name in wanted.again
    return old.model_copy(update={"consent": allowed})


def _server(source: Source) -> Machine:
    return Machine(name=source.name, mac=source.mac or "", address=str(source.address), rescue=True)


def install_of(site: Site) -> Install:
    """Raises UsageProblem when cloud.yml does not say what to install with."""
    if site.install is None:
        raise UsageProblem(
            "cloud.yml has no `install:`",
            hint="write at least `root_password: FILE`, a file with the hash that "
            "`openssl passwd -6` prints",
        )
    return site.install


def network_for(site: Site, address: IPv4Address) -> Network:
    """The network of a machine. Raises BadDocument when it has none."""
    network = network_of(site, address)
    if network is None:
        raise BadDocument(f"{address} belongs to none of the site's networks", where="cloud.yml")
    return network
