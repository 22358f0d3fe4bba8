"""The ISO reader: right on what mkisofs and xorriso write, deaf to what an attacker writes."""

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isomirror.iso9660 import SECTOR, BadDisc, Extent, UnreadableDisc, read_extents, read_index
from tests.unit.isomirror.conftest import Discs, sh

GIB = 1 << 30


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "t"
    deep = top.joinpath(*"abcdefghij")  # deeper than ISO 9660's eight levels: relocated
    deep.mkdir(parents=True)
    (deep / "end.txt").write_text("deep\n")
    (top / ("long-" + "n" * 240)).write_text("long name, by continuation areas\n")
    (top / "gemischt Ümlaut 中文.txt").write_text("utf-8\n")
    (top / "empty").touch()
    (top / "link").symlink_to("empty")
    (top / "many").mkdir()
    for number in range(300):
        (top / "many" / f"file-{number:04d}.dat").write_bytes(os.urandom(number))
    return top


def disc(tree: Path, image: Path, *options: str) -> Path:
    sh("xorriso", "-as", "mkisofs", "-quiet", "-R", *options, "-o", str(image), str(tree))
    return image


def contents(image: Path) -> dict[str, bytes]:
    index = read_index(image)
    with image.open("rb") as file:
        return {name: b"".join(read_extents(file, index.files[name])) for name in index.files}


