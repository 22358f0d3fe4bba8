"""What a disk's file system can't hold: FAT knows no file of 4 GiB and no two names that differ
only in case."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from core.errors import UsageProblem

FAT = ("vfat", "msdos")
WINDOWS = (*FAT, "exfat", "ntfs", "ntfs3", "fuseblk")
FAT_FILE = (4 << 30) - 1
FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]|[. ]$')
MOUNTS = Path("/proc/self/mountinfo")


def kind_of(path: Path) -> str:
    """The type of the file system that ``path`` is or will be on; empty when it is not known."""
    while not path.exists():
        path = path.parent
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""


def check_names(kind: str, sizes: Mapping[str, int]) -> None:
    """Raises UsageProblem for the first file that a file system of this kind can't hold."""
    if kind in FAT:
        for path, size in sizes.items():
            if size > FAT_FILE:
                raise UsageProblem(
                    f"{path} has {size} bytes, and FAT holds no file of 4 GiB or more",
                    hint="format the disk as exFAT or ext4",
                )
    if kind in WINDOWS:
        seen: dict[str, str] = {}
        for path in sizes:
            for part in path.split("/"):
                if FORBIDDEN.search(part):
                    raise UsageProblem(f"{path} has a name that {kind} does not allow",
                                       hint="format the disk as ext4")  # fmt: skip
            other = seen.setdefault(path.lower(), path)
            if other != path:
                raise UsageProblem(
                    f"{path} and {other} are one name on {kind}", hint="format the disk as ext4"
                )
