"""XFS, NTFS and FAT: what is in use is found, as other tools find it, and it is enough."""

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.transfer import images, oracles
from tests.unit.transfer.images import MIB

SMALL_XFS = 304 * MIB  # mkfs.xfs makes none smaller


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.tree(tmp_path_factory.mktemp("tree"))


def _close(image: Path, spans: oracles.Spans, kind: str) -> None:
    """A superset of what partclone takes, and little more."""
    theirs = oracles.partclone(kind, image)
    assert oracles.lacking(spans, theirs) == 0
    assert oracles.total(spans) <= 1.03 * oracles.total(theirs) + 128 * 1024


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-m", "crc=0"), id="version 4, as EL6 and EL7 have it"),
        pytest.param(("-m", "crc=0", "-b", "size=512", "-d", "agcount=4"), id="small blocks"),
        pytest.param(("-m", "crc=0", "-s", "size=4096", "-i", "size=2048"), id="4 KiB sectors"),
        pytest.param((), id="version 5"),
        pytest.param(("-m", "rmapbt=1,reflink=1", "-b", "size=1024"), id="with a reverse map"),
        pytest.param(("-m", "crc=1,finobt=0", "-d", "agcount=3"), id="uneven groups"),
    ],
)
def test_everything_in_use_on_xfs_is_found_and_little_else(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = oracles.xfs(tmp_path / "fs", SMALL_XFS, files, *options)
    spans = images.extents(image, final=True)
    assert images.kinds(image, final=True)[0][0] == "xfs"
    _close(image, spans, "xfs")
    copy = images.masked(image, tmp_path / "copy", spans)
    images.run("xfs_repair", "-n", "-f", copy)
    raw = copy.read_bytes()
    for path in files.rglob("f*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_bytes() in raw


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("xfs") / "fs"
    images.junk(image, SMALL_XFS)
    images.run("mkfs.xfs", "-q", "-f", "-K", "-b", "size=1024", "-d", "agcount=2", image)
    oracles.scattered(image, 1500, 3000)
    return image


def test_xfs_with_free_space_in_many_pieces_is_restored(fragmented: Path, tmp_path: Path) -> None:
    levels = images.run("xfs_db", "-r", "-c", "agf 0", "-c", "p bnolevel", fragmented)
    assert int(levels.split()[-1]) > 1
    spans = images.extents(fragmented, final=True)
    _close(fragmented, spans, "xfs")
    copy = images.masked(fragmented, tmp_path / "copy", spans)
    images.run("xfs_repair", "-n", "-f", copy)
    with oracles.mounted(fragmented, "ro") as point:
        wanted = oracles.digests(point)
    with oracles.mounted(copy, "ro") as point:
        assert oracles.digests(point) == wanted
    assert len(wanted) == 750


@pytest.mark.parametrize("tree", ["bnoroot", "cntroot"])
def test_a_group_of_xfs_whose_trees_disagree_is_copied_whole(
    tree: str, fragmented: Path, tmp_path: Path
) -> None:
    image = shutil.copy(fragmented, tmp_path / "fs")
    before = oracles.total(images.extents(image, final=True))

    place = images.run("xfs_db", "-r", "-c", "agf 1", "-c", f"addr {tree}", "-c", "daddr", image)
    start = int(place.split()[-1]) * 512
    with image.open("r+b") as file:  # one free extent begins a block earlier
        file.seek(start + 56 + 3)
        value = file.read(1)[0]
        file.seek(start + 56 + 3)
        file.write(bytes([value - 1 if value else 1]))
    spans = images.extents(image, final=True)
    assert oracles.total(spans) > before + 80 * MIB
    assert spans[-1][1] == SMALL_XFS
    half = SMALL_XFS // 2
    assert oracles.total([s for s in spans if s[0] >= half]) == half


def test_xfs_that_was_cut_off_is_copied_whole_in_the_last_pass(tmp_path: Path) -> None:
    image = tmp_path / "fs"
    images.junk(image, SMALL_XFS)
    images.run("mkfs.xfs", "-q", "-f", "-K", image)
    with oracles.mounted(image) as point:
        (point / "file").write_bytes(os.urandom(MIB))
        os.sync()
        images.run("xfs_io", "-x", "-c", "shutdown", point)
    assert images.extents(image, final=True) == [(0, SMALL_XFS)]
    assert oracles.total(images.extents(image)) < SMALL_XFS // 2
    with oracles.mounted(image) as point:  # the log is replayed
        assert (point / "file").stat().st_size == MIB
    assert oracles.total(images.extents(image, final=True)) < SMALL_XFS // 2


def test_a_frozen_and_a_read_only_xfs_are_at_rest(tmp_path: Path) -> None:
    image, frozen, still = tmp_path / "fs", tmp_path / "frozen", tmp_path / "still"
    images.junk(image, SMALL_XFS)
    images.run("mkfs.xfs", "-q", "-f", "-K", image)
    with oracles.mounted(image) as point:
        (point / "file").write_bytes(os.urandom(MIB))
        os.sync()
        images.run("xfs_freeze", "-f", point)
        shutil.copy(image, frozen)
        images.run("xfs_freeze", "-u", point)
        (point / "more").write_bytes(os.urandom(MIB))
        images.run("mount", "-o", "remount,ro", point)
        shutil.copy(image, still)
    for copy in (frozen, still):
        spans = images.extents(copy, final=True)
        assert oracles.total(spans) < SMALL_XFS // 2
        again = images.masked(copy, tmp_path / "again", spans)
        with oracles.mounted(again) as point:
            assert (point / "file").stat().st_size == MIB


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="as mkntfs makes it"),
        pytest.param(("-c", "512"), id="small clusters"),
        pytest.param(("-c", "65536"), id="large clusters"),
        pytest.param(("-s", "4096"), id="4 KiB sectors"),
    ],
)
def test_everything_in_use_on_ntfs_is_found_and_little_else(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = oracles.ntfs(tmp_path / "fs", 64 * MIB, files, *options)
    spans = images.extents(image, final=True)
    assert images.kinds(image, final=True)[0][0] == "ntfs"
    assert spans[-1][1] == 64 * MIB  # the boot sector's copy stands in the last sector
    _close(image, spans, "ntfs")
    copy = images.masked(image, tmp_path / "copy", spans)
    images.run("ntfsfix", "-n", copy)
    count = len(oracles.digests(files))
    assert oracles.ntfs_digests(copy, count) == oracles.ntfs_digests(image, count)


def test_a_dirty_ntfs_is_copied_whole_in_the_last_pass(files: Path, tmp_path: Path) -> None:
    image = oracles.ntfs(tmp_path / "fs", 16 * MIB, files)
    images.run("ntfsfix", image)
    assert images.extents(image, final=True) == [(0, 16 * MIB)]
    assert oracles.total(images.extents(image)) < 15 * MIB


def test_an_ntfs_with_a_damaged_first_record_is_read_by_its_mirror(
    files: Path, tmp_path: Path
) -> None:
    image = oracles.ntfs(tmp_path / "fs", 32 * MIB, files)
    before = images.extents(image)
    with image.open("r+b") as file:
        file.seek(0x30)
        place = int.from_bytes(file.read(8), "little") * 4096
        file.seek(place)
        file.write(b"BAAD")
    assert images.extents(image) == before
    with image.open("r+b") as file:
        file.seek(place + 6 * 1024)
        file.write(b"BAAD")  # of the bitmap's record there is no second one
    assert images.extents(image) == [(0, 32 * MIB)]


@pytest.mark.parametrize(("width", "size"), [("12", 8), ("16", 40), ("32", 72)])
def test_everything_in_use_on_fat_is_found_and_little_else(
    width: str, size: int, files: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    shutil.copytree(files / "d1", few / "d1")
    image = oracles.fat(tmp_path / "fs", size * MIB, few, "-F", width)
    spans = images.extents(image, final=True)
    assert images.kinds(image)[0][1].startswith(f"FAT{width}")
    if width != "12":  # partclone takes free clusters of FAT12 for used ones, and used for free
        _close(image, spans, "fat")
    assert 0 <= oracles.total(spans[1:]) - oracles.fat_used(image) < 64 * 1024  # without tables
    copy = images.masked(image, tmp_path / "copy", spans)
    wanted = oracles.fat_digests(image, tmp_path / "a")
    assert oracles.fat_digests(copy, tmp_path / "b") == wanted
    assert wanted


def test_a_cluster_of_fat_that_one_table_alone_calls_used_is_copied(
    files: Path, tmp_path: Path
) -> None:
    image = oracles.fat(tmp_path / "fs", 40 * MIB, files / "d1", "-F", "16")
    before = oracles.total(images.extents(image))
    with image.open("r+b") as file:
        file.seek(14)
        first = int.from_bytes(file.read(2), "little") * 512
        file.seek(first + 2 * 9000)
        file.write(b"\xff\xff")
    assert oracles.total(images.extents(image)) > before
