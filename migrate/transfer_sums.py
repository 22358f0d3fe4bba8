"""A CRC-32 per chunk beside the manifest's digests: what live passes compare.

It costs a third of a digest, and less where the processor has no instructions for those. Of the
chunks that change, one in four thousand million keeps its CRC-32 and is missed; the last pass
compares digests, so it finds that one. As no more than time depends on it, this file is not
synced: what a crash loses of it is sent again.
"""

import os
import zlib
from functools import cache
from pathlib import Path

from migrate.transfer_wire import CHUNK

WIDTH = 8  # a one, which tells that the other half is known, and the CRC-32


class Sums:
    """The checksums of one disk, in a sparse file; zeros where none is known."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR)

    @classmethod
    def create(cls, path: Path, chunks: int) -> "Sums":
        """None known, in the place of any others."""
        with path.open("wb") as file:
            file.truncate(chunks * WIDTH)
        return cls(path)

    @classmethod
    def open(cls, path: Path, chunks: int) -> "Sums | None":
        """Those of an earlier pass; None when they can't be such."""
        try:
            return cls(path) if path.stat().st_size == chunks * WIDTH else None
        except OSError:
            return None

    def get(self, offset: int, length: int) -> bytes:
        """Those of the chunks from ``offset`` on, joined."""
        return os.pread(self._file, -(-length // CHUNK) * WIDTH, offset // CHUNK * WIDTH)

    def put(self, offset: int, sums: bytes) -> None:
        """Those of consecutive chunks."""
        os.pwrite(self._file, sums, offset // CHUNK * WIDTH)

    def close(self) -> None:
        """Give up the file."""
        os.close(self._file)


def zeros(length: int) -> bytes:
    """The checksums of ``length`` zeros, chunk by chunk."""
    whole, rest = divmod(length, CHUNK)
    return _zero(CHUNK) * whole + (_zero(rest) if rest else b"")


@cache
def _zero(length: int) -> bytes:
    return b"\0\0\0\1" + zlib.crc32(bytes(length)).to_bytes(4, "big")
