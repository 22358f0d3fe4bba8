"""`make bench NAME=transfer`: our first copy against `dd | ssh`, the same disk, in the same run.

The disk is that of an old server: MBR, /boot, swap full of old pages, a root file system of which
a third is in use, a third is deleted junk and a third was never touched. A loop device serves it,
so that nobody can see holes. It is read through a private sshd on 127.0.0.1, both ways with the
same cipher, and written to this machine, synced. Medians; the last line is JSON.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapters.local import LocalHost
from adapters.ssh import SshHost
from adapters.ssh_program import ssh_argv
from migrate import transfer
from migrate.transfer import Options
from tests.contract.sshd import Server, sshd
from tests.unit.transfer import estate, images
from tests.unit.transfer.images import MIB

SIZE, BOOT, SWAP = 3072 * MIB, 128 * MIB, 384 * MIB
ROOT = SIZE - BOOT - SWAP - 8 * MIB
REPEATS = 5


def random_file(path: Path, dice: random.Random, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(dice.randbytes(min(MIB, size - start)))


def make_disk(top: Path) -> Path:
    """Used files are half random, half text; junk is random."""
    dice = random.Random(42)
    files = top / "files"
    size = 0
    while size < ROOT // 3:
        path = files / f"d{dice.randrange(40)}" / f"f{size}"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = int(dice.lognormvariate(11.5, 2)) % (32 * MIB)
        if dice.random() < 0.5:
            random_file(path, dice, length)
        else:
            path.write_bytes(b"%d an old log line\n" % dice.randrange(9) * (length // 20))
        size += length
    root = top / "root"
    random_file(root, dice, ROOT * 2 // 3)
    os.truncate(root, ROOT)
    images.run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-d", files, root)
    boot = images.ext(top / "boot", BOOT, images.tree(top / "tree"))
    swap = images.junk(top / "swap", SWAP)
    images.run("mkswap", swap)
    disk = top / "disk"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    sectors = [part // 512 for part in (BOOT, SWAP)]
    table = f"label: dos\n2048,{sectors[0]},83,*\n{2048 + sectors[0]},{sectors[1]},82\n"
    at = 2048 + sum(sectors)
    table += f"{at},{ROOT // 512},83\n"
    images.run("sfdisk", "-q", "--no-reread", disk, stdin=table.encode())
    for place, volume in ((MIB, boot), (MIB + BOOT, swap), (at * 512, root)):
        with disk.open("r+b") as file, volume.open("rb") as source:
            file.seek(place)
            while block := source.read(4 * MIB):
                file.write(block)
        volume.unlink()
    return disk


def peer(server: Server, disk: str, target: Path) -> float:
    """dd on the server, ssh, dd here; synced at the end."""
    start = time.monotonic()
    command = (*ssh_argv(server.login), f"dd if={disk} bs=1M status=none")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
        sink = ("dd", f"of={target}", "bs=1M", "iflag=fullblock", "conv=fsync", "status=none")
        subprocess.run(sink, stdin=sender.stdout, check=True)
    assert sender.returncode == 0
    return time.monotonic() - start


def ours(server: Server, disk: str, top: Path, number: int) -> tuple[float, transfer.PassResult]:
    """The full pass as `groundlift migrate transfer` does it, start-up included."""
    root = top / f"run{number}"
    (root / "pool").mkdir(parents=True)
    plan = estate.plan(Path(disk), root / "pool", SIZE)
    start = time.monotonic()
    source = SshHost("old", server.login)
    (result,) = transfer.copy(source, LocalHost("hv1"), plan, root / "state", options=Options())
    taken = time.monotonic() - start
    source.close()
    return taken, result


def check(disk: str, replica: Path, top: Path) -> None:
    """The replica is the disk's used bytes and zeros."""
    expected = images.masked(Path(disk), top / "expected", images.extents(Path(disk)))
    images.run("cmp", replica, expected)
    expected.unlink()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-transfer-") as name:
        top = Path(name)
        print("making the disk …", file=sys.stderr)
        disk = make_disk(top)
        os.chmod(top, 0o755)  # noqa: PTH101
        loop = images.run("losetup", "-r", "-f", "--show", disk).decode().strip()
        try:
            with sshd(top / "ssh") as server:
                measure(server, loop, top)
        finally:
            images.run("losetup", "-d", loop)


def measure(server: Server, loop: str, top: Path) -> None:
    theirs, mine, result = [], [], None
    for number in range(REPEATS):
        theirs.append(peer(server, loop, top / "peer.raw"))
        (top / "peer.raw").unlink()
        taken, result = ours(server, loop, top, number)
        mine.append(taken)
        (replica,) = (top / f"run{number}" / "pool").iterdir()
        if number == 0:
            check(loop, replica, top)
        replica.unlink()
        print(f"dd|ssh {theirs[-1]:.2f} s, ours {taken:.2f} s", file=sys.stderr)
    assert result is not None
    hashed = json.loads(
        (top / "run0/state/disks/old-sda.manifest").read_bytes().split(b"\n", 1)[0]
    )["hash"]
    print(f"disk {SIZE // MIB} MiB, used {result.used // MIB} MiB, hash {hashed}")
    print(f"dd|ssh median {statistics.median(theirs):.2f} s, wire {SIZE // MIB} MiB")
    print(f"ours   median {statistics.median(mine):.2f} s, wire {result.wire // MIB} MiB")
    line = {
        "bench": "transfer",
        "ratio": round(statistics.median(mine) / statistics.median(theirs), 3),
        "seconds": round(statistics.median(mine), 2),
        "peer_seconds": round(statistics.median(theirs), 2),
        "wire_per_used": round(result.wire / result.used, 4),
        "wire_ratio": round(result.wire / SIZE, 3),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
