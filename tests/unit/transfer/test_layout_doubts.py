"""Where what stands on a disk is in doubt, all of it is copied."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.transfer import images, oracles
from tests.unit.transfer.images import MIB
from tests.unit.transfer.test_raid import member

VISIBLE = '"READ", "WRITE", "VISIBLE"'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.tree(tmp_path_factory.mktemp("tree"))


def written(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def partition_table(size: int) -> bytes:
    """A boot sector from 446 on: one partition of so many bytes behind the first MiB."""
    entry = struct.pack("<BxxxBxxxII", 0x80, 0x83, 2048, size // 512 - 2048)
    return entry + bytes(48) + b"\x55\xaa"


def test_an_ext_that_has_noted_errors_is_not_believed(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 16 * MIB, files)
    assert images.extents(image) != [(0, 16 * MIB)]
    images.run("debugfs", "-w", "-R", "set_super_value state 3", image)
    for final in (True, False):
        assert images.extents(image, final=final) == [(0, 16 * MIB)]
    assert "has noted errors" in images.kinds(image)[0][1]


def test_more_inodes_than_a_group_can_have_are_not_believed(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 16 * MIB, files, "-O", "^metadata_csum")
    written(image, 1024 + 0x28, struct.pack("<I", 1 << 20))
    assert images.extents(image) == [(0, 16 * MIB)]
    assert "strange groups" in images.kinds(image)[0][1]


def test_a_partition_with_a_table_of_its_own_is_copied_whole(files: Path, tmp_path: Path) -> None:
    """A guest's disk, or what was one, with the file system before it."""
    image = images.ext(tmp_path / "fs", 15 * MIB, files)
    disk = images.partitioned(tmp_path / "disk", 16 * MIB, "label: dos\n2048,30720,83\n")
    images.place(disk, MIB, image)
    assert images.extents(disk) != [(0, 16 * MIB)]
    written(disk, MIB + 446, partition_table(15 * MIB))
    assert oracles.total(images.extents(disk)) == 16 * MIB
    assert "a partition table and a file system" in images.kinds(disk)[-1][1]


def test_a_volume_that_holds_another_disk_is_copied_whole(files: Path, tmp_path: Path) -> None:
    disk = images.lvm(tmp_path / "pv", 33 * MIB, {"root": (VISIBLE, [(0, 3)])})
    images.place(disk, MIB, images.ext(tmp_path / "fs", 12 * MIB, files))
    assert oracles.total(images.extents(disk)) < 12 * MIB
    written(disk, MIB + 446, partition_table(12 * MIB))
    assert oracles.total(images.extents(disk)) == 13 * MIB
    assert any("a partition table and" in note for _, note in images.kinds(disk))


def test_a_volume_that_is_a_leg_of_an_array_is_copied_whole(tmp_path: Path) -> None:
    disk = images.lvm(tmp_path / "pv", 105 * MIB, {"root": (VISIBLE, [(0, 25)])})
    images.place(disk, MIB, member(tmp_path / "leg", "1.0"))
    assert oracles.total(images.extents(disk)) == 101 * MIB
    assert any("an array inside" in note for _, note in images.kinds(disk))


def test_an_lvm_area_that_lvm_ignores_is_as_good_as_none(tmp_path: Path) -> None:
    disk = images.lvm(tmp_path / "pv", 33 * MIB, {})
    assert images.extents(disk) == [(0, MIB)]
    names: dict[str, Any] = images.agent()
    raw = disk.read_bytes()
    at = raw.index(names["LVM_MAGIC"]) - 4
    header = raw[at + 4 : at + 60] + struct.pack("<I", 1) + raw[at + 64 : at + 512]
    written(disk, at, struct.pack("<I", names["lvm_crc"](header)) + header)
    assert images.extents(disk) == [(0, 33 * MIB)]
    assert "no LVM metadata" in images.kinds(disk)[0][1]


