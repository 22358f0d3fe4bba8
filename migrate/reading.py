"""What is read of a server's disks: each LUN once, whatever paths lead to it, and of a mirror one
leg. In doubt every disk is read, as it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrate.source import Array, Disk, Multipath, Partition, SourceHost

MIRROR = "raid1"
CONTAINER = 1024  # bytes that the kernel shows of an extended partition
UNSETTLED = ("resync", "reshape")  # which leg is right is not decided yet


@dataclass(frozen=True, slots=True)
class Unit:
    """A disk as the plan reads it. ``disks`` are the server's names for it, one for each path;
    ``map`` is what the server itself reads it through."""

    source: str
    size: int
    disks: tuple[Disk, ...]
    map: Multipath | None = None

    @property
    def name(self) -> str:
        """As it can stand in a file name."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.map.name if self.map else self.disks[0].name)

    @property
    def boots(self) -> bool:
        """Whether a BIOS finds a boot loader on it."""
        return any(disk.boots for disk in self.disks)


@dataclass(frozen=True, slots=True)
class Leg:
    """A disk that is left out, for all on it lies on ``kept`` too."""

    left: Unit
    kept: Unit
    arrays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """``units`` are read. ``doubts`` are (what speaks against it, where) of disks with one WWID."""

    units: tuple[Unit, ...]
    legs: tuple[Leg, ...]
    doubts: tuple[tuple[str, str], ...]


def reading(host: SourceHost) -> Reading:
    """What the plan of ``host`` reads."""
    disks = [disk for disk in host.disks if not disk.removable]
    units, doubts = _units(host, disks)
    legs = _legs(host, units)
    left = [leg.left for leg in legs]
    return Reading(tuple(unit for unit in units if unit not in left), legs, tuple(doubts))


def _units(host: SourceHost, disks: list[Disk]) -> tuple[list[Unit], list[tuple[str, str]]]:
    units: list[Unit] = []
    doubts: list[tuple[str, str]] = []
    for disk in disks:
        if any(disk in unit.disks for unit in units):
            continue
        active = _map_of(host, disks, disk)
        paths = _paths(host, disks, active) if active else _alike(host, disks, disk)
        why = _doubt(host, paths, active)
        if why:
            doubts.append((why, ", ".join(path.path for path in paths)))
        if active:
            sure = tuple(path for path in paths if not why or path.name in active.disks)
            units.append(Unit(f"/dev/mapper/{active.name}", active.size, sure, active))
        elif why:
            units.append(Unit(disk.path, disk.size, (disk,)))
        else:
            best = max(paths, key=lambda path: _seen(host, path))
            units.append(Unit(best.path, best.size, (best, *(p for p in paths if p != best))))
    return units, list(dict.fromkeys(doubts))


def _map_of(host: SourceHost, disks: list[Disk], disk: Disk) -> Multipath | None:
    """The map that ``disk`` is a path of, or would be without doubt."""
    for active in host.multipaths:
        if disk.name in active.disks:
            return active
    for active in host.multipaths:
        paths = _paths(host, disks, active)
        if disk in paths and not _doubt(host, paths, active):
            return active
    return None


def _paths(host: SourceHost, disks: list[Disk], active: Multipath) -> tuple[Disk, ...]:
    """The disks behind a map, and paths that fell out of it or never came in."""
    own = {disk.wwid for disk in disks if disk.name in active.disks} | {active.wwid}
    others = {name for each in host.multipaths if each != active for name in each.disks}
    return tuple(
        disk
        for disk in disks
        if disk.name in active.disks or (disk.wwid and disk.wwid in own and disk.name not in others)
    )


def _alike(host: SourceHost, disks: list[Disk], disk: Disk) -> tuple[Disk, ...]:
    """The disks that no map has, of one WWID."""
    mapped = {name for each in host.multipaths for name in each.disks}
    return tuple(
        one
        for one in disks
        if one == disk or (one.wwid and one.wwid == disk.wwid and one.name not in mapped)
    )


def _doubt(host: SourceHost, paths: tuple[Disk, ...], active: Multipath | None) -> str:
    """Why these may be no paths to one LUN."""
    sizes = {path.size for path in paths} | ({active.size} if active else set())
    if len(sizes) > 1:
        return f"sizes of {', '.join(str(size) for size in sorted(sizes))} bytes"
    # A passive path can't read its table: none is no contradiction.
    tables = {table for path in paths if (table := _table(host, path))}
    if len(tables) > 1:
        return "different partitions"
    for array in host.md_arrays:
        if sum(any(_on(m.path, path) for m in array.members) for path in paths) > 1:
            return f"both in {array.name}"
    return ""


