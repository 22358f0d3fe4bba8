"""Checksum files as publishers write them: sha256sum.txt, sha1sum.txt, md5sum.txt and .asc."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadDocument
from core.progress import Report, Unit, track

ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
COREUTILS = re.compile(r"([0-9a-fA-F]{32,128})[ \t]+[* ]?(\S.*?)\s*")
BSD = re.compile(r"(?:MD5|SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9a-fA-F]{32,128})\s*")
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
    """File name (without directories) → digest. Raises BadDocument when there is none in it."""
    found: dict[str, Sum] = {}
    for line in raw[:LIMIT].decode("utf-8", "replace").splitlines():
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
        if found.setdefault(name, Sum(algorithm, value.lower())).value != value.lower():
            raise BadDocument(f"two different sums for {name}", where=where,
                              hint="give one checksum file at a time")  # fmt: skip
    if not found:
        raise BadDocument("no checksums in it", where=where,
                          hint="give the publisher's sha256sum.txt")  # fmt: skip
    return found


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
