"""An ISO 9660 reader that extracts nothing: names (Rock Ridge, else ISO) and where their bytes lie.

Sources: ECMA-119 (volume and directory records, multi-extent files), SUSP 1.12 (CE, continuation
areas) and RRIP 1.12 (NM, SL). Everything read here comes from a disc and is believed only within
limits: names, lengths, offsets, depth and counts.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.errors import Blocked, OutsideFailed

SECTOR = 2048
DEPTH = 32
ENTRIES = 500_000
DIRECTORY = 64 * 1024 * 1024
DIRECTORIES = 256 * 1024 * 1024  # all directories of a disc together
CONTINUATIONS = 64
LINKS = 8  # files may share bytes (hard links), but not without end
NAME = 1024


class BadDisc(Blocked):
    """A disc image is damaged, is no ISO 9660, or was made to mislead its reader."""


class CutShort(BadDisc):
    """An image is shorter than its own volume descriptor says, and lacks files or names."""


class UnreadableDisc(OutsideFailed):
    """The file of a disc image can't be read: the disk or the network it lies on fails."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes at byte ``offset`` of the image."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Volume:
    """The primary volume descriptor. ``size`` is blocks times block size, in bytes."""

    system: str
    id: str
    publisher: str
    preparer: str
    application: str
    size: int
    application_use: bytes


@dataclass(frozen=True, slots=True)
class Index:
    """The whole disc: ``files`` maps a path without a leading slash to its extents."""

    volume: Volume
    files: dict[str, tuple[Extent, ...]]
    directories: frozenset[str]

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return sum(extent.length for extent in self.files[path])


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    extent: Extent
    directory: bool
    more: bool
    link: bool
    moved: bool


def read_index(image: Path) -> Index:
    """The names and extents of ``image``. Raises BadDisc, or UnreadableDisc."""
    try:
        with image.open("rb") as file:
            return _Reader(file, image).index()
    except OSError as fault:
        raise UnreadableDisc(
            f"can't read the image: {fault.strerror}",
            where=str(image),
            hint="check the path, and the disc or disk it lies on",
        ) from fault


def read_extents(
    file: BinaryIO, extents: tuple[Extent, ...], piece: int = 1 << 20
) -> Iterator[bytes]:
    """The bytes of a file, piece by piece. Raises BadDisc where the image ends too early."""
    for extent in extents:
        file.seek(extent.offset)
        left = extent.length
        while left:
            data = file.read(min(piece, left))
            if not data:
                raise BadDisc(f"the image ends inside a file, at byte {extent.offset}")
            left -= len(data)
            yield data


def read_file(file: BinaryIO, extents: tuple[Extent, ...], limit: int) -> bytes:
    """A small file as a whole. Raises BadDisc when it is longer than ``limit``."""
    length = sum(extent.length for extent in extents)
    if length > limit:
        raise BadDisc(f"a file of {length} bytes stands where at most {limit} are expected")
    return b"".join(read_extents(file, extents))


