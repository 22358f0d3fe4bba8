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

from core.documents import Document, load
from core.errors import BadDocument, OutsideFailed
from core.progress import Report, Unit, track
from core.rules import Finding
from core.state import publish, publish_model, sync_directory
from isomirror import repository
from isomirror.check import DiscCheck, Verified
from isomirror.iso9660 import Extent, Index
from isomirror.media import Medium

KEY_FILE = "RPM-GPG-KEY-CentOS-6"
VERSION = 1


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
    findings: tuple[Finding, ...]
    when: datetime


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc that was looked at and read to its end."""

    medium: Medium
    index: Index
    check: DiscCheck


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
    if not _whole(mirror / "current"):
        return None
    try:
        return load(mirror / "current" / "published.json", Published)
    except BadDocument:
        return None


def _whole(release: Path) -> bool:
    names = ("published.json", "tree.json", KEY_FILE, "repodata/repomd.xml")
    return all((release / name).is_file() for name in names)


def publish_release(
    discs: tuple[Disc, ...], mirror: Path, key: bytes, identity: str, fingerprint: str,
    findings: tuple[Finding, ...], report: Report,
) -> Published:  # fmt: skip
    """Write the release beside, then switch `current` over."""
    final = mirror / "releases" / identity
    if not _whole(final):  # else the discs were published before: only `current` moved away
        _write(discs, final, key, identity, fingerprint, findings, report)
    switch = mirror / ".current.new"
    switch.unlink(missing_ok=True)
    switch.symlink_to(Path("releases") / identity)
    switch.replace(mirror / "current")
    sync_directory(mirror)
    _tidy(mirror, identity)
    return load(final / "published.json", Published)


def _write(
    discs: tuple[Disc, ...], final: Path, key: bytes, identity: str, fingerprint: str,
    findings: tuple[Finding, ...], report: Report,
) -> None:  # fmt: skip
    first = discs[0].medium
    release = first.release or first.tree_release or first.package_release
    arch = first.arch or first.tree_arch
    chosen: dict[str, tuple[str, tuple[Extent, ...], Verified]] = {}
    for disc in discs:
        for package in disc.check.packages:
            entry = (disc.medium.path, disc.index.files[package.path], package)
            chosen.setdefault(package.nevra, entry)
    fresh = final.with_name(f".{identity}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    packages = tuple(chosen.values())
    with track(report, "write metadata", len(packages), Unit.ITEMS) as meter:
        groups = repository.comps(first, discs[0].index)
        repository.write(fresh, packages, groups, meter.advance)
    tree = repository.merge(tuple((disc.medium, disc.index) for disc in discs))
    publish(fresh / "tree.json", tree.model_dump_json())
    publish(fresh / KEY_FILE, key)
    published = Published(
        identity=identity, url_path=f"/centos/{release}/os/{arch}/", release=release, arch=arch,
        packages=len(packages), bytes=sum(entry[2].size for entry in packages),
        fingerprint=fingerprint, key=KEY_FILE,
        media=tuple(disc.medium for disc in discs), findings=findings, when=datetime.now(UTC),
    )  # fmt: skip
    publish_model(fresh / "published.json", published)
    shutil.rmtree(final, ignore_errors=True)  # only ever what is not whole
    fresh.rename(final)
    sync_directory(final.parent)


def _tidy(mirror: Path, keep: str) -> None:
    """Drop former releases but the last one, so that a server that has it open goes on."""
    others = [path for path in (mirror / "releases").iterdir() if path.name != keep]
    left = [path for path in others if path.name.startswith(".")]
    old = sorted((p for p in others if p not in left), key=lambda path: path.stat().st_mtime)
    for path in (*left, *old[:-1]):
        shutil.rmtree(path, ignore_errors=True)
