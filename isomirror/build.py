"""Two discs to one published repository: look, judge, verify, index, publish.

Nothing is extracted, and nothing gets its final name before every disc and every package has
verified. What verification found of a disc is kept under the disc's identity, so that a killed
build goes on and an unchanged disc is not read again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.errors import Blocked
from core.progress import Report, Unit, track
from core.rules import Answer, Finding, Severity, blockers, judge
from core.state import lock, publish_model
from isomirror import repository
from isomirror.check import DiscCheck, read_disc
from isomirror.iso9660 import BadDisc, CutShort, Index, read_file
from isomirror.media import EACH, SET, Medium, look
from isomirror.openpgp import BadKey, KeyRing, read_key
from isomirror.release import (
    KEY_FILE,
    VERSION,
    Disc,
    Published,
    current,
    publish_release,
    writing,
)

CENTOS_6 = "C1DAC52D1664E8A4386DBA430946FCA2C105B9DE"


@dataclass(frozen=True, slots=True)
class Built:
    """A build's result. ``changed`` is False when it was published already; ``published`` is None
    when nothing was to be published."""

    published: Published | None
    findings: tuple[Finding, ...]
    changed: bool


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
    with writing(mirror), lock(mirror / "lock", "the mirror"):
        looked, findings = _look(images, report)
        media = tuple(medium for medium, _ in looked)
        ring, raw, found = _key(looked[0][0], looked[0][1], key, fingerprint)
        findings += found
        _go_on(findings)
        identity = _identity(media, fingerprint)
        old = current(mirror)
        if old is not None and old.identity == identity:
            return Built(old, old.findings, changed=False)
        findings += _key_findings(ring, now or datetime.now(UTC))
        discs = tuple(Disc(m, i, _check(m, i, ring, mirror, report)) for m, i in looked)
        findings += tuple(finding for disc in discs for finding in _judged(disc))
        findings += _together(discs)
        _go_on(findings)
        if dry_run:
            return Built(None, findings, changed=False)
        published = publish_release(discs, mirror, raw, identity, fingerprint, findings, report)
        return Built(published, findings, changed=True)


def _go_on(findings: tuple[Finding, ...]) -> None:
    if blockers(findings):
        raise MediaBlocked(findings)


def _look(
    images: Sequence[Path], report: Report
) -> tuple[list[tuple[Medium, Index]], tuple[Finding, ...]]:
    """Every disc, disc 1 first, and what the rules say; an unreadable one hides no other's
    findings. Raises MediaBlocked."""
    looked, unreadable = [], []
    with track(report, "look at the discs", len(images), Unit.ITEMS) as meter:
        for image in images:
            try:
                looked.append(look(image))
            except BadDisc as fault:
                unreadable.append(_unreadable(image, fault))
            meter.advance()
    looked.sort(key=lambda pair: (not pair[0].repodata, pair[0].discs, pair[0].name))
    media = tuple(medium for medium, _ in looked)
    rules = EACH if unreadable else (*EACH, *SET)  # half a set would look incomplete
    findings = (*unreadable, *judge(rules, media))
    _go_on(findings)
    return looked, findings


def _unreadable(image: Path, fault: BadDisc) -> Finding:
    cut = isinstance(fault, CutShort)
    return Finding(
        rule="media.image_whole" if cut else "media.image_readable",
        title="The image is as long as its volume" if cut else "The image can be read",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=image.name, evidence=fault.message,
        remediation="the copy is cut short: copy the disc again" if cut
        else "copy the disc again and compare its checksum; give the DVDs' own ISO files",
    )  # fmt: skip


def _identity(media: tuple[Medium, ...], fingerprint: str) -> str:
    text = "|".join((str(VERSION), fingerprint, *(medium.identity for medium in media)))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key(
    medium: Medium, index: Index, given: Path | None, fingerprint: str
) -> tuple[KeyRing, bytes, tuple[Finding, ...]]:
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
    if ring.primary.fingerprint == fingerprint:
        return ring, raw, ()
    finding = Finding(
        rule="media.key_pinned", title="The key is the one that is pinned",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=where,
        evidence=f"the key is {ring.primary.fingerprint}, pinned is {fingerprint}",
        remediation="the disc is not the publisher's; or, having compared the key with its "
        "publisher, pin it with --fingerprint",
    )  # fmt: skip
    return ring, raw, (finding,)


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
    kept = mirror / "checked" / f"{medium.identity}-{fingerprint}.json"
    try:
        check = DiscCheck.model_validate_json(kept.read_bytes())
        if (check.identity, check.fingerprint) == (medium.identity, fingerprint):
            return check
    except (OSError, ValueError):
        pass  # not read yet, or written by something else: reading the disc is always right
    check = read_disc(medium, index, ring, report)
    if not check.bad and check.sum_right is not False:
        publish_model(kept, check)  # a bad disc is read again: its reader may have been at fault
    return check


def _judged(disc: Disc) -> list[Finding]:
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
    if disc.check.sum_right is not None:
        right = disc.check.sum_right
        findings.append(
            Finding(
                rule="media.sum_right", title="The disc's own checksum is right",
                severity=Severity.BLOCKER, answer=Answer.PASS if right else Answer.FAIL, where=name,
                evidence=f"implanted md5 {disc.medium.implanted}"
                + (f"; {disc.check.sum_fault}" if not right else ""),
                remediation="" if right else "the copy is damaged: copy the disc again",
            )
        )  # fmt: skip
    if not disc.check.bad:
        findings.append(
            Finding(
                rule="media.package_signed", title="The packages are what their maker signed",
                severity=Severity.BLOCKER, answer=Answer.PASS, where=name,
                evidence=f"{len(disc.check.packages)} packages, key {disc.check.fingerprint}",
            )
        )  # fmt: skip
    if not disc.medium.unchanged():
        findings.append(
            Finding(
                rule="media.image_still", title="The image did not change while it was read",
                severity=Severity.BLOCKER, answer=Answer.FAIL, where=name,
                evidence="its size, time or inode is another now",
                remediation="let the copy end first, then run again",
            )
        )  # fmt: skip
    return findings


def _together(discs: tuple[Disc, ...]) -> tuple[Finding, ...]:
    """What can only be seen of all discs side by side."""
    findings = []
    seen: dict[str, tuple[str, str]] = {}
    for disc in discs:
        for package in disc.check.packages:
            name, sum_ = seen.setdefault(package.path, (disc.medium.name, package.sha256))
            if sum_ != package.sha256:
                findings.append(
                    Finding(
                        rule="media.package_once", title="A path holds one package on all discs",
                        severity=Severity.BLOCKER, answer=Answer.FAIL,
                        where=f"{disc.medium.name}:/{package.path}",
                        evidence=f"another package has this path on {name}",
                        remediation="give the discs of one set",
                    )
                )  # fmt: skip
    listed = repository.listed(discs[0].medium, discs[0].index)
    absent = sorted(listed - set(seen)) if listed and not any(d.check.bad for d in discs) else []
    if absent:
        findings.append(
            Finding(
                rule="media.listing_met", title="Every package that disc 1 lists is on a disc",
                severity=Severity.WARNING, answer=Answer.FAIL, where=discs[0].medium.name,
                evidence=f"{len(absent)} absent: {', '.join(absent[:5])}",
                remediation="add the missing disc of the set, if there is one; what is absent "
                "is not in the repository",
            )
        )  # fmt: skip
    return tuple(findings)
