"""What reading discs and add-on media came to, as findings."""

from collections.abc import Set
from datetime import datetime
from pathlib import Path

from core.errors import Problem
from core.rules import Answer, Finding, Rule, Severity, failed, judge, unknown
from isomirror import comps, repository
from isomirror.check import DiscCheck
from isomirror.extra import Extra
from isomirror.iso9660 import BadDisc, CutShort
from isomirror.media import Medium
from isomirror.openpgp import KeyRing
from isomirror.release import Disc, choose
from isomirror.repository import Listed

SHOWN = 20  # packages named one by one


def unreadable(image: Path, fault: BadDisc) -> Finding:
    cut = isinstance(fault, CutShort)
    return Finding(
        rule="media.image_whole" if cut else "media.image_readable",
        title="The image is as long as its volume" if cut else "The image can be read",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=image.name, evidence=fault.message,
        remediation="the copy is cut short: copy the disc again" if cut
        else "copy the disc again and compare its checksum; give the DVDs' own ISO files",
    )  # fmt: skip


def key_findings(ring: KeyRing, now: datetime) -> tuple[Finding, ...]:
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


def judged(disc: Disc) -> list[Finding]:
    name = disc.medium.name
    findings = _packages(
        disc.check, name, "copy this disc again; if it stays so, the disc is not the original"
    )
    if disc.check.sum_right is not None:
        right = disc.check.sum_right
        stated = (
            f"listed {disc.check.listed}"
            if disc.check.listed
            else (f"implanted md5 {disc.medium.implanted}")
        )
        findings.append(
            Finding(
                rule="media.sum_right",
                title="The disc is what its publisher's checksum says" if disc.check.listed
                else "The disc's own checksum is right",
                severity=Severity.BLOCKER, answer=Answer.PASS if right else Answer.FAIL, where=name,
                evidence=stated + (f"; {disc.check.sum_fault}" if not right else ""),
                remediation="" if right else "the copy is damaged: copy the disc again",
            )
        )  # fmt: skip
    if not disc.medium.unchanged():
        findings.append(_changed(name))
    return findings


def _packages(check: DiscCheck, where: str, remedy: str) -> list[Finding]:
    if not check.bad:
        return [
            Finding(
                rule="media.package_signed", title="The packages are what their maker signed",
                severity=Severity.BLOCKER, answer=Answer.PASS, where=where,
                evidence=f"{len(check.packages)} packages, key {check.fingerprint}",
            )
        ]  # fmt: skip
    return [
        Finding(
            rule="media.package_signed", title="The package is what its maker signed",
            severity=Severity.BLOCKER, answer=Answer.FAIL,
            where=f"{where}:/{bad.path} at byte {bad.offset}", evidence="; ".join(bad.faults),
            remediation=remedy,
        )
        for bad in check.bad
    ]  # fmt: skip


def _changed(where: str) -> Finding:
    return Finding(
        rule="media.image_still", title="The medium did not change while it was read",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=where,
        evidence="its size, time or inode is another now",
        remediation="let the copy end first, then run again",
    )  # fmt: skip


def set_complete(
    media: tuple[Medium, ...], there: Set[str], listed: Listed | None
) -> tuple[Finding, ...]:
    """Whether a disc is missing that disc 1's own list of packages speaks of. ``there`` are the
    files of all discs. Where .discinfo is silent, only that list tells, and has to."""
    lost = listed.lost_discs(there) if listed else {}
    blank = [medium.name for medium in media if not medium.numbered]
    outcomes = [
        failed(f"disc {number} is not among the images given: disc 1 lists {len(names)} packages "
               f"on it, such as {names[0]}, and none is there")
        for number, names in lost.items()
    ]  # fmt: skip
    if blank and listed is None:
        outcomes.append(unknown(f"{', '.join(blank)} without a number (.discinfo), and disc 1 "
                                "without a list of packages"))  # fmt: skip
    elif blank and listed and not lost and (absent := listed.absent(there)):
        outcomes.append(failed(f"{len(absent)} packages that disc 1 lists are on no image, such as "
                               f"{absent[0]}"))  # fmt: skip
    rule: Rule[None] = Rule(
        "media.set_complete", "The set is complete", Severity.BLOCKER,
        "add the missing disc: the metadata of disc 1 lists packages of every disc",
        lambda _: outcomes,
    )  # fmt: skip
    return judge((rule,), None) if outcomes else ()