def test_what_a_snapshot_needs_of_its_origin_is_not_judged_by_the_origins_maps() -> None:
    """Blocks that were freed since lie in the origin alone."""
    references: Callable[[object], dict[str, bool]] = images.agent()["references"]  # type: ignore[assignment]
    segment = {"type": "snapshot", "origin": "root", "cow_store": "cow", "extent_count": 1}
    plain = {"type": "striped", "stripes": ["pv0", 0], "extent_count": 1}
    volumes = {
        "root": {"segment1": plain},
        "cow": {"segment1": plain},
        "snapshot0": {"segment1": segment},
        "home": {"segment1": plain},
    }
    assert set(references(volumes)) == {"root", "cow"}


@pytest.mark.parametrize(("younger", "rest"), [(0, True), (1, False), (None, False)])
def test_of_two_pages_of_an_ntfs_log_the_younger_one_counts(
    younger: int | None, rest: bool, files: Path, tmp_path: Path
) -> None:
    image = oracles.ntfs(tmp_path / "fs", 16 * MIB, files)
    names: dict[str, Any] = images.agent()
    raw = image.read_bytes()
    view = names["Slice"](lambda at, size: raw[at : at + size], 0, len(raw))
    system = names["Ntfs"](view, False)
    place = system.runs(system.record(2), names["PLAIN_DATA"])[0][0][0] * system.cluster
    for number, closed in enumerate((True, False)):
        page = bytearray(4096)
        page[:4] = b"RSTR"
        struct.pack_into("<I", page, 16, 4096)
        struct.pack_into("<H", page, 24, 48)
        client = 0xFFFF if closed else 0
        struct.pack_into("<QHHHH", page, 48, 9 if number == younger else 5, 1, 0xFFFF, client, 0)
        written(image, place + number * 4096, bytes(page))
    assert (images.extents(image, final=True) != [(0, 16 * MIB)]) == rest


@pytest.mark.parametrize("number", [5, 61, 84, 74])
def test_a_sector_that_a_newer_kernel_calls_otherwise_is_unreadable_too(
    number: int, tmp_path: Path
) -> None:
    names: dict[str, Any] = images.agent()
    device = names["Device"](str(images.junk(tmp_path / "disk", MIB)))
    real = device.plain

    def plain(offset: int, length: int) -> bytes:
        if offset <= 4096 < offset + length:
            raise OSError(number, "injected")
        return bytes(real(offset, length))

    device.plain = plain
    raw = device.read(0, 65536)
    assert device.bad == [(4096, 512)]
    assert raw[4096:4608] == bytes(512)


def test_a_failure_that_is_no_bad_sector_is_not_taken_for_zeros(tmp_path: Path) -> None:
    names: dict[str, Any] = images.agent()
    device = names["Device"](str(images.junk(tmp_path / "disk", MIB)))

    def plain(offset: int, length: int) -> bytes:
        raise OSError(5 if length > 4096 else 19, "injected")

    device.plain = plain
    with pytest.raises(OSError, match="injected"):
        device.read(0, 65536)


@pytest.mark.skipif(os.getuid() != 0, reason="a loop device needs root")
def test_a_gpt_of_4_kib_sectors_is_read_in_those(files: Path, tmp_path: Path) -> None:
    disk = images.junk(tmp_path / "disk", 64 * MIB)
    loop = images.run("losetup", "-b", "4096", "-f", "--show", disk).decode().strip()
    try:
        images.run("wipefs", "-qa", loop)
        script = b"label: gpt\nstart=256,size=8192\n"
        images.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", loop, stdin=script)
    finally:
        images.run("losetup", "-d", loop)
    images.place(disk, MIB, images.ext(tmp_path / "fs", 32 * MIB, files))
    assert [kind for kind, _ in images.kinds(disk)] == ["gap", "ext", "gap"]
    assert oracles.total(images.extents(disk)) < 48 * MIB


def test_swap_that_a_sleeping_system_lies_in_is_copied_whole(tmp_path: Path) -> None:
    image = images.junk(tmp_path / "swap", 8 * MIB)
    images.run("mkswap", image)
    assert images.extents(image) == [(0, 65536)]
    written(image, 4086, b"S1SUSPEND\0")
    assert images.extents(image) == [(0, 8 * MIB)]
