"""LVM's snapshots on the source: room for them, how full they are, and taking them away."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from core.errors import Blocked, OutsideFailed
from core.ports import Host
from core.quantities import MIB, size

PREFIX = "groundlift-"
LEAST = 64 * MIB
SAFETY = 2.0
SHARE = 0.05  # of a volume, where its rate of change was never measured
OVERHEAD = 1.02  # a snapshot keeps a table beside the data
VOLUMES = (
    *("lvs", "--noheadings", "--nosuffix", "--units", "b", "--separator", "|"),
    *("-o", "vg_name,lv_name,lv_uuid,lv_size,lv_kernel_major,lv_kernel_minor"),
)
GROUPS = (
    *("vgs", "--noheadings", "--nosuffix", "--units", "b", "--separator", "|"),
    *("-o", "vg_name,vg_extent_size,vg_free_count"),
)
STATE = ("lvs", "--noheadings", "--separator", "|", "-o", "vg_name,lv_name,lv_attr,snap_percent")


@dataclass(frozen=True, slots=True)
class Volume:
    """A mounted logical volume; ``extents`` are what its snapshot gets."""

    group: str
    name: str
    uuid: str
    mountpoint: str
    extents: int

    @property
    def snapshot(self) -> str:
        """As LVM names it: group/volume."""
        return f"{self.group}/{PREFIX}{self.name}"


Entry = tuple[str, str, str, int]  # group, name, UUID, bytes


def drop(source: Host, names: Sequence[str]) -> list[str]:
    """Remove snapshots; the commands that failed. Only what carries our name."""
    failed, there = [], _states(source) if names else {}
    for name in names:
        if name in there and name.partition("/")[2].startswith(PREFIX):
            argv = ("lvremove", "-f", name)
            if source.run(argv, timeout=300).code:
                failed.append(" ".join(argv))
    return failed


def overflow(source: Host, names: Sequence[str], limit: float) -> OutsideFailed | None:
    """What is to be said when one of the snapshots is gone, invalid or as full as ``limit``."""
    there = _states(source) if names else {}
    for name in names:
        used = there.get(name, 100.0)
        if used >= limit:
            what = "is gone" if name not in there else f"is {used:.0f} % full"
            return OutsideFailed(
                f"the snapshot {name} {what}: the server wrote more than it can hold",
                hint="at a quieter hour, with more free space in the volume group, or with "
                "`rehearse: stopped` in plan.yml",
                where=source.name,
            )
    return None


@contextmanager
def understood(source: Host) -> Iterator[None]:
    """Raises OutsideFailed where LVM's words are not what they must be."""
    try:
        yield
    except (ValueError, IndexError, ZeroDivisionError) as fault:
        raise OutsideFailed(
            "what LVM says there can't be understood",
            hint="look at `lvs` and `vgs` on the server; or `rehearse: stopped` in plan.yml",
            where=source.name,
        ) from fault


def _states(source: Host) -> dict[str, float]:
    """Per cent used of every snapshot on the server; an invalid one is full."""
    done = source.run(STATE, timeout=120)
    if done.code:
        raise OutsideFailed(f"lvs: {last_word(done.stderr)}", where=source.name)
    found = {}
    with understood(source):
        for line in done.text.splitlines():
            group, name, attributes, used = (part.strip() for part in line.split("|"))
            if attributes[:1] in ("s", "S"):
                broken = attributes[:1] == "S" or attributes[4:5] in ("I", "S")
                found[f"{group}/{name}"] = 100.0 if broken else float(used or 0)
    return found


def volume_of(source: Host, mountpoint: str) -> Entry | None:
    """(group, name, UUID, bytes) of the logical volume mounted there; by its device number, for
    its names are many."""
    done = source.run(("stat", "-c", "%d", mountpoint))
    listed = source.run(VOLUMES)
    if done.code or listed.code:
        return None
    number = int(done.text)
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    for line in listed.text.splitlines():
        group, name, uuid, length, *place = (part.strip() for part in line.split("|"))
        if place == [str(major), str(minor)]:
            return group, name, uuid, int(length)
    return None


def room(source: Host, volumes: Mapping[str, Entry], change: float | None) -> list[Volume]:
    """The volumes with what their snapshots get: all need is met, and what is free is shared."""
    free, result = {}, []
    for line in source.run(GROUPS).text.splitlines():
        name, *numbers = (part.strip() for part in line.split("|"))
        free[name] = (int(numbers[0]), int(numbers[1]))
    for group in sorted({entry[0] for entry in volumes.values()}):
        extent, count = free.get(group, (1, 0))
        here = {path: entry for path, entry in volumes.items() if entry[0] == group}
        most = {path: _extents(entry[3] * OVERHEAD, extent) for path, entry in here.items()}
        needs = {
            path: min(most[path], _extents(_need(entry[3], change), extent))
            for path, entry in here.items()
        }
        if sum(needs.values()) > count:
            raise Blocked(
                f"volume group {group} has {size(count * extent)} free, its snapshots need "
                f"{size(sum(needs.values()) * extent)}",
                hint="free some, come at a quieter hour, or `rehearse: stopped` in plan.yml",
                where=source.name,
            )
        share = (count - sum(needs.values())) // len(here)
        result += [
            Volume(group, entry[1], entry[2], path, min(most[path], needs[path] + share))
            for path, entry in here.items()
        ]
    return result


def _need(length: int, change: float | None) -> float:
    return max(LEAST, SHARE * length if change is None else SAFETY * change)


def _extents(length: float, extent: int) -> int:
    return max(1, -int(-length // extent))


def last_word(raw: bytes) -> str:
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no word of why"