def together(discs: tuple[Disc, ...], listed: Listed | None) -> tuple[Finding, ...]:
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
    if repository.comps_right(discs[0].medium, discs[0].index) is False:
        findings.append(
            Finding(
                rule="media.groups_right", title="The groups are what disc 1's own list says",
                severity=Severity.BLOCKER, answer=Answer.FAIL, where=discs[0].medium.name,
                evidence="the comps file and its digest in repomd.xml differ",
                remediation="the copy is damaged, or was changed: copy the disc again",
            )
        )  # fmt: skip
    absent = listed.absent(seen.keys()) if listed and not any(d.check.bad for d in discs) else []
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


def judged_extra(extra: Extra) -> list[Finding]:
    """What an add-on medium came to."""
    name, check = extra.wanted.name, extra.check
    where = f"{name} ({extra.looked.path.name})"
    findings = _packages(check, where, "copy this medium again; if it stays so, the package is not "
                         "of the key's owner")  # fmt: skip
    if check.sum_right is False:
        findings.append(
            Finding(
                rule="addon.sum_right", title="The medium is what its checksum says",
                severity=Severity.BLOCKER, answer=Answer.FAIL, where=where,
                evidence=f"{check.listed or 'implanted md5'}; {check.sum_fault}",
                remediation="copy it again, or give the checksum file that fits it",
            )
        )  # fmt: skip
    findings += [
        Finding(
            rule="addon.sum_right", title="The file is what the checksum file says",
            severity=Severity.BLOCKER, answer=Answer.FAIL, where=f"{where}:/{file}",
            evidence=evidence, remediation="copy it again, or give the checksum file that fits it",
        )
        for file, evidence in extra.sums_wrong
    ]  # fmt: skip
    if extra.sums_absent:
        whole = extra.looked.image is not None  # an image or archive that is not listed at all
        findings.append(
            Finding(
                rule="addon.sum_listed", title="The checksum file names what was added",
                severity=Severity.BLOCKER if whole else Severity.WARNING, answer=Answer.FAIL,
                where=where, evidence=f"{len(extra.sums_absent)} not named: "
                + ", ".join(extra.sums_absent[:5]),
                remediation="give the checksum file of this medium",
            )
        )  # fmt: skip
    if not extra.addon().unchanged():
        findings.append(_changed(where))
    return findings


def groups_readable(discs: tuple[Disc, ...], extras: tuple[Extra, ...]) -> tuple[Finding, ...]:
    """Comps files that can't be read, before anything is written."""
    first = discs[0]
    found = []
    try:
        own = repository.comps(first.medium, first.index)
        comps.unite([(first.medium.name, own)])
    except (comps.BadGroups, BadDisc) as fault:
        found.append(_groups("media.groups_readable", first.medium.name, fault))
    for extra in extras:
        try:
            comps.unite([(extra.wanted.name, extra.groups)] if extra.groups else [])
        except comps.BadGroups as fault:
            found.append(_groups("addon.groups_readable", extra.wanted.name, fault))
    return tuple(found)


def _groups(rule: str, where: str, fault: Problem) -> Finding:
    return Finding(
        rule=rule, title="The groups can be read", severity=Severity.BLOCKER, answer=Answer.FAIL,
        where=where, evidence=fault.message,
        remediation="take an original medium, or one without groups (a comps file)",
    )  # fmt: skip


def doubled(discs: tuple[Disc, ...], extras: tuple[Extra, ...]) -> tuple[Finding, ...]:
    """Packages of one name that are not the same: the one that is published, and the other."""
    chosen = choose(discs, extras)
    found = [
        (extra.wanted.name, item, chosen[item.package.nevra])
        for extra in extras
        for item in extra.items()
        if chosen[item.package.nevra].package.sha256 != item.package.sha256
    ]
    more = f"; {len(found) - SHOWN} more like this" if len(found) > SHOWN else ""
    return tuple(
        Finding(
            rule="addon.package_once", title="A package exists once",
            severity=Severity.WARNING, answer=Answer.FAIL, where=f"{name}:/{item.package.path}",
            evidence=f"{item.package.nevra} is another file as {first.path}, which is the one "
            f"that is published{more}",
            remediation="nothing, if that one is wanted; else add a medium with a newer release",
        )
        for name, item, first in found[:SHOWN]
    )  # fmt: skip
