"""What a pool already holds: the first bytes of a chunk's SHA-256 → where it lies.

The other half of a mirror, or a server of the same make, need not be sent again. The index is only
a hint: the writer reads the bytes it points at and believes their own digest alone, so an entry
may be old, torn or wrong. A table on the disk, not in memory, however large the pool is.
"""

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrate.transfer_manifest import Manifest
from migrate.transfer_wire import CHUNK

ALGORITHM = "sha256"
CACHE = 8 * 1024  # KiB of memory for the table
SCHEMA = """
CREATE TABLE IF NOT EXISTS replica (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (
    prefix INTEGER PRIMARY KEY, replica INTEGER NOT NULL, number INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk should lie: a replica's file name in the pool."""

    replica: str
    offset: int


class Index:
    """The chunks of one pool. A file that is no index is begun anew."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._table = self._open(path)
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._table = self._open(path)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        table = sqlite3.connect(path, timeout=60, check_same_thread=False)
        table.execute(f"PRAGMA cache_size = -{CACHE}")
        table.execute("PRAGMA journal_mode = WAL")
        table.execute("PRAGMA synchronous = OFF")  # a hint that is lost costs time, nothing else
        table.executescript(SCHEMA)
        return table

    def close(self) -> None:
        """Give up the file."""
        self._table.close()

    def __bool__(self) -> bool:
        return bool(self._answer("SELECT EXISTS (SELECT 1 FROM chunk)"))

    def find(self, digest: bytes) -> Place | None:
        """Where a chunk of this digest may lie."""
        row = self._answer(
            "SELECT name, number FROM chunk JOIN replica ON replica.id = chunk.replica "
            "WHERE prefix = ?",
            _prefix(digest),
        )
        return Place(str(row[0]), int(str(row[1])) * CHUNK) if row and len(row) == 2 else None

    def _answer(self, query: str, *values: object) -> tuple[object, ...]:
        """The first row; a damaged table knows nothing."""
        with self._lock, contextlib.suppress(sqlite3.DatabaseError):
            row: tuple[object, ...] = self._table.execute(query, values).fetchone() or ()
            return row if any(row) else ()
        return ()

    def add(self, name: str, manifest: Manifest) -> None:
        """All chunks of a replica; harmless when repeated."""
        with self._lock, contextlib.suppress(sqlite3.DatabaseError), self._table:
            self._table.execute("INSERT OR IGNORE INTO replica (name) VALUES (?)", (name,))
            row = self._table.execute("SELECT id FROM replica WHERE name = ?", (name,)).fetchone()
            self._table.executemany(
                "INSERT OR REPLACE INTO chunk VALUES (?, ?, ?)",
                ((prefix, row[0], number) for prefix, number in _chunks(manifest)),
            )


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)


def _chunks(manifest: Manifest) -> Iterator[tuple[int, int]]:
    """(prefix, number) of every whole chunk that is not zeros."""
    zero = manifest.zeros(CHUNK)
    for offset, _, digests in manifest.runs(0, manifest.size // CHUNK * CHUNK):
        for at in range(0, len(digests), manifest.width):
            digest = digests[at : at + manifest.width]
            if digest != zero:
                yield _prefix(digest), offset // CHUNK + at // manifest.width


def path_of(folder: Path, pool: str, pool_path: str) -> Path:
    """Beside the folders of the servers, one file per pool."""
    mark = hashlib.sha256(f"{pool}\n{pool_path}".encode()).hexdigest()[:16]
    return folder.parent / ".index" / f"{mark}.sqlite"
