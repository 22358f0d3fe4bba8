"""What is known to lie on the target: one digest per 64 KiB chunk, and a journal of the passes.

A digest is written after the target has synced its chunk and withdrawn before the chunk is
overwritten, so after any crash the manifest claims too little, never too much. What was withdrawn
is marked: it may hold anything, and if the source frees it meanwhile it must become zeros.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from core.errors import BadDocument
from core.state import sync_directory
from migrate.transfer_sums import WIDTH, Sums
from migrate.transfer_wire import CHUNK

VERSION = 1
HEAD = 4096
WIDTHS = {"sha256": 32, "sha1": 20, "md5": 16}
STEP = 1024  # chunks looked at once
ANEW = (
    "remove it, and the manifest or journal of that disk beside it, and run again: all that is in "
    "use is sent anew. Then check this machine's disk"
)


class Manifest:
    """The digests of one disk, in a sparse file. A digest of zeros means: never written. One of
    ones: withdrawn, and not known either. ``sums`` are checksums of the same chunks; None when
    those of an earlier pass are not there."""

    sums: Sums | None = None

    def __init__(self, path: Path, size: int, algorithm: str) -> None:
        self.path, self.size, self.algorithm = path, size, algorithm
        self.width = WIDTHS[algorithm]
        self.none, self.withdrawn = bytes(self.width), b"\xff" * self.width
        self.count = -(-size // CHUNK)
        self._file = os.open(path, os.O_RDWR)

    @classmethod
    def create(cls, path: Path, size: int, algorithm: str) -> "Manifest":
        """An empty one, in the place of any other."""
        head = {"version": VERSION, "chunk": CHUNK, "size": size, "hash": algorithm}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        with beside.open("wb") as file:
            file.write((json.dumps(head) + "\n").encode().ljust(HEAD, b" "))
            file.truncate(HEAD + -(-size // CHUNK) * WIDTHS[algorithm])
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_directory(path.parent)
        manifest = cls(path, size, algorithm)
        manifest.sums = Sums.create(_beside(path), manifest.count)
        return manifest

    @classmethod
    def open(cls, path: Path) -> "Manifest":
        """An existing one. Raises BadDocument if it can't be one."""
        try:
            with path.open("rb") as file:
                head = json.loads(file.read(HEAD))
            known = head["version"] == VERSION and head["chunk"] == CHUNK
            manifest = cls(path, int(head["size"]), head["hash"])
        except (ValueError, KeyError, TypeError, OSError) as fault:
            raise BadDocument("the manifest is damaged", hint=ANEW, where=str(path)) from fault
        whole = path.stat().st_size == HEAD + manifest.count * manifest.width
        if not known or not whole:
            manifest.close()
            text = "the manifest is of another version or cut short"
            raise BadDocument(text, hint=ANEW, where=str(path))
        manifest.sums = Sums.open(_beside(path), manifest.count)
        return manifest

    def close(self) -> None:
        """Give up the files; harmless when repeated."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self.sums is not None:
            self.sums.close()
            self.sums = None

    def get(self, offset: int, length: int) -> bytes:
        """The digests of the chunks from ``offset`` on, joined; zeros where none is known."""
        digests, width = self._raw(offset, length), self.width
        if self.withdrawn not in digests:
            return digests
        chunks = (digests[at : at + width] for at in range(0, len(digests), width))
        return b"".join(self.none if chunk == self.withdrawn else chunk for chunk in chunks)

    def _raw(self, offset: int, length: int) -> bytes:
        count = -(-length // CHUNK) * self.width
        return os.pread(self._file, count, HEAD + offset // CHUNK * self.width)

    def put(self, offset: int, digests: bytes, sums: bytes = b"") -> None:
        """Digests of consecutive chunks, whose data is on the target's disk, and the checksums of
        the same, where they are known."""
        if self.sums is not None:
            self.sums.put(offset, sums or bytes(len(digests) // self.width * WIDTH))
        os.pwrite(self._file, digests, HEAD + offset // CHUNK * self.width)

    def withdraw(self, offset: int, length: int) -> None:
        """These chunks are about to be overwritten."""
        self.put(offset, self.withdrawn * -(-length // CHUNK))

    def sync(self) -> None:
        """Make what was put durable."""
        os.fdatasync(self._file)

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        """(offset, length, digests) of every run of known chunks between two bytes."""
        return self._runs(start, end, self.get)

    def written(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of every run of chunks that may hold something on the target."""
        for offset, length, _ in self._runs(start, end, self._raw):
            yield offset, length

    def _runs(
        self, start: int, end: int, get: Callable[[int, int], bytes]
    ) -> Iterator[tuple[int, int, bytes]]:
        at, last = start // CHUNK, min(-(-end // CHUNK), self.count)
        while at < last:
            step = min(STEP, last - at)
            digests = get(at * CHUNK, step * CHUNK)
            if digests != bytes(len(digests)):
                yield from self._split(at, digests)
            at += step

    def _split(self, first: int, digests: bytes) -> Iterator[tuple[int, int, bytes]]:
        width, total = self.width, len(digests) // self.width
        begin = 0
        while begin < total:
            if digests[begin * width : (begin + 1) * width] == self.none:
                begin += 1
                continue
            stop = begin
            while stop < total and digests[stop * width : (stop + 1) * width] != self.none:
                stop += 1
            offset = (first + begin) * CHUNK
            length = min((stop - begin) * CHUNK, self.size - offset)
            yield offset, length, digests[begin * width : stop * width]
            begin = stop

    def known(self) -> int:
        """How many chunks have a digest."""
        runs = self.runs(0, self.size)
        return sum(len(digests) // self.width for _, _, digests in runs)

    def digest(self) -> str:
        """The SHA-256 of the whole file: one number that stands for the whole disk."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def zeros(self, length: int) -> bytes:
        """The digests of ``length`` zeros, chunk by chunk."""
        whole, rest = divmod(length, CHUNK)
        return self._zero(CHUNK) * whole + (self._zero(rest) if rest else b"")

    def _zero(self, length: int) -> bytes:
        return hashlib.new(self.algorithm, bytes(length), usedforsecurity=False).digest()

    def shorts(self, offset: int, length: int, short: int, *, quick: bool) -> bytes:
        """The first bytes of the digests from ``offset`` on, or ``quick`` the checksums; nothing
        when none is known."""
        if quick and self.sums is not None:
            sums = self.sums.get(offset, length)
            return sums if any(sums) else b""
        digests, width = self.get(offset, length), self.width
        if digests.count(0) == len(digests):
            return b""
        return b"".join(digests[at : at + short] for at in range(0, len(digests), width))


def _beside(path: Path) -> Path:
    return path.with_suffix(".sums")


class Journal:
    """One JSON line per event, each durable before the next step; a torn last line is no line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines, new = self._load(), not path.exists()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if new:
            sync_directory(path.parent)

    def _load(self) -> list[dict[str, object]]:
        if not self.path.exists():
            return []
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        lines: list[dict[str, object]] = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise BadDocument("the journal is damaged", hint=ANEW, where=str(self.path))
            _kept(lines, event)
        if len(whole) != len(raw):
            os.truncate(self.path, len(whole))
        return lines

    def add(self, event: str, **fields: object) -> None:
        """Write one event down, durably."""
        line: dict[str, object] = {"event": event, **fields}
        _kept(self.lines, line)
        os.write(self._file, (json.dumps(line) + "\n").encode())
        os.fdatasync(self._file)

    def resume(self, kind: str) -> int:
        """Where an interrupted pass of this kind goes on; 0 when there is none."""
        position, same = 0, False
        for line in self.lines:
            if line["event"] in ("start", "reset", "end"):
                same = line["event"] == "start" and line.get("pass") == kind
                position = _number(line.get("from")) if same else 0
            elif line["event"] == "upto" and same:
                position = _number(line.get("at"))
        return position

    def finished(self, kind: str) -> bool:
        """Whether a pass of this kind came to its end since the manifest was last emptied."""
        done = False
        for line in self.lines:
            if line["event"] == "reset":
                done = False
            elif line["event"] == "end" and line.get("pass") == kind:
                done = True
        return done

    def blanked(self) -> bool:
        """Whether a whole pass has put zeros wherever nothing is used."""
        done = False
        for line in self.lines:
            if line["event"] in ("reset", "end"):
                done = line["event"] == "end" and (done or line.get("blank") is True)
        return done

    def published(self) -> bool:
        """Whether the replica was declared whole, and nothing was begun since."""
        done = False
        for line in self.lines:
            if line["event"] in ("reset", "start", "publish"):
                done = line["event"] == "publish"
        return done

    def last_delta(self) -> float:
        """Bytes that the last pass sent, if it was no first copy; else more than any."""
        ends = [line for line in self.lines if line["event"] == "end"]
        if not ends or ends[-1].get("pass") == "full":
            return float("inf")
        return _number(ends[-1].get("sent"))

    def hottest(self) -> int:
        """Where on the disk the last delta that sent anything sent most; 0 before there was one."""
        place = 0
        for line in self.lines:
            if line["event"] == "reset":
                place = 0
            elif line["event"] == "end" and line.get("pass") != "full":
                hot = line.get("hot")
                place = hot if isinstance(hot, int) else place
        return place

    def reused(self) -> bool:
        """Whether the target was there before the manifest, so that it may hold anything."""
        found = [line for line in self.lines if line["event"] == "reset"]
        return bool(found) and found[-1].get("reused") is True

    def connections(self) -> int:
        """How many connections were measured to pay; 0: not measured."""
        found = [
            _number(line.get("count")) for line in self.lines if line["event"] == "connections"
        ]
        return found[-1] if found else 0

    def target(self) -> str:
        """The identity of the device that was begun with."""
        found = [line for line in self.lines if line["event"] == "target"]
        return str(found[-1].get("identity", "")) if found else ""

    def close(self) -> None:
        """Give up the file."""
        os.close(self._file)


def _kept(lines: list[dict[str, object]], line: dict[str, object]) -> None:
    """Of the places of a pass the last one: there are as many as the disk is large."""
    if lines and lines[-1]["event"] == line["event"] == "upto":
        lines[-1] = line
    else:
        lines.append(line)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
