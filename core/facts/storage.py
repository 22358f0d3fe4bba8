"""Facts about disks and what lies on them. /sys and /proc first: they need no tools."""

import re
from dataclasses import dataclass

from core.facts.fact import Fact, Unreadable, clean, number, path, records, rows, word
from core.facts.machine import Disk, Filesystem, LogicalVolume, Partition, VolumeGroup

# No udevadm on EL5: its serial numbers stay empty there, which no rule relies on. And no `cat`
# where `read` does: a process costs an old server more than its file.
DISKS = """
test -d /sys/block || exit 3
for d in /sys/block/*; do
  n=${d##*/}
  case $n in ram*|loop*|zram*|nbd*|fd*) continue ;; esac
  for k in size removable queue/logical_block_size queue/hw_sector_size device/vendor \
    device/model device/type; do
    test -r $d/$k || continue
    v=; IFS= read -r v <$d/$k; printf '%s\\t%s\\t%s\\n' "$n" $k "$v"
  done
  test -r /proc/ide/$n/media && printf '%s\\tmedia\\t%s\\n' "$n" "`cat /proc/ide/$n/media`"
  test -e $d/device/driver && printf '%s\\tdriver\\t%s\\n' "$n" "`readlink $d/device/driver`"
  s=`udevadm info --query=property --name="$n" 2>/dev/null | sed -n 's/^ID_SERIAL_SHORT=//p'`
  test -n "$s" && printf '%s\\tserial\\t%s\\n' "$n" "$s"
done
exit 0
"""
PARTITIONS = """
test -d /sys/block || exit 3
for p in /sys/block/*/*/start; do
  test -r $p || continue
  d=${p%/start}; n=${d##*/}; o=${d%/*}
  printf '%s\\tdisk\\t%s\\n' "$n" "${o##*/}"
  for k in start size partition; do
    v=; test -r $d/$k && read -r v <$d/$k && printf '%s\\t%s\\t%s\\n' "$n" $k "$v"
  done
done
exit 0
"""
DF = "df -P -k -l"
INODES = "df -P -i -l"
VGS = "vgs --noheadings --nosuffix --units b --separator | -o vg_name,vg_size,vg_free,vg_attr"
LVS = "lvs --noheadings --nosuffix --units b --separator | -o vg_name,lv_name,lv_size,lv_attr"

# md also names its arrays md_d0 and md_home; nvme0c0n1 is one path of nvme0n1.
NO_DISK = re.compile(r"(ram|loop|sr|scd|fd|dm-|nbd|zram|mtdblock|drbd|st)\d*|md\S*|nvme\d+c\d+n\d+")
REMOTE = ("nfs", "nfs4", "cifs", "smbfs", "ncpfs", "afs", "glusterfs", "fuse.glusterfs",
          "fuse.sshfs", "lustre", "ceph", "9p")  # fmt: skip
TYPE_DISK = "0"


@dataclass(frozen=True, slots=True)
class Space:
    """Room in one mounted file system, in bytes (or inodes)."""

    size: int
    used: int
    available: int


def _disks(text: str) -> tuple[Disk, ...]:
    found = records(text)
    disks = [_disk(name, values) for name, values in found.items() if _is_disk(name, values)]
    if not disks:
        raise Unreadable("no disk is listed")
    return tuple(disks)


def _is_disk(name: str, values: dict[str, str]) -> bool:
    return (
        not NO_DISK.fullmatch(name)
        and values.get("device/type", TYPE_DISK) == TYPE_DISK
        and values.get("media", "disk") == "disk"
        and values.get("size", "0") != "0"
    )


def _disk(name: str, values: dict[str, str]) -> Disk:
    sector = values.get("queue/logical_block_size") or values.get("queue/hw_sector_size") or "512"
    return Disk(
        name=name,
        path=_device(name),
        size=number(values["size"], 2**54) * 512,  # /sys counts in 512 bytes on any disk
        sector=number(sector, 65536),
        model=clean(f"{values.get('device/vendor', '')} {values.get('device/model', '')}"),
        serial=clean(values.get("serial", ""), 64),
        driver=clean(values.get("driver", "").rpartition("/")[2], 64),
        removable=values.get("removable") == "1",
    )


def _device(name: str) -> str:
    return path(f"/dev/{name.replace('!', '/')}")  # cciss!c0d0 is /dev/cciss/c0d0


def _partitions(text: str) -> tuple[Partition, ...]:
    return tuple(
        Partition(
            disk=word(values["disk"]),
            path=_device(name),
            number=_partition_number(name, values),
            start=number(values["start"], 2**54) * 512,
            size=number(values["size"], 2**54) * 512,
        )
        for name, values in records(text).items()
        if not NO_DISK.fullmatch(values.get("disk", ""))
    )


