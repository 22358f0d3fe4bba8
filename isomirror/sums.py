"""Checksum files as publishers write them: sha256sum.txt, sha1sum.txt, md5sum.txt and .asc."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.documents import read_bounded
from core.errors import BadDocument
from core.progress import Report, Unit, track

ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
STRENGTH = tuple(ALGORITHMS.values())
USUAL = tuple(f"{name}sum.txt{end}" for name in reversed(STRENGTH) for end in (".asc", ""))
COREUTILS = re.compile(r"([0-9a-fA-F]{32,128})[ \t]+[* ]?(\S.*)")
BSD = re.compile(r"(?:MD5|SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9a-fA-F]{32,128})")
LIMIT = 64 * 1024 * 1024
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Sum:
    """One expected digest."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def read_sums(raw: bytes, where: str) -> dict[str, Sum]:
    """File name (without directories) → its strongest digest. ``raw`` may be several checksum files
    one behind the other. Raises BadDocument when there is none in it, or two that differ."""
    every: dict[tuple[str, str], str] = {}
    for line in map(str.strip, raw[:LIMIT].decode("utf-8", "replace").splitlines()):
        if match := COREUTILS.fullmatch(line):
            value, name = match[1], match[2]
        elif match := BSD.fullmatch(line):
            name, value = match[1], match[2]
        else:
            continue  # the armour of a signed list, a comment
        algorithm = ALGORITHMS.get(len(value))
        if algorithm is None:
            continue
        name = name.rsplit("/", 1)[-1]
        if every.setdefault((name, algorithm), value.lower()) != value.lower():
            raise BadDocument(f"two different {algorithm} sums for {name}", where=where,
                              hint="give one checksum file at a time")  # fmt: skip
    found: dict[str, Sum] = {}
    for (name, algorithm), value in sorted(
        every.items(), key=lambda item: STRENGTH.index(item[0][1])
    ):
        found[name] = Sum(algorithm, value)  # the strongest comes last
    if not found:
        raise BadDocument("no checksums in it", where=where,
                          hint="give the publisher's sha256sum.txt")  # fmt: skip
    return found


def beside(images: Sequence[Path]) -> Path | None:
    """The strongest checksum file in the images' own directory that names all of them."""
    folders = {image.absolute().parent for image in images}
    if len(folders) != 1:
        return None
    (folder,) = folders
    for name in USUAL:
        try:
            listed = read_sums(read_bounded(folder / name, LIMIT), name)
        except (OSError, BadDocument):
            continue  # nobody asked for it: what can't be read is not there
        if all(image.name in listed for image in images):
            return folder / name
    return None


def digest(path: Path, algorithm: str, report: Report) -> str:
    """The digest of a whole file. Raises OSError."""
    found = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as file,
        track(report, f"{algorithm} of {path.name}", path.stat().st_size, Unit.BYTES) as meter,
    ):
        while piece := file.read(PIECE):
            found.update(piece)
            meter.advance(len(piece))
    return found.hexdigest()
