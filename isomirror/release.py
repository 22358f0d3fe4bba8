"""What is published: a release beside the others, and `current`, which names one of them.

A release gets its name by one rename when everything in it is written and synced; `current` is
switched over by another. Whoever looks sees the old repository or the new one, never a part.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import createrepo_c

from core.documents import Document
from core.errors import OutsideFailed
from core.progress import Report, Unit, track
from core.rules import Finding
from core.state import publish, publish_model, sync_directory
from isomirror import comps, metadata, repository
from isomirror.addon import Addon
from isomirror.check import DiscCheck
from isomirror.extra import Extra
from isomirror.iso9660 import Index
from isomirror.media import Medium
from isomirror.repository import Item, Tree

KEY_FILE = "RPM-GPG-KEY-CentOS-6"
VERSION = 3
KEYS = "RPM-GPG-KEY-*"
SUMS = "discs.sums"


class Published(Document):
    """published.json: what the repository is made of. ``bytes`` counts packages."""

    version: Literal[1] = 1
    identity: str
    url_path: str
    release: str
    arch: str
    packages: int
    bytes: int
    fingerprint: str
    key: str
    media: tuple[Medium, ...]
    addons: tuple[Addon, ...] = ()
    sums: str = ""
    findings: tuple[Finding, ...]
    when: datetime

    @property
    def keys(self) -> tuple[str, ...]:
        """The file names of all keys that sign packages here."""
        return (self.key, *(addon.key for addon in self.addons))


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc that was looked at and read to its end."""

    medium: Medium
    index: Index
    check: DiscCheck


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a release is made of."""

    identity: str
    discs: tuple[Disc, ...]
    extras: tuple[Extra, ...]
    key: bytes
    fingerprint: str
    findings: tuple[Finding, ...]
    sums: bytes


@contextmanager
def writing(mirror: Path) -> Iterator[None]:
    """Have the folder, and say where writing failed."""
    try:
        mirror.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, createrepo_c.CreaterepoCError) as fault:
        text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise OutsideFailed(
            f"can't write the repository: {text}", where=str(mirror),
            hint="look for space and rights there, and run again",
        ) from fault  # fmt: skip


def current(mirror: Path) -> Published | None:
    """What is published now; None when nothing is, or when it is not whole and must be built
    again."""
    return whole(mirror / "current")


def opened(mirror: Path) -> tuple[Path, Published] | None:
    """The current release's own folder and what it is made of: of one and the same release, though
    `current` be switched over meanwhile."""
    release = (mirror / "current").resolve()
    published = whole(release)
    return (release, published) if published else None


def told(mirror: Path) -> Published | None:
    """What `current` says it is made of, whole or not."""
    return _read(mirror / "current")


def whole(release: Path) -> Published | None:
    """What one release is made of; None when a file of it is not there."""
    names = ("published.json", "tree.json", "repodata/repomd.xml")
    if not all((release / name).is_file() for name in names):
        return None
    published = _read(release)
    if published is None:
        return None
    sums = (published.sums, *(addon.sums for addon in published.addons))
    more = (*published.keys, *filter(None, sums))
    return published if all((release / name).is_file() for name in more) else None


def sound(release: Path) -> Published | None:
    """As ``current`` for a release, whose lists were read as well: who is told to build again is
    not to hear that nothing changed."""
    published = whole(release)
    try:
        Tree.model_validate_json((release / "tree.json").read_bytes())
        metadata.from_folder(release)
    except (OSError, ValueError, OutsideFailed):
        return None
    return published


def _read(release: Path) -> Published | None:
    """JSON read directly: its findings may be many."""
    try:
        return Published.model_validate_json((release / "published.json").read_bytes())
    except (OSError, ValueError):
        return None


def plain_files(release: Path) -> tuple[Path, ...]:
    """What is served of the release's own directory: metadata and keys."""
    return (*sorted(release.glob("repodata/*")), *sorted(release.glob(KEYS)))


def publish_release(contents: Contents, mirror: Path, report: Report) -> Published:
    """Write the release beside, then switch `current` over."""
    final = mirror / "releases" / contents.identity
    if not sound(final):  # else it was published before: only `current` moved away
        _write(contents, final, report)
    switch = mirror / ".current.new"
    switch.unlink(missing_ok=True)
    switch.symlink_to(Path("releases") / contents.identity)
    switch.replace(mirror / "current")
    sync_directory(mirror)
    _tidy(mirror, contents.identity)
    published = whole(final)
    if published is None:
        raise OutsideFailed("the release that was written is not there", where=str(final),
                            hint="something else changes this directory; build again")  # fmt: skip
    return published


def choose(discs: tuple[Disc, ...], extras: tuple[Extra, ...]) -> dict[str, Item]:
    """NEVRA → the package that is published: the discs' own before any other, then in order."""
    chosen: dict[str, Item] = {}
    for disc in discs:
        file = repository.as_file(disc.medium)
        for package in disc.check.packages:
            item = Item(package.path, file, disc.index.files[package.path], package)
            chosen.setdefault(package.nevra, item)
    for extra in extras:
        for item in extra.items():
            chosen.setdefault(item.package.nevra, item)
    return chosen


def _write(contents: Contents, final: Path, report: Report) -> None:
    discs, extras = contents.discs, contents.extras
    first = discs[0].medium
    release, arch = first.told_release, first.told_arch
    items = tuple(choose(discs, extras).values())
    fresh = final.with_name(f".{contents.identity}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with track(report, "write metadata", len(items), Unit.ITEMS) as meter:
        own = [(first.name, repository.comps(first, discs[0].index))]
        others = [(extra.wanted.name, extra.groups) for extra in extras]
        groups = comps.unite(own + [(name, raw) for name, raw in others if raw])
        repository.write(fresh, items, groups, meter.advance)
    more = [item for item in items if item.path.startswith(repository.ADDONS)]
    tree = repository.merge(tuple((disc.medium, disc.index) for disc in discs), more)
    sums = {item.path: item.package.sha256 for item in items}
    publish(fresh / "tree.json", tree.model_copy(update={"sums": sums}).model_dump_json())
    publish(fresh / KEY_FILE, contents.key)
    if contents.sums:
        publish(fresh / SUMS, contents.sums)
    for extra in extras:
        publish(fresh / extra.key_file, extra.wanted.key)
        if extra.wanted.sums:
            publish(fresh / extra.addon().sums, extra.wanted.sums)
    published = Published(
        identity=contents.identity, url_path=f"/centos/{release}/os/{arch}/", release=release,
        arch=arch, packages=len(items), bytes=sum(item.package.size for item in items),
        fingerprint=contents.fingerprint, key=KEY_FILE,
        media=tuple(disc.medium for disc in discs), addons=tuple(e.addon() for e in extras),
        sums=SUMS if contents.sums else "",
        findings=contents.findings, when=datetime.now(UTC),
    )  # fmt: skip
    publish_model(fresh / "published.json", published)
    shutil.rmtree(final, ignore_errors=True)  # only ever what is not whole
    fresh.rename(final)
    sync_directory(final.parent)


def _tidy(mirror: Path, keep: str) -> None:
    """Drop former releases but the last one, for whoever looks into it, and what was left half."""
    others = [path for path in (mirror / "releases").iterdir() if path.name != keep]
    left = [path for path in others if path.name.startswith(".")]
    old = sorted((p for p in others if p not in left), key=lambda path: path.stat().st_mtime)
    for path in (*left, *old[:-1]):
        shutil.rmtree(path, ignore_errors=True)
    for path in (mirror / "checked").glob(".*.new"):
        path.unlink()  # what a killed run was writing
