"""Facts about disks that belong together: paths to one LUN, members of one RAID set; and which of
them a BIOS can start."""

import re

from core.facts.fact import Fact, Unreadable, clean, number, path, word
from core.facts.machine import Array, Member, Multipath

# Only the two kinds of table that are read here leave the server: others may carry keys.
MULTIPATH = r"""
grep device-mapper /proc/devices >/dev/null || exit 0
t=`dmsetup table` || exit $?
printf '%s\n' "$t" | sed -n '/ multipath /s/^/table\t/p; / linear /s/^/table\t/p'
dmsetup info -c --noheadings -o name,major,minor,uuid 2>/dev/null | sed 's/^ */info\t/'
for d in /sys/block/*/dev; do
  n=${d%/dev}
  v=; test -r $d && read -r v <$d && printf 'device\t%s\t%s\n' "${n##*/}" "$v"
done
exit 0
"""
# What udev knows costs no read; scsi_id asks the disk, and EL4 and EL5 name it otherwise.
WWIDS = r"""
test -d /sys/block || exit 3
for d in /sys/block/sd*; do
  test -r $d/device/type && test "`cat $d/device/type`" = 0 || continue
  n=${d##*/}
  w=`cat $d/device/wwid 2>/dev/null`
  test -n "$w" || w=`{ udevadm info --query=property --name=$n || udevinfo -q env -n $n
    } 2>/dev/null | sed -n 's/^ID_SERIAL=//p'`
  for p in /lib/udev/scsi_id /sbin/scsi_id; do
    for a in "-d /dev/$n" "-s /block/$n"; do
      test -z "$w" && test -x $p && w=`$p -g -u $a 2>/dev/null | head -n 1`
    done
  done
  test -n "$w" && printf '%s\t%s\n' "$n" "$w"
done
exit 0
"""
MD = r"""
test -e /proc/mdstat || exit 0
cat /proc/mdstat
for s in /sys/block/md*/md/dev-*/state; do
  test -r $s && printf '%s %s\n' $s "`cat $s`"
done
exit 0
"""
# A passive path shows no partitions, and reading it would leave errors in the server's log.
BOOT_CODE = r"""
test -d /sys/block || exit 3
for d in /sys/block/*; do
  n=${d##*/}
  case $n in sd*|hd*|vd*|xvd*|nvme*|cciss*|rd*|ida*|i2o*) ;; *) continue ;; esac
  test -r /proc/ide/$n/media && test "`cat /proc/ide/$n/media`" != disk && continue
  set -- $d/${n}[0-9p]*
  test -d "$1" || continue
  dd if=/dev/`echo $n | tr ! /` bs=512 count=1 2>/dev/null |
    grep -a 'GRUB\|LILO' >/dev/null && echo $n
done
exit 0
"""

# Names that no two LUNs share. Other kinds of serial number are the same in many cheap disks.
NAMES = (
    (re.compile(r"(?:naa\.|3)([0-9a-f]{16}|[0-9a-f]{32})"), "3"),
    (re.compile(r"(?:eui\.|2)([0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32})"), "2"),
)
INFO = re.compile(r"([^\s:]+)[:\s]+(\d+)[:\s]+(\d+)[:\s]*(\S*)")
MEMBER = re.compile(r"(\S+?)\[(\d+)\]((?:\([A-Z]\))*)")
SYSFS = re.compile(r"/sys/block/([^/\s]+)/md/dev-(\S+)/state (\S*)")
BUSY = re.compile(r"\b(recovery|resync|reshape|check|repair) ?=")
UNSAID = "unsaid"


def _multipath(text: str) -> tuple[Multipath, ...]:
    tables: list[tuple[str, list[str]]] = []
    numbers: dict[str, str] = {}  # major:minor → name of the disk, or of the mapped device
    uuids: dict[str, str] = {}
    for line in text.splitlines():
        kind, tab, rest = line.partition("\t")
        if kind == "table" and tab:
            name, _, table = rest.partition(": ")
            tables.append((name, table.split()))
        elif kind == "device":
            name, _, device = rest.partition("\t")
            numbers.setdefault(device.strip(), word(name))
        elif kind == "info":
            if found := INFO.fullmatch(rest.strip()):
                numbers[f"{found[2]}:{found[3]}"] = found[1]
                uuids[found[1]] = found[4]
        else:
            raise Unreadable(f"{clean(line)!r} is no table")
    parts = {name: _parent(name, table, numbers, uuids) for name, table in tables}
    return tuple(
        Multipath(
            name=word(name),
            wwid=uuids.get(name, "").removeprefix("mpath-")[:128],
            size=number(table[1], 2**54) * 512,
            disks=tuple(numbers[part] for part in table if part in numbers),
            partitions=tuple(word(part) for part, whole in parts.items() if whole == name),
        )
        for name, table in tables
        if table[2] == "multipath"
    )