def _partitions(host: SourceHost, disk: Disk) -> list[Partition]:
    return [part for part in host.partitions if part.disk == disk.name]


def _table(host: SourceHost, disk: Disk) -> tuple[tuple[int, int, int], ...]:
    return tuple((p.number, p.start, p.size) for p in _partitions(host, disk))


def _seen(host: SourceHost, disk: Disk) -> tuple[bool, bool]:
    """Whether the server uses this path, and whether it can read through it at all."""
    used = [fs.device for fs in host.filesystems] + list(host.swaps)
    return any(_on(device, disk) for device in used), bool(_partitions(host, disk))


def _on(device: str, disk: Disk) -> bool:
    return on(device, disk.path)


def on(device: str, disk: str) -> bool:
    """Whether ``device`` is ``disk`` or a partition of it."""
    parted = rf"{re.escape(disk)}p\d+" if disk[-1:].isdigit() else rf"{re.escape(disk)}\d+"
    return device == disk or re.fullmatch(parted, device) is not None


def _legs(host: SourceHost, units: list[Unit]) -> tuple[Leg, ...]:
    """From the last disk on, each that another one stands for. Who has a boot loader stays."""
    ranked = sorted(units, key=lambda unit: not unit.boots)
    legs: list[Leg] = []
    for unit in reversed(ranked):
        left = [leg.left for leg in legs]
        kept = next((o for o in ranked if o != unit and o not in left
                     and not obstacle(host, unit, o)), None)  # fmt: skip
        if kept:
            names = tuple(array.name for array in host.md_arrays if _part_of(array, unit))
            legs.append(Leg(unit, kept, names))
    return tuple(reversed(legs))


def _part_of(array: Array, unit: Unit) -> bool:
    return any(_on(member.path, disk) for member in array.members for disk in unit.disks)


def obstacle(host: SourceHost, left: Unit, kept: Unit) -> str:
    """Why ``kept`` does not stand for ``left``; nothing when all on it lies on both."""
    unknown = [fact for fact in ("md", "partitions") if fact in host.missing]
    if unknown:
        return f"{', '.join(unknown)} unknown"
    if len(left.disks) > 1 or left.map:
        return f"{left.source} is reached over several paths"
    disk = left.disks[0]
    whole = any(member.path == disk.path for array in host.md_arrays for member in array.members)
    parts = [p.path for p in _partitions(host, disk) if p.size > CONTAINER]
    pieces = [disk.path] if whole else parts
    if not pieces:
        return f"{disk.path} has no partitions"
    return next(filter(None, (_uncovered(host, piece, kept) for piece in pieces)), "")


def _uncovered(host: SourceHost, piece: str, kept: Unit) -> str:
    array = next((a for a in host.md_arrays if any(m.path == piece for m in a.members)), None)
    if array is None:
        swap = piece in host.swaps
        return f"{piece} is swap in use" if swap else f"{piece} is no member of a RAID1"
    why = unfit(array)
    if why:
        return f"{piece} is a member of {array.name}: {why}"
    good = [member for member in array.members if member.state == "in_sync"]
    if not any(_on(member.path, disk) for member in good for disk in kept.disks):
        return f"{array.name} has no leg in step on {kept.source}"
    return ""


def unfit(array: Array) -> str:
    """Why no leg of an array can stand for the whole."""
    if not array.active:
        return "it does not run"
    if array.external:
        return "a firmware describes it"
    if array.level != MIRROR:
        return f"{array.level or 'unknown level'}, all members are needed"
    return f"{array.busy} is under way" if array.busy in UNSETTLED else ""


def unsettled(host: SourceHost, found: Reading) -> Iterator[tuple[str, str]]:
    """(why, array) of the arrays of which more than one disk is read, or that can't be judged."""
    for array in host.md_arrays:
        units = [unit for unit in found.units if _part_of(array, unit)]
        why = unfit(array)
        if not why and len(units) > 1:
            why = obstacle(host, units[-1], units[0])
        elif not why and not units:
            why = "its members are no disks or partitions"
        if why:
            yield why, array.name
