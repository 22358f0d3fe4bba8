"""Blocks that are not in use any more are zeros in the replica, whatever happened between."""

import random
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from migrate import transfer
from migrate.transfer_pass import Pump
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate


def with_a_large_file(root: Path) -> Estate:
    """A file that has whole chunks for itself."""
    files = images.tree(root / "tree")
    (files / "large").write_bytes(random.Random(3).randbytes(4 * images.MIB))
    return estate.make(root, estate.disk(root, 24 * images.MIB, files=files))


def without_it(old: Estate) -> None:
    estate.free(old.disk, "/zeros", "/d1/f1", "/d2/f2", "/large")


def test_blocks_freed_between_the_passes_become_zeros(tmp_path: Path) -> None:
    old = with_a_large_file(tmp_path)
    transfer.copy(old.source, old.target, old.plan, old.folder)
    without_it(old)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_what_was_never_acknowledged_and_then_freed_becomes_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = with_a_large_file(tmp_path)
    with monkeypatch.context() as patch:

        def dead(pump: Pump, upto: int, sums: bytes) -> None:
            raise OutsideFailed("the power is off")

        patch.setattr(Pump, "_commit", dead)
        with pytest.raises(OutsideFailed):
            transfer.copy(old.source, old.target, old.plan, old.folder)
    part = old.replica.with_name(old.replica.name + ".part")
    assert part.read_bytes().strip(b"\0")  # something was written before
    without_it(old)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_a_replica_whose_manifest_was_lost_holds_nothing_of_before(tmp_path: Path) -> None:
    old = with_a_large_file(tmp_path)
    transfer.copy(old.source, old.target, old.plan, old.folder)
    for path in (old.folder / "disks").iterdir():
        path.unlink()
    without_it(old)
    transfer.copy(old.source, old.target, old.plan, old.folder)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.parametrize("quick", [True, False])
def test_chunks_freed_between_others_that_stayed_become_zeros(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, never acknowledged, and then whole chunks in the middle of a file are freed."""
    files, body = tmp_path / "files", random.Random(1).randbytes(images.MIB)
    files.mkdir()
    (files / "file").write_bytes(body)
    old = estate.make(tmp_path, estate.disk(tmp_path, 10 * images.MIB, files=files))
    options = transfer.Options(workers=1, quick=quick)
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    start = old.disk.read_bytes().index(body[:4096])
    first = start + -start % 65536 + 2 * 65536
    with old.disk.open("r+b") as disk:
        disk.seek(first)
        disk.write(b"secret.." * (2 * 65536 // 8))
    with monkeypatch.context() as patch:

        def dead(pump: Pump, upto: int, sums: bytes) -> None:
            raise OutsideFailed("the power is off")

        patch.setattr(Pump, "_commit", dead)
        with pytest.raises(OutsideFailed):
            transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
    part = old.replica.with_name(old.replica.name + ".part")
    assert b"secret" in part.read_bytes()
    block, _ = images.free_blocks(tmp_path / "fs")
    low, high = (first - start) // block, (first + 2 * 65536 - start) // block - 1
    order = f"punch /file {low} {high}"
    images.run("debugfs", "-w", "-R", order, f"{old.disk}?offset={images.MIB}")
    transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
    assert b"secret" not in part.read_bytes()
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
