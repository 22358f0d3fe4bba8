"""Blocks that the pool holds already are not sent again, and no hint makes a wrong block."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from migrate import transfer
from migrate.transfer import Options
from migrate.transfer_index import Index, path_of
from migrate.transfer_manifest import Manifest
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

MIB = images.MIB


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 24 * MIB)


@pytest.fixture(autouse=True)
def sha256(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine measures."""
    monkeypatch.setattr("migrate.transfer_work._choose", lambda source, writer: "sha256")


def server(root: Path, template: Path, name: str) -> Estate:
    """A server whose disk is that of all others, into the same pool."""
    shutil.copy(template, root / f"{name}.disk")
    old = estate.make(root, root / f"{name}.disk")
    disk = old.plan.disks[0].model_copy(update={"replica": f"{name}-sda.replica.raw"})
    old.plan = old.plan.model_copy(update={"disks": (disk,), "host": name, "domain": name})
    old.folder = root / "state" / name
    return old


def copy(old: Estate, **options: object) -> transfer.PassResult:
    (result,) = transfer.copy(
        old.source, old.target, old.plan, old.folder, "full", Options(**options)
    )
    return result


def finish(old: Estate) -> transfer.Transfer:
    result = transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
    return result


def first(root: Path, template: Path) -> Estate:
    old = server(root, template, "first")
    copy(old)
    return old


@pytest.mark.parametrize("finished", [False, True])
def test_a_twin_costs_hashes_and_what_differs(
    tmp_path: Path, template: Path, finished: bool
) -> None:
    one = first(tmp_path, template)
    if finished:
        finish(one)
    two = server(tmp_path, template, "second")
    estate.change(two.disk, 1)
    result = copy(two)
    assert result.sent <= 8 * 2 * 65536
    assert result.wire < result.sent + 0.002 * result.used + 65536
    finish(two)


@pytest.mark.parametrize("connections", [1, 3])
def test_the_other_half_of_a_mirror_is_not_sent(
    tmp_path: Path, template: Path, connections: int
) -> None:
    one = first(tmp_path, template)
    fields = {"source": str(shutil.copy(one.disk, tmp_path / "leg")), "target": "vdb"}
    leg = one.plan.disks[0].model_copy(update={**fields, "replica": "first-sdb.replica.raw"})
    one.plan = one.plan.model_copy(update={"disks": (*one.plan.disks, leg)})
    result = copy(one, connections=connections)
    assert result.sent == 0
    finish(one)
    assert (tmp_path / "pool" / leg.replica).read_bytes() == one.expected()


def test_a_source_that_changed_since_is_looked_at_and_not_believed(
    tmp_path: Path, template: Path
) -> None:
    one = first(tmp_path, template)
    part = one.replica.with_name(one.replica.name + ".part")
    dice = random.Random(3)
    with part.open("r+b") as file:
        for place in range(0, part.stat().st_size, 3 * 65536):  # one bit of every third chunk
            file.seek(place + dice.randrange(65536))
            file.write(b"!")
    two = server(tmp_path, template, "second")
    result = copy(two)
    assert 0 < result.sent < 0.6 * result.used
    assert finish(two).disks[0].repaired == 0


@pytest.mark.parametrize("damage", ["gone", "cut", "link"])
def test_a_source_that_is_gone_is_no_obstacle(tmp_path: Path, template: Path, damage: str) -> None:
    one = first(tmp_path, template)
    part = one.replica.with_name(one.replica.name + ".part")
    if damage == "cut":
        with part.open("r+b") as file:
            file.truncate(6 * MIB)
    else:
        part.rename(tmp_path / "elsewhere")
        if damage == "link":
            part.symlink_to(tmp_path / "elsewhere")
    two = server(tmp_path, template, "second")
    result = copy(two)
    assert result.sent > MIB
    assert finish(two).disks[0].repaired == 0


def test_an_index_full_of_lies_costs_time_and_no_block(tmp_path: Path, template: Path) -> None:
    one = first(tmp_path, template)
    path = path_of(one.folder, one.plan.pool, one.plan.pool_path)
    with sqlite3.connect(path) as table:
        table.execute("UPDATE chunk SET number = (number * 7 + 3) % 400")
    table.close()
    two = server(tmp_path, template, "second")
    result = copy(two)
    assert result.sent > 0.5 * result.used
    assert finish(two).disks[0].repaired == 0


def test_a_damaged_index_is_begun_anew(tmp_path: Path, template: Path) -> None:
    one = first(tmp_path, template)
    path = path_of(one.folder, one.plan.pool, one.plan.pool_path)
    path.write_bytes(b"no table at all" * 1000)
    two = server(tmp_path, template, "second")
    assert copy(two).sent > 0
    three = server(tmp_path, template, "third")
    assert copy(three).sent == 0
    finish(three)


def test_a_copy_that_is_stopped_goes_on(tmp_path: Path, template: Path) -> None:
    first(tmp_path, template)
    two = server(tmp_path, template, "second")
    copy(two)
    journal = two.folder / "disks" / "second-sda.journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(line for line in lines if '"end"' not in line) + "\n")
    copy(two)
    finish(two)


def test_the_index_finds_whole_chunks_that_are_not_zeros(tmp_path: Path) -> None:
    manifest = Manifest.create(tmp_path / "m", 4 * 65536 + 512, "sha256")
    digests = [bytes([number]) * 32 for number in range(1, 4)]
    manifest.put(0, b"".join(digests))
    manifest.put(3 * 65536, manifest.zeros(65536 + 512))
    index = Index(tmp_path / ".index" / "p.sqlite")
    assert not index
    index.add("a.replica.raw", manifest)
    index.add("a.replica.raw", manifest)
    assert index
    place = index.find(digests[2])
    assert place is not None
    assert (place.replica, place.offset) == ("a.replica.raw", 2 * 65536)
    assert index.find(manifest.zeros(65536)) is None
    assert index.find(manifest.zeros(512)) is None
    index.close()
    manifest.close()


def test_old_data_between_chunks_that_the_pool_had_becomes_zeros(tmp_path: Path) -> None:
    tree = tmp_path / "files"
    tree.mkdir()
    for number in range(4):
        (tree / str(number)).write_bytes(random.Random(number).randbytes(192 * 1024))
    disk = estate.disk(tmp_path, 10 * MIB, files=tree)
    first(tmp_path, disk)
    twin = server(tmp_path, disk, "twin")
    part = twin.replica.with_name(twin.replica.name + ".part")
    images.junk(part, 10 * MIB, seed=9)
    assert copy(twin, workers=1).sent < MIB
    finish(twin)
