"""A source, a hypervisor and a plan on this machine: real agents, real files, and a quiesce that
stops nothing here."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.local import LocalHost
from core.ports import Channel, Completed
from migrate import transfer_lane, transfer_wire
from migrate.plan import DiskPlan, NicPlan, Plan, Quiesce, Rehearsal
from tests.unit.transfer import images

MOUNTS = {True: "/dev/sda1 / ext4 ro 0 0\n", False: "/dev/sda1 / ext4 rw,noatime 0 0\n"}


class Source(LocalHost):
    """This machine, but services and mounts are played."""

    def __init__(self, root: Path) -> None:
        super().__init__("old")
        self.root = root
        self.done: list[tuple[str, ...]] = []
        self.fails: tuple[str, ...] = ()
        self.boot = "boot-1"
        self.systemd = True
        self.on_mount: Callable[[], None] = lambda: None

    @property
    def resting(self) -> bool:
        return (self.root / "resting").exists()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        command = tuple(argv)
        if command[0] == "sh" and "sysrq" in command[-1]:  # never on this machine
            self.done.append(command)
            (self.root / "resting").touch()
            return Completed(command, 0, b"", b"")
        if command[0] not in ("mount", "systemctl", "service", "sync", "test"):
            return super().run(argv, stdin=stdin, timeout=timeout)
        if command == self.fails:
            return Completed(command, 32, b"", b"mount: / is busy")
        if command[0] == "test":
            return Completed(command, 0 if self.systemd else 1, b"", b"")
        if command[0] == "service":  # System V: the name comes first
            self.done += [command] if command[2] != "status" else []
            self.done, kept = [], self.done
            answer = self.run(("systemctl", command[2], command[1]))
            self.done = kept
            return answer
        if command[0] in ("mount", "systemctl", "sync") and "status" not in command:
            self.done.append(command)
        stopped = self.root / f"stopped-{command[-1].removesuffix('.service')}"
        self._play(command, stopped)
        status = command[:2] == ("systemctl", "status")
        return Completed(command, 3 if status and stopped.exists() else 0, b"", b"")

    def _play(self, command: tuple[str, ...], stopped: Path) -> None:
        if command[:2] == ("systemctl", "stop"):
            stopped.touch()
        if command[:2] == ("systemctl", "start"):
            stopped.unlink(missing_ok=True)
        if command[:3] == ("mount", "-o", "remount,ro"):
            self.on_mount()
            (self.root / "resting").touch()
        if command[:3] == ("mount", "-o", "remount,rw"):
            (self.root / "resting").unlink(missing_ok=True)

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        if path == "/proc/mounts":
            return MOUNTS[self.resting].encode()
        if path == "/proc/sys/kernel/random/boot_id":
            return self.boot.encode()
        return super().read(path, limit)


class Target(LocalHost):
    """This machine with another home, so that its authorized_keys are the test's own."""

    def __init__(self, home: Path) -> None:
        super().__init__("hv1")
        self.home = home

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        return super().stream(("env", f"HOME={self.home}", *argv))


@dataclass
class Estate:
    root: Path
    disk: Path
    source: Source
    target: LocalHost
    plan: Plan
    folder: Path

    @property
    def replica(self) -> Path:
        return self.root / "pool" / self.plan.disks[0].replica

    def expected(self) -> bytes:
        """What the replica must be: the used bytes, and zeros."""
        spans = images.extents(self.disk, final=True)
        return images.masked(self.disk, self.root / "expected", spans).read_bytes()


def plan(disk: Path, pool: Path, size: int) -> Plan:
    entry = DiskPlan.model_construct(
        source=str(disk), size=size, replica="old-sda.replica.raw", target="vda", bus="virtio"
    )
    whole = Plan(
        host="old",
        address="192.0.2.1",
        source_sha256="0" * 64,
        hypervisor="hv1",
        pool="shared",
        pool_path=str(pool),
        domain="old",
        uuid=str(uuid.UUID(int=1)),
        vcpus=1,
        memory=128 * images.MIB,
        disks=(entry.model_copy(update={"source": "/dev/sda"}),),
        nics=(NicPlan(mac="52:54:00:00:00:01", bridge="br0"),),
        quiesce=Quiesce(services=("app", "db"), mountpoints=("/",)),
        rehearsal=Rehearsal(probe="192.0.2.9/24"),
    )
    return whole.model_copy(update={"disks": (entry,)})


def make(root: Path, disk: Path) -> Estate:
    """An estate around a disk image."""
    (root / "pool").mkdir(exist_ok=True)
    return Estate(
        root=root,
        disk=disk,
        source=Source(root),
        target=LocalHost("hv1"),
        plan=plan(disk, root / "pool", disk.stat().st_size),
        folder=root / "state",
    )


def disk(root: Path, size: int = 40 * images.MIB, files: Path | None = None) -> Path:
    """MBR, a gap, one ext4 over junk."""
    script = f"label: dos\n2048,{size // 512 - 2048},83\n"
    path = images.partitioned(root / "disk", size, script)
    tree = files or images.tree(root / "tree")
    images.place(path, images.MIB, images.ext(root / "fs", size - images.MIB, tree))
    return path


def free(path: Path, *names: str) -> None:
    """What a live server does, too: delete files. The file system is the one of ``disk``."""
    orders = "".join(f"rm {name}\n" for name in names).encode()
    images.run("debugfs", "-w", "-f", "-", f"{path}?offset={images.MIB}", stdin=orders)


def change(path: Path, seed: int, writes: int = 8) -> None:
    """What a live server does: overwrite some used blocks, but no journal's superblock."""
    import random

    dice = random.Random(seed)
    spans = [span for span in images.extents(path) if span[0] > 4 * images.MIB]
    with path.open("r+b") as file:
        for _ in range(writes):
            start, end = dice.choice(spans)
            at = dice.randrange(start, end, 512)
            file.seek(at - at % 4096)
            if b"\xc0\x3b\x39\x98" in file.read(8192):
                continue
            file.seek(at)
            file.write(dice.randbytes(min(dice.choice((512, 4096)), end - at)))


def narrow_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So narrow, on both sides, that a small disk has many."""
    stripe, plain = 2 * images.MIB, transfer_wire.program
    monkeypatch.setattr(transfer_lane, "STRIPE", stripe)

    def program(role: str) -> bytes:
        return plain(role).replace(b"STRIPE = 4 * 1048576", b"STRIPE = %d" % stripe)

    monkeypatch.setattr(transfer_wire, "program", program)
