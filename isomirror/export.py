"""The repository as a plain tree, for nginx or a USB disk, each file verified where it lies.

A file gets its name only after it was written, synced and read back. The list of sums comes last,
and a second run keeps what is right and goes on with the rest.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from core.errors import Blocked, OutsideFailed, UsageProblem
from core.progress import Meter, Report, Unit, track
from core.quantities import size as shown
from core.state import lock, publish, sync_directory
from isomirror.filesystem import check_names, kind_of
from isomirror.iso9660 import BadDisc, Extent, read_extents
from isomirror.release import Published, current, plain_files
from isomirror.repofile import NAME as REPO_FILE
from isomirror.repofile import repo_file
from isomirror.repository import Disc
from isomirror.served import is_published, load_tree

MARK = ".groundlift-export"
SUMS = "SHA256SUMS"
LAST = "repodata/repomd.xml"
EMPTY = ("lost+found", "System Volume Information", ".Trash-0")  # what a new disk may hold
PIECE = 1 << 20
SPARE = 4 << 20  # directories, the list of sums


class SourceChanged(Blocked):
    """A file of a medium is not what was verified and published; it was not exported."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A file to write: its path below the target, and where its bytes are. ``sha256`` is empty for
    what no verification has summed; such a file is compared with its source."""

    path: str
    size: int
    sha256: str = ""
    disc: Disc | None = None
    extents: tuple[Extent, ...] = ()
    content: bytes = b""

    def read(self) -> Iterator[bytes]:
        """Its bytes. Raises SourceChanged, or OutsideFailed where reading stops."""
        if self.disc is None:
            yield self.content
            return
        at = 0
        try:
            with Path(self.disc.path).open("rb") as file:
                if not is_published(self.disc, os.fstat(file.fileno())):
                    raise _changed(self)
                for piece in read_extents(file, self.extents, PIECE):
                    at += len(piece)
                    yield piece
        except BadDisc as fault:
            raise _changed(self) from fault
        except OSError as fault:
            raise OutsideFailed(
                f"{self.path} can't be read: {fault.strerror}, at byte {at} of it",
                where=f"{self.disc.path} at byte {self.extents[0].offset if self.extents else 0}",
                hint="look at the disk the medium lies on; a second run goes on from here",
            ) from fault


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to; for a dry run what it would come to. Sizes are bytes."""

    target: str
    files: int
    bytes: int
    written: int
    kept: int
    removed: int
    free: int


def export(
    mirror: Path, target: Path, report: Report, *, url: str = "", dry_run: bool = False
) -> Exported:
    """Write the published repository below ``target``, at the addresses it is served at. ``url``
    is where the target will be reached; the .repo file says so."""
    target = target.absolute()
    _published(mirror)  # before a lock file is made where there is no mirror
    with lock(mirror / "lock", "the mirror"):  # no build may take away what is being copied
        published = _published(mirror)
        _check_target(target, mirror)
        pieces = _pieces(mirror, published, url or f"file://{quote(str(target))}")
        check_names(kind_of(target), {piece.path: piece.size for piece in pieces})
        waiting = [piece for piece in pieces if not _there(target, piece)]
        free = _check_space(target, waiting)
        if dry_run:
            total = sum(piece.size for piece in pieces)
            count = len(waiting)
            return Exported(str(target), len(pieces), total, count, len(pieces) - count, 0, free)
        try:
            return _Run(target, published.identity, pieces, report).run(free)
        except OSError as fault:
            raise _not_written(target, fault) from fault


def _published(mirror: Path) -> Published:
    published = current(mirror)
    if published is None:
        raise UsageProblem("nothing is published", where=str(mirror),
                           hint="run `groundlift mirror build` first")  # fmt: skip
    return published


def _pieces(mirror: Path, published: Published, url: str) -> tuple[Piece, ...]:
    """Packages and install tree in the order of the discs; then keys and metadata, its root
    last."""
    prefix = published.url_path.strip("/") + "/"
    release = (mirror / "current").resolve()
    tree = load_tree(release / "tree.json")
    plain = plain_files(release)
    own = {str(file.relative_to(release)): file.read_bytes() for file in plain}
    base = f"{url.rstrip('/')}{published.url_path}"
    own[REPO_FILE] = repo_file(base, published.keys).encode()
    packages = [
        Piece(
            prefix + path, sum(length for _, length in extents), tree.sums.get(path, ""),
            tree.discs[number], tuple(Extent(*extent) for extent in extents),
        )
        for path, (number, extents) in sorted(tree.files.items(), key=lambda item: item[1])
        if path not in own
    ]  # fmt: skip
    metadata = [
        Piece(prefix + path, len(raw), hashlib.sha256(raw).hexdigest(), content=raw)
        for path, raw in sorted(own.items(), key=lambda item: (item[0] == LAST, item[0]))
    ]
    return (*packages, *metadata)


def _check_target(target: Path, mirror: Path) -> None:
    if target.resolve().is_relative_to(mirror.resolve()):
        raise UsageProblem("the export would lie inside the mirror itself", where=str(target),
                           hint="give a directory elsewhere")  # fmt: skip
    if target.exists() and not target.is_dir():
        raise UsageProblem("this is no directory", where=str(target))
    try:
        names = os.listdir(target) if target.exists() else []  # noqa: PTH208
    except OSError as fault:
        raise _not_written(target, fault) from fault
    strange = [n for n in names if n not in EMPTY and not n.startswith(f".{MARK}.")]
    if strange and MARK not in names:
        raise UsageProblem(
            f"the directory holds other things ({min(strange)!r})", where=str(target),
            hint="give an empty directory, or one of an earlier export",
        )  # fmt: skip