def _partition_number(name: str, values: dict[str, str]) -> int:
    if "partition" in values:
        return number(values["partition"], 4096)
    tail = re.search(r"(\d+)$", name)  # before 2.6.28 the name alone tells
    if tail is None:
        raise Unreadable(f"{name} has no number")
    return number(tail[1], 4096)


def _groups(text: str) -> tuple[VolumeGroup, ...]:
    return tuple(
        VolumeGroup(
            name=word(name),
            size=number(size),
            free=number(free),
            partial=attributes[3:4] == "p",
            clustered=attributes[5:6] == "c",
        )
        for name, size, free, attributes in _columns(text)
    )


def _volumes(text: str) -> tuple[LogicalVolume, ...]:
    return tuple(
        LogicalVolume(
            group=word(group),
            name=word(name),
            path=path(f"/dev/{group}/{name}"),
            size=number(size),
            kind=attributes[:1] or "-",
        )
        for group, name, size, attributes in _columns(text)
    )


def _columns(text: str) -> list[list[str]]:
    lines = [
        [part.strip() for part in line.split("|")] for line in text.splitlines() if "|" in line
    ]
    if any(len(line) != 4 for line in lines):
        raise Unreadable("four columns are expected")
    return lines


def unescaped(text: str) -> str:
    """A path as /proc/mounts writes it: blanks and backslashes as octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _mounts(text: str) -> tuple[Filesystem, ...]:
    found: dict[str, Filesystem] = {}
    for words in rows(text):
        if len(words) < 4:
            raise Unreadable("a mount has at least four words")
        device, kind = unescaped(words[0]), word(words[2])
        remote = kind in REMOTE
        if not remote and not device.startswith("/dev/"):
            continue
        mountpoint = path(unescaped(words[1]))
        found[mountpoint] = Filesystem(
            device=clean(device),
            mountpoint=mountpoint,
            kind=kind,
            options=tuple(clean(option, 100) for option in words[3].split(",")[:50]),
            remote=remote,
        )  # the later mount hides the earlier
    if "/" not in found:
        raise Unreadable("no file system is mounted on /")
    return tuple(found.values())


def _space(text: str, unit: int) -> dict[str, Space]:
    found = {}
    for words in list(rows(text))[1:]:
        if len(words) < 6 or not words[0].startswith("/dev/"):
            continue
        size, used, free = ("0" if part == "-" else part for part in words[1:4])
        free = "0" if free.startswith("-") else free  # ext keeps blocks for root: below zero
        found[path(" ".join(words[5:]))] = Space(
            *(number(part, 2**50) * unit for part in (size, used, free))
        )
    if not found:
        raise Unreadable("no file system is listed")
    return found


def room(text: str) -> Space:
    """The one file system that `df` was asked about, of whatever device it is."""
    words = text.splitlines()[1].split()
    return Space(*(number(part, 2**50) * 1024 for part in words[1:4]))


def _blkid(text: str) -> dict[str, tuple[str, str]]:
    """Device → kind and UUID."""
    found = {}
    for line in text.splitlines():
        device, colon, rest = line.partition(":")
        if not colon:
            raise Unreadable(f"{clean(line)!r} names no device")
        values = dict(re.findall(r'\b(TYPE|UUID)="([^"]{0,100})"', rest))
        found[path(device)] = (clean(values.get("TYPE", "")), clean(values.get("UUID", "")))
    return found


def _swaps(text: str) -> tuple[str, ...]:
    return tuple(path(unescaped(words[0])) for words in list(rows(text))[1:])


disks = Fact("disks", "whole disks", ("sh", "-c", DISKS), _disks)
partitions = Fact("partitions", "partitions", ("sh", "-c", PARTITIONS), _partitions)
groups: Fact[tuple[VolumeGroup, ...]] = Fact(
    "volume_groups", "LVM volume groups", tuple(VGS.split()), _groups, without=()
)
volumes: Fact[tuple[LogicalVolume, ...]] = Fact(
    "logical_volumes", "LVM logical volumes", tuple(LVS.split()), _volumes, without=()
)
mounts = Fact("mounts", "what is mounted where", ("cat", "/proc/mounts"), _mounts)
# -l keeps df from hanging on a dead NFS server; df answers 1 when one of many can't be read.
space = Fact(
    "space",
    "room in file systems",
    tuple(DF.split()),
    lambda text: _space(text, 1024),
    codes=(0, 1),
)
inodes = Fact(
    "inodes", "free inodes", tuple(INODES.split()), lambda text: _space(text, 1), codes=(0, 1)
)
# -c /dev/null: no cache is read, and none written on the source.
blkid = Fact(
    "blkid", "kinds and UUIDs of what lies on devices", ("blkid", "-c", "/dev/null"), _blkid
)
swaps = Fact("swaps", "swap in use", ("cat", "/proc/swaps"), _swaps)
