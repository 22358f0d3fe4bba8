"""A tar from a stranger: every damage is told as what it is, and none is believed."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from core.errors import Problem
from isomirror.addon import look

NAMES = ("a.rpm", "x" * 120 + ".rpm", "ü.rpm", "l" * 150 + "/" + "m" * 150 + "/b.rpm")


def archive(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as made:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = 700
            made.addfile(member, io.BytesIO(bytes(700)))
    return file.getvalue()


def seal(raw: bytearray) -> None:
    """Make the headers' checksums right again: a stranger would."""
    for at in range(0, len(raw) - 512, 512):
        if raw[at + 257 : at + 262] == b"ustar":
            raw[at + 148 : at + 156] = b" " * 8
            raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_damaged_or_forged_tar_is_a_problem_or_lies_within_its_file(
    form: int, tmp_path: Path
) -> None:
    raw, dice, path = archive(form), random.Random(form), tmp_path / "a.tar"
    path.write_bytes(raw)
    assert look(path).packages == tuple(sorted(NAMES))
    refused = 0
    for turn in range(700):
        changed = bytearray(raw)
        for _ in range(dice.choice((1, 2, 5))):
            field = dice.choice((124, 100, 156, 0, dice.randrange(512)))  # size, mode, kind, name
            at = dice.randrange(len(raw) // 512) * 512 + field
            changed[at] = dice.choice((0, 0x80, 0xFF, ord("7"), ord("-"), dice.randrange(256)))
        if turn % 2:
            seal(changed)
        path.write_bytes(changed)
        try:
            looked = look(path)
        except Problem:
            refused += 1
            continue
        for name in looked.packages:
            (extent,) = looked.files[name].extents
            assert 0 <= extent.offset <= extent.offset + extent.length <= len(raw)
            assert ".." not in name.split("/")
    assert refused > 100


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_as_long_as_a_disk_is_refused_and_not_read(kind: bytes, tmp_path: Path) -> None:
    """A sparse file of a few kilobytes that claims 8 GiB for one name."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, 8 << 30
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as file:
        file.truncate(9 << 30)
    with pytest.raises(Problem, match="where names stand"):
        look(path)
