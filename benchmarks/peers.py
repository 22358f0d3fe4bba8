"""What transfers are compared with. Each call copies the disk once, over the line, onto this
machine's disk, and returns when all is synced."""

import contextlib
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.ssh_algorithms import MODERN
from adapters.ssh_program import ssh_argv
from benchmarks.bed import Disk, Line
from tests.unit.transfer import images

Peer = Callable[[Line, Disk, Path], None]
SINK = ("bs=1M", "iflag=fullblock", "conv=fsync", "status=none")


def ssh(line: Line, *, plain: bool = False) -> tuple[str, ...]:
    """The same ssh with the same algorithms for everybody; ``plain``: with those it prefers."""
    return ssh_argv(line.login, None if plain else MODERN, ("ssh-rsa",))


def pipeline(*commands: tuple[str, ...]) -> None:
    """command | command | …; all must go well."""
    with contextlib.ExitStack() as stack:
        running, before = [], None
        for command in commands:
            out = None if command is commands[-1] else subprocess.PIPE
            process = subprocess.Popen(command, stdin=before, stdout=out, stderr=subprocess.DEVNULL)
            running.append(stack.enter_context(process))
            if before:
                before.close()
            before = process.stdout
    assert all(process.returncode == 0 for process in running), commands


def dd(line: Line, disk: Disk, target: Path) -> None:
    send = (*ssh(line), f"dd if={disk.loop} bs=1M status=none")
    pipeline(send, ("dd", f"of={target}", *SINK))


def dd_zstd(line: Line, disk: Disk, target: Path) -> None:
    send = (*ssh(line), f"dd if={disk.loop} bs=1M status=none | zstd -q -1 -c")
    pipeline(send, ("zstd", "-q", "-d", "-c"), ("dd", f"of={target}", *SINK))


def rsync(line: Line, disk: Disk, target: Path) -> None:
    """--inplace, as for a disk that will be synced again."""
    *program, place = ssh(line)
    images.run(
        *("rsync", "--copy-devices", "--inplace", "-e", shlex.join(program[:-1])),
        *(f"{place}:{disk.loop}", target),
    )
    images.run("sync", target)


def p2v(line: Line, disk: Disk, target: Path) -> None:
    """virt-p2v's path: nbdkit on the disk, a tunnel by ssh as it is (virt-p2v names no cipher),
    nbdcopy into a raw file."""
    _nbdcopy(line, disk, target, plain=True)


def p2v_cipher(line: Line, disk: Disk, target: Path) -> None:
    """The same with the cipher that everybody else here has: quicker than virt-p2v is."""
    _nbdcopy(line, disk, target, plain=False)


def _nbdcopy(line: Line, disk: Disk, target: Path, *, plain: bool) -> None:
    with nbd(line, disk, plain=plain) as uri:
        images.run("nbdcopy", "--flush", uri, target)
    images.run("sync", target)


def qemu_img(line: Line, disk: Disk, target: Path) -> None:
    with nbd(line, disk) as uri:
        images.run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, target)
    images.run("sync", target)


def partclone(line: Line, disk: Disk, target: Path) -> None:
    """Images of the two file systems; the swap and the rest of the disk stay behind."""
    for name, start, size in disk.parts:
        if name == "swap":
            continue
        part = ("losetup", "-r", "-f", "--show", "-o", str(start), "--sizelimit", str(size))
        loop = images.run(*part, disk.path).decode().strip()
        try:
            send = (*ssh(line), f"partclone.ext4 -c -a0 -s {loop} -o - 2>/dev/null")
            pipeline(send, ("dd", f"of={target}.{name}", *SINK))
        finally:
            images.run("losetup", "-d", loop)
            Path(f"{target}.{name}").unlink(missing_ok=True)


@contextmanager
def nbd(line: Line, disk: Disk, *, plain: bool = False) -> Iterator[str]:
    """nbdkit on the far side, and a tunnel to it."""
    there, here = f"/run/bench-nbd-{os.getpid()}", Path(f"/tmp/bench-nbd-{os.getpid()}")
    served = f"exec nbdkit -f -r -U {there} file file={disk.loop}"
    *program, place = ssh(line, plain=plain)
    tunnel = (*program[:-1], "-o", "StreamLocalBindUnlink=yes", "-L", f"{here}:{there}", place)
    with subprocess.Popen((*tunnel, served), stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not (here.exists() and Path(there).exists()):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(here))
            yield f"nbd+unix:///?socket={here}"
        finally:
            process.terminate()
            process.wait(10)
            pid = subprocess.run(["fuser", there], capture_output=True, text=True).stdout.split()
            for number in pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), 15)
            for path in (here, Path(there)):
                path.unlink(missing_ok=True)


FIRST: dict[str, Peer] = {
    "dd|ssh": dd,
    "dd|zstd|ssh": dd_zstd,
    "rsync": rsync,
    "virt-p2v path": p2v,
    "p2v by AES-GCM": p2v_cipher,
    "qemu-img": qemu_img,
    "partclone": partclone,
}