class _Reader:
    def __init__(self, file: BinaryIO, image: Path) -> None:
        self.file, self.image = file, image
        self.length = file.seek(0, 2)
        self.skip = 0
        self.block = SECTOR
        self.claimed = 0
        self.entries = 0
        self.listed = 0
        self.held = 0
        self.files: dict[str, tuple[Extent, ...]] = {}
        self.directories: set[str] = set()

    def bad(self, text: str) -> BadDisc:
        kind: type[BadDisc] = BadDisc
        if self.length < self.claimed:
            kind = CutShort
            text = f"{self.length} bytes, the volume descriptor says {self.claimed}: {text}"
        return kind(text, where=str(self.image), hint="copy the disc again and compare its sum")

    def index(self) -> Index:
        volume, root = self.volume()
        first = self.file_bytes(root.extent, SECTOR)[: self.block]
        if first:
            self.skip = _susp_skip(first[34 : first[0]])
        seen: set[int] = set()
        waiting = [("", root.extent, 0)]
        while waiting:
            path, extent, depth = waiting.pop()
            if extent.offset in seen:
                raise self.bad(f"the directory /{path} lies inside itself or is listed twice")
            self.listed += extent.length
            if self.listed > DIRECTORIES:
                raise self.bad(f"the directories claim more than {DIRECTORIES} bytes")
            if depth > DEPTH:
                raise self.bad(f"directories are nested deeper than {DEPTH} below /{path}")
            seen.add(extent.offset)
            for name, found in self.directory(path, extent):
                if name in self.files or name in self.directories:
                    raise self.bad(f"/{name} is listed twice")
                waiting.append((name, found, depth + 1))
                self.directories.add(name)
        return Index(volume, self.files, frozenset(self.directories))

    def volume(self) -> tuple[Volume, _Record]:
        for sector in range(16, 48):
            raw = self.at(sector * SECTOR, SECTOR)
            if len(raw) < SECTOR or raw[1:6] != b"CD001" or raw[0] == 255:
                break
            if raw[0] == 1:
                return self.primary(raw)
        raise self.bad("this is no ISO 9660 image: no primary volume descriptor at sector 16")

    def primary(self, raw: bytes) -> tuple[Volume, _Record]:
        self.block = struct.unpack_from("<H", raw, 128)[0]
        if self.block not in (512, 1024, 2048):
            raise self.bad(f"a block size of {self.block} bytes is impossible")
        volume = Volume(
            system=_text(raw[8:40]),
            id=_text(raw[40:72]),
            publisher=_text(raw[318:446]),
            preparer=_text(raw[446:574]),
            application=_text(raw[574:702]),
            size=struct.unpack_from("<I", raw, 80)[0] * self.block,
            application_use=raw[883:1395],
        )
        self.claimed = volume.size
        root = self.record(raw[156:190])
        if root is None:
            raise self.bad("the root directory record is damaged")
        return volume, root

    def directory(self, path: str, extent: Extent) -> Iterator[tuple[str, Extent]]:
        """Note the files of one directory; yield its subdirectories."""
        if extent.length > DIRECTORY:
            raise self.bad(f"the directory /{path} claims {extent.length} bytes")
        parts: list[Extent] = []
        whose = ""
        for record in self.records(self.file_bytes(extent, extent.length)):
            if record.name in ("", "."):
                continue
            full = f"{path}/{record.name}" if path else record.name
            if record.link or record.moved:  # what was moved is found where it belongs, by its CL
                continue
            if record.directory:
                yield full, record.extent
                continue
            if parts and full != whose:
                raise self.bad(f"/{whose} lacks its last part")
            parts.append(record.extent)
            whose = full
            if not record.more:
                self.note(full, tuple(parts))
                parts = []
        if parts:
            raise self.bad(f"/{whose} lacks its last part")

    def note(self, path: str, extents: tuple[Extent, ...]) -> None:
        if path in self.files or path in self.directories:
            raise self.bad(f"/{path} is listed twice")
        for extent in extents:
            if extent.length and extent.offset + extent.length > self.length:
                raise self.bad(
                    f"/{path} ends at byte {extent.offset + extent.length}, "
                    f"the image already at {self.length}"
                )
        size = sum(extent.length for extent in extents)
        self.held += size
        if size > self.length or self.held > LINKS * self.length:
            raise self.bad(f"/{path} brings the files to {self.held} bytes, more than a disc holds")
        self.files[path] = extents

    def records(self, raw: bytes) -> Iterator[_Record]:
        """The records of a directory; none crosses a block."""
        for start in range(0, len(raw), self.block):
            block, position = raw[start : start + self.block], 0
            while position < len(block) and block[position]:
                record = self.record(block[position : position + block[position]])
                if record is None:
                    raise self.bad(f"a damaged directory record in block {start // self.block}")
                self.entries += 1
                if self.entries > ENTRIES:
                    raise self.bad(f"more than {ENTRIES} names")
                yield record
                position += block[position]

    def record(self, raw: bytes) -> _Record | None:
        if len(raw) < 34 or raw[0] != len(raw) or 33 + raw[32] > len(raw):
            return None
        block, size = struct.unpack_from("<I4xI", raw, 2)
        if raw[26] or raw[27]:
            raise self.bad("a file is interleaved, which no installation disc is")
        flags, name = raw[25], raw[33 : 33 + raw[32]]
        after = 33 + len(name) + (1 - len(name) % 2)
        rock = self.rock_ridge(raw[after + self.skip :])
        if name in (b"\0", b"\1"):
            shown = "."
        else:
            shown = self.checked(rock.name if rock.name is not None else _iso_name(name))
        attributes = raw[1]  # blocks of an extended attribute record in front of the data
        extent = Extent((rock.child or block + attributes) * self.block, size)
        if rock.child:
            extent = self.relocated(extent)
        directory = bool(flags & 2) or rock.child is not None
        return _Record(shown, extent, directory, bool(flags & 0x80), rock.link, rock.moved)

    def relocated(self, extent: Extent) -> Extent:
        """A directory moved elsewhere to keep depth below eight: its length stands in its own
        first record."""
        first = self.at(extent.offset, 34)
        length = struct.unpack_from("<I", first, 10)[0] if len(first) == 34 else 0
        return Extent(extent.offset, length)

    def checked(self, name: bytes) -> str:
        text = name.decode("utf-8", "replace")
        if text in ("", ".", "..") or "/" in text or "\\" in text or not text.isprintable():
            raise self.bad(f"the name {text!r} is not allowed on a disc")
        if len(name) > NAME:
            raise self.bad(f"a name of {len(name)} bytes is too long")
        return text

    def rock_ridge(self, area: bytes) -> "_Rock":
        rock = _Rock()
        for _ in range(CONTINUATIONS):
            more = rock.take(area)
            if more is None:
                return rock
            block, offset, length = more
            if length > self.block * 4:
                raise self.bad(f"a continuation area claims {length} bytes")
            area = self.at(block * self.block + offset, length)
        raise self.bad("continuation areas follow each other without an end")

    def file_bytes(self, extent: Extent, length: int) -> bytes:
        if extent.offset + extent.length > self.length:
            raise self.bad(
                f"a directory ends at byte {extent.offset + extent.length}, "
                f"the image already at {self.length}: the copy is cut short"
            )
        return self.at(extent.offset, length)

    def at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(length)


