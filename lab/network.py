"""The lab's bridge, and the network namespace of each node with its one cable into that bridge."""

import json
from pathlib import Path
from typing import Any

from core.errors import OutsideFailed
from lab.estate import BRIDGE, CONTROLLER, NETWORK_BITS, Node
from lab.source_run import run

NAMESPACES = Path("/run/netns")


def bridge() -> None:
    """The bridge with the controller's address; harmless when it is there."""
    there = Path("/sys/class/net", BRIDGE)
    if not there.exists():
        try:
            run(["ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"])
        except OutsideFailed:  # nodes and source come up at once: the other was quicker
            if not there.exists():
                raise
    run(["ip", "address", "replace", f"{CONTROLLER}/{NETWORK_BITS}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])


def drop_bridge() -> bool:
    """Remove the bridge when nothing hangs on it any more."""
    if not Path("/sys/class/net", BRIDGE).exists():
        return True
    if ports():
        return False
    run(["ip", "link", "delete", BRIDGE])
    return True


def ports() -> tuple[str, ...]:
    """What hangs on the bridge."""
    said: list[dict[str, Any]] = json.loads(run(["ip", "-j", "link", "show", "master", BRIDGE]))
    return tuple(str(link["ifname"]) for link in said)


def name(node: Node) -> str:
    """Of the namespace, and of the cable's end on the bridge."""
    return f"gl-{node.name}"


def namespace(node: Node) -> Path:
    return NAMESPACES / name(node)


def plug(node: Node) -> None:
    """A new namespace with a card whose hardware address never changes."""
    unplug(node)
    own = name(node)
    last = int(node.address.rsplit(".", 1)[1])
    run(["ip", "netns", "add", own])
    run(
        [
            *("ip", "link", "add", own, "type", "veth"),
            *("peer", "name", "eth0", "netns", own, "address", f"52:54:00:4d:00:{last:02x}"),
        ]
    )
    run(["ip", "link", "set", own, "master", BRIDGE, "up"])


def unplug(node: Node) -> None:
    """Take the namespace and the cable away; harmless when they are gone."""
    own = name(node)
    # The cable first: the kernel takes its time to remove it with the namespace.
    if Path("/sys/class/net", own).exists():
        run(["ip", "link", "delete", own])
    if namespace(node).exists():
        run(["ip", "netns", "delete", own])