def _parent(name: str, table: list[str], numbers: dict[str, str], uuids: dict[str, str]) -> str:
    """The mapped device that ``name`` is a partition of, as kpartx makes them; else nothing."""
    if table[2] != "linear":
        return ""
    parent, kind = numbers.get(table[3], ""), uuids.get(name, "")
    named = not kind and name.startswith(parent)
    return parent if named or kind.startswith("part") else ""


def wwid(text: str) -> str:
    """A disk's name for life, as scsi_id writes it; empty for what may not be unique."""
    for pattern, kind in NAMES:
        if found := pattern.fullmatch(text.strip().lower()):
            return kind + found[1]
    return ""


def _wwids(text: str) -> dict[str, str]:
    pairs = [line.partition("\t") for line in text.splitlines()]
    if not all(tab for _, tab, _ in pairs):
        raise Unreadable("a name and a WWID are expected")
    return {word(name): wwid(value) for name, _, value in pairs if wwid(value)}


def _md(text: str) -> tuple[Array, ...]:
    arrays: list[Array] = []
    states: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        if found := SYSFS.fullmatch(line):
            states[found[1], _device(found[2])] = found[3]
        elif found := re.match(r"(md\S*) : (.*)", line):
            arrays.append(_array(word(found[1]), found[2]))
        elif arrays and line.startswith(" "):
            arrays[-1] = arrays[-1].model_copy(update=_more(line))
    return tuple(_stated(array, states) for array in arrays)


def _array(name: str, line: str) -> Array:
    words = re.sub(r"\([a-z-]+\)", "", line).split()  # (auto-read-only)
    active = words[:1] == ["active"]
    return Array(
        name=name,
        active=active,
        level=clean(words[1], 32) if active and len(words) > 1 and "[" not in words[1] else "",
        members=tuple(
            Member(path=_device(found[1]), slot=number(found[2], 65536), state=_flag(found[3]))
            for entry in words
            if (found := MEMBER.fullmatch(entry))
        ),
    )


def _flag(flags: str) -> str:
    return "faulty" if "(F)" in flags else "spare" if "(S)" in flags else UNSAID


def _more(line: str) -> dict[str, object]:
    """What a line below an array's first adds to it."""
    update: dict[str, object] = {}
    if found := re.search(r"\[(\d{1,5})/\d+\] \[([U_]+)\]", line):
        update = {"legs": int(found[1]), "up": found[2][:64]}
    if found := BUSY.search(line):
        update["busy"] = found[1]
    if "super external" in line:
        update["external"] = True
    return update


def _stated(array: Array, states: dict[tuple[str, str], str]) -> Array:
    """The kernel's word about each member; before 2.6.18 there is only mdstat to go by."""
    sure = _sure(array)
    members = []
    for member in array.members:
        flags = states.get((array.name, member.path), "").split(",")
        said = next((one for one in ("faulty", "in_sync", "spare") if one in flags), "")
        if not said and member.state == UNSAID and sure:
            said = "in_sync"
        members.append(member.model_copy(update={"state": said or member.state}))
    return array.model_copy(update={"members": tuple(members)})


def _sure(array: Array) -> bool:
    """Whether every member that is not marked is in step. The number in brackets is no sure place
    among the U: only where all that are left are meant."""
    unsaid = [member for member in array.members if member.state == UNSAID]
    rebuilt = array.busy in ("recovery", "reshape")
    return array.active and not rebuilt and len(unsaid) == array.up.count("U")


def _device(name: str) -> str:
    return path(f"/dev/{name.replace('!', '/')}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(word(line.strip()) for line in text.splitlines() if line.strip())


multipath: Fact[tuple[Multipath, ...]] = Fact(
    "multipath", "multipath devices", ("sh", "-c", MULTIPATH), _multipath, without=()
)
wwids = Fact("wwids", "names that disks keep on every path", ("sh", "-c", WWIDS), _wwids)
md = Fact("md", "software RAID sets", ("sh", "-c", MD), _md)
boot_code = Fact("boot_code", "disks with a boot loader", ("sh", "-c", BOOT_CODE), _names)
