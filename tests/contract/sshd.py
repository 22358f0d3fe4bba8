"""A private sshd on 127.0.0.1 for one test session: own keys, own port, nothing shared."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.ssh_login import Login
from migrate.transfer_direct import Direct

CONFIG = """
Port {port}
ListenAddress {address}
HostKey {root}/host_rsa
HostKey {root}/host_ed25519
PidFile none
AuthorizedKeysFile {root}/authorized_keys
PubkeyAuthentication yes
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
PubkeyAcceptedAlgorithms +ssh-rsa
HostKeyAlgorithms +ssh-rsa
MaxStartups 50
MaxSessions 50
"""


@dataclass(frozen=True)
class Server:
    root: Path
    port: int
    login: Login


@contextmanager
def sshd(
    root: Path,
    *,
    within: tuple[str, ...] = (),
    user: str = "",
    passwords: bool = False,
    address: str = "127.0.0.1",
) -> Iterator[Server]:
    """Start it, wait until it answers, end it. The caller's account must be able to log in, or
    ``user``, known ``within`` the program that starts it; ``address`` may be another network's."""
    root.mkdir(parents=True, exist_ok=True)
    for name, kind in (("host_rsa", "rsa"), ("host_ed25519", "ed25519"), ("id_rsa", "rsa")):
        _keygen(root / name, kind)
    (root / "authorized_keys").write_bytes((root / "id_rsa.pub").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "sshd_config").write_text(
        CONFIG.format(port=port, root=root, address=address, passwords="yes" if passwords else "no")
    )
    key = (root / "host_rsa.pub").read_text().split()
    (root / "known_hosts").write_text(f"[{address}]:{port} {key[0]} {key[1]}\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # the separation directory Debian's sshd insists on
    server = subprocess.Popen(
        [*within, "/usr/sbin/sshd", "-D", "-e", "-f", root / "sshd_config"],
        stderr=(root / "log").open("wb"),
    )
    try:
        _wait(address, port, server, root / "log")
        login = Login(
            address=address,
            port=port,
            user=user or os.environ.get("USER") or "root",
            key=root / "id_rsa",
            known_hosts=root / "known_hosts",
        )
        yield Server(root, port, login)
    finally:
        server.terminate()
        server.wait(10)


def direct(root: Path, port: int, user: str) -> Direct:
    """The way of a source's data to a running sshd whose folder is ``root``."""
    kind, key = (root / "host_rsa.pub").read_text().split()[:2]
    return Direct("127.0.0.1", port, user, (f"{kind} {key}",), "127.0.0.1")


def _keygen(path: Path, kind: str) -> None:
    if path.exists():
        return
    size = ["-b", "2048", "-m", "PEM"] if kind == "rsa" else []
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


def _wait(address: str, port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with socket.create_connection((address, port), timeout=1) as client:
                if client.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("sshd did not answer")
