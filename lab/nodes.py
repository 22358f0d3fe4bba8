"""The lab's nodes: bring them up, tell how they are, take them down, and make spare ones.

A node is a container on an overlay of the shared base tree. What was installed on it stays when it
is switched off, and goes when it is destroyed.
"""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.progress import Report, Unit, track
from core.state import lock
from lab import claim, network, nodes_container, nodes_tree, pins, pool
from lab.catalogue import PACKAGES
from lab.estate import NODES, SPARE, Estate, Node
from lab.source_run import run

INSTALLED = ("centos-release", "lab-minimal-host")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How one node is. ``answers`` means a command over SSH came back."""

    name: str
    address: str
    made: bool
    pid: int | None
    answers: bool


def up(estate: Estate, report: Report, nodes: Iterable[Node] = NODES) -> tuple[NodeStatus, ...]:
    """Make and start what is missing, and wait until each node answers."""
    wanted = tuple(nodes)
    with lock(estate.directory / "nodes.lock", "the lab's nodes"):
        claim.take(estate)
        pins.key_pair(estate.key, "groundlift-lab")
        tree = nodes_tree.build(estate.directory, report)
        pool.up(estate)
        network.bridge()
        with (
            track(report, "nodes: start", len(wanted), Unit.ITEMS) as meter,
            ThreadPoolExecutor(len(wanted)) as threads,
        ):
            for name in threads.map(lambda node: _start(estate, node, tree.name), wanted):
                meter.advance(text=name)
        _tidy(estate, keep=tree)
    return status(estate, wanted)


def status(estate: Estate, nodes: Iterable[Node] = NODES) -> tuple[NodeStatus, ...]:
    """What is there and whether it answers now."""
    wanted = tuple(nodes)
    with ThreadPoolExecutor(len(wanted)) as threads:
        return tuple(threads.map(lambda node: _look(estate, node), wanted))


def down(estate: Estate) -> None:
    """Switch every node off, the spare ones too. Harmless when they are off."""
    with lock(estate.directory / "nodes.lock", "the lab's nodes"):
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda node: _stop(estate, node), (*NODES, *SPARE)))
        pool.down(estate)
        if claim.ours(estate):
            network.drop_bridge()


def destroy(estate: Estate, nodes: Iterable[Node]) -> None:
    """Switch nodes off and remove all that is on them."""
    with lock(estate.directory / "nodes.lock", "the lab's nodes"):
        for node in nodes:
            _stop(estate, node)
            shutil.rmtree(estate.node(node.name), ignore_errors=True)
            pins.unpin(estate.known_hosts, node.address)


def forget(estate: Estate) -> None:
    """Remove all nodes and what lies in their pool, as if there had never been any."""
    destroy(estate, NODES)
    pool.down(estate)
    shutil.rmtree(estate.pool, ignore_errors=True)


def _look(estate: Estate, node: Node) -> NodeStatus:
    pid = nodes_container.pid(estate, node)
    return NodeStatus(
        name=node.name,
        address=node.address,
        made=estate.node(node.name).exists(),
        pid=pid,
        answers=pid is not None and nodes_container.answers(estate, node),
    )


def _start(estate: Estate, node: Node, tree: str) -> str:
    if nodes_container.pid(estate, node) is None:
        home = estate.node(node.name)
        nodes_container.stop(estate, node)  # what a killed starter may have left
        if not (home / "ready").exists():
            _make(estate, node, tree)
        network.plug(node)
        nodes_container.mount(estate, node)
        nodes_container.start(estate, node)
    pins.pin(estate.known_hosts, node.address, estate.node(node.name) / "ssh_host_rsa_key")
    nodes_container.wait_until_answers(estate, node)
    return node.name


def _tidy(estate: Estate, keep: Path) -> None:
    """Drop base trees of former recipes that no node stands on."""
    used = {note.read_text() for note in estate.nodes.glob("*/lower")} | {keep.name}
    for tree in estate.directory.glob("tree-*"):
        if tree.name not in used:
            shutil.rmtree(tree)


def _stop(estate: Estate, node: Node) -> None:
    nodes_container.stop(estate, node)
    nodes_container.unmount(estate, node)
    if claim.ours(estate):  # names in the network are the machine's, not the directory's
        network.unplug(node)


def _make(estate: Estate, node: Node, tree: str) -> None:
    """A node as the installer would leave it; a half made one is made anew."""
    home = estate.node(node.name)
    nodes_container.unmount(estate, node)
    shutil.rmtree(home, ignore_errors=True)
    for name in ("upper", "work", "merged"):
        (home / name).mkdir(parents=True)
    (home / "lower").write_text(tree)
    pins.key_pair(home / "ssh_host_rsa_key", node.name)
    nodes_container.mount(estate, node)
    root = home / "merged"
    for name in ("ssh_host_rsa_key", "ssh_host_rsa_key.pub"):
        shutil.copy(home / name, root / "etc/ssh" / name)
    texts = {
        "root/.ssh/authorized_keys": estate.key.with_name("id_rsa.pub").read_text(),
        "etc/sysconfig/network": f"NETWORKING=yes\nHOSTNAME={node.name}\n",
        "etc/sysconfig/network-scripts/ifcfg-eth0": _IFCFG.format(node=node),
        "etc/hosts": "127.0.0.1 localhost localhost.localdomain\n",
    }
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if ".ssh" in name else 0o755)
        file.write_text(text)
    (root / "var/lib/libvirt/shared").mkdir(parents=True, exist_ok=True)
    files = {package.name: estate.packages / f"{package.nevra}.rpm" for package in PACKAGES}
    chosen = [str(files[name]) for name in INSTALLED]
    run(["rpm", "--root", str(root), "--nosignature", "--dbpath", "/var/lib/rpm", "-i", *chosen])
    nodes_container.unmount(estate, node)
    (home / "ready").touch()


_IFCFG = """DEVICE=eth0
TYPE=Ethernet
BOOTPROTO=static
ONBOOT=yes
NM_CONTROLLED=no
IPADDR={node.address}
NETMASK=255.255.255.0
"""
