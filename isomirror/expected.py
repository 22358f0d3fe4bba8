"""What each disc's bytes must come to: by the publisher's checksum file, or by the catalogue."""

from core.rules import Answer, Finding, Severity
from isomirror import clearsigned
from isomirror.catalogue import known_sum
from isomirror.check import STRONG
from isomirror.media import Medium
from isomirror.openpgp import KeyRing
from isomirror.sums import Sum, read_sums

WHERE = "the discs' checksums"


def expected(
    media: tuple[Medium, ...], sums: bytes, ring: KeyRing
) -> tuple[tuple[Sum | None, ...], tuple[Finding, ...]]:
    """One digest for each disc, None where nothing is known, and what is to be said of them.
    ``sums`` are checksum files, empty when none was given. Raises BadDocument."""
    fingerprint = ring.primary.fingerprint
    known = [known_sum(medium, fingerprint) for medium in media]
    if not sums:
        return tuple(known), ()
    signed = clearsigned.read(sums, WHERE)
    listed = read_sums(b"\n".join(clear.text for clear in signed) if signed else sums, WHERE)
    findings = [_signature(clear, ring) for clear in signed] or [_unsigned(listed)]
    chosen = []
    for medium, other in zip(media, known, strict=True):
        found = listed.get(medium.name)
        chosen.append(found or other)
        if found is None:
            findings.append(_not_listed(medium))
        elif other and other.algorithm == found.algorithm and other.value != found.value:
            findings.append(_disagree(medium, found, other))
    findings += _weak(media, chosen)
    return tuple(chosen), tuple(findings)


def _signature(clear: clearsigned.Clear, ring: KeyRing) -> Finding:
    ours = clear.key_id in {key.id for key in ring.keys}
    good = ours and clear.good(ring)
    return Finding(
        rule="media.sums_signed", title="The checksum file is signed by the discs' key",
        severity=Severity.BLOCKER if ours else Severity.WARNING, where=WHERE,
        answer=Answer.PASS if good else Answer.FAIL,
        evidence=f"key {clear.key_id}, {clear.signature.made:%Y-%m-%d}"
        + ("" if good else ", the text was changed" if ours else ", which is not the pinned one"),
        remediation="" if good else "fetch the file again from the publisher" if ours
        else "compare that key with its owner; the signature was not checked",
    )  # fmt: skip


def _unsigned(listed: dict[str, Sum]) -> Finding:
    return Finding(
        rule="media.sums_signed", title="The checksum file is signed by the discs' key",
        severity=Severity.INFO, answer=Answer.FAIL, where=WHERE,
        evidence=f"{len(listed)} lines, no signature",
        remediation="use the publisher's .asc form of it, where there is one",
    )  # fmt: skip


def _not_listed(medium: Medium) -> Finding:
    """A checksum file that does not name a disc proves nothing of it."""
    return Finding(
        rule="media.sum_listed", title="The checksum file names every disc",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=medium.name,
        evidence="no line of it ends in this file name",
        remediation="give the checksum file of this release, or call the file as it was published",
    )  # fmt: skip


def _disagree(medium: Medium, found: Sum, known: Sum) -> Finding:
    return Finding(
        rule="media.sum_agreed", title="The checksum file says what is known of the disc",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=medium.name,
        evidence=f"it says {found}, known is {known}",
        remediation="one of the two is wrong: fetch the file again from the publisher",
    )  # fmt: skip


def _weak(media: tuple[Medium, ...], chosen: list[Sum | None]) -> list[Finding]:
    return [
        Finding(
            rule="media.sum_strong", title="The checksum can't be forged",
            severity=Severity.INFO, answer=Answer.FAIL, where=medium.name,
            evidence=f"{sum_.algorithm} finds damage, not intent; packages have their signatures",
            remediation="give the publisher's sha256sum.txt, where there is one",
        )
        for medium, sum_ in zip(media, chosen, strict=True)
        if sum_ and sum_.algorithm not in STRONG
    ]  # fmt: skip
