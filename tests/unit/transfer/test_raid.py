"""Superblocks as mdadm and the kernel wrote them, for legs in step and for others."""

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.transfer import images

# Version → (sectors of the member, place of the superblock, first sector of the data, sectors of
# data, the first 4 KiB of the superblock). Made by mdadm 4.2 in libguestfs' appliance.
LEGS = {
    "0.90": (204800, 104792064, 0, 204672,
        "eNr746e9kgEIohgQoMshXNfmKXs2I5B9oJ+RgQlIMyHJByXsULfJlrA16Z8azEAhcILag25HouuvFCEoG0b/"
        "BwKGUUB1wAHEjFA2G53tZoTaLwhls41GxygYBaNgFIyCUTAKRsEoGAWjYJiCge7/AAAGfBL6"),
    "1.0": (204800, 104849408, 0, 204672,
        "eNr746e9kpEBAW75Pzq65aldPPuanWrLVBXjNPLy81I1rQwYcIC3d9mzQTTMjAZ5ZrgcEwPx4AFU3wck/cjA"
        "cOLmaZ98Xc+KfPg+48aOyDsMDBwMP/7///8Var8QVN1/KJg10XZhA1E2M8L1jETAMApGwSgYBaNgFIyCUTAK"
        "RsEoGAWjYEQAAN3JJv4="),
    "1.1": (593153, 0, 2048, 591104,
        "eNr746e9kpEBARbllP21fyOa2b39pvp26bXPNPLy81I1rQwZcIC3d9mzQTTcDFZOuBwTAxGAA0IxIunDBnhq"
        "6kOTQv1cN98154+pDdUAaRQAin+F2i8IVfcfCrbx5qU1EGM/0OX/RzBgGAWjYBSMglEwCkbBKBgFo2AUjIJR"
        "MCIAADwZHSM="),
    "1.2": (204800, 4096, 2048, 202752,
        "eNr746e9kpEBAaadr2W4YPEr79usqyUMc15/0sjLz0vVtDJgwAHOPmPPBtFwMySY4XJMDEQADlR9HDiU1Xuk"
        "28vckTH5Zfel9um9T04glQJA8YtQ+4Wg6v5DwYa8GZoNxNgPdPn/EQwYRsEoGAWjYBSMglEwCkbBKBgFo2AU"
        "jAgAAAMBILA="),
}  # fmt: skip
DISK_STATE, NEEDS_CHECK = 996 * 4, 38 * 4


def member(path: Path, version: str, change: Callable[[bytearray], None] | None = None) -> Path:
    """A member with a file system in the array."""
    sectors, place, first, count, text = LEGS[version]
    raw = bytearray(zlib.decompress(base64.b64decode(text)))
    if change:
        change(raw)
    inner = path.with_suffix(".fs")
    with inner.open("wb") as file:
        file.truncate(count * 512)
    images.run("mkfs.ext3", "-q", "-F", inner)
    with path.open("wb") as file:
        file.truncate(sectors * 512)
    images.run("dd", f"if={inner}", f"of={path}", "bs=512", f"seek={first}", "conv=notrunc,sparse")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(raw)
    return path


def with_state(state: int) -> Callable[[bytearray], None]:
    """Another word about this disk, with the checksum that belongs to it."""

    def change(raw: bytearray) -> None:
        old = struct.unpack_from("<I", raw, DISK_STATE)[0]
        check = struct.unpack_from("<I", raw, NEEDS_CHECK)[0]
        struct.pack_into("<I", raw, DISK_STATE, state)
        struct.pack_into("<I", raw, NEEDS_CHECK, check + state - old)

    return change


@pytest.mark.parametrize("version", LEGS)
def test_a_leg_in_step_is_taken_as_what_it_holds(version: str, tmp_path: Path) -> None:
    found = images.kinds(member(tmp_path / "leg", version))
    assert [kind for kind, _ in found if kind != "raid metadata"] == ["ext"]
    assert "raid metadata" in [kind for kind, _ in found]


@pytest.mark.parametrize("version", LEGS)
def test_a_damaged_superblock_means_all_of_it(version: str, tmp_path: Path) -> None:
    def change(raw: bytearray) -> None:
        raw[200] ^= 1

    ((_, note),) = images.kinds(member(tmp_path / "leg", version, change))
    assert "wrong checksum" in note


@pytest.mark.parametrize(
    "state", [0x1, 0x7, 0x0, 0x2, 0x4, 0x8, 0xE], ids=lambda state: f"state {state}"
)
def test_a_member_that_is_no_leg_in_step_is_copied_whole(state: int, tmp_path: Path) -> None:
    """Faulty, faulty while it worked, spare, being rebuilt, removed."""
    ((_, note),) = images.kinds(member(tmp_path / "leg", "0.90", with_state(state)))
    assert "no leg in step" in note


def test_a_leg_that_is_read_last_is_in_step(tmp_path: Path) -> None:
    """Write-mostly: bit 9."""
    found = images.kinds(member(tmp_path / "leg", "0.90", with_state(0x206)))
    assert "ext" in [kind for kind, _ in found]
