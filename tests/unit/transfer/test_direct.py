"""What is read from a disk is what lies on it, whatever the cache holds."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.local import LocalHost
from migrate import transfer
from migrate.transfer_wire import program
from tests.contract.pythons import PYTHONS
from tests.unit.transfer import estate, images

# A file on a mounted file system changes between two reads of the disk below it, again and again;
# the data of the file lies where the marker is found first.
WATCH = """
device = Device(sys.argv[1], True)
where = sys.argv[2]
if sys.argv[3] == "buffered":
    if device.direct is not None:
        device.direct.close()
    device.direct = None
marker, found = octets("MARKER-00"), -1
for start in range(0, device.size, 1048576):
    raw = whole(device.read(start, min(1048576, device.size - start)))
    if marker in raw:
        found = start + raw.index(marker)
seen = []
for number in range(1, 6):
    out = open(where, "r+b")
    out.write(octets("MARKER-%02d" % number))
    out.flush()
    os.fsync(out.fileno())
    out.close()
    if sys.argv[3] == "buffered":
        device.fresh()
    seen.append(text(whole(device.read(found - found % 512, 512))[found % 512:found % 512 + 9]))
print(" ".join(seen + [str(device.direct is not None)]))
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    image = images.junk(tmp_path / "image", 16 * images.MIB)
    images.run("mkfs.ext4", "-q", "-b", "4096", image)
    loop = images.run("losetup", "-f", "--show", image).decode().strip()
    place = tmp_path / "mnt"
    place.mkdir()
    images.run("mount", loop, place)
    (place / "file").write_bytes(b"MARKER-00" + bytes(8000))
    images.run("sync")
    yield loop, place / "file"
    images.run("umount", place)
    images.run("losetup", "-d", loop)


@pytest.mark.parametrize("way", ["direct", "buffered"])
@pytest.mark.parametrize("version", sorted({"2.7", "3.6", "3.13"} & set(PYTHONS)))
def test_changes_below_a_mounted_file_system_are_seen(
    mounted: tuple[str, Path], version: str, way: str
) -> None:
    loop, file = mounted
    body = program("reader")
    code = body[: body.rindex(b"\nif __name__")].decode() + WATCH
    done = subprocess.run(
        [PYTHONS[version], "-c", "import sys; exec(sys.stdin.read())", loop, file, way],
        input=code,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *seen, direct = done.stdout.split()
    assert seen == [f"MARKER-{number:02d}" for number in range(1, 6)]
    assert direct == str(way == "direct")


def test_any_part_of_a_device_is_read_alike_with_and_without_the_cache(tmp_path: Path) -> None:
    image = images.junk(tmp_path / "image", 3 * images.MIB)
    with image.open("ab") as file:
        file.write(b"x" * 1536)
    loop = images.run("losetup", "-f", "--show", image).decode().strip()
    try:
        names = images.agent()
        direct = names["Direct"](loop)  # type: ignore[operator]
        truth = image.read_bytes()
        for offset, length in (
            *((0, 512), (511, 2), (1000, 300_000), (4096, 262_144), (0, 1_000_000)),
            *((3 * images.MIB - 100, 1000), (len(truth) - 512, 512), (len(truth) - 10, 100)),
        ):
            assert direct.read(offset, length) == truth[offset : offset + length]
        direct.close()
    finally:
        images.run("losetup", "-d", loop)


def test_what_was_written_a_moment_ago_is_in_use(mounted: tuple[str, Path], tmp_path: Path) -> None:
    """Blocks that only the server's memory knows of, until it is asked to sync."""
    device, file = mounted
    (tmp_path / "pool").mkdir()
    plan = estate.plan(Path(device), tmp_path / "pool", 16 * images.MIB)
    late = os.urandom(2 * images.MIB)
    file.with_name("late").write_bytes(late)
    transfer.copy(estate.Source(tmp_path), LocalHost("hv1"), plan, tmp_path / "state")
    (replica,) = (tmp_path / "pool").iterdir()
    raw = replica.read_bytes()
    assert all(late[at : at + 4096] in raw for at in range(0, len(late), 4096))
