"""Beside another DHCP server: what we write for dnsmasq, and what we read of it, with both servers
and a card that asks as a PXE ROM does, in namespaces of their own."""

import contextlib
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.progress import silent
from deploy import pxe, watch
from deploy.provision import Floor, Machine, Wanted, floor_of
from tests.unit.deploy.sites import installing
from tests.unit.deploy.test_provision import MAC, NOW, Mirror, line

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("dnsmasq") or not shutil.which("ip"),
    reason="namespaces need root, and dnsmasq has to be here",
)
ROOT = Path(__file__).parents[3]
GIVEN = "192.0.2.120"  # by the other server; the site knows the machine as .21
OTHER = f"""port=0
interface=theirs
bind-interfaces
no-ping
log-facility=-
dhcp-leasefile=/dev/null
dhcp-range={GIVEN},{GIVEN},255.255.255.0,1h
"""


def sh(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def inside(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", f"gl-proxy-{name}")


@pytest.fixture
def network() -> Iterator[None]:
    """Three machines at one switch: ours, theirs, and the one that boots."""
    names = ("switch", "ours", "theirs", "card")
    with contextlib.ExitStack() as stack:
        for name in names:
            subprocess.run(("ip", "netns", "delete", f"gl-proxy-{name}"), capture_output=True)
            sh("ip", "netns", "add", f"gl-proxy-{name}")
            stack.callback(sh, "ip", "netns", "delete", f"gl-proxy-{name}")
        switch = (*inside("switch"), "ip", "link")
        sh(*switch, "add", "switch", "type", "bridge", "forward_delay", "0")
        sh(*switch, "set", "switch", "up")
        for name in names[1:]:
            sh(*switch, "add", f"to-{name}", "type", "veth", "peer", "name", name,
               "netns", f"gl-proxy-{name}")  # fmt: skip
            sh(*switch, "set", f"to-{name}", "master", "switch", "up")
        sh(*inside("card"), "ip", "link", "set", "card", "address", MAC)
        for name, address in (("ours", "192.0.2.1"), ("theirs", "192.0.2.254")):
            sh(*inside(name), "ip", "address", "add", f"{address}/24", "dev", name)
        for name in names[1:]:
            sh(*inside(name), "ip", "link", "set", name, "up")
        sh(*inside("card"), "ip", "route", "add", "default", "dev", "card")
        yield


@contextlib.contextmanager
def dnsmasq(name: str, config: Path, log: Path) -> Iterator[None]:
    argv = (*inside(name), "dnsmasq", "--keep-in-foreground", f"--conf-file={config}")
    with log.open("wb") as file, subprocess.Popen(argv, stdout=file, stderr=file) as process:
        try:
            for _ in range(100):
                if "sockets bound" in log.read_text():
                    break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def test_a_machine_s_way_is_seen_though_another_server_gives_the_address(
    network: None,
) -> None:
    floor = floor_of(installing(), Wanted(frozenset({"hv1"})), None)
    with tempfile.TemporaryDirectory(prefix="gl-proxy-", dir="/var/tmp") as name:
        top = Path(name)
        top.chmod(0o711)
        ours = pxe.Line("ours", ipaddress.IPv4Address("192.0.2.1"), "proxy", line().port)
        config = pxe.write(installing(), floor, ours, top, Mirror(), silent)
        (top / "other.conf").write_text(OTHER)
        with dnsmasq("ours", config, top / "ours.log"), \
                dnsmasq("theirs", top / "other.conf", top / "theirs.log"):  # fmt: skip
            card = (*inside("card"), sys.executable, "-m", __name__)
            done = subprocess.run(card, cwd=ROOT, capture_output=True, text=True, timeout=60)
        log = (top / "ours.log").read_text()
    assert done.returncode == 0, done.stderr + log
    assert done.stdout.split() == [GIVEN, "pxelinux.0"]
    said: list[str] = []

    def changed(_: Floor, machine: Machine, what: str) -> None:
        said.append(f"{machine.name} {what}")

    book = watch.Desk(floor, lambda: NOW, lambda _: "", changed)
    for heard in log.splitlines():
        book.heard(heard)
    assert said == ["hv1 asked", "hv1 kernel"], log


def card() -> None:
    """What the ROM of a network card does: ask for an address, take it from the one server, ask the
    other what to boot, and fetch that. Writes the address and the file's name."""
    ours, theirs = ("192.0.2.1", 4011), socket.inet_aton("192.0.2.254")
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    asked.bind(("", 68))
    asked.settimeout(10)
    asked.sendto(request(1), ("255.255.255.255", 67))
    offers = [asked.recv(2000) for _ in range(2)]
    given = next(offer[16:20] for offer in offers if offer[16:20] != bytes(4))
    wanted = bytes((50, 4)) + given + bytes((54, 4)) + theirs
    asked.sendto(request(3, wanted), ("255.255.255.255", 67))
    asked.recv(2000)
    address = socket.inet_ntoa(given)
    sh("ip", "address", "add", f"{address}/24", "dev", "card")
    item = bytes((43, 7, 71, 4, 0x80, 0, 0, 0, 255))  # the only entry of the menu that was offered
    asked.sendto(request(3, item, given), ours)
    file = asked.recv(2000)[108:236].rstrip(b"\0").decode()
    for path in (file, f"pxelinux.cfg/01-{MAC.replace(':', '-')}", "vmlinuz"):
        fetch(path)
    sys.stdout.write(f"{address} {file}\n")


def request(kind: int, more: bytes = b"", address: bytes = bytes(4)) -> bytes:
    """A DHCP request of a PXE ROM (RFC 2131, PXE 2.1)."""
    mac = bytes.fromhex(MAC.replace(":", ""))
    name = b"PXEClient:Arch:00000:UNDI:002001"
    head = struct.pack(">BBBBIHH", 1, 1, 6, 0, 0x1234567, 0, 0x8000) + address + bytes(12)
    options = bytes((53, 1, kind, 60, len(name))) + name + bytes((93, 2, 0, 0, 94, 3, 1, 2, 1))
    machine = bytes((97, 17, 0)) + b"\1" * 16 + bytes((55, 4, 1, 3, 66, 67))
    return head + mac + bytes(10 + 192) + b"\x63\x82\x53\x63" + options + machine + more + b"\xff"


def fetch(path: str) -> None:
    """One file over TFTP (RFC 1350)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(10)
        line.sendto(b"\0\1" + path.encode() + b"\0octet\0", ("192.0.2.1", 69))
        length = 512
        while length == 512:
            raw, server = line.recvfrom(600)
            assert raw[:2] == b"\0\3", (path, raw)
            line.sendto(b"\0\4" + raw[2:4], server)
            length = len(raw) - 4


if __name__ == "__main__":
    card()
