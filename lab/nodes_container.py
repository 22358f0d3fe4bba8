"""One node as a running container: its mounted tree, its process, and whether it answers."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import OutsideFailed
from lab import network
from lab.estate import Estate, Node
from lab.source_run import run

ANSWER_WITHIN = 90.0  # seconds; 2 on an idle machine
# Without it /proc/sys/net is read-only and libvirt can't make a network.
ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
# systemd-nspawn starts nothing that has no such file; an EL6 host has none once it runs.
STAMP = "etc/os-release"


def mounted(root: Path) -> bool:
    """Whether the node's tree is mounted."""
    return os.path.ismount(root)


def mount(estate: Estate, node: Node) -> None:
    """The node's own layer on the shared tree."""
    home = estate.node(node.name)
    root = home / "merged"
    if mounted(root):
        return
    layers = {
        "lowerdir": estate.directory / (home / "lower").read_text(),
        "upperdir": home / "upper",
        "workdir": home / "work",
    }
    if any(set(",:") & set(str(path)) for path in layers.values()):
        raise OutsideFailed(
            "the lab can't lie in a directory whose name has a comma or a colon",
            where=str(estate.directory),
        )
    options = ",".join(f"{name}={path}" for name, path in layers.items())
    run(["mount", "-t", "overlay", f"lab-{node.name}", "-o", options, str(root)])


def unmount(estate: Estate, node: Node) -> None:
    """Take the tree away; harmless when it is not there."""
    root = estate.node(node.name) / "merged"
    end = time.monotonic() + 10
    while mounted(root):
        try:
            run(["umount", str(root)])
        except OutsideFailed:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def argv(estate: Estate, node: Node) -> tuple[str, ...]:
    """How the container is started: all rights of a machine, no network but its own card."""
    return (
        *("systemd-nspawn", "-q", "-b", "-D", str(estate.node(node.name) / "merged")),
        *(f"--machine={node.name}", f"--hostname={node.name}", "--register=no", "--keep-unit"),
        f"--network-namespace-path={network.namespace(node)}",
        *("--capability=all", "--bind=/dev/net/tun", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off"),
        *((f"--bind={estate.pool_mount}:/var/lib/libvirt/shared",) if node.shares else ()),
    )


def start(estate: Estate, node: Node) -> None:
    """Start the process, which outlives this one."""
    home = estate.node(node.name)
    stamp = home / "merged" / STAMP
    stamp.write_text("ID=centos\nVERSION_ID=6.3\n")
    with (home / "console").open("wb") as console:
        process = subprocess.Popen(
            argv(estate, node),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )
    (home / "pid").write_text(str(process.pid))


def pid(estate: Estate, node: Node) -> int | None:
    """The running process, if it really is this node's."""
    home = estate.node(node.name)
    try:
        number = int((home / "pid").read_text())
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError):
        return None
    return number if state != "Z" and str(home / "merged").encode() in words else None


def wait_until_answers(estate: Estate, node: Node) -> None:
    """Return when a command over SSH comes back. Raises OutsideFailed with the console's end."""
    end = time.monotonic() + ANSWER_WITHIN
    while not (_speaks(node) and answers(estate, node)):
        if pid(estate, node) is None or time.monotonic() > end:
            raise OutsideFailed(
                f"node {node.name} does not answer: {_last_words(estate, node)}",
                hint="read its console log; `groundlift lab down` and `up` start it again",
                where=str(estate.node(node.name) / "console"),
            )
        time.sleep(0.2)
    (estate.node(node.name) / "merged" / STAMP).unlink(missing_ok=True)


def _speaks(node: Node) -> bool:
    try:
        with socket.create_connection((node.address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def ssh(estate: Estate, node: Node) -> tuple[str, ...]:
    """The beginning of an ssh command that trusts the pinned key alone."""
    return (
        *("ssh", "-F", "none", "-i", str(estate.key), "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={estate.known_hosts}"),
        *("-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR", f"root@{node.address}"),
    )


def answers(estate: Estate, node: Node) -> bool:
    """Whether a command over SSH comes back."""
    try:
        run([*ssh(estate, node), "true"], timeout=20)
    except OutsideFailed:
        return False
    return True


def stop(estate: Estate, node: Node, patience: float = 30) -> None:
    """Ask for an orderly end and wait; pull the plug when that is not enough."""
    running = pid(estate, node)
    if running is not None:
        os.kill(running, signal.SIGTERM)
        _wait_until(lambda: pid(estate, node) is None, patience)
    # The container's first process outlives a starter that was killed; with it goes all the rest.
    for number in (pid(estate, node), first_process(estate, node)):
        if number is not None:
            os.kill(number, signal.SIGKILL)
    _wait_until(lambda: first_process(estate, node) is None, 10)


def first_process(estate: Estate, node: Node) -> int | None:
    """The process that is number 1 inside, whoever started it."""
    layer = f"upperdir={estate.node(node.name) / 'upper'},"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = layer in (entry / "mountinfo").read_text()
                status = (entry / "status").read_text() if inside else ""
            except OSError:  # it has ended meanwhile
                continue
            numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
            if numbers and len(numbers[1].split()) > 1 and numbers[1].split()[-1] == "1":
                return int(entry.name)
    return None


def _wait_until(fulfilled: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not fulfilled() and time.monotonic() < end:
        time.sleep(0.1)


def _last_words(estate: Estate, node: Node) -> str:
    try:
        text = (estate.node(node.name) / "console").read_bytes()[-400:].decode("utf-8", "replace")
    except OSError:
        return "no console log"
    return " / ".join(line.strip() for line in text.splitlines()[-4:])