class _Rock:
    """What the system use entries of one record said."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.child: int | None = None
        self.link = False
        self.moved = False

    def take(self, area: bytes) -> tuple[int, int, int] | None:
        """Read one area; the place of its continuation, if it has one."""
        more, position = None, 0
        while position + 4 <= len(area):
            signature, length = area[position : position + 2], area[position + 2]
            entry = area[position : position + length]
            if length < 4 or len(entry) < length or signature == b"ST":
                break
            if signature == b"NM" and length > 5 and not entry[4] & 6:
                self.name = (self.name or b"") + entry[5:]
            elif signature == b"SL":
                self.link = True
            elif signature == b"RE":
                self.moved = True
            elif signature == b"CL" and length >= 12:
                self.child = struct.unpack_from("<I", entry, 4)[0]
            elif signature == b"CE" and length >= 28:
                more = struct.unpack_from("<I4xI4xI", entry, 4)
            position += length
        return more


def _susp_skip(area: bytes) -> int:
    """Bytes to skip in front of every system use area, from the SP entry of the root."""
    if area[:2] == b"SP" and len(area) >= 7 and area[4:6] == b"\xbe\xef":
        return area[6]
    return 0


def _text(raw: bytes) -> str:
    return "".join(c for c in raw.decode("ascii", "replace").rstrip(" \0") if c.isprintable())


def _iso_name(name: bytes) -> bytes:
    return name.split(b";")[0].rstrip(b".")
