"""Names that fstab and the boot loader give to disks: which of them the domain will know.

The conversion rewrites hd, sd and xvd by their order: what is the first disk's name becomes the
first disk's new one. All other names stay as they are.
"""

import re
from collections.abc import Iterable

from core.rules import Outcome, Rule, Severity
from migrate.reading import on, reading
from migrate.rules.subject import Subject, each, needs, one
from migrate.source import SourceHost

KERNEL = re.compile(r"/dev/(?:xv|[hsv])d([a-z]+)\d*")
# Controllers with names of their own.
CONTROLLER = re.compile(r"/dev/((cciss|rd|ida|i2o)/\S+|nvme\d+n\d+(p\d+)?)")
ARGUMENT = re.compile(r"\b(?:root|resume)=(/dev/\S+)")


def _entries(host: SourceHost, *, swap: bool) -> list[tuple[str, str]]:
    """(device, place) of fstab's lines for swap, or for all else."""
    lines = ((line.text.split(), line.path) for line in host.fstab)
    return [(words[0], where) for words, where in lines if (words[2:3] == ["swap"]) is swap]


def _maps(host: SourceHost) -> set[str]:
    names = [name for each in host.multipaths for name in (each.name, *each.partitions)]
    return {f"/dev/{folder}/{name}" for folder in ("mapper", "mpath") for name in names}


def _lost(host: SourceHost) -> list[tuple[str, str]]:
    """(name, place) of what the domain needs to start and won't find by that name."""
    named = _entries(host, swap=False)
    named += [(name, "kernel arguments") for name in ARGUMENT.findall(host.boot.cmdline)]
    maps = _maps(host)
    return [
        (name, where)
        for name, where in dict.fromkeys(named)
        if name in maps or CONTROLLER.fullmatch(name) or _moved(host, name)
    ]


def _moved(host: SourceHost, name: str) -> bool:
    """Whether the disk of this name gets another letter, for disks before it are left out."""
    letter = KERNEL.fullmatch(name)
    known = [disk.path for disk in host.disks if not disk.removable]
    if letter is None or not any(on(name, disk) for disk in known):
        return False
    units = reading(host).units
    places = (n for n, unit in enumerate(units) if any(on(name, d.path) for d in unit.disks))
    return letter[1] != chr(ord("a") + next(places, -1))


@needs("fstab", "boot", "multipath", "disks")
def _names_lost(subject: Subject) -> Iterable[Outcome]:
    return each(_lost(subject.host))


@needs("fstab")
def _names(subject: Subject) -> Outcome:
    lost = [name for name, _ in _lost(subject.host)]
    names = (name for name, _ in _entries(subject.host, swap=False) if KERNEL.fullmatch(name))
    return one(name for name in names if name not in lost)


@needs("fstab")
def _swap_names(subject: Subject) -> Outcome:
    maps = _maps(subject.host)
    names = (name for name, _ in _entries(subject.host, swap=True))
    return one(
        name
        for name in names
        if KERNEL.fullmatch(name) or CONTROLLER.fullmatch(name) or name in maps
    )


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "storage.names_lost",
        "Names are in use that the domain's disks will not have",
        Severity.BLOCKER,
        "Write UUID= or LABEL= into /etc/fstab, and root=UUID= or a volume's name into the boot "
        "loader's configuration; start the server once with that if you can, discover again.",
        _names_lost,
    ),
    Rule(
        "storage.device_names",
        "fstab names disks by their kernel names",
        Severity.INFO,
        "Nothing must be done: the conversion rewrites them. Better is UUID= in /etc/fstab.",
        _names,
    ),
    Rule(
        "storage.swap_by_name",
        "Swap is named by its kernel name",
        Severity.INFO,
        "Check `swapon -s` in the rehearsal; a name that changed leaves the domain without swap.",
        _swap_names,
    ),
)
