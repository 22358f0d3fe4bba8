"""Disks as old servers have them, made by the real tools, with junk wherever nothing lies."""

import hashlib
import itertools
import os
import random
import re
import subprocess
from pathlib import Path

from migrate.transfer_wire import program

MIB = 1024 * 1024


def agent(role: str = "reader") -> dict[str, object]:
    """The names of an agent's program, as they are on the other machine."""
    names: dict[str, object] = {"__name__": "agent"}
    exec(compile(program(role), role, "exec"), names)
    return names


def run(*argv: str | Path, stdin: bytes = b"") -> bytes:
    environment = {**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1", "LC_ALL": "C"}
    done = subprocess.run(argv, input=stdin, capture_output=True, env=environment)
    assert done.returncode == 0, (argv, done.stdout[-500:], done.stderr[-2000:])
    return done.stdout


def junk(path: Path, size: int, seed: int = 1) -> Path:
    """A file full of what somebody deleted."""
    block = random.Random(seed).randbytes(min(size, MIB))
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(block[: min(MIB, size - start)])
    return path


def tree(folder: Path, seed: int = 2) -> Path:
    """Some files of all sizes, one sparse, one of zeros."""
    dice = random.Random(seed)
    for number in range(60):
        path = folder / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.choice((0, 10, 900, 5000, 70_000, 300_000))))
    (folder / "zeros").write_bytes(bytes(MIB))
    (folder / "link").symlink_to("d1/f1")
    return folder


def ext(path: Path, size: int, files: Path, *options: str) -> Path:
    """A file system over junk."""
    junk(path, size)
    run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", *options, "-d", files, path)
    return path


def contents(image: Path, scratch: Path) -> dict[str, str]:
    """Path → digest of every file in a file system, which must be sound."""
    run("e2fsck", "-fn", image)
    scratch.mkdir(exist_ok=True)
    run("debugfs", "-R", f"rdump / {scratch}", image)
    return {
        str(path.relative_to(scratch)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in scratch.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def extents(image: Path, *, final: bool = False) -> list[tuple[int, int]]:
    """What the reader takes for used."""
    names = agent()
    device = names["Device"](str(image))  # type: ignore[operator]
    found = names["areas"](device.read, device.size, final)  # type: ignore[operator]
    spans = list(names["used"](found, 0, device.size))  # type: ignore[operator]
    assert all(a < b for a, b in spans)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    os.close(device.descriptor)
    return spans


def kinds(image: Path, *, final: bool = False) -> list[tuple[str, str]]:
    """(kind, note) of the areas, which cover the disk without a gap."""
    names = agent()
    device = names["Device"](str(image))  # type: ignore[operator]
    found = names["areas"](device.read, device.size, final)  # type: ignore[operator]
    at = 0
    for start, end, *_ in found:
        assert start == at < end
        at = end
    assert at == device.size
    os.close(device.descriptor)
    return [(area[2], area[3]) for area in found]


def masked(image: Path, target: Path, spans: list[tuple[int, int]]) -> Path:
    """The used bytes of ``image`` with zeros everywhere else."""
    with image.open("rb") as source, target.open("wb") as file:
        file.truncate(image.stat().st_size)
        for start, end in spans:
            source.seek(start)
            file.seek(start)
            file.write(source.read(end - start))
    return target


def free_blocks(image: Path) -> tuple[int, int]:
    """(block size, free blocks) as dumpe2fs sees them."""
    text = run("dumpe2fs", "-h", image).decode()
    numbers = (
        int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])
        for name in ("Block size", "Free blocks")
    )
    return tuple(numbers)  # type: ignore[return-value]


def place(disk: Path, start: int, volume: Path) -> None:
    """Put a volume's bytes at their place on the disk."""
    with disk.open("r+b") as file:
        file.seek(start)
        file.write(volume.read_bytes())


def partitioned(path: Path, size: int, script: str) -> Path:
    """A disk full of junk with a partition table by sfdisk."""
    junk(path, size, seed=3)
    run("wipefs", "-qa", path)
    run("sfdisk", "-q", "--no-reread", "--wipe", "never", path, stdin=script.encode())
    return path


LVM = """vg {{
id = "pZW7te-ug0E-yxJJ-DbIH-cXbA-TEyw-p8rQog"
seqno = 2
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 8192
max_lv = 0
max_pv = 0
physical_volumes {{
pv0 {{
id = "huybsn-qAje-KrOR-fa37-nu3D-p8Yx-f0eDof"
device = "/dev/x"   # a "hint" {{ only
status = ["ALLOCATABLE"]
dev_size = {sectors}
pe_start = 2048
pe_count = {count}
}}
}}
logical_volumes {{
{volumes}}}
}}
contents = "Text Format Volume Group"
version = 1
"""


def lvm(path: Path, size: int, volumes: dict[str, tuple[str, list[tuple[int, int]]]]) -> Path:
    """A physical volume over junk. ``volumes``: name → (status, [(physical extent, count)])."""
    junk(path, size, seed=4)
    text = ""
    for number, (name, (status, segments)) in enumerate(volumes.items()):
        uuid = f"{number:06d}-aaaa-bbbb-cccc-dddd-eeee-{number:06d}"
        text += f'{name} {{\nid = "{uuid}"\nstatus = [{status}]\nsegment_count = {len(segments)}\n'
        at = 0
        for index, (first, count) in enumerate(segments, 1):
            text += f"segment{index} {{\nstart_extent = {at}\nextent_count = {count}\n"
            text += f'type = "striped"\nstripe_count = 1\nstripes = ["pv0", {first}]\n}}\n'
            at += count
        text += "}\n"
    backup = path.with_suffix(".vg")
    data = LVM.format(sectors=size // 512, count=(size - MIB) // (4 * MIB), volumes=text)
    backup.write_text(data)
    loop = run("losetup", "-f", "--show", path).decode().strip()
    try:
        config = (
            f'devices{{dir="/dev" scan="/dev" filter=["a|^{loop}$|","r|.*|"] use_devicesfile=0}} '
            f'global{{locking_dir="{path.parent}"}} backup{{backup=0 archive=0}}'
        )
        uuid = "huybsn-qAje-KrOR-fa37-nu3D-p8Yx-f0eDof"
        restore = ("--uuid", uuid, "--restorefile", str(backup))
        run("pvcreate", "-qq", "-ff", "-y", "--config", config, *restore, loop)
        run("vgcfgrestore", "-qq", "--config", config, "-f", backup, "vg")
    finally:
        run("losetup", "-d", loop)
    return path