def on_disk(tree: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_every_file_is_found_with_its_name_and_bytes(tree: Path, tmp_path: Path) -> None:
    assert contents(disc(tree, tmp_path / "x.iso")) == on_disk(tree)


def test_genisoimage_s_relocated_directories_are_followed(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "g.iso"
    sh("genisoimage", "-quiet", "-R", "-o", str(image), str(tree))
    assert contents(image) == on_disk(tree)


def test_a_file_over_4_gib_is_read_from_all_its_parts(small: Path) -> None:
    """Two records of one name, the first full and flagged, as ECMA-119 6.5 has it; the image is
    sparse, so that the disc costs no space."""
    full, rest = 0xFFFFF800, 100_000_000
    raw = bytearray(small.read_bytes())
    at = raw.index(b"ZZZZ", root_block(raw)) - 33
    record = bytes(raw[at : at + raw[at]])
    block = len(raw) // SECTOR
    second = at + len(record)
    raw[second : second + len(record)] = record
    for place, flags, start, length in (
        (at, 0x80, block, full),
        (second, 0, block + full // SECTOR, rest),
    ):
        raw[place + 25] |= flags
        struct.pack_into("<I", raw, place + 2, start)
        struct.pack_into("<I", raw, place + 10, length)
    marks = {0: b"start", full - 3: b"across", full + rest - 5: b"final"}
    with small.open("wb") as file:
        file.write(raw)
        for offset, mark in marks.items():
            file.seek(block * SECTOR + offset)
            file.write(mark)
    index = read_index(small)
    assert len(index.files["zzzz"]) == 2
    assert index.size("zzzz") == full + rest > 4 * GIB
    with small.open("rb") as file:
        for offset, mark in marks.items():
            assert part(file, index.files["zzzz"], offset, len(mark)) == mark


def part(file: object, extents: tuple[Extent, ...], offset: int, length: int) -> bytes:
    taken, passed = b"", 0
    for extent in extents:
        start = max(offset - passed, 0)
        stop = min(offset + length - passed, extent.length)
        if start < stop:
            window = (Extent(extent.offset + start, stop - start),)
            taken += b"".join(read_extents(file, window))  # type: ignore[arg-type]
        passed += extent.length
    return taken


def spoiled(image: Path, change: object) -> Path:
    raw = bytearray(image.read_bytes())
    change(raw)  # type: ignore[operator]
    image.write_bytes(raw)
    return image


def root_block(raw: bytearray) -> int:
    return int(struct.unpack_from("<I", raw, 16 * SECTOR + 156 + 2)[0]) * SECTOR


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "s" / "dir").mkdir(parents=True)
    (tmp_path / "s" / "aaaa").write_text("x")
    (tmp_path / "s" / "zzzz").write_text("z")
    (tmp_path / "s" / "dir" / "bbbb").write_text("y")
    return disc(tmp_path / "s", tmp_path / "s.iso")


@pytest.mark.parametrize("name", [b"../x", b"..", b".", b"a/b", b"a\0b", b"a\\b", b"\x1b[2J"])
def test_a_name_that_climbs_or_hides_is_refused(small: Path, name: bytes) -> None:
    def rename(raw: bytearray) -> None:
        at = raw.index(b"NM\x09\x01\x00aaaa")
        raw[at : at + 9] = (
            b"NM" + bytes((5 + len(name), 1, 0)) + name + raw[at + 9 :][: 4 - len(name)]
        )

    if len(name) > 4:
        name = name[:4]
    with pytest.raises(BadDisc, match="name"):
        read_index(spoiled(small, rename))


def test_a_directory_that_contains_itself_is_refused(small: Path) -> None:
    def loop(raw: bytearray) -> None:
        root = root_block(raw)
        at = raw.index(b"DIR", root) - 33
        struct.pack_into("<I", raw, at + 2, root // SECTOR)

    with pytest.raises(BadDisc, match="inside itself"):
        read_index(spoiled(small, loop))


@pytest.mark.parametrize(("field", "value"), [(2, 0x7FFFFFFF), (10, 0xFFFFFFF0)])
def test_a_file_beyond_the_end_of_the_image_is_refused(small: Path, field: int, value: int) -> None:
    def stretch(raw: bytearray) -> None:
        at = raw.index(b"AAAA", root_block(raw)) - 33
        struct.pack_into("<I", raw, at + field, value)

    with pytest.raises(BadDisc, match="ends at byte"):
        read_index(spoiled(small, stretch))


def test_a_directory_of_absurd_length_is_refused_without_reading_it(small: Path) -> None:
    def stretch(raw: bytearray) -> None:
        struct.pack_into("<I", raw, 16 * SECTOR + 156 + 10, 0xFFFFF800)

    start = time.monotonic()
    with pytest.raises(BadDisc):
        read_index(spoiled(small, stretch))
    assert time.monotonic() - start < 1


def test_continuation_areas_in_a_circle_are_refused(small: Path) -> None:
    def circle(raw: bytearray) -> None:
        at = raw.index(b"NM\x09\x01\x00aaaa")
        record = raw.rindex(b"AAAA", 0, at) - 33
        area = record + 33 + raw[record + 32] + 1 - raw[record + 32] % 2
        end = len(raw) // SECTOR
        entry = b"CE\x1c\x01" + struct.pack("<IxxxxIxxxxIxxxx", end, 0, 28)
        raw.extend(entry + bytes(SECTOR - 28))
        raw[area : area + 28] = entry

    with pytest.raises(BadDisc, match="continuation areas"):
        read_index(spoiled(small, circle))


@pytest.mark.parametrize("length", [0, 100, 16 * SECTOR, 16 * SECTOR + 100, 20 * SECTOR])
def test_an_image_cut_short_is_a_bad_disc(small: Path, length: int) -> None:
    os.truncate(small, length)
    with pytest.raises(BadDisc) as caught:
        read_index(small)
    assert caught.value.where == str(small)


def test_a_missing_image_is_a_problem_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDisc, match="can't read"):
        read_index(tmp_path / "none.iso")


@settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(st.integers(16 * SECTOR, 30 * SECTOR), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=20,
    )
)
def test_any_damage_gives_an_index_or_a_problem(
    discs: Discs, tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    raw = bytearray(discs.two.read_bytes())
    for offset, data in changes:
        raw[offset : offset + len(data)] = data
    image = tmp_path / "fuzzed.iso"
    image.write_bytes(raw)
    try:
        index = read_index(image)
    except BadDisc:
        return
    for path, extents in index.files.items():
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert all(e.offset + e.length <= len(raw) for e in extents if e.length)


def test_five_thousand_names_are_indexed_in_a_blink(tmp_path: Path) -> None:
    (tmp_path / "t" / "Packages").mkdir(parents=True)
    for number in range(5000):
        (tmp_path / "t" / "Packages" / f"some-package-{number}-1.0-1.el6.x86_64.rpm").touch()
    image = disc(tmp_path / "t", tmp_path / "x.iso")
    taken = []
    for _ in range(3):
        begun = time.process_time()
        assert len(read_index(image).files) == 5000
        taken.append(time.process_time() - begun)
    assert min(taken) < 0.5


def hostile(image: Path, blocks: dict[int, bytes], root: int) -> Path:
    """A disc of handmade directories: ``blocks`` by number, the root ``root`` bytes long."""
    pvd = bytearray(SECTOR)
    pvd[0:6] = b"\1CD001"
    struct.pack_into("<H", pvd, 128, SECTOR)
    struct.pack_into("<I", pvd, 80, 20)
    pvd[156:190] = entry(b"\0", 18, root)
    with image.open("wb") as file:
        file.truncate(8 << 30)
        for number, raw in {16: bytes(pvd), **blocks}.items():
            file.seek(number * SECTOR)
            file.write(raw)
    return image


def entry(name: bytes, block: int, length: int, flags: int = 2) -> bytes:
    size = 33 + len(name) + 1 - len(name) % 2
    raw = bytearray(size)
    raw[0], raw[25], raw[32] = size, flags, len(name)
    struct.pack_into("<I4xI", raw, 2, block, length)
    raw[33 : 33 + len(name)] = name
    return bytes(raw)


def packed(entries: list[bytes]) -> bytes:
    raw = bytearray()
    for one in entries:
        if len(raw) % SECTOR + len(one) > SECTOR:
            raw += bytes(-len(raw) % SECTOR)
        raw += one
    return bytes(raw) + bytes(-len(raw) % SECTOR)


def refused_quickly(image: Path, match: str) -> None:
    begun = time.process_time()
    with pytest.raises(BadDisc, match=match):
        read_index(image)
    assert time.process_time() - begun < 20


def test_directories_that_overlap_without_end_are_refused(tmp_path: Path) -> None:
    names = [entry(b"D%06d" % n, 1000 + n, 60 << 20) for n in range(2000)]
    root = packed(names)
    refused_quickly(hostile(tmp_path / "x.iso", {18: root}, len(root)), "directories claim")


def test_a_chain_of_directories_without_end_is_refused(tmp_path: Path) -> None:
    blocks = {18 + n: entry(b"D", 19 + n, SECTOR) for n in range(100)}
    refused_quickly(hostile(tmp_path / "x.iso", blocks, SECTOR), "nested deeper")


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    root = packed([entry(b"%07d" % n, 0, 0, flags=0) for n in range(520_000)])
    refused_quickly(hostile(tmp_path / "x.iso", {18: root}, len(root)), "more than 500000 names")


def test_a_file_of_more_parts_than_the_disc_has_bytes_is_refused(tmp_path: Path) -> None:
    parts = [entry(b"BIG.RPM", 100, 0xFFFFF800, flags=0x80) for _ in range(50)]
    root = packed([*parts, entry(b"BIG.RPM", 100, 2048, flags=0)])
    refused_quickly(hostile(tmp_path / "x.iso", {18: root}, len(root)), "more than a disc holds")


def test_parts_of_different_files_do_not_become_one(tmp_path: Path) -> None:
    root = packed([entry(b"A", 100, 2048, flags=0x80), entry(b"B", 101, 2048, flags=0)])
    refused_quickly(hostile(tmp_path / "x.iso", {18: root}, len(root)), "/A lacks its last part")
