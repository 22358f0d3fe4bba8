"""Names, addresses and paths of the lab: the one place where they are written down."""

from dataclasses import dataclass
from pathlib import Path

from core.state import State

RELEASE = "6.3"
DISCS = tuple(f"CentOS-{RELEASE}-x86_64-bin-DVD{number}.iso" for number in (1, 2))
BRIDGE = "gl-lab"
CONTROLLER = "10.77.0.1"
NETWORK_BITS = 24


@dataclass(frozen=True, slots=True)
class Node:
    """One EL6-shaped machine. ``shares`` says whether the pool directory is mounted on it."""

    name: str
    address: str
    shares: bool = False


MANAGEMENT = Node("mgmt1", "10.77.0.11", shares=True)
HYPERVISORS = (Node("hv1", "10.77.0.21", shares=True), Node("hv2", "10.77.0.22", shares=True))
NODES = (MANAGEMENT, *HYPERVISORS)
# Nodes that tests make and throw away; the last two can be hypervisors.
SPARE = tuple(
    Node(f"mol{number}", f"10.77.0.{30 + number}", shares=number > 2) for number in range(1, 5)
)


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything of the lab below one directory."""

    directory: Path

    @property
    def cache(self) -> Path:
        """What was downloaded and can be thrown away."""
        return self.directory / "cache"

    @property
    def media(self) -> Path:
        return self.directory / "media"

    @property
    def discs(self) -> tuple[Path, Path]:
        return self.media / DISCS[0], self.media / DISCS[1]

    @property
    def fingerprint(self) -> Path:
        return self.media / "fingerprint"

    @property
    def public_key(self) -> Path:
        return self.media / "RPM-GPG-KEY-lab"

    @property
    def packages(self) -> Path:
        """The RPMs that lie on the discs, before they lie there."""
        return self.directory / "packages"

    @property
    def nodes(self) -> Path:
        return self.directory / "nodes"

    @property
    def pool(self) -> Path:
        """Stands for the directory that an NFS server exports."""
        return self.directory / "pool"

    @property
    def pool_mount(self) -> Path:
        """The same directory as the hypervisors see it."""
        return self.directory / "pool-mount"

    @property
    def key(self) -> Path:
        return self.directory / "id_rsa"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def node(self, name: str) -> Path:
        return self.nodes / name


def of(state: State) -> Estate:
    """The lab of one state directory."""
    return Estate((state.root / "lab").absolute())


def named(name: str) -> Node:
    """The node called ``name``. Raises KeyError."""
    return {node.name: node for node in (*NODES, *SPARE)}[name]
