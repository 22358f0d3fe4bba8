"""An add-on medium: more packages for the same repository, in an ISO, a tar or a directory.

Whatever it is, it is looked at as a list of packages and where their bytes lie; nothing is
unpacked. Names and lengths come from the medium and are believed only within limits.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.documents import Document
from core.errors import BadDocument, OutsideFailed, UsageProblem
from isomirror import media
from isomirror.iso9660 import ENTRIES, BadDisc, Extent, Index, Volume, read_extents
from isomirror.media import Medium
from isomirror.repository import COMPS, Disc, as_file

Kind = Literal["iso", "tar", "directory"]
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
KEYS = "RPM-GPG-KEY"
KEY = 1 << 20
RECORD = 1 << 20  # bytes of a header, a long name or a list of attributes in a tar
COMPS_FILE = re.compile(r"(repodata/)?[^/]*comps[^/]*\.xml")
ISO_MARK, TAR_MARK = (32_769, b"CD001"), (257, b"ustar")
PACKED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class BadMedium(BadDisc):
    """An add-on medium holds no packages, or was made to mislead its reader."""


class Addon(Document):
    """published.json: one add-on medium. ``key`` is its key's file name in the repository."""

    name: str
    path: str
    kind: Kind
    identity: str
    size: int
    packages: int
    fingerprint: str
    key: str
    sums: str = ""

    def unchanged(self) -> bool:
        """Whether the medium is still what was verified."""
        try:
            return look(Path(self.path)).identity == self.identity
        except (BadDisc, OutsideFailed, BadDocument, UsageProblem, OSError):
            return False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies."""

    file: Disc
    extents: tuple[Extent, ...]

    @property
    def size(self) -> int:
        return sum(extent.length for extent in self.extents)


@dataclass(frozen=True, slots=True)
class Looked:
    """A medium that was looked at: its packages and other files. ``image`` is None for a
    directory."""

    path: Path
    kind: Kind
    files: dict[str, Place]
    image: tuple[Medium, Index] | None

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.files if name.endswith(".rpm")))

    @property
    def size(self) -> int:
        return sum(self.files[name].size for name in self.packages)

    @property
    def identity(self) -> str:
        """Changes when the medium does."""
        if self.image:
            return self.image[0].identity
        facts = "".join(
            f"{name}|{place.file.size}|{place.file.inode}|{place.file.modified}\n"
            for name, place in sorted(self.files.items())
        )
        return hashlib.sha256(f"{self.path}\n{facts}".encode()).hexdigest()[:24]

    def carried_keys(self) -> Iterator[tuple[str, bytes]]:
        """The key files that it carries."""
        for name in sorted(self.files):
            if name.rsplit("/", 1)[-1].startswith(KEYS) and self.files[name].size <= KEY:
                yield name, self.read(name)

    def groups(self) -> bytes | None:
        """Its comps file, if it has one."""
        names = sorted(name for name in self.files if COMPS_FILE.fullmatch(name))
        if not names or self.files[names[0]].size > COMPS:
            return None
        return self.read(names[0])

    def read(self, name: str) -> bytes:
        """A small file. Raises BadDisc or OutsideFailed."""
        place = self.files[name]
        try:
            with Path(place.file.path).open("rb") as file:
                return b"".join(read_extents(file, place.extents))
        except OSError as fault:
            raise _unread(self.path, name, fault) from fault


def look(path: Path) -> Looked:
    """What lies where on a medium. Raises BadDisc, BadDocument, UsageProblem, OutsideFailed."""
    path = path.absolute()
    try:
        looked = _look(path)
    except OSError as fault:
        raise _unread(path, "", fault) from fault
    if not looked.packages:
        raise BadMedium("no packages (*.rpm) on it", where=str(path),
                        hint="give an ISO, a tar or a directory of RPMs")  # fmt: skip
    return looked


def _unread(path: Path, name: str, fault: OSError) -> OutsideFailed:
    what = name or "the medium"
    return OutsideFailed(
        f"can't read {what}: {fault.strerror or fault}", where=str(path),
        hint="look at the disk it lies on, and try again",
    )  # fmt: skip


def _look(path: Path) -> Looked:
    if path.is_dir():
        return Looked(path, "directory", _walk(path), None)
    if not path.is_file():
        raise media.no_file(path, "give an ISO, a tar or a directory of RPMs")
    with path.open("rb") as file:
        start = file.read(ISO_MARK[0] + 5)
    for mark, program in PACKED.items():
        if start.startswith(mark):
            raise UsageProblem(
                "a compressed archive can't be served in place", where=str(path),
                hint=f"`{program} --keep {path.name}` first, and add the plain tar",
            )  # fmt: skip
    if start[ISO_MARK[0] :] == ISO_MARK[1]:
        medium, index = media.look(path)
        kind: Kind = "iso"
    elif start[TAR_MARK[0] : TAR_MARK[0] + 5] == TAR_MARK[1]:
        index = _read_tar(path)
        medium, kind = _archive(path, index), "tar"
    else:
        raise BadMedium("neither an ISO 9660 image nor a tar", where=str(path),
                        hint="give an ISO, a tar or a directory of RPMs")  # fmt: skip
    file_ = as_file(medium)
    files = {name: Place(file_, extents) for name, extents in index.files.items() if wanted(name)}
    return Looked(path, kind, files, (medium, index))


def _archive(path: Path, index: Index) -> Medium:
    """A tar as a medium that has no marks of a disc."""
    facts = path.stat()
    return Medium(
        path=str(path), name=path.name, size=facts.st_size, inode=facts.st_ino,
        modified=facts.st_mtime_ns, volume="", application="", volume_size=0,
        packages=sum(name.endswith(".rpm") for name in index.files),
    )  # fmt: skip


def wanted(name: str) -> bool:
    """Whether a file of a medium matters: packages, keys, groups."""
    last = name.rsplit("/", 1)[-1]
    return last.endswith(".rpm") or last.startswith(KEYS) or bool(COMPS_FILE.fullmatch(name))


def _walk(top: Path) -> dict[str, Place]:
    """Regular files below a directory; links to directories are not followed."""
    files: dict[str, Place] = {}
    for here, directories, names in os.walk(top, onerror=_raise):
        directories.sort()
        for name in sorted(names):
            path = Path(here, name)
            shown = str(path.relative_to(top))
            if not wanted(shown) or not path.is_file():
                continue
            facts = path.stat()
            file = Disc(path=str(path), size=facts.st_size, inode=facts.st_ino,
                        modified=facts.st_mtime_ns)  # fmt: skip
            files[_checked(shown, str(top))] = Place(file, (Extent(0, facts.st_size),))
            if len(files) > ENTRIES:
                raise BadMedium(f"more than {ENTRIES} files", where=str(top))
    return files


def _raise(fault: OSError) -> None:
    raise fault


class _Sparing(io.BufferedReader):
    """A file of which nobody reads much at once: tarfile takes as much memory for a long name as
    the archive claims that it needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file's; raises ReadError."""
        if size is None or not 0 <= size <= RECORD:
            raise tarfile.ReadError(f"a record of {size} bytes where names stand")
        return super().read(size)


