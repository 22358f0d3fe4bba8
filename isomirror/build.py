"""Two discs to one published repository: look, judge, verify, index, publish.

Nothing is extracted, and nothing gets its final name before every disc and every package has
verified. What verification found of a disc is kept under the disc's identity, so that a killed
build goes on and an unchanged disc is not read again.
"""

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.documents import Document, load
from core.errors import BadDocument, Blocked
from core.progress import Meter, Report, Unit, track
from core.rules import Answer, Finding, Severity, blockers, judge
from core.state import lock, publish, publish_model, sync_directory
from isomirror import repository
from isomirror.iso9660 import Extent, Index, UnreadableDisc, read_extents, read_file
from isomirror.media import RULES, Medium, implanted_sum, look
from isomirror.openpgp import BadKey, KeyRing, read_key
from isomirror.repository import Verified
from isomirror.verify import verify

CENTOS_6 = "C1DAC52D1664E8A4386DBA430946FCA2C105B9DE"
KEY_FILE = "RPM-GPG-KEY-CentOS-6"
VERSION = 1


class BadPackage(Document):
    """A package that did not verify: where it lies, and why."""

    path: str
    offset: int
    faults: tuple[str, ...]


class DiscCheck(Document):
    """What reading a whole disc came to."""

    version: int = VERSION
    identity: str
    fingerprint: str
    sum_right: bool | None
    packages: tuple[Verified, ...]
    bad: tuple[BadPackage, ...]


