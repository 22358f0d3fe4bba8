"""Known installation media (catalogue.yml): what a disc must be that calls itself one of them.

It speaks only of discs signed by the publisher's own key: whoever pins another key has other discs.
An unknown disc is no fault, for tables are never complete.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Literal

from core.documents import Document, parse
from core.rules import Finding, Outcome, Rule, Severity, failed, judge, passed
from isomirror.media import Medium
from isomirror.sums import STRENGTH, Sum

Trust = Literal["confirmed", "single"]


class KnownSum(Document):
    """A digest of the whole file, and who says so."""

    algorithm: Literal["md5", "sha1", "sha256"]
    value: str
    trust: Trust
    source: str


class KnownRelease(Document):
    """The first line of .discinfo, the same on all discs of a release."""

    release: str
    arch: str
    disc_id: str
    trust: Trust
    source: str


class Told(Document):
    """Who says so, and how surely."""

    trust: Trust
    source: str


class KnownMedium(Document):
    """One disc as it was published. Sizes are bytes; ``volume_size`` is the descriptor's; ``facts``
    says who tells them and the volume id."""

    file: str
    release: str
    arch: str
    kind: Literal["dvd", "minimal", "netinstall", "livedvd"]
    disc: int = 0
    size: int = 0
    volume: str = ""
    volume_size: int = 0
    facts: Told | None = None
    sums: tuple[KnownSum, ...] = ()


class Catalogue(Document):
    """catalogue.yml; ``key`` is the publisher's."""

    version: Literal[1]
    key: str
    releases: tuple[KnownRelease, ...]
    media: tuple[KnownMedium, ...]


@cache
def catalogue() -> Catalogue:
    """What the product knows."""
    raw = files("isomirror").joinpath("catalogue.yml").read_bytes()
    return parse(raw, Catalogue, "isomirror/catalogue.yml")


def known(medium: Medium) -> KnownMedium | None:
    """The entry of the disc that ``medium`` says it is, by its marks, or else by its name."""
    for entry in catalogue().media:
        marks = (entry.release, entry.arch, (entry.disc,))
        if entry.kind == "dvd" and marks == (medium.release, medium.arch, medium.discs):
            return entry
    return next((entry for entry in catalogue().media if entry.file == medium.name), None)


def known_sum(medium: Medium, fingerprint: str) -> Sum | None:
    """The strongest confirmed digest of the disc; a single source's is not held against it."""
    entry = known(medium) if fingerprint == catalogue().key else None
    found = [known for known in entry.sums if known.trust == "confirmed"] if entry else []
    found.sort(key=lambda known: STRENGTH.index(known.algorithm))
    return Sum(found[-1].algorithm, found[-1].value) if found else None


def findings(media: tuple[Medium, ...], fingerprint: str) -> tuple[Finding, ...]:
    """What the catalogue says of a set; nothing when another key is pinned."""
    return judge(RULES, media) if fingerprint == catalogue().key else ()


Media = tuple[Medium, ...]


def _listed(media: Media) -> Iterator[Outcome]:
    for medium in media:
        entry = known(medium)
        if entry is None:
            seen = f"{medium.release or '?'} {medium.arch} disc {medium.discs or '?'}"
            yield failed(f"no entry for {seen}", where=medium.name)
        elif entry.kind != "dvd":
            yield failed(f"it is the {entry.kind} medium of {entry.release}", where=medium.name)
        else:
            sums = ", ".join(f"{s.algorithm} {s.trust}" for s in entry.sums) or "no checksum"
            yield passed(f"{entry.file}: known are {sums}", where=medium.name)


def _disc_id(media: Media) -> Iterator[Outcome]:
    for medium in media:
        owner = [r for r in catalogue().releases if r.disc_id == medium.disc_id]
        own = [
            r for r in catalogue().releases
            if (r.release, r.arch) == (medium.release, medium.arch)
        ]  # fmt: skip
        if owner and not own:
            yield failed(f"{medium.disc_id} is {owner[0].release}'s", where=medium.name)
        elif own and own[0].disc_id != medium.disc_id:
            theirs = f"{owner[0].release}'s" if owner else f"not {own[0].release}'s"
            yield failed(f"{medium.disc_id or 'none'} is {theirs}", where=medium.name)
        else:
            yield passed(medium.disc_id or "none", where=medium.name)


def _size(media: Media) -> Iterator[Outcome]:
    for medium in media:
        entry = known(medium)
        if entry is None:
            continue
        wrong = [
            f"{name} is {seen}, known is {wanted}"
            for name, seen, wanted in (
                ("the volume's size", medium.volume_size, entry.volume_size),
                ("the volume id", medium.volume, entry.volume),
                ("the file's size", medium.size, entry.size),
            )
            if wanted and seen != wanted
        ]
        told = entry.facts.source if entry.facts else ""
        yield (
            failed(f"{'; '.join(wrong)} (by {told})", where=medium.name)
            if wrong
            else passed(told and f"as {told} has it", where=medium.name)
        )


RULES: tuple[Rule[Media], ...] = (
    Rule(
        "media.catalogued", "The disc is among the known ones", Severity.INFO,
        "compare its checksum with the publisher's: give the publisher's file with --sums", _listed,
    ),
    Rule(
        "media.disc_id_known", "The disc id is that of its release", Severity.BLOCKER,
        "the disc was made by somebody else: take an original, or pin its maker's key", _disc_id,
    ),
    Rule(
        "media.size_known", "Volume and size are as published", Severity.WARNING,
        "this may not be the publisher's disc: compare it with the publisher's checksum file",
        _size,
    ),
)  # fmt: skip