def _read_tar(path: Path) -> Index:
    try:
        with _Sparing(io.FileIO(path)) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            files = dict(_members(archive, path))
    except (tarfile.TarError, ValueError, ArithmeticError, EOFError, MemoryError) as fault:
        said = str(fault) or type(fault).__name__  # tarfile lets through what odd numbers lead to
        raise BadMedium(f"the archive can't be read: {said}", where=str(path),
                        hint="copy the archive again") from fault  # fmt: skip
    return Index(Volume("", "", "", "", "", 0, b""), files, frozenset())


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, tuple[Extent, ...]]]:
    length, last = path.stat().st_size, -1
    for count, member in enumerate(archive):
        if count > ENTRIES or member.offset <= last:
            raise BadMedium(f"more than {ENTRIES} files, or one twice", where=str(path))
        last = member.offset
        if not member.isreg() or not wanted(member.name.removeprefix("./")):
            continue
        end = member.offset_data + member.size
        if member.issparse() or not 0 <= member.size <= end <= length:
            raise BadMedium(f"{member.name[:80]!r} is not whole in it", where=str(path),
                            hint="copy the archive again")  # fmt: skip
        yield _checked(member.name, str(path)), (Extent(member.offset_data, member.size),)


def _checked(name: str, where: str) -> str:
    parts = name.removeprefix("./").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise BadMedium(f"the name {name[:80]!r} is not allowed on a medium", where=where,
                        hint="make the archive anew, with relative names")  # fmt: skip
    return "/".join(parts)
