"""Adding an add-on medium to what is published, and taking it out again.

Both publish anew, out of the same discs, which are recalled and not read: either the old repository
is there or the new one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.documents import read_bounded
from core.errors import BadDocument, UsageProblem
from core.progress import Report
from core.rules import Answer, Finding, Severity
from core.state import lock
from isomirror.addon import NAME, look
from isomirror.build import Built, MediaBlocked, Order, carry_out, kept
from isomirror.extra import Wanted
from isomirror.keyfile import alone
from isomirror.media import written
from isomirror.openpgp import BadKey, read_key
from isomirror.release import Published, told, writing
from isomirror.sums import LIMIT, read_sums

RESERVED = ("centos-6",)  # the discs' own key has this name


@dataclass(frozen=True, slots=True)
class Given:
    """An add-on medium as the command names it; what is None is found out."""

    medium: Path
    name: str | None = None
    key: Path | None = None
    fingerprint: str | None = None
    sums: Path | None = None


def add(given: Given, mirror: Path, report: Report, *, dry_run: bool = False) -> Built:
    """Verify a medium and publish it with what is published. Raises MediaBlocked with findings."""
    name, medium = _name(given), written(given.medium.absolute())
    with writing(mirror), lock(mirror / "lock", "the mirror"):
        published = _published(mirror)
        others = [wanted for wanted in kept(mirror) if wanted.name != name]
        for wanted in kept(mirror):
            if wanted.name == name and wanted.path != medium:
                raise UsageProblem(
                    f"another medium is called {name}: {wanted.path}",
                    hint=f"choose a --name, or `groundlift mirror remove {name}` first",
                )
        fingerprint = given.fingerprint or published.fingerprint
        wanted = Wanted(
            name=name, path=medium, fingerprint=fingerprint,
            key=_key(given, fingerprint, mirror, published),
            sums=_sums(given.sums) if given.sums else b"",
        )  # fmt: skip
        return carry_out(_order(published, mirror, (*others, wanted)), mirror, report,
                         dry_run=dry_run)  # fmt: skip


def remove(name: str, mirror: Path, report: Report, *, dry_run: bool = False) -> Built:
    """Publish without the medium of this name."""
    with writing(mirror), lock(mirror / "lock", "the mirror"):
        published = _published(mirror)
        names = [addon.name for addon in published.addons]
        if name not in names:
            raise UsageProblem(
                f"no add-on medium is called {name}",
                hint=f"there {'is' if len(names) == 1 else 'are'}: {', '.join(names) or 'none'}",
            )
        left = tuple(wanted for wanted in kept(mirror) if wanted.name != name)
        return carry_out(_order(published, mirror, left), mirror, report, dry_run=dry_run)


def _published(mirror: Path) -> Published:
    published = told(mirror)
    if published is None:
        raise UsageProblem(
            "nothing is published that a medium could be added to or taken from",
            where=str(mirror), hint="run `groundlift mirror build` with the DVDs first",
        )  # fmt: skip
    return published


def _order(published: Published, mirror: Path, addons: tuple[Wanted, ...]) -> Order:
    images = tuple(Path(medium.path) for medium in published.media)
    key = mirror / "current" / published.key
    sums = _read(mirror / "current" / published.sums, "the sums") if published.sums else b""
    return Order(images, published.fingerprint, key if key.is_file() else None, addons, sums)


def _name(given: Given) -> str:
    stem = re.sub(r"\.(iso|tar)$", "", given.medium.absolute().name.lower())
    name = given.name or re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:40]
    if not NAME.fullmatch(name) or name in RESERVED:
        raise UsageProblem(
            f"{name!r} is no name for a medium",
            hint="give a --name of small letters, digits, `.`, `_` and `-`",
        )
    return name


def _key(given: Given, fingerprint: str, mirror: Path, published: Published) -> bytes:
    """The key that is pinned: the given file, the discs' own, or one that the medium carries."""
    if given.key:
        raw = _read(given.key, "the key")
        found = read_key(raw, str(given.key)).primary.fingerprint
        if given.fingerprint is None:
            raise UsageProblem(
                f"a key counts only when it is pinned: {given.key} is {found}",
                hint="compare that with the publisher's, then give it as --fingerprint",
            )
        if found != fingerprint:
            raise MediaBlocked((_not_pinned(str(given.key), found, fingerprint),))
        return alone(raw)
    if fingerprint == published.fingerprint:
        return _read(mirror / "current" / published.key, "the published key")
    carried = list(_carried(given.medium))
    for _, raw, found in carried:
        if found == fingerprint:
            return alone(raw)
    seen = ", ".join(f"{where} is {found}" for where, _, found in carried)
    raise UsageProblem(
        f"the medium carries no key {fingerprint}" + (f" ({seen})" if seen else ""),
        where=str(given.medium), hint="give the publisher's key with --key FILE",
    )  # fmt: skip


def _carried(medium: Path) -> Iterator[tuple[str, bytes, str]]:
    for where, raw in look(medium).carried_keys():
        try:
            yield where, raw, read_key(raw, where).primary.fingerprint
        except BadKey:
            continue


def _sums(path: Path) -> bytes:
    """A checksum file that holds a sum at least."""
    raw = _read(path, "the checksum file")
    read_sums(raw, str(path))
    return raw


def _read(path: Path, what: str) -> bytes:
    try:
        return read_bounded(path, LIMIT)
    except OSError as fault:
        raise BadDocument(
            f"can't read {what}: {fault.strerror}", where=str(path), hint="look at the file"
        ) from fault


def _not_pinned(where: str, found: str, pinned: str) -> Finding:
    return Finding(
        rule="addon.key_pinned", title="The key is the one that is pinned",
        severity=Severity.BLOCKER, answer=Answer.FAIL, where=where,
        evidence=f"the key is {found}, pinned is {pinned}",
        remediation="compare both with the publisher's: the file or the fingerprint is another's",
    )  # fmt: skip
