"""A server with LVM that works on while its disk is copied; played on a file."""

import os
from collections.abc import Sequence
from pathlib import Path

from core.ports import Completed
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

EXTENT = 4 * images.MIB
PIECES = [(6, 3), (1, 4)]  # extents of the disk, in the order of the volume
UUID = "000000-aaaa-bbbb-cccc-dddd-eeee-000000"
VISIBLE = '"READ", "WRITE", "VISIBLE"'


class Working(estate.Source):
    """A source with LVM, played on a file: a snapshot is a copy of the volume, and from then on
    the server writes everywhere."""

    def __init__(self, root: Path, disk: Path) -> None:
        super().__init__(root)
        self.disk, self.device = disk, root / "dev"
        self.free, self.used, self.volumes = 20, "0.00", True
        self.before: bytes = b""
        self.snapshots: set[str] = set()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        command = tuple(argv)
        if command[0] == "stat":
            return Completed(command, 0, b"64768\n" if self.volumes else b"2049\n", b"")
        if command[0] in ("lvs", "vgs", "lvcreate", "lvremove"):
            return Completed(command, 0, self.lvm(command).encode(), b"")
        return super().run(argv, stdin=stdin, timeout=timeout)

    def lvm(self, command: tuple[str, ...]) -> str:
        if command[0] == "vgs":
            return f"  vg|{EXTENT}|{self.free}\n"
        if command[0] == "lvs" and "lv_uuid" in command[-1]:
            return f"  vg|root|{UUID}|{7 * EXTENT}|253|0\n  vg|swap|x|{EXTENT}|253|1\n"
        if command[0] == "lvs":
            lines = [f"  vg|{name}|swi-a-s---|{self.used}\n" for name in self.snapshots]
            return "".join(["  vg|root|owi-aos---|\n", *lines])
        self.done.append(command)
        name = command[-1].partition("/")[2]
        if command[0] == "lvremove":
            self.snapshots.remove(name)
            with self.disk.open("r+b") as file:  # LVM's metadata is good again
                file.write(self.before[: images.MIB])
            return ""
        self.snapshots.add(command[5])
        self.snap(self.device / "vg" / command[5])
        return ""

    def snap(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.before = self.disk.read_bytes()
        start = images.MIB
        spans = [(start + first * EXTENT, count * EXTENT) for first, count in PIECES]
        path.write_bytes(b"".join(self.before[at : at + size] for at, size in spans))
        with self.disk.open("r+b") as file:
            for at in (512, 5000, *(at for at, _ in spans), *(at + 10**6 for at, _ in spans)):
                file.seek(at)
                file.write(os.urandom(300_000 if at > images.MIB else 60))


def disk(root: Path) -> Path:
    """A physical volume with one volume in two pieces, an ext4 in it. Needs root."""
    path = images.lvm(root / "disk", images.MIB + 10 * EXTENT, {"root": (VISIBLE, PIECES)})
    raw = images.ext(root / "fs", 7 * EXTENT, images.tree(root / "tree")).read_bytes()
    at = 0
    for first, count in PIECES:
        with path.open("r+b") as file:
            file.seek(images.MIB + first * EXTENT)
            file.write(raw[at : at + count * EXTENT])
        at += count * EXTENT
    return path


def make(root: Path, path: Path) -> Estate:
    """An estate around it whose rehearsals take a snapshot; those lie in ``root``/dev."""
    made = estate.make(root, path)
    made.source = Working(root, path)
    how = made.plan.quiesce.model_copy(update={"rehearse": "snapshot"})
    made.plan = made.plan.model_copy(update={"quiesce": how})
    return made


def expected(old: Estate) -> bytes:
    """What the replica of the moment must be."""
    then = old.root / "then"
    then.write_bytes(old.source.before)
    spans = images.extents(then, final=True)
    return images.masked(then, old.root / "expected", spans).read_bytes()
