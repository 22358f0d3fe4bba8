"""What is in use and never read stays behind, and is not missed: the kernel's own ext drivers work
with what arrived."""

import os
import re
from pathlib import Path

import pytest

from tests.unit.transfer import images, oracles
from tests.unit.transfer.images import MIB
from tests.unit.transfer.test_layout import OLD

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root mounts the file systems")

KINDS = [
    pytest.param(("-b", "1024", "-i", "2048"), id="ext4"),
    pytest.param(("-O", "^64bit,^metadata_csum,uninit_bg"), id="ext4 of EL6"),
    pytest.param(("-O", OLD, "-b", "1024", "-J", "size=8"), id="ext3"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.tree(tmp_path_factory.mktemp("tree"))


def journal(image: Path) -> list[int]:
    """Where the journal's blocks begin, in bytes."""
    block, _ = images.free_blocks(image)
    return [place * block for place in oracles.journal(image)]


def inode(image: Path) -> int:
    """Where the journal's inode lies."""
    told = images.run("debugfs", "-R", "imap <8>", image).decode()
    block, offset = re.findall(r"block (\d+), offset 0x(\w+)", told)[0]
    size, _ = images.free_blocks(image)
    return int(block) * size + int(offset, 16)


def copied(spans: list[tuple[int, int]], places: list[int]) -> int:
    """How many of the places lie within the spans."""
    return sum(any(start <= place < end for start, end in spans) for place in places)


def fill(point: Path, name: str, count: int) -> None:
    for number in range(count):
        (point / f"{name}{number}").write_bytes(os.urandom(300))


@pytest.mark.parametrize("options", KINDS)
def test_what_was_left_out_is_not_missed(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = images.ext(tmp_path / "fs", 64 * MIB, files, *options)
    with oracles.mounted(image) as point:
        fill(point, "before", 300)
    assert any(image.read_bytes()[place : place + 4] != bytes(4) for place in journal(image)[1:])
    spans = images.extents(image, final=True)
    copy = images.masked(image, tmp_path / "copy", spans)
    assert images.contents(copy, tmp_path / "b") == images.contents(image, tmp_path / "a")
    with oracles.mounted(
        copy
    ) as point:  # inodes and work for the journal, where nothing was copied
        fill(point, "after", 3000)
        os.sync()
        known = oracles.digests(point)
    images.run("e2fsck", "-fn", copy)
    with oracles.mounted(copy, "ro") as point:
        assert oracles.digests(point) == known


@pytest.mark.parametrize("options", KINDS)
def test_a_journal_with_work_is_copied_and_replayed(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = images.ext(tmp_path / "fs", 64 * MIB, files, *options)
    with oracles.mounted(image) as point:
        fill(point, "before", 200)
        os.sync()
        spans = images.extents(image)
        copy = images.masked(image, tmp_path / "copy", spans)
        known = oracles.digests(point)
    places = journal(image)
    assert copied(spans, places) == len(places)
    with oracles.mounted(copy) as point:
        assert oracles.digests(point) == known


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("damage", ["other copy", "no magic", "work", "shorter"])
def test_a_journal_that_does_not_fit_is_copied(
    damage: str, options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = images.ext(tmp_path / "fs", 64 * MIB, files, *options)
    first, *rest = journal(image)
    assert not copied(images.extents(image), rest)
    with image.open("r+b") as file:
        if damage == "other copy":  # of the journal's inode, in the superblock
            file.seek(inode(image) + 44)
        else:
            file.seek(first + {"no magic": 0, "work": 28, "shorter": 12}[damage])
        file.write(b"\x00\x00\x00\x07")
    assert copied(images.extents(image), rest) == len(rest)


@pytest.mark.parametrize("field", [b"\x00\x00", b"\xff\xff"], ids=["no extents", "too many"])
def test_a_tree_of_extents_that_leads_nowhere_is_not_followed(
    field: bytes, files: Path, tmp_path: Path
) -> None:
    options = ("-O", "^64bit,^metadata_csum,uninit_bg")
    image = images.ext(tmp_path / "fs", 64 * MIB, files, *options)
    _, *rest = journal(image)
    places = (inode(image) + 42, 1024 + 0x10C + 2)
    with image.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(field)
    spans = images.extents(image)
    assert copied(spans, rest) == len(rest)
    assert sum(end - start for start, end in spans) < 32 * MIB


def test_inodes_that_do_not_agree_with_their_count_are_copied(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 64 * MIB, files, "-O", OLD, "-b", "1024")
    tables = [place * 1024 for place in sorted(oracles.idle_ext(image))]
    assert not copied(images.extents(image, final=True), tables)
    images.run("debugfs", "-w", "-R", "set_bg 1 free_inodes_count 3", image)
    told = images.run("dumpe2fs", image).decode().split("\nGroup 1:")[1]
    first, last = map(int, told.split("Inode table at ")[1].split()[0].split("-"))
    table = range(first * 1024, (last + 1) * 1024, 1024)
    spans = images.extents(image, final=True)
    assert copied(spans, list(table)) == len(table)
    assert not copied(spans, [place for place in tables if place not in table])
