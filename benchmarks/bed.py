"""The bed that transfers are measured on: a seeded disk of an old server, behind a loop device so
that nobody can see holes, and a network of its own with a real sshd at the far end.

The disk, in parts of 8 GiB: MBR, /boot of 512 MiB, 1 GiB of swap with 700 MiB of old pages, and a
root file system of 6.5 GiB with 1.9 GiB in use, half of it random and half text, and 2.5 GiB of
deleted random data. The line: a veth pair into a network namespace; capped, 1 Gbit/s both ways by
tbf and half the round trip each way by relay.py.
"""

import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.ssh_login import Login
from tests.contract.sshd import Server, sshd
from tests.unit.transfer import images
from tests.unit.transfer.images import MIB

HERE, THERE, PORT = "10.211.77.1", "10.211.77.2", 2022
RATE, ROUND_TRIP = "1gbit", 50


@dataclass(frozen=True)
class Disk:
    """``path`` is the file, ``loop`` the device over it; ``parts`` are (name, start, size)."""

    path: Path
    loop: str
    size: int
    parts: tuple[tuple[str, int, int], ...]

    def cool(self) -> None:
        """Nothing of it in memory, and nobody else's memory touched. What is read from now on comes
        from the disk as from a controller, not through this machine's memory."""
        images.run("losetup", "--direct-io=on", self.loop)
        images.run("blockdev", "--flushbufs", self.loop)
        out = f"of={self.path}"
        images.run("dd", out, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none")

    def warm(self) -> None:
        """All of it in memory, which the device reads from."""
        images.run("losetup", "--direct-io=off", self.loop)
        images.run("dd", f"if={self.path}", "of=/dev/null", "bs=4M", "status=none")


@dataclass(frozen=True)
class Line:
    """A way to the source: ``login`` goes over it."""

    name: str
    login: Login

    def bytes(self) -> int:
        """What crossed it so far, both ways, headers included."""
        for row in Path("/proc/net/dev").read_text().splitlines():
            if row.strip().startswith("gb0:"):
                fields = row.split(":")[1].split()
                return int(fields[0]) + int(fields[8])
        raise AssertionError("the line is gone")


def alone() -> None:
    """Go on in a network namespace of our own; needs root."""
    if os.environ.get("BENCH_ALONE") != "1":
        os.environ["BENCH_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])
    images.run("ip", "link", "set", "lo", "up")


def random_file(path: Path, dice: random.Random, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(dice.randbytes(min(MIB, size - start)))


def _files(top: Path, dice: random.Random, total: int) -> None:
    size = 0
    while size < total:
        path = top / f"d{dice.randrange(40)}" / f"f{size}"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = min(int(dice.lognormvariate(11.5, 2)) % (32 * MIB), total - size) + 1
        if dice.random() < 0.5:
            random_file(path, dice, length)
        else:
            path.write_bytes(b"%d an old log line\n" % dice.randrange(9) * (length // 20))
        size += length


@contextmanager
def disk(top: Path, size: int) -> Iterator[Disk]:
    """The recipe at this size, on a loop device."""
    dice = random.Random(42)
    boot, swap = size // 16 // MIB * MIB, size // 8 // MIB * MIB
    root = size - boot - swap - 8 * MIB
    volumes = {name: top / name for name in ("boot", "swap", "root")}
    images.ext(volumes["boot"], boot, images.tree(top / "tree"))
    random_file(volumes["swap"], dice, swap * 700 // 1024)
    os.truncate(volumes["swap"], swap)
    images.run("mkswap", volumes["swap"])
    _files(top / "files", dice, int(size * 1.9 / 8))
    random_file(volumes["root"], dice, int(size * (1.9 + 2.5) / 8))
    os.truncate(volumes["root"], root)
    options = ("-q", "-F", "-E", "nodiscard", "-d", top / "files")
    images.run("mkfs.ext4", *options, volumes["root"])
    path = top / "disk"
    with path.open("wb") as file:
        file.truncate(size)
    starts = {"boot": MIB, "swap": MIB + boot, "root": MIB + boot + swap}
    sizes = {"boot": boot, "swap": swap, "root": root}
    table = "label: dos\n" + "".join(
        f"{starts[name] // 512},{sizes[name] // 512},{kind}\n"
        for name, kind in (("boot", "83,*"), ("swap", "82"), ("root", "83"))
    )
    images.run("sfdisk", "-q", "--no-reread", path, stdin=table.encode())
    for name, volume in volumes.items():
        with path.open("r+b") as file, volume.open("rb") as source:
            file.seek(starts[name])
            while block := source.read(4 * MIB):
                file.write(block)
        volume.unlink()
    images.run("sync", "-f", path)
    loop = images.run("losetup", "-r", "-f", "--show", path).decode().strip()
    try:
        yield Disk(path, loop, size, tuple((n, starts[n], sizes[n]) for n in starts))
    finally:
        images.run("losetup", "-d", loop)


@contextmanager
def source(top: Path) -> Iterator[Server]:
    """A sshd in a network namespace behind a veth pair."""
    name = f"gb-{os.getpid()}"
    images.run("ip", "netns", "add", name)
    try:
        within = ("ip", "netns", "exec", name)
        images.run("ip", "link", "add", "gb0", "type", "veth", "peer", "name", "gb1", "netns", name)
        images.run("ip", "address", "add", f"{HERE}/30", "dev", "gb0")
        images.run("ip", "link", "set", "gb0", "up")
        images.run(*within, "ip", "address", "add", f"{THERE}/30", "dev", "gb1")
        for device in ("gb1", "lo"):
            images.run(*within, "ip", "link", "set", device, "up")
        # what root's shell on this machine does at its start is no part of any method
        quiet = 'mount --bind /dev/null /root/.bashrc 2>/dev/null; exec "$@"'
        within = (*within, "unshare", "-m", "sh", "-c", quiet, "sh")
        with sshd(top / "ssh", within=within, address=THERE) as server:
            yield server
    finally:
        images.run("ip", "netns", "del", name)


@contextmanager
def line(name: str, server: Server) -> Iterator[Line]:
    """``uncapped`` as fast as this machine goes, ``capped`` as a 1 Gbit/s line with a delay."""
    if name == "uncapped":
        yield Line(name, server.login)
        return
    within = ("ip", "netns", "exec", f"gb-{os.getpid()}")
    for prefix, device in (((), "gb0"), (within, "gb1")):
        shape = ("tbf", "rate", RATE, "burst", "256kb", "latency", "50ms")
        images.run(*prefix, "tc", "qdisc", "replace", "dev", device, "root", *shape)
    known = server.root / "known_hosts"
    entry = known.read_text().split("\n")[0].split(" ", 1)[1]
    known.write_text(f"{known.read_text()}[{THERE}]:{PORT} {entry}\n")
    places = (f"{THERE}:{PORT}", f"{THERE}:{server.port}", str(ROUND_TRIP / 2))
    program = (*within, sys.executable, str(Path(__file__).with_name("relay.py")), *places)
    with subprocess.Popen(program) as relay:
        time.sleep(1)
        try:
            yield Line(name, replace(server.login, port=PORT))
        finally:
            relay.terminate()
            for prefix, device in (((), "gb0"), (within, "gb1")):
                with contextlib.suppress(AssertionError):
                    images.run(*prefix, "tc", "qdisc", "del", "dev", device, "root")


@contextmanager
def folder() -> Iterator[Path]:
    """Scratch below BENCH_DIR, else below the system's directory for it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as name:
        top = Path(name)
        top.chmod(0o755)
        yield top


def bytes_of(text: str) -> int:
    """1536M or 4G."""
    found = re.fullmatch(r"(\d+)([MG])", text)
    if not found:
        raise SystemExit(f"{text}: a size such as 512M or 4G is needed")
    return int(found[1]) * (MIB if found[2] == "M" else 1024 * MIB)
