"""What is served: every published path, and where its bytes lie. A client's path is looked up here
and never touches a disk."""

import os
import weakref
from dataclasses import dataclass
from pathlib import Path

from core.errors import Blocked, OutsideFailed, UsageProblem
from isomirror.release import Published, opened, plain_files
from isomirror.repofile import NAME as REPO_FILE
from isomirror.repository import Disc, Tree

# A pipe in the place of an image would hold its reader up for good.
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class DiscReplaced(Blocked):
    """An image is not the file that was verified and published; its bytes are not served."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: which image and where in it; or, without ``disc``, a plain one, which is open."""

    path: str
    extents: tuple[tuple[int, int], ...]
    disc: Disc | None
    modified: float
    tag: str
    descriptor: int = -1

    def open(self) -> int:
        """A descriptor to read it by, and to close. Raises OSError."""
        return os.dup(self.descriptor) if self.descriptor >= 0 else os.open(self.path, READ)

    @property
    def size(self) -> int:
        return sum(length for _, length in self.extents)


class Catalogue:
    """Every path that is served, and every directory with what is in it."""

    def __init__(self, mirror: Path) -> None:
        found = opened(mirror)
        if found is None:
            raise UsageProblem(
                "nothing is published",
                hint="run `groundlift mirror build` first",
                where=str(mirror),
            )
        release, published = found
        self.published: Published = published
        self.prefix = published.url_path
        self.files: dict[str, Entry] = {}
        self.directories: dict[str, set[str]] = {"/": set()}
        tree = load_tree(release / "tree.json")
        for path, (number, extents) in tree.files.items():
            disc = tree.discs[number]
            tag = f"{published.identity}-{extents[0][0]:x}-{extents[0][1]:x}"
            self._add(path, Entry(disc.path, extents, disc, disc.modified / 1e9, tag))
        for file in plain_files(release):
            self._add(str(file.relative_to(release)), self._held(file))
        self.directories[self.prefix].add(REPO_FILE)
        self.discs = tree.discs

    def _held(self, file: Path) -> Entry:
        """Metadata and keys stay open: builds that follow remove them, and clients that know the
        old list of them still come."""
        descriptor = os.open(file, READ)
        weakref.finalize(self, os.close, descriptor).atexit = False
        facts = os.fstat(descriptor)
        tag = f"{self.published.identity}-{file.name}"
        return Entry(str(file), ((0, facts.st_size),), None, facts.st_mtime, tag, descriptor)

    def _add(self, path: str, entry: Entry) -> None:
        full = self.prefix + path
        self.files[full] = entry
        while full != "/":
            parent, _, name = full.rstrip("/").rpartition("/")
            slash = "/" if full.endswith("/") else ""
            parent += "/"
            known = parent in self.directories
            self.directories.setdefault(parent, set()).add(name + slash)
            if known:
                return
            full = parent

    def check(self) -> None:
        """Raises DiscReplaced when an image is not the one that was published."""
        for disc in self.discs:
            if not is_published(disc):
                raise replaced(disc)


def load_tree(path: Path) -> Tree:
    """tree.json; JSON read directly, because it may list many thousand files."""
    try:
        return Tree.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise OutsideFailed(
            f"the published tree can't be read: {type(fault).__name__}", where=str(path),
            hint="build the mirror again",
        ) from fault  # fmt: skip


def is_published(disc: Disc, facts: os.stat_result | None = None) -> bool:
    """Whether the file is still the one that was verified: size, inode and time."""
    try:
        now = facts or Path(disc.path).stat()
    except OSError:
        return False
    return (now.st_size, now.st_ino, now.st_mtime_ns) == (disc.size, disc.inode, disc.modified)


def replaced(disc: Disc) -> DiscReplaced:
    """The error to raise or to log."""
    return DiscReplaced(
        "the image is not the file that was published", where=disc.path,
        hint="put the original back, or run `groundlift mirror build` with the new one",
    )  # fmt: skip
