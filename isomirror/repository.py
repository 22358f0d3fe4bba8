"""The metadata of a repository whose packages stay inside ISO images.

Read by yum 3.2.29: gzip, sha256, no sqlite, comps as plain XML. createrepo_c reads paths only, so
each package's head goes through a memfd; its sum and size come from verification.
"""

import gzip
import hashlib
import html
import io
import os
import re
import zlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import createrepo_c

from core.documents import Document
from core.state import sync_directory
from isomirror import metadata
from isomirror.check import Verified
from isomirror.iso9660 import BadDisc, Extent, Index, read_extents, read_file
from isomirror.media import Medium

COMPS = 16 * 1024 * 1024
LIST = 256 * 1024 * 1024
ADDONS = "addons/"
KEPT = ("repodata/", ADDONS, "groundlift.repo")  # what no disc can put into the tree


class Disc(Document):
    """An image as the server must find it again."""

    path: str
    size: int
    inode: int
    modified: int


class Tree(Document):
    """What is served from images: path → (number of the disc, extents as (offset, length)); and
    what the packages' bytes came to (SHA-256). A file beside the discs counts as one of them."""

    discs: tuple[Disc, ...]
    files: dict[str, tuple[int, tuple[tuple[int, int], ...]]]
    sums: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Item:
    """A package as it is published: its path in the tree, the file it lies in, and where."""

    path: str
    file: Disc
    extents: tuple[Extent, ...]
    package: Verified


def merge(discs: tuple[tuple[Medium, Index], ...], more: Sequence[Item]) -> Tree:
    """One tree: the first disc's files, everybody's Packages/, and ``more``, which are the packages
    of add-on media. The first .discinfo wins; metadata that was made for media:// stays out."""
    files: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {}
    for number, (_, index) in enumerate(discs):
        for path, extents in index.files.items():
            wanted = number == 0 or path.startswith("Packages/") or path.endswith(".rpm")
            table = path.rsplit("/", 1)[-1] == "TRANS.TBL"
            if wanted and not table and not path.startswith(KEPT):
                files.setdefault(path, (number, tuple((e.offset, e.length) for e in extents)))
    media = {as_file(medium): number for number, (medium, _) in enumerate(discs)}
    for item in more:
        number = media.setdefault(item.file, len(media))
        files[item.path] = (number, tuple((e.offset, e.length) for e in item.extents))
    return Tree(discs=tuple(media), files=files)


def as_file(medium: Medium) -> Disc:
    """The image of a medium."""
    return Disc(path=medium.path, size=medium.size, inode=medium.inode, modified=medium.modified)


def comps(medium: Medium, index: Index) -> bytes:
    """The groups, from the disc's own metadata."""
    names = [n for n in index.files if re.fullmatch(r"repodata/[^/]*comps[^/]*\.xml", n)]
    with Path(medium.path).open("rb") as file:
        return read_file(file, index.files[sorted(names)[0]], COMPS)


def comps_right(medium: Medium, index: Index) -> bool | None:
    """Whether the groups are what the disc's own list of metadata says; None when it is silent."""
    try:
        with Path(medium.path).open("rb") as file:
            raw = read_file(file, index.files["repodata/repomd.xml"], COMPS)
        path, algorithm, digest = metadata.listed(raw, medium.name)["group"]
    except (KeyError, BadDisc, OSError, metadata.BadMetadata):
        return None
    groups = comps(medium, index)
    same = hashlib.new(algorithm, groups, usedforsecurity=False).hexdigest() == digest
    return same and path in index.files


@dataclass(frozen=True, slots=True)
class Listed:
    """The packages that disc 1's own metadata lists, with the number of their disc (0: untold)."""

    packages: dict[str, int]

    def absent(self, there: Set[str]) -> list[str]:
        """The packages that are not ``there``."""
        return sorted(name for name in self.packages if name not in there)

    def lost_discs(self, there: Set[str]) -> dict[int, list[str]]:
        """Discs of which no package at all is ``there``, with their packages."""
        found: dict[int, list[str]] = {}
        for name, number in self.packages.items():
            found.setdefault(number, []).append(name)
        return {
            number: sorted(names)
            for number, names in sorted(found.items())
            if number and there.isdisjoint(names)
        }


def listed(medium: Medium, index: Index) -> Listed | None:
    """What the disc's own metadata lists, on whichever disc; None without metadata."""
    names = [n for n in index.files if re.fullmatch(r"repodata/[^/]*primary\.xml\.gz", n)]
    if not names:
        return None
    try:
        with Path(medium.path).open("rb") as file:
            raw = read_file(file, index.files[sorted(names)[0]], LIST)
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            text = packed.read(LIST)
    except (BadDisc, OSError, EOFError, zlib.error):
        return None  # a damaged file is found by the disc's own checksum
    found = {}
    for tag in re.finditer(rb"<location ([^<>]{1,2000})>", text):
        if path := re.search(rb'href="([^"]{1,1024})"', tag[1]):
            base = re.search(rb'xml:base="media://[^"#]{0,100}#(\d{1,3})"', tag[1])
            name = html.unescape(path[1].decode("utf-8", "replace"))
            found[name] = int(base[1]) if base else 0
    return Listed(found)


def write(
    directory: Path, items: Sequence[Item], groups: bytes, done: Callable[[int], None]
) -> None:
    """Write ``directory``/repodata."""
    plain = directory / "comps.xml"
    plain.write_bytes(groups)
    writer = createrepo_c.RepositoryWriter(
        str(directory), num_packages=len(items), compression=createrepo_c.GZ_COMPRESSION
    )
    with writer:
        for item in items:
            writer.add_pkg(_package(item))
            done(1)
        writer.add_repomd_metadata("group", str(plain), use_compression=False)
    plain.unlink()
    for path in (directory / "repodata").iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory / "repodata")


def _package(item: Item) -> "createrepo_c.Package":
    verified = item.package
    memory = os.memfd_create("package")
    try:
        with Path(item.file.path).open("rb") as file:
            left = verified.head
            for piece in read_extents(file, item.extents, left):
                os.write(memory, piece[:left])
                left -= len(piece)
                if left <= 0:
                    break
        package = createrepo_c.package_from_rpm(
            f"/proc/self/fd/{memory}",
            checksum_type=createrepo_c.SHA256,
            location_href=item.path,
            changelog_limit=10,
        )
    finally:
        os.close(memory)
    package.pkgId = verified.sha256
    package.size_package = verified.size
    package.time_file = package.time_build
    return package
