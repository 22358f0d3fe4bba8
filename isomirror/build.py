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

from core.documents import read_bounded
from core.errors import Blocked, OutsideFailed
from core.progress import Report, Unit, track
from core.rules import Answer, Finding, Severity, blockers, judge
from core.state import lock
from isomirror import catalogue, repository
from isomirror.addon import KEY, Looked
from isomirror.check import DiscCheck, read_disc, recalled
from isomirror.expected import expected
from isomirror.extra import Wanted, examine, look_at
from isomirror.findings import (
    doubled,
    groups_readable,
    judged,
    judged_extra,
    key_findings,
    set_complete,
    together,
    unreadable,
)
from isomirror.iso9660 import BadDisc, Index, read_file
from isomirror.keyfile import alone
from isomirror.media import EACH, SET, Medium, look
from isomirror.openpgp import BadKey, KeyRing, read_key
from isomirror.release import (
    KEY_FILE,
    VERSION,
    Contents,
    Disc,
    Published,
    publish_release,
    sound,
    told,
    writing,
)
from isomirror.sums import Sum

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


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be published: the discs, the key that signs them, and the add-on media."""

    images: tuple[Path, ...]
    fingerprint: str
    key: Path | None
    addons: tuple[Wanted, ...]
    sums: bytes = b""


def build(
    images: Sequence[Path],
    mirror: Path,
    report: Report,
    *,
    fingerprint: str = CENTOS_6,
    key: Path | None = None,
    sums: bytes = b"",
    dry_run: bool = False,
    now: datetime | None = None,
) -> Built:
    """Verify ``images`` and publish them below ``mirror``, with the add-on media that are published
    there. Raises MediaBlocked with findings."""
    with writing(mirror), lock(mirror / "lock", "the mirror"):
        order = Order(tuple(images), fingerprint, key, kept(mirror), sums)
        return carry_out(order, mirror, report, dry_run=dry_run, now=now)


def kept(mirror: Path) -> tuple[Wanted, ...]:
    """The add-on media that are published, as they were added."""
    published = told(mirror)
    release = mirror / "current"
    try:
        return tuple(
            Wanted(
                name=addon.name, path=Path(addon.path), fingerprint=addon.fingerprint,
                key=(release / addon.key).read_bytes(),
                sums=(release / addon.sums).read_bytes() if addon.sums else b"",
            )
            for addon in (published.addons if published else ())
        )  # fmt: skip
    except OSError as fault:
        raise OutsideFailed(
            f"a published key or checksum file is gone: {fault.strerror}",
            where=str(fault.filename),
            hint=f"remove {mirror / 'current'}, build again and add the media again",
        ) from fault


def carry_out(
    order: Order, mirror: Path, report: Report, *, dry_run: bool, now: datetime | None = None
) -> Built:
    """Look, judge, verify, publish; the caller holds the lock. Raises MediaBlocked."""
    looked, findings = _look(order.images, report)
    media = tuple(medium for medium, _ in looked)
    ring, raw, found = _key(looked[0][0], looked[0][1], order.key, order.fingerprint)
    findings += found
    _go_on(findings)
    places, found = look_at(order.addons)
    findings += found
    _go_on(findings)
    identity = _identity(media, order, places)
    old = sound(mirror / "current")
    if old is not None and old.identity == identity:
        return Built(old, old.findings, changed=False)
    findings += key_findings(ring, now or datetime.now(UTC))
    discs, findings = _read_discs(looked, order, ring, findings, mirror, report)
    extras = tuple(
        examine(wanted, place, mirror, report)
        for wanted, place in zip(order.addons, places, strict=True)
    )
    findings += tuple(finding for extra in extras for finding in judged_extra(extra))
    findings += doubled(discs, extras) + groups_readable(discs, extras)
    _go_on(findings)
    if dry_run:
        return Built(None, findings, changed=False)
    contents = Contents(identity, discs, extras, raw, order.fingerprint, findings, order.sums)
    return Built(publish_release(contents, mirror, report), findings, changed=True)


def _read_discs(
    looked: list[tuple[Medium, Index]], order: Order, ring: KeyRing,
    findings: tuple[Finding, ...], mirror: Path, report: Report,
) -> tuple[tuple[Disc, ...], tuple[Finding, ...]]:  # fmt: skip
    """The discs read to their end, and ``findings`` with theirs. Raises MediaBlocked before that
    for what can be seen without."""
    media = tuple(medium for medium, _ in looked)
    there = frozenset().union(*(index.files for _, index in looked))
    listed = repository.listed(*looked[0])
    sums, found = expected(media, order.sums, ring)
    findings += catalogue.findings(media, order.fingerprint) + found
    findings += set_complete(media, there, listed)
    _go_on(findings)
    discs = tuple(
        Disc(m, i, _check(m, i, ring, mirror, report, sum_))
        for (m, i), sum_ in zip(looked, sums, strict=True)
    )
    findings += tuple(finding for disc in discs for finding in judged(disc))
    return discs, findings + together(discs, listed)


def _go_on(findings: tuple[Finding, ...]) -> None:
    if blockers(findings):
        raise MediaBlocked(findings)


def _look(
    images: Sequence[Path], report: Report
) -> tuple[list[tuple[Medium, Index]], tuple[Finding, ...]]:
    """Every disc, disc 1 first, and what the rules say; an unreadable one hides no other's
    findings. Raises MediaBlocked."""
    looked, bad = [], []
    with track(report, "look at the discs", len(images), Unit.ITEMS) as meter:
        for image in images:
            try:
                looked.append(look(image))
            except BadDisc as fault:
                bad.append(unreadable(image, fault))
            meter.advance()
    looked.sort(key=lambda pair: (not pair[0].repodata, pair[0].discs, pair[0].name))
    media = tuple(medium for medium, _ in looked)
    rules = EACH if bad else (*EACH, *SET)  # half a set would look incomplete
    findings = (*bad, *judge(rules, media))
    _go_on(findings)
    return looked, findings


def _identity(media: tuple[Medium, ...], order: Order, places: tuple[Looked, ...]) -> str:
    addons = (
        f"{wanted.name},{place.identity},{wanted.fingerprint},"
        f"{hashlib.sha256(wanted.key).hexdigest()},{hashlib.sha256(wanted.sums).hexdigest()}"
        for wanted, place in zip(order.addons, places, strict=True)
    )
    discs = (medium.identity for medium in media)
    sums = hashlib.sha256(order.sums).hexdigest() if order.sums else ""
    text = "|".join((str(VERSION), order.fingerprint, sums, *discs, *addons))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key(
    medium: Medium, index: Index, given: Path | None, fingerprint: str
) -> tuple[KeyRing, bytes, tuple[Finding, ...]]:
    """The key that packages must be signed with: from a file or the disc, but always the pinned."""
    where = str(given) if given else f"{medium.name}:/{KEY_FILE}"
    if given:
        try:
            raw = read_bounded(given, KEY)
        except OSError as fault:
            raise BadKey(
                f"can't read the key: {fault.strerror}", where=where,
                hint="give the publisher's public key file with --key",
            ) from fault  # fmt: skip
    elif KEY_FILE in index.files:
        with Path(medium.path).open("rb") as file:
            raw = read_file(file, index.files[KEY_FILE], KEY)
    else:
        raise BadKey("the disc has no key file", where=where, hint="give one with --key FILE")
    ring = read_key(raw, where)
    if ring.primary.fingerprint == fingerprint:
        return ring, alone(raw), ()
    finding = Finding(
        rule="media.key_pinned", title="The key is the one that is pinned",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=where,
        evidence=f"the key is {ring.primary.fingerprint}, pinned is {fingerprint}",
        remediation="the disc is not the publisher's; or, having compared the key with its "
        "publisher, pin it with --fingerprint",
    )  # fmt: skip
    return ring, raw, (finding,)


def _check(
    medium: Medium, index: Index, ring: KeyRing, mirror: Path, report: Report, listed: Sum | None
) -> DiscCheck:
    """Read a disc to its end, or recall what reading it came to."""
    return recalled(
        mirror / "checked", medium.identity, ring, listed,
        lambda: read_disc(medium, index, ring, report, listed),
    )  # fmt: skip
