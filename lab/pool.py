"""The pool directory that both hypervisors mount, as one file system with a process behind it.

An NFS export would be the real thing, but containers have no NFS of their own. libvirt migrates a
running domain only when its disks lie on a file system of a kind that it knows as shared, and tells
the kind from /proc/mounts: so the directory is passed through FUSE under such a name.
"""

import subprocess
import time
from pathlib import Path

from core.errors import OutsideFailed
from lab.estate import Estate
from lab.source_run import run

KIND = "glusterfs"
PATIENCE = 10.0


def up(estate: Estate) -> None:
    """Mount it; harmless when it is mounted and works."""
    seen = estate.pool_mount
    if mounted(seen):
        if _works(seen):
            return
        run(["umount", "--lazy", str(seen)])  # its process was killed
    for directory in (estate.pool, seen):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    options = f"subtype={KIND},fsname=lab-pool,allow_other,default_permissions"
    with (estate.directory / "pool.log").open("wb") as log:
        subprocess.Popen(
            ["bindfs", "-f", "--multithreaded", "-o", options, str(estate.pool), str(seen)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + PATIENCE
    while not (mounted(seen) and _works(seen)):
        if time.monotonic() > end:
            said = (estate.directory / "pool.log").read_text(errors="replace")[-300:]
            raise OutsideFailed(
                f"the lab's pool could not be mounted: {said.strip() or 'no word from bindfs'}",
                hint="groundlift doctor names missing programs",
                where=str(seen),
            )
        time.sleep(0.05)


def down(estate: Estate) -> None:
    """Unmount it, which ends its process; harmless when it is not there."""
    end = time.monotonic() + PATIENCE
    while mounted(estate.pool_mount):
        try:
            run(["umount", str(estate.pool_mount)])
        except OutsideFailed:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def mounted(path: Path) -> bool:
    """As the kernel has it: a mount whose process is gone can't be asked otherwise."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return any(line.split(" ")[1] == str(path) for line in lines)


def _works(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True