def _there(target: Path, piece: Piece) -> bool:
    """Whether a file of this name and size is there; what is in it is read later."""
    try:
        path = target / piece.path
        return path.is_file() and not path.is_symlink() and path.stat().st_size == piece.size
    except OSError:
        return False


def _check_space(target: Path, waiting: list[Piece]) -> int:
    place = target
    while not place.exists():
        place = place.parent
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    needed = sum(-(-piece.size // facts.f_frsize) * facts.f_frsize for piece in waiting) + SPARE
    if needed > free:
        raise OutsideFailed(
            f"{shown(needed)} are needed, {shown(free)} are free", where=str(target),
            hint="make room, or give a larger disk",
        )  # fmt: skip
    return free


class _Run:
    def __init__(
        self, target: Path, identity: str, pieces: tuple[Piece, ...], report: Report
    ) -> None:
        self.target, self.identity, self.pieces, self.report = target, identity, pieces, report
        self.sums: dict[str, str] = {}
        self.written = self.kept = 0

    def run(self, free: int) -> Exported:
        self.directory(self.target)
        former = self.listed()
        publish(self.target / MARK, f"{self.identity} incomplete\n")
        # Written bytes are read back, and both count: what is there already is only read.
        total = sum(piece.size * (1 if _there(self.target, piece) else 2) for piece in self.pieces)
        with track(self.report, f"export to {self.target}", total, Unit.BYTES) as meter:
            for piece in self.pieces:
                self.one(piece, meter)
        lines = (f"{value}  {path}\n" for path, value in sorted(self.sums.items()))
        publish(self.target / SUMS, "".join(lines))
        _open_to_all(self.target / SUMS, 0o644)
        removed = self.tidy(former - set(self.sums))
        publish(self.target / MARK, f"{self.identity} complete\n")
        size = sum(piece.size for piece in self.pieces)
        return Exported(str(self.target), len(self.pieces), size, self.written, self.kept, removed,
                        free)  # fmt: skip

    def one(self, piece: Piece, meter: Meter) -> None:
        """Keep a file that is right, else write it."""
        path = self.target / piece.path
        self.directory(path.parent)
        if _there(self.target, piece):
            expected = piece.sha256 or _digest(piece.read())
            if _file_digest(path, meter) == expected:
                self.sums[piece.path] = expected
                self.kept += 1
                return
        self.sums[piece.path] = _write(piece, path, meter)
        self.written += 1

    def directory(self, path: Path) -> None:
        """Make it; what was put in the way of it is not followed."""
        for place in (path, *path.parents):
            if place == self.target:
                break
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise UsageProblem("this stands where a directory belongs", where=str(place),
                                   hint="remove it, or export elsewhere")  # fmt: skip
        for place in reversed((path, *path.parents)):
            if not place.exists():
                place.mkdir()
                _open_to_all(place, 0o755)

    def listed(self) -> set[str]:
        """The files of the export before: only what its list names was ours."""
        try:
            text = (self.target / SUMS).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return set()
        names = {line[66:] for line in text.splitlines() if line[64:66] == "  "}
        return {n for n in names if not n.startswith("/") and ".." not in n.split("/")}

    def tidy(self, stale: set[str]) -> int:
        """Remove what an earlier export wrote and this one does not hold, and parts of files."""
        folders = {(self.target / piece.path).parent for piece in self.pieces}
        for name in stale:
            path = self.target / name
            if path.is_file() and not any(place.is_symlink() for place in path.parents):
                path.unlink()
                for parent in path.parents:
                    if parent == self.target or any(parent.iterdir()):
                        break
                    parent.rmdir()
        for folder in (*folders, self.target):
            for part in (*folder.glob(".*.part"), *folder.glob(".*.new")):
                part.unlink()
            sync_directory(folder)
        return len(stale)


def _write(piece: Piece, path: Path, meter: Meter) -> str:
    """Write beside, sync, read back, rename; the digest of what is there now."""
    beside = path.with_name(f".{path.name}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    found = hashlib.sha256()
    with os.fdopen(os.open(beside, flags, 0o644), "wb", buffering=0) as file:
        _open_to_all(file.fileno(), 0o644)
        for data in piece.read():
            found.update(data)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            meter.advance(len(data))
        os.fsync(file.fileno())
    if piece.sha256 not in ("", found.hexdigest()):
        beside.unlink()
        raise _changed(piece)
    if _file_digest(beside, meter) != found.hexdigest():
        raise OutsideFailed(
            "what was written reads back as something else", where=str(path),
            hint="the disk it was written to fails: take another",
        )  # fmt: skip
    beside.replace(path)
    return found.hexdigest()


def _open_to_all(place: Path | int, mode: int) -> None:
    """Whoever serves it is another user, whatever the umask here; FAT knows no users."""
    with suppress(OSError):
        os.chmod(place, mode)  # noqa: PTH101 (a descriptor, too)


def _file_digest(path: Path, meter: Meter) -> str:
    """From the disk, as far as the kernel lets go of what it keeps in memory."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while data := file.read(PIECE):
            found.update(data)
            meter.advance(len(data))
    return found.hexdigest()


def _digest(pieces: Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def _changed(piece: Piece) -> SourceChanged:
    return SourceChanged(
        f"{piece.path} is not what was verified", where=piece.disc.path if piece.disc else "",
        hint="put the medium's file back, or build the mirror again with the new one",
    )  # fmt: skip


def _not_written(target: Path, fault: OSError) -> OutsideFailed:
    full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
    return OutsideFailed(
        f"can't write the export: {fault.strerror or fault}", where=fault.filename or str(target),
        hint=("make room" if full else "look at the disk and its rights")
        + " and run again: it goes on from here",
    )  # fmt: skip
