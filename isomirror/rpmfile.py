"""The parts of an RPM file (format 3, lead and two headers), read with limits.

Source: rpm's own format description; tag numbers as in rpmtag.h.
"""

import struct
from dataclasses import dataclass

LEAD = 96
MAGIC = b"\x8e\xad\xe8\x01"
TAGS = 65_536
STORE = 64 * 1024 * 1024

NAME, VERSION, RELEASE, EPOCH, ARCH, SOURCERPM = 1000, 1001, 1002, 1003, 1022, 1044
PAYLOAD_DIGEST, PAYLOAD_ALGORITHM = 5092, 5093
SIG_RSA, SIG_SHA1, SIG_SHA256, SIG_PGP, SIG_MD5 = 268, 269, 273, 1002, 1004
SIG_DSA, SIG_GPG = 267, 1005  # what DSA keys leave: over the header, over header and payload

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}


class BadPackage(ValueError):
    """Bytes that are no RPM package; the text says where reading stopped."""


@dataclass(frozen=True, slots=True)
class Header:
    """One header: tag → (type, count, raw bytes from its offset on); ``raw`` is all of it."""

    raw: bytes
    entries: dict[int, tuple[int, int, int]]
    store: int

    def binary(self, tag: int) -> bytes | None:
        """A tag's bytes."""
        entry = self.entries.get(tag)
        if entry is None or entry[0] not in _SIZES:
            return None
        start = self.store + entry[2]
        return self.raw[start : start + entry[1] * _SIZES[entry[0]]]

    def text(self, tag: int) -> str | None:
        """A tag's first string."""
        entry = self.entries.get(tag)
        if entry is None or entry[0] not in (6, 8, 9):
            return None
        start = self.store + entry[2]
        end = self.raw.find(b"\0", start)
        return self.raw[start:end].decode("utf-8", "replace") if end >= 0 else None

    def number(self, tag: int) -> int | None:
        """A tag's first 32-bit number."""
        entry = self.entries.get(tag)
        raw = self.binary(tag)
        return int.from_bytes(raw[:4], "big") if entry and entry[0] == 4 and raw else None


@dataclass(frozen=True, slots=True)
class Nevra:
    """A package's full name."""

    name: str
    epoch: int
    version: str
    release: str
    arch: str

    def __str__(self) -> str:
        epoch = f"{self.epoch}:" if self.epoch else ""
        return f"{self.name}-{epoch}{self.version}-{self.release}.{self.arch}"


@dataclass(frozen=True, slots=True)
class Package:
    """Both headers. ``payload`` is the byte where the payload starts."""

    signature: Header
    header: Header
    payload: int

    @property
    def nevra(self) -> Nevra:
        """The package's name; raises BadPackage when the header has none."""
        texts = [self.header.text(tag) for tag in (NAME, VERSION, RELEASE)]
        if not all(texts) or any("/" in (text or "") for text in texts):
            raise BadPackage("the header names no package")
        name, version, release = (text or "" for text in texts)
        arch = "src" if self.header.text(SOURCERPM) is None else self.header.text(ARCH) or "noarch"
        return Nevra(name, self.header.number(EPOCH) or 0, version, release, arch)


def needed(raw: bytes | bytearray) -> int:
    """How many bytes from the start are needed to go on reading the headers; ``len(raw)`` or less
    when ``raw`` holds them whole. Lets a caller read a package's head and no more."""
    end = LEAD
    for align in (8, 1):
        if len(raw) < end + 16:
            return end + 16
        end += 16 + sum(_sizes(raw, end))
        end += -end % align
    return end


def read_package(raw: bytes) -> Package:
    """The headers at the start of ``raw``. Raises BadPackage."""
    if raw[:4] != b"\xed\xab\xee\xdb":
        raise BadPackage("no RPM lead at byte 0")
    signature, end = _header(raw, LEAD)
    header, payload = _header(raw, end + -end % 8)
    return Package(signature, header, payload)


def _sizes(raw: bytes | bytearray, start: int) -> tuple[int, int]:
    if raw[start : start + 4] != MAGIC:
        raise BadPackage(f"no header at byte {start}")
    count, store = struct.unpack_from(">II", raw, start + 8)
    if count > TAGS or store > STORE:
        raise BadPackage(f"the header at byte {start} claims {count} tags and {store} bytes")
    return count * 16, store


def _header(raw: bytes, start: int) -> tuple[Header, int]:
    if len(raw) < start + 16:
        raise BadPackage(f"cut short at byte {len(raw)}")
    index, store = _sizes(raw, start)
    end = start + 16 + index + store
    if len(raw) < end:
        raise BadPackage(f"cut short at byte {len(raw)}, the header ends at {end}")
    entries: dict[int, tuple[int, int, int]] = {}
    for tag, kind, offset, count in struct.iter_unpack(
        ">IIII", raw[start + 16 : start + 16 + index]
    ):
        if offset + count * _SIZES.get(kind, 0) > store or offset > store:
            raise BadPackage(f"tag {tag} of the header at byte {start} lies outside it")
        entries.setdefault(tag, (kind, count, offset))
    return Header(raw[start:end], entries, 16 + index), end
