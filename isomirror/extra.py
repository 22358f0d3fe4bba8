"""An add-on medium that was verified package by package, as a disc is, by its own key and sums."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.errors import BadDocument, OutsideFailed, Problem, UsageProblem
from core.progress import Meter, Report, Unit, track
from core.rules import Answer, Finding, Severity
from isomirror.addon import Addon, Looked, look
from isomirror.check import BadPackage, DiscCheck, Verified, read_disc, recalled
from isomirror.iso9660 import BadDisc, read_extents
from isomirror.openpgp import KeyRing, read_key
from isomirror.repository import ADDONS, Item
from isomirror.sums import Sum, digest, read_sums
from isomirror.verify import Verdict, verify


@dataclass(frozen=True, slots=True)
class Wanted:
    """An add-on medium as it was named. ``sums`` is a checksum file's content, or empty."""

    name: str
    path: Path
    fingerprint: str
    key: bytes
    sums: bytes = b""


@dataclass(frozen=True, slots=True)
class Extra:
    """A medium that was looked at and read to its end."""

    wanted: Wanted
    looked: Looked
    check: DiscCheck
    groups: bytes | None
    sums_wrong: tuple[tuple[str, str], ...]
    sums_absent: tuple[str, ...]

    @property
    def key_file(self) -> str:
        return f"RPM-GPG-KEY-{self.wanted.name}"

    def addon(self) -> Addon:
        """As it stands in published.json."""
        return Addon(
            name=self.wanted.name, path=str(self.looked.path), kind=self.looked.kind,
            identity=self.looked.identity, size=self.looked.size,
            packages=len(self.check.packages), fingerprint=self.wanted.fingerprint,
            key=self.key_file, sums=f"addons/{self.wanted.name}.sums" if self.wanted.sums else "",
        )  # fmt: skip

    def items(self) -> Iterator[Item]:
        """Its packages, by their paths in the repository."""
        for package in self.check.packages:
            place = self.looked.files[package.path]
            path = f"{ADDONS}{self.wanted.name}/{package.path}"
            yield Item(path, place.file, place.extents, package)


def look_at(wanted: tuple[Wanted, ...]) -> tuple[tuple[Looked, ...], tuple[Finding, ...]]:
    """Every medium; one that can't be looked at is a finding."""
    looked, findings = [], []
    for one in wanted:
        try:
            looked.append(look(one.path))
        except (BadDisc, BadDocument, UsageProblem, OutsideFailed) as fault:
            findings.append(_unexaminable(one, fault))
    return tuple(looked), tuple(findings)


def _unexaminable(wanted: Wanted, fault: Problem) -> Finding:
    """The finding about a medium that could not be looked at."""
    return Finding(
        rule="addon.medium_readable", title="The add-on medium can be read",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=f"{wanted.name} ({wanted.path})",
        evidence=fault.message,
        remediation=f"{fault.hint or 'put it right'}; or `groundlift mirror remove {wanted.name}`",
    )  # fmt: skip


def examine(wanted: Wanted, looked: Looked, mirror: Path, report: Report) -> Extra:
    """Read a medium to its end, or recall what reading it came to; what is wrong with packages and
    sums is in the result. Raises BadDocument for a key or a checksum file that is none."""
    ring = read_key(wanted.key, f"the key of {wanted.name}")
    listed = read_sums(wanted.sums, f"the checksums of {wanted.name}") if wanted.sums else {}
    whole = listed.get(looked.path.name) if looked.image else None
    check = _check(looked, ring, mirror, report, whole)
    wrong: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    if listed and looked.image is None:
        wrong, absent = _sums(looked, check, listed, report)
    elif listed and whole is None:
        absent = (looked.path.name,)
    return Extra(wanted, looked, check, looked.groups(), wrong, absent)


def _check(
    looked: Looked, ring: KeyRing, mirror: Path, report: Report, listed: Sum | None
) -> DiscCheck:
    def read() -> DiscCheck:
        if looked.image:
            return read_disc(*looked.image, ring, report, listed)
        return _read_directory(looked, ring, report)

    return recalled(mirror / "checked", looked.identity, ring, listed, read)


def _read_directory(looked: Looked, ring: KeyRing, report: Report) -> DiscCheck:
    with (
        track(report, f"verify {looked.path.name}", looked.size, Unit.BYTES) as meter,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as workers,
    ):
        names = looked.packages
        try:
            verdicts = tuple(workers.map(lambda name: _package(looked, name, ring, meter), names))
        finally:
            workers.shutdown(cancel_futures=True)
    pairs = tuple(zip(names, verdicts, strict=True))
    return DiscCheck(
        identity=looked.identity, fingerprint=ring.primary.fingerprint, sum_right=None,
        packages=tuple(
            Verified(path=n, nevra=v.nevra, size=v.size, sha256=v.sha256, head=len(v.head))
            for n, v in pairs if not v.faults
        ),
        bad=tuple(BadPackage(path=n, offset=0, faults=v.faults) for n, v in pairs if v.faults),
    )  # fmt: skip


def _package(looked: Looked, name: str, ring: KeyRing, meter: Meter) -> Verdict:
    place = looked.files[name]
    try:
        with Path(place.file.path).open("rb") as file:
            verdict = verify(read_extents(file, place.extents), ring)
    except (BadDisc, OSError) as fault:
        said = fault.strerror if isinstance(fault, OSError) else str(fault)
        verdict = Verdict("", place.size, "", b"", (f"can't be read: {said}",))
    meter.advance(verdict.size)
    return verdict


def _sums(
    looked: Looked, check: DiscCheck, listed: dict[str, Sum], report: Report
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What differs from the checksum file, as (file, what), and what it does not name."""
    known = {package.path: package.sha256 for package in check.packages}
    wrong, absent = [], []
    for name in looked.packages:
        path = Path(looked.files[name].file.path)
        expected = listed.get(path.name)
        if expected is None:
            absent.append(name)
            continue
        if expected.algorithm == "sha256" and name in known:
            found = known[name]
        else:
            found = _digest(path, expected.algorithm, report)
        if found != expected.value:
            wrong.append((name, f"{expected.algorithm} is {found}, listed is {expected.value}"))
    return tuple(wrong), tuple(absent)


def _digest(path: Path, algorithm: str, report: Report) -> str:
    try:
        return digest(path, algorithm, report)
    except OSError as fault:
        return f"not known (reading stopped: {fault.strerror})"
