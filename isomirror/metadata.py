"""A repository's metadata as a client reads it: repomd.xml, and what it lists, held to its sums."""

import hashlib
import re
import xml.etree.ElementTree as Tree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutsideFailed

Fetch = Callable[[str], bytes]
KINDS = ("primary", "filelists", "group")
LIMIT = 512 * 1024 * 1024
_NS = "{http://linux.duke.edu/metadata/repo}"


class BadMetadata(OutsideFailed):
    """A repository's metadata can't be read, or is not what its own list says."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The files' contents; ``names`` tells their compression. ``groups`` may be empty."""

    primary: bytes
    filelists: bytes
    groups: bytes
    names: dict[str, str]


def from_folder(release: Path) -> Metadata:
    """Of a published release, whose ``repodata`` lies in ``release``."""

    def fetch(path: str) -> bytes:
        try:
            return (release / path).read_bytes()
        except OSError as fault:
            raise _bad(f"can't read {path}: {fault.strerror}", str(release)) from fault

    return read(fetch, str(release))


def read(fetch: Fetch, where: str) -> Metadata:
    """``fetch`` gives the content of a path below the repository. Raises BadMetadata."""
    files, names = {}, {}
    for kind, (path, algorithm, digest) in listed(fetch("repodata/repomd.xml"), where).items():
        raw = fetch(path)
        if hashlib.new(algorithm, raw, usedforsecurity=False).hexdigest() != digest:
            raise _bad(f"{path} is not what repomd.xml says", where)
        files[kind], names[kind] = raw, path.rsplit("/", 1)[-1]
    lacking = [kind for kind in KINDS[:2] if kind not in files]
    if lacking:
        raise _bad(f"repomd.xml lists no {' and no '.join(lacking)}", where)
    return Metadata(files["primary"], files["filelists"], files.get("group", b""), names)


def listed(raw: bytes, where: str) -> dict[str, tuple[str, str, str]]:
    """What a repomd.xml lists: kind → (path, algorithm, digest). Raises BadMetadata."""
    if b"<!" in raw or b"\0" in raw:  # it needs no document type, and entities grow without end
        raise _bad("repomd.xml defines entities, or is no UTF-8", where)
    try:
        root = Tree.fromstring(raw)  # noqa: S314
    except Tree.ParseError as fault:
        raise _bad(f"repomd.xml is no XML: {fault}", where) from fault
    found = {}
    for data in root.iter(f"{_NS}data"):
        kind = data.get("type", "")
        place, sum_ = data.find(f"{_NS}location"), data.find(f"{_NS}checksum")
        if kind not in KINDS or place is None or sum_ is None:
            continue
        path, algorithm = place.get("href", ""), sum_.get("type", "")
        if not re.fullmatch(r"repodata/[A-Za-z0-9._-]{1,200}", path):
            raise _bad(f"repomd.xml leads to {path[:80]!r}", where)
        if algorithm not in ("sha1", "sha256", "sha512"):
            raise _bad(f"repomd.xml names the checksum {algorithm[:20]!r}", where)
        found[kind] = (path, algorithm, (sum_.text or "").strip().lower())
    return found


def _bad(text: str, where: str) -> BadMetadata:
    return BadMetadata(text, hint="run `groundlift mirror build` again", where=where)
