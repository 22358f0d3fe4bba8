"""What is in use is found, all of it, on images made by the real tools."""

import ast
import random
import struct
from pathlib import Path

import pytest

from migrate.transfer_wire import PARTS
from tests.unit.transfer import images, oracles
from tests.unit.transfer.images import MIB

OLD = "^64bit,^metadata_csum,^flex_bg,^uninit_bg,^extent,^dir_nlink,^huge_file"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.tree(tmp_path_factory.mktemp("tree"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-b", "1024"), id="blocks of 1 KiB"),
        pytest.param(("-b", "2048", "-O", "^flex_bg"), id="no flexible groups"),
        pytest.param(("-b", "4096"), id="as mkfs makes it"),
        pytest.param(("-O", "^64bit,^metadata_csum,uninit_bg"), id="ext4 of EL6"),
        pytest.param(("-O", OLD), id="ext3"),
        pytest.param(("-O", OLD + ",^has_journal"), id="ext2"),
        pytest.param(("-r", "0", "-O", "none"), id="ext2 of the first revision"),
        pytest.param(("-O", "sparse_super2", "-b", "1024"), id="two backups only"),
        pytest.param(("-O", "64bit,metadata_csum,inline_data"), id="64 bit, inline data"),
        pytest.param(("-G", "64", "-b", "1024", "-N", "512"), id="large flexible groups"),
        pytest.param(("-b", "1024", "-g", "1024"), id="many small groups"),
        pytest.param(("-O", "bigalloc", "-C", "16384"), id="clusters"),
        pytest.param(("-O", "bigalloc", "-C", "65536", "-b", "1024"), id="large clusters"),
        pytest.param(("-O", "meta_bg,^resize_inode", "-b", "1024"), id="scattered descriptors"),
        pytest.param(("-O", "meta_bg,^resize_inode,^64bit,^flex_bg"), id="the same on ext3"),
        pytest.param(("-E", "resize=1048576", "-b", "2048"), id="room to grow"),
    ],
)
def test_everything_in_use_on_ext_is_found_and_little_else(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    image = images.ext(tmp_path / "fs", 72 * MIB, files, *options)
    spans = images.extents(image, final=True)
    copy = images.masked(image, tmp_path / "copy", spans)
    assert images.contents(copy, tmp_path / "b") == images.contents(image, tmp_path / "a")
    block, free = images.free_blocks(image)
    taken = sum(end - start for start, end in spans)
    idle = len(oracles.idle_ext(image))
    assert idle
    assert taken == image.stat().st_size - (free + idle) * block


def test_a_checksum_that_is_remembered_is_the_one_that_was_computed() -> None:
    agent = images.agent()
    plain, again, known = agent["crc32c"], agent["crc32c_again"], agent["KNOWN"]
    assert plain(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF == 0xE3069283  # the catalogues' check value
    for raw in (b"a" * 512, b"b" * 512, b"a" * 512):
        for seed in (0, 1):
            assert again(raw, seed) == plain(raw, seed)
    assert len(known) == 4
    for number in range(9000):  # of a large disk
        again(b"%d" % number, 0)
    assert len(known) <= 8192


def test_an_ext_feature_that_is_not_understood_means_all_of_it(tmp_path: Path) -> None:
    image = images.junk(tmp_path / "fs", 16 * MIB)
    images.run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-O", "journal_dev", image)
    assert images.extents(image) == [(0, 16 * MIB)]
    assert "copied whole" in images.kinds(image)[0][1]


def test_a_file_system_with_work_in_its_journal_is_copied_whole_in_the_last_pass(
    files: Path, tmp_path: Path
) -> None:
    image = images.ext(tmp_path / "fs", 32 * MIB, files)
    images.run("debugfs", "-w", "-R", "feature needs_recovery", image)
    assert images.extents(image, final=True) == [(0, 32 * MIB)]
    assert sum(b - a for a, b in images.extents(image)) < 24 * MIB


def test_what_lies_behind_the_end_of_a_file_system_is_copied(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 32 * MIB, files)
    with image.open("ab") as file:
        file.write(b"a RAID superblock".ljust(65536))
    assert images.extents(image)[-1][1] == 32 * MIB + 65536


def test_a_bitmap_that_does_not_know_itself_is_not_believed(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 32 * MIB, files, "-b", "4096")
    text = images.run("dumpe2fs", image).decode()
    bitmap = int(text.split("Block bitmap at ")[1].split()[0])
    images.place(image, bitmap * 4096, images.junk(tmp_path / "zero", 0) and _zeros(tmp_path))
    assert images.extents(image) == [(0, 32 * MIB)]


def _zeros(folder: Path) -> Path:
    path = folder / "zeros"
    path.write_bytes(bytes(4096))
    return path


def test_of_swap_only_the_header_is_read(tmp_path: Path) -> None:
    image = images.junk(tmp_path / "swap", 8 * MIB)
    images.run("mkswap", image)
    assert images.extents(image) == [(0, 65536)]


def test_a_swap_header_that_does_not_fit_the_volume_is_not_believed(tmp_path: Path) -> None:
    image = images.junk(tmp_path / "swap", 8 * MIB)
    images.run("mkswap", image)
    with image.open("ab") as file:
        file.write(bytes(8 * MIB))
    assert images.extents(image) == [(0, 16 * MIB)]


def test_two_marks_in_one_volume_mean_all_of_it(files: Path, tmp_path: Path) -> None:
    image = images.ext(tmp_path / "fs", 32 * MIB, files)
    with image.open("r+b") as file:
        file.seek(512)
        file.write(b"LABELONE")
    assert images.extents(image) == [(0, 32 * MIB)]


def test_partitions_of_an_mbr_with_logical_ones_are_judged_each(
    files: Path, tmp_path: Path
) -> None:
    script = "label: dos\n63,32768,83,*\n34816,98304,5\n36864,32768,83\n71680,16384,82\n"
    disk = images.partitioned(tmp_path / "disk", 80 * MIB, script)
    first = images.ext(tmp_path / "one", 32768 * 512, files)
    images.place(disk, 63 * 512, first)
    images.place(disk, 36864 * 512, first)
    swap = images.junk(tmp_path / "swap", 16384 * 512)
    images.run("mkswap", swap)
    images.place(disk, 71680 * 512, swap)
    assert [kind for kind, _ in images.kinds(disk)] == [
        *("gap", "ext", "gap", "ext", "gap", "swap", "gap")
    ]
    spans = images.extents(disk)
    copy = images.masked(disk, tmp_path / "copy", spans)
    partition = tmp_path / "again"
    partition.write_bytes(copy.read_bytes()[36864 * 512 : (36864 + 32768) * 512])
    assert images.contents(partition, tmp_path / "b") == images.contents(first, tmp_path / "a")
    assert (
        images.run("sfdisk", "-d", copy).split(b"\n")[6:]
        == (images.run("sfdisk", "-d", disk).replace(bytes(disk), bytes(copy)).split(b"\n")[6:])
    )


def test_a_gpt_is_kept_with_its_backup(files: Path, tmp_path: Path) -> None:
    disk = images.partitioned(tmp_path / "disk", 64 * MIB, "label: gpt\n2048,65536\n81920,16384\n")
    images.place(disk, MIB, images.ext(tmp_path / "fs", 32 * MIB, files))
    assert [kind for kind, _ in images.kinds(disk)] == ["gap", "ext", "gap", "unknown", "gap"]
    assert images.extents(disk)[-1][1] == 64 * MIB


def flipped(disk: Path, place: int) -> None:
    """Any byte differs from its inverse; a GUID's random one may equal a chosen one."""
    with disk.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.parametrize("place", [512 + 8, 512 + 24, 512 + 56, 1024 + 40])
def test_of_a_gpt_one_sound_copy_is_enough(place: int, tmp_path: Path) -> None:
    disk = images.partitioned(tmp_path / "disk", 8 * MIB, "label: gpt\n2048,4096\n")
    good = images.kinds(disk)
    flipped(disk, place)
    assert images.kinds(disk) == good
    flipped(disk, 8 * MIB - 512 + 60)
    assert images.extents(disk) == [(0, 8 * MIB)]


def test_a_logical_volume_in_pieces_is_read_as_one(files: Path, tmp_path: Path) -> None:
    visible = '"READ", "WRITE", "VISIBLE"'
    pieces = [(12, 5), (0, 4), (20, 3)]
    volumes = {
        "root": (visible, pieces),
        "swap": (visible, [(6, 2)]),
        "data": (visible, [(9, 1)]),
        "cow": ('"READ", "WRITE"', [(10, 1)]),
    }
    disk = images.lvm(tmp_path / "pv", 101 * MIB, volumes)
    extent = 4 * MIB
    root = images.ext(tmp_path / "root", 12 * extent, files)
    raw, at = root.read_bytes(), 0
    with disk.open("r+b") as file:
        for first, count in pieces:
            file.seek(MIB + first * extent)
            file.write(raw[at : at + count * extent])
            at += count * extent
    swap = images.junk(tmp_path / "swap", 2 * extent)
    images.run("mkswap", swap)
    images.place(disk, MIB + 6 * extent, swap)
    spans = images.extents(disk, final=True)
    whole = images.masked(disk, tmp_path / "copy", spans).read_bytes()
    parts = [whole[MIB + f * extent : MIB + (f + n) * extent] for f, n in pieces]
    again = tmp_path / "again"
    again.write_bytes(b"".join(parts))
    assert images.contents(again, tmp_path / "b") == images.contents(root, tmp_path / "a")
    # Whole: the metadata, the two volumes that are not understood; of the swap its header.
    exact = sum(b - a for a, b in images.extents(root)) + MIB + 2 * extent + 65536
    assert sum(b - a for a, b in spans) == exact
    assert ("free", "") in images.kinds(disk)


def test_lvm_metadata_with_a_wrong_checksum_means_all_of_it(tmp_path: Path) -> None:
    disk = images.lvm(tmp_path / "pv", 33 * MIB, {})
    assert images.extents(disk) == [(0, MIB)]
    raw = disk.read_bytes()
    at = raw.index(b"extent_size = 8192")
    last = raw.rindex(b"extent_size = 8192")
    with disk.open("r+b") as file:
        for place in (at, last):
            file.seek(place + 14)
            file.write(b"4096")
    assert images.extents(disk) == [(0, 33 * MIB)]


def test_no_damage_to_metadata_breaks_the_walk_or_makes_it_leave_the_disk(
    files: Path, tmp_path: Path
) -> None:
    """Whatever stands there: spans in order, inside the disk, and no exception."""
    dice = random.Random(7)
    image = images.ext(tmp_path / "fs", 16 * MIB, images.tree(tmp_path / "t", 9), "-b", "1024")
    good = image.read_bytes()
    names = images.agent()
    for _ in range(300):
        raw = bytearray(good)
        for _ in range(dice.choice((1, 4, 40))):
            at = dice.choice((dice.randrange(1024, 2048), dice.randrange(2048, 8192)))
            raw[at] = dice.randrange(256)
        data = bytes(raw)
        found = names["areas"](lambda o, n, d=data: d[o : o + n], len(data), False)  # type: ignore[operator]
        last = 0
        for start, end in names["used"](found, 0, len(data)):  # type: ignore[operator]
            assert last <= start < end <= len(data)
            last = end


@pytest.mark.parametrize("role", sorted(PARTS))
def test_no_part_of_an_agent_takes_a_name_that_another_one_has(role: str) -> None:
    """They are joined into one program: the later would silently replace the earlier."""
    owners: dict[str, str] = {}
    folder = Path(__file__).parents[3] / "migrate" / "agent"
    for part in PARTS[role]:
        for node in ast.parse((folder / part).read_text()).body:
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            for target in node.targets if isinstance(node, ast.Assign) else []:
                names += [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
            for name in names:
                assert owners.setdefault(name, part) == part, f"{name} in {part}"


def test_a_chain_of_logical_partitions_that_bites_its_tail_ends() -> None:
    names = images.agent()
    disk = bytearray(4 * MIB)

    def entry(at: int, number: int, kind: int, start: int, count: int) -> None:
        disk[at + 446 + 16 * number :][:0]
        struct.pack_into("<B3xB3xII", disk, at + 446 + 16 * number, 0, kind, start, count)
        disk[at + 510 : at + 512] = b"\x55\xaa"

    entry(0, 0, 5, 64, 4096)
    entry(64 * 512, 0, 0x83, 1, 8)
    entry(64 * 512, 1, 5, 0, 64)
    data = bytes(disk)
    found = names["areas"](lambda o, n: data[o : o + n], len(data), False)  # type: ignore[operator]
    assert [area[2] for area in found] == ["disk"]
    assert "chain of logical partitions" in found[0][3]
