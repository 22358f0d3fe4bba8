"""What other tools say is in use, and file systems populated by their own drivers and tools."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.transfer.images import junk, run

Spans = list[tuple[int, int]]
LINE = re.compile(r"^(0x[0-9A-F]+)\s+(0x[0-9A-F]+)\s+\+$", re.M)


def partclone(kind: str, image: Path) -> Spans:
    """What partclone would copy."""
    domain = image.with_suffix(".domain")
    log = image.with_suffix(".log")
    run(f"partclone.{kind}", "-D", "-F", "-L", log, "-s", image, "-o", domain)
    found = LINE.findall(domain.read_text())
    return [(int(start, 16), int(start, 16) + int(size, 16)) for start, size in found]


def journal(image: Path) -> list[int]:
    """Blocks of an ext file system's journal, without those that lead to them; none: no journal."""
    told = run("debugfs", "-R", "stat <8>", image).decode()
    found: list[int] = []
    for first, last in re.findall(r"\(\d+(?:-\d+)?\):(\d+)(?:-(\d+))?", told):
        found.extend(range(int(first), int(last or first) + 1))
    return found


def idle_ext(image: Path) -> set[int]:
    """Blocks of an ext file system at rest that are in use and say nothing, as its own tools tell:
    inode tables behind the last inode, and the journal but for its superblock."""
    told = run("dumpe2fs", image).decode()
    names = ("Block size", "Inodes per group", "Inode size")
    heads = (re.search(rf"^{name}:\s+(\d+)", told, re.M) for name in names)
    block, each, inode = (int(head[1]) if head else 128 for head in heads)
    found: set[int] = set()
    for number, text in enumerate(re.split(r"\nGroup (?=\d)", told)[1:]):
        first, last = map(int, re.findall(r"Inode table at (\d+)-(\d+)", text)[0])
        unused = re.search(r"(\d+) unused inodes", text)
        free = re.search(r"Free inodes:.*?(\d+)-(\d+)\s*$", text, re.M)
        count = 0
        if unused:
            count = int(unused[1])
        elif "csum" not in text and free and int(free[2]) == (number + 1) * each:
            count = int(free[2]) - int(free[1]) + 1
        found.update(range(first + -(-(each - count) * inode // block), last + 1))
    found.update(journal(image)[1:])
    return found


def total(spans: Spans) -> int:
    return sum(end - start for start, end in spans)


def lacking(spans: Spans, wanted: Spans) -> int:
    """Bytes of ``wanted`` that are not in ``spans``."""
    both = sum(
        max(0, min(end, last) - max(start, first))
        for start, end in spans
        for first, last in wanted
        if first < end and start < last
    )
    return total(wanted) - both


@contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """The file system in a file, by the kernel's own driver."""
    point = image.with_suffix(".mnt")
    point.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(("loop", *options)), image, point)
    try:
        yield point
    finally:
        run("umount", point)


def digests(folder: Path) -> dict[str, str]:
    """Path → digest of every file below."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def xfs(path: Path, size: int, files: Path, *options: str) -> Path:
    """An XFS over junk with the files in it, by mkfs alone."""
    junk(path, size)
    listing = path.with_suffix(".proto")
    listing.write_text("boot\n0 0\n" + _proto(files) + "$\n")
    run("mkfs.xfs", "-q", "-f", "-K", "-p", listing, *options, path)
    return path


def _proto(folder: Path) -> str:
    lines = "d--755 0 0\n"
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            lines += f"{path.name} {_proto(path)}$\n"
        elif not path.is_symlink():
            lines += f"{path.name} ---644 0 0 {path}\n"
    return lines


def scattered(image: Path, count: int, size: int) -> None:
    """Many files, each second one gone again: free space in many pieces."""
    with mounted(image) as point:
        for number in range(count):
            (point / f"many{number}").write_bytes(os.urandom(size))
        os.sync()
        for number in range(0, count, 2):
            (point / f"many{number}").unlink()


def ntfs(path: Path, size: int, files: Path, *options: str) -> Path:
    """An NTFS over junk with the files in it."""
    junk(path, size)
    run("mkntfs", "-q", "-f", "-F", *options, path)
    for number, name in enumerate(sorted(digests(files))):
        run("ntfscp", "-f", path, files / name, f"file{number}")
    return path


def ntfs_digests(image: Path, count: int) -> list[str]:
    return [
        hashlib.sha256(run("ntfscat", "-f", image, f"file{number}")).hexdigest()
        for number in range(count)
    ]


def fat(path: Path, size: int, files: Path, *options: str) -> Path:
    """A FAT over junk with the files in it."""
    junk(path, size)
    run("mkfs.fat", *options, path)
    for name in sorted(files.iterdir()):
        if not name.is_symlink():
            run("mcopy", "-i", path, "-s", name, "::")
    return path


def fat_digests(image: Path, scratch: Path) -> dict[str, str]:
    run("fsck.fat", "-n", image)
    scratch.mkdir()
    run("mcopy", "-i", image, "-s", "-n", "::", scratch)
    return digests(scratch)


def fat_used(image: Path) -> int:
    """Bytes of the clusters that fsck.fat finds in use."""
    told = run("fsck.fat", "-n", "-v", image).decode()
    used = re.search(r"(\d+)/\d+ clusters", told)
    size = re.search(r"(\d+) bytes per cluster", told)
    assert used and size
    return int(used[1]) * int(size[1])
