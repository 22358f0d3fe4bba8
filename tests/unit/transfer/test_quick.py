"""A live delta compares checksums; the last pass compares digests and finds what those missed."""

import os
import random
import zlib
from pathlib import Path

import pytest

from migrate import transfer
from migrate.transfer import Options
from migrate.transfer_manifest import Manifest
from migrate.transfer_sums import WIDTH, Sums, zeros
from tests.unit.transfer import estate, images

MIB, CHUNK = images.MIB, 65536


def alike(chunk: bytes, dice: random.Random) -> bytes:
    """Other bytes with the same CRC-32: it is linear, so four of them can make up for the rest."""
    other = bytearray(chunk)
    other[:64] = dice.randbytes(64)
    other[-4:] = bytes(4)
    plain = zlib.crc32(other)
    basis: list[tuple[int, int]] = []  # (change of the CRC, bits that make it), highest bit first
    for bit in range(32):
        other[-4:] = (1 << bit).to_bytes(4, "big")
        change, bits = zlib.crc32(other) ^ plain, 1 << bit
        for known, by in basis:
            if change ^ known < change:
                change, bits = change ^ known, bits ^ by
        basis = sorted([*basis, (change, bits)], reverse=True)
    wanted, found = plain ^ zlib.crc32(chunk), 0
    for known, by in basis:
        if wanted ^ known < wanted:
            wanted, found = wanted ^ known, found ^ by
    other[-4:] = found.to_bytes(4, "big")
    assert zlib.crc32(other) == zlib.crc32(chunk)
    assert other != chunk
    return bytes(other)


def place(path: Path) -> int:
    """A chunk of the disk that is in use as a whole and no zeros."""
    with path.open("rb") as file:
        for start, end in images.extents(path):
            for at in range(start + -start % CHUNK, end - CHUNK + 1, CHUNK):
                file.seek(at)
                if at > 4 * MIB and any(file.read(CHUNK)):
                    return at
    raise AssertionError("no such chunk")


@pytest.fixture
def old(tmp_path: Path) -> estate.Estate:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    transfer.copy(old.source, old.target, old.plan, old.folder)
    return old


def delta(old: estate.Estate, *, quick: bool = True) -> int:
    """Bytes that it sent."""
    (found,) = transfer.copy(
        old.source, old.target, old.plan, old.folder, "delta", Options(quick=quick)
    )
    return found.sent


def forge(disk: Path, seed: int) -> None:
    """Change a chunk so that its checksum stays."""
    at = place(disk)
    with disk.open("r+b") as file:
        file.seek(at)
        chunk = file.read(CHUNK)
        file.seek(at)
        file.write(alike(chunk, random.Random(seed)))


def test_what_keeps_its_checksum_is_found_by_the_last_pass(old: estate.Estate) -> None:
    forge(old.disk, 1)
    assert delta(old) == 0
    done = transfer.finish(old.source, old.target, old.plan, old.folder)
    assert done.disks[0].passes[-1].sent == CHUNK
    assert old.replica.read_bytes() == old.expected()


def test_digests_miss_nothing(old: estate.Estate) -> None:
    forge(old.disk, 2)
    assert delta(old, quick=False) == CHUNK


def test_every_known_chunk_has_its_checksum(old: estate.Estate) -> None:
    estate.change(old.disk, 3)
    assert delta(old) > 0
    assert delta(old) == 0
    manifest = Manifest.open(next((old.folder / "disks").glob("*.manifest")))
    part = next((old.replica.parent).glob("*.part")).read_bytes()
    assert manifest.sums is not None
    for number in range(manifest.count):
        known = any(manifest.get(number * CHUNK, 1))
        chunk = part[number * CHUNK : (number + 1) * CHUNK]
        expected = b"\0\0\0\1" + zlib.crc32(chunk).to_bytes(4, "big") if known else bytes(WIDTH)
        assert manifest.sums.get(number * CHUNK, 1) == expected
    manifest.close()


def test_checksums_that_were_lost_cost_time_and_nothing_else(old: estate.Estate) -> None:
    (sums,) = (old.folder / "disks").glob("*.sums")
    os.truncate(sums, 0)  # no such file as it was: digests are compared
    assert delta(old) == 0
    assert delta(old) == 0
    size = -(-old.disk.stat().st_size // CHUNK) * WIDTH
    os.truncate(sums, size)  # none known
    assert delta(old) > 0
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_sums_are_kept_and_those_of_another_size_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.sums"
    sums = Sums.create(path, 3)
    sums.put(CHUNK, zeros(CHUNK + 512))
    sums.close()
    again = Sums.open(path, 3)
    assert again is not None
    assert again.get(0, 3 * CHUNK) == bytes(WIDTH) + zeros(CHUNK) + zeros(512)
    again.close()
    assert Sums.open(path, 4) is None
    assert Sums.open(tmp_path / "none", 3) is None