class Published(Document):
    """published.json: what the repository is made of. ``bytes`` counts packages."""

    version: int = VERSION
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
class Built:
    """A build's result. ``changed`` is False when it was published already; ``published`` is None
    when nothing was to be published."""

    published: Published | None
    findings: tuple[Finding, ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class _Disc:
    medium: Medium
    index: Index
    check: DiscCheck


class WrongKey(Blocked):
    """The key on the disc is not the one that is pinned; nothing was published."""


class MediaBlocked(Blocked):
    """Discs or packages did not pass; nothing was published."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        count = len(blockers(findings))
        super().__init__(
            f"{count} finding{'s' if count > 1 else ''} on the discs; nothing was published",
            hint="each finding above names the disc and what to do",
        )
        self.findings = findings


def build(
    images: Sequence[Path],
    mirror: Path,
    report: Report,
    *,
    fingerprint: str = CENTOS_6,
    key: Path | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Built:
    """Verify ``images`` and publish them below ``mirror``. Raises MediaBlocked with findings."""
    mirror.mkdir(parents=True, exist_ok=True)
    with lock(mirror / "lock", "the mirror"):
        with track(report, "look at the discs", len(images), Unit.ITEMS) as meter:
            looked = []
            for image in images:
                looked.append(look(image))
                meter.advance()
        looked.sort(key=lambda pair: (not pair[0].repodata, pair[0].discs, pair[0].name))
        media = tuple(medium for medium, _ in looked)
        findings = judge(RULES, media)
        if blockers(findings):
            raise MediaBlocked(findings)
        ring, raw = _key(looked[0][0], looked[0][1], key, fingerprint)
        identity = _identity(media, fingerprint)
        old = current(mirror)
        if old is not None and old.identity == identity:
            return Built(old, old.findings, changed=False)
        findings += _key_findings(ring, now or datetime.now(UTC))
        discs = tuple(
            _Disc(m, index, _check(m, index, ring, mirror, report)) for m, index in looked
        )
        findings += tuple(finding for disc in discs for finding in _judged(disc))
        if blockers(findings):
            raise MediaBlocked(findings)
        if dry_run:
            return Built(None, findings, changed=False)
        published = _publish(discs, mirror, raw, identity, ring, findings, report)
        return Built(published, findings, changed=True)


def current(mirror: Path) -> Published | None:
    """What is published now, if anything is."""
    path = mirror / "current" / "published.json"
    return load(path, Published) if path.exists() else None


def _identity(media: tuple[Medium, ...], fingerprint: str) -> str:
    text = "|".join((str(VERSION), fingerprint, *(medium.identity for medium in media)))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key(
    medium: Medium, index: Index, given: Path | None, fingerprint: str
) -> tuple[KeyRing, bytes]:
    """The key that packages must be signed with: from a file or the disc, but always the pinned."""
    where = str(given) if given else f"{medium.name}:/{KEY_FILE}"
    if given:
        try:
            raw = given.read_bytes()
        except OSError as fault:
            raise BadKey(f"can't read the key: {fault.strerror}", where=where) from fault
    elif KEY_FILE in index.files:
        with Path(medium.path).open("rb") as file:
            raw = read_file(file, index.files[KEY_FILE], 1 << 20)
    else:
        raise BadKey("the disc has no key file", where=where, hint="give one with --key FILE")
    ring = read_key(raw, where)
    if ring.primary.fingerprint != fingerprint:
        raise WrongKey(
            f"the key is {ring.primary.fingerprint}, pinned is {fingerprint}", where=where,
            hint="if you trust this key, having compared it with its publisher, "
            "pin it with --fingerprint",
        )  # fmt: skip
    return ring, raw


def _key_findings(ring: KeyRing, now: datetime) -> tuple[Finding, ...]:
    if not ring.expired(now):
        return ()
    return (
        Finding(
            rule="media.key_expired", title="The signing key has expired since",
            severity=Severity.INFO, answer=Answer.FAIL, where=ring.primary.fingerprint,
            evidence=f"expired {ring.expires:%Y-%m-%d}; signatures made before stay good",
            remediation="nothing to do: old releases are signed with keys of their time",
        ),
    )  # fmt: skip


def _check(medium: Medium, index: Index, ring: KeyRing, mirror: Path, report: Report) -> DiscCheck:
    """Read a disc to its end, or recall what reading it came to."""
    fingerprint = ring.primary.fingerprint
    kept = mirror / "checked" / f"{medium.identity}-{fingerprint[-16:]}.json"
    if kept.exists():
        try:
            return load(kept, DiscCheck)
        except BadDocument:
            kept.unlink()
    order = sorted(
        (name for name in index.files if name.endswith(".rpm")),
        key=lambda name: index.files[name][0].offset,
    )
    total = sum(index.size(name) for name in order)
    total += medium.volume_size - medium.skip * 2048 if medium.implanted else 0
    with (
        track(report, f"verify {medium.name}", total, Unit.BYTES) as meter,
        ThreadPoolExecutor(max_workers=1) as beside,
    ):
        summing = beside.submit(implanted_sum, medium, meter.advance) if medium.implanted else None
        try:
            good, bad = _packages(medium, index, order, ring, meter)
            right = summing.result() if summing else None
        except OSError as fault:
            raise UnreadableDisc(
                f"reading failed: {fault.strerror}", where=medium.path,
                hint="the disk that holds the image fails there: copy the disc to another one",
            ) from fault  # fmt: skip
    check = DiscCheck(
        identity=medium.identity, fingerprint=fingerprint, sum_right=right, packages=good, bad=bad
    )
    if not bad and right is not False:
        publish_model(kept, check)  # a bad disc is read again: its reader may have been at fault
    return check


def _packages(
    medium: Medium, index: Index, order: list[str], ring: KeyRing, meter: Meter
) -> tuple[tuple[Verified, ...], tuple[BadPackage, ...]]:
    good: list[Verified] = []
    bad: list[BadPackage] = []
    with Path(medium.path).open("rb") as file:
        for name in order:
            verdict = verify(read_extents(file, index.files[name]), ring)
            meter.advance(verdict.size)
            if verdict.faults:
                at = index.files[name][0].offset
                bad.append(BadPackage(path=name, offset=at, faults=verdict.faults))
                continue
            good.append(
                Verified(
                    path=name, nevra=verdict.nevra, size=verdict.size,
                    sha256=verdict.sha256, head=len(verdict.head),
                )
            )  # fmt: skip
    return tuple(good), tuple(bad)


def _judged(disc: _Disc) -> list[Finding]:
    name = disc.medium.name
    findings = [
        Finding(
            rule="media.package_signed", title="The package is what its maker signed",
            severity=Severity.BLOCKER, answer=Answer.FAIL,
            where=f"{name}:/{bad.path} at byte {bad.offset}", evidence="; ".join(bad.faults),
            remediation="copy this disc again; if it stays so, the disc is not the original",
        )
        for bad in disc.check.bad
    ]  # fmt: skip
    if disc.check.sum_right is False:
        findings.append(
            Finding(
                rule="media.sum_right", title="The disc's own checksum is right",
                severity=Severity.BLOCKER, answer=Answer.FAIL, where=name,
                evidence=f"the implanted md5 {disc.medium.implanted} is not the data's",
                remediation="the copy is damaged: copy the disc again",
            )
        )  # fmt: skip
    elif not disc.check.bad:
        findings.append(
            Finding(
                rule="media.package_signed", title="The packages are what their maker signed",
                severity=Severity.BLOCKER, answer=Answer.PASS, where=name,
                evidence=f"{len(disc.check.packages)} packages, key {disc.check.fingerprint}",
            )
        )  # fmt: skip
    return findings


def _publish(
    discs: tuple[_Disc, ...], mirror: Path, key: bytes, identity: str, ring: KeyRing,
    findings: tuple[Finding, ...], report: Report,
) -> Published:  # fmt: skip
    """Write the release beside, then switch `current` over by one rename."""
    first = discs[0].medium
    release = first.release or first.tree_release or first.package_release
    arch = first.arch or first.tree_arch
    chosen: dict[str, tuple[str, tuple[Extent, ...], Verified]] = {}
    for disc in discs:
        for package in disc.check.packages:
            entry = (disc.medium.path, disc.index.files[package.path], package)
            chosen.setdefault(package.nevra, entry)
    fresh = mirror / "releases" / f".{identity}.new"
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
        fingerprint=ring.primary.fingerprint, key=KEY_FILE,
        media=tuple(disc.medium for disc in discs), findings=findings, when=datetime.now(UTC),
    )  # fmt: skip
    publish_model(fresh / "published.json", published)
    final = mirror / "releases" / identity
    shutil.rmtree(final, ignore_errors=True)
    fresh.rename(final)
    sync_directory(final.parent)
    switch = mirror / ".current.new"
    switch.unlink(missing_ok=True)
    switch.symlink_to(Path("releases") / identity)
    switch.replace(mirror / "current")
    sync_directory(mirror)
    _tidy(mirror, identity)
    return published


def _tidy(mirror: Path, keep: str) -> None:
    """Drop former releases but the last one, so that a server that has it open goes on."""
    old = sorted(
        (path for path in (mirror / "releases").iterdir() if path.name != keep),
        key=lambda path: path.stat().st_mtime,
    )
    for path in old[:-1]:
        shutil.rmtree(path, ignore_errors=True)
