"""What of a disk is in use, read from the disk itself.

Every doubt ends in "copy all of it". Joined after wire.py; works on any ``read(offset, length)``.
An area is (start, end, kind, note, walk): walk(start, end) yields used (start, end) in order,
None stands for everything. Memory does not depend on the disk's size. What stands on the disk is
never trusted: a pointer, a count or a length that does not fit ends in Unknown.
"""
import struct
import sys

SECTOR = 512
FAULTS = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError,
          EnvironmentError, OverflowError, RuntimeError, MemoryError)


class Unknown(ValueError):
    """Not understood: all of it must be copied."""


def field(raw, form, at):
    return struct.unpack(form, raw[at:at + struct.calcsize(form)])[0]


def certain(device):
    """The device's ``read`` for maps: zeros in place of sectors that can't be read would say
    "free"."""
    def read(offset, length):
        known = len(device.bad)
        raw = device.read(offset, length)
        if len(device.bad) > known:
            raise Unknown("sectors that can't be read")
        return raw
    return read


def areas(read, size, final):
    """The disk in order, without gaps."""
    return judged(Slice(read, 0, size), "disk", final, True)


def judged(view, name, final, tables):
    """The areas of a disk, a partition or the inside of an array that lies in one piece."""
    start, end = view.base, view.base + view.size
    try:
        leg = member(view)
        if leg is not None and leg.base > view.base:
            return inside(view, leg, final, tables)
        leaves = None
        if tables:
            leaves = partitions(view)
        if leaves is not None:
            return split(view, leaves, final)
        if leg is not None:
            return inside(view, leg, final, False)
        found = signatures(view)
        if found == ["lvm"]:
            return physical(view, final)
        walk, kind, note = content(view, plain(view), final)
        if walk is not None:
            walk = shifted(walk, start, 0)
        return [(start, end, kind, note, walk)]
    except FAULTS:
        return [(start, end, name, "%s, copied whole" % sys.exc_info()[1], None)]


def inside(view, leg, final, tables):
    """The areas of a RAID1 leg: the array's own data around what lies in it."""
    if leg.base > view.base and tables and partitions(view) is not None:
        raise Unknown("a partition table and an array in one place")
    result = judged(leg, "array", final, tables)
    if leg.base > view.base:
        if signatures(view):
            raise Unknown("an array and something else in one place")
        result.insert(0, (view.base, leg.base, "raid metadata", "", None))
    if leg.base + leg.size < view.base + view.size:
        result.append((leg.base + leg.size, view.base + view.size, "raid metadata", "", None))
    return result


def split(view, leaves, final):
    """The areas of a disk with partitions, with the gaps between them."""
    result, at = [], view.base
    for start, end, name in leaves:
        start, end = view.base + start, view.base + end
        if at < start:
            result.append((at, start, "gap", "", None))
        result.extend(judged(Slice(view.source, start, end - start), name, final, False))
        at = end
    if at < view.base + view.size:
        result.append((at, view.base + view.size, "gap", "", None))
    return result


def used(found, low, high):
    """Used (start, end) of areas between two bytes of the disk, in order."""
    for start, end, _, _, walk in found:
        start, end = max(start, low), min(end, high)
        if start >= end:
            continue
        if walk is None:
            yield start, end
        else:
            for first, last in walk(start, end):
                yield first, last


class Slice:
    """A volume that lies in one piece."""

    def __init__(self, source, base, size):
        self.source, self.base, self.size = source, base, size

    def read(self, offset, length):
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Unknown("a pointer leads beyond the end")
        raw = self.source(self.base + offset, length)
        if len(raw) != length:
            raise Unknown("short read")
        return raw


class Pieces(Slice):
    """Something in pieces: sorted (logical, physical, length)."""

    base = 0

    def __init__(self, source, pieces):
        self.source, self.pieces = source, pieces
        self.size = pieces[-1][0] + pieces[-1][2]

    def read(self, offset, length):
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Unknown("a pointer leads beyond the end")
        parts, want = [], length
        for logical, physical, size in self.pieces:
            if want and logical <= offset < logical + size:
                count = min(want, logical + size - offset)
                parts.append(self.source(physical + offset - logical, count))
                offset, want = offset + count, want - count
        raw = NOTHING.join(parts)
        if len(raw) != length:
            raise Unknown("a piece is missing")
        return raw


# --- what lies in a volume --------------------------------------------------------------------

MARKS = (
    ("xfs", 0, "XFSB"), ("ntfs", 3, "NTFS    "), ("LUKS", 0, "LUKS"), ("LVM1", 0, "HM\x01\0"),
    ("btrfs", 65600, "_BHRfS_M"), ("reiserfs", 65588, "ReIsEr"), ("reiserfs", 8244, "ReIsEr"),
    ("JFS", 32768, "JFS1"), ("OCFS2", 8192, "OCFSV2"), ("squashfs", 0, "hsqs"),
    ("an ISO image", 32769, "CD001"), ("ASM", 32, "ORCLDISK"), ("exFAT", 3, "EXFAT   "),
    ("BitLocker", 3, "-FVE-FS-"), ("ReFS", 3, "ReFS\0\0\0\0"),
)
PAGES = (4096, 8192, 16384, 32768, 65536)
SUSPENDED = ("S1SUSPEND\0", "S2SUSPEND\0", "ULSUSPEND\0", "LINHIB0001", "SWAP-SPACE")


def signatures(view):
    """Kinds whose mark is there; more than one is a riddle nobody should solve by guessing."""
    found = []
    if view.size < SECTOR:
        return found
    head = view.read(0, min(view.size, 69632))
    for number in range(4):
        if head[number * 512:number * 512 + 8] == "LABELONE".encode("ascii"):
            found.append("lvm")
    if head[1080:1082] == struct.pack("BB", 0x53, 0xEF):
        found.append("ext")
    for page in PAGES:
        mark = head[page - 10:page]
        if mark == "SWAPSPACE2".encode("ascii"):
            found.append("swap")
        if mark in [word.encode("ascii") for word in SUSPENDED]:
            found.append("a suspended system")
    for kind, at, mark in MARKS:
        if head[at:at + len(mark)] == mark.encode("ascii"):
            found.append(kind)
    if fat_mark(head):
        found.append("fat")
    return found


def plain(view):
    """The same where no partition table stands before it: one of them is left from long ago, and
    nobody can tell which."""
    found = signatures(view)
    if found:
        first = view.read(0, SECTOR)
        if first[510:512] == struct.pack("BB", 0x55, 0xAA) and table(first, view.size) is not None:
            raise Unknown("a partition table and a file system in one place")
    return found


def content(view, found, final):
    """(walk of logical bytes, kind, note) of a volume that is no physical volume of LVM."""
    if len(found) > 1:
        raise Unknown("marks of several kinds: %s" % ", ".join(found))
    if not found:
        return None, "unknown", "not understood, copied whole"
    if found == ["swap"]:
        swap(view)
        return head_only, "swap", "header only"
    kinds = {"ext": Ext, "xfs": Xfs, "ntfs": Ntfs, "fat": Fat}
    if found[0] not in kinds:
        raise Unknown("%s is not looked into" % found[0])
    system = kinds[found[0]](view, final)
    return guarded(system.walk), found[0], system.note


def guarded(walk):
    """``walk``, with everything from the place on where it fails or leaves its bounds."""
    def careful(first, last):
        at = first
        try:
            for one, other in walk(first, last):
                if not at <= one < other <= last:
                    raise Unknown("a map that is out of order")
                yield one, other
                at = other
            at = last
        except FAULTS:
            pass
        if at < last:
            yield at, last
    return careful


def shifted(walk, base, start):
    """``walk`` of logical bytes as a walk of an area that begins at ``base`` on the disk and at
    ``start`` in the volume."""
    def moved(first, last):
        for one, other in walk(start + first - base, start + last - base):
            yield base + one - start, base + other - start
    return moved


BITS = {}  # one byte of a bitmap, as indexing yields it -> eight signs, lowest bit first
for number in range(256):
    BITS[struct.pack("B", number)[0]] = "".join(["01"[number >> bit & 1] for bit in range(8)])


def runs_of(signs, wanted):
    """(first, last) of each run of a sign in a string of "0" and "1"."""
    other = {"0": "1", "1": "0"}[wanted]
    at = signs.find(wanted)
    while at >= 0:
        end = signs.find(other, at)
        if end < 0:
            end = len(signs)
        yield at, end
        at = signs.find(wanted, end)


def swap(view):
    """Check a swap header: also a database on a raw device may carry the mark of former swap."""
    for page in PAGES:
        if page <= view.size and view.read(page - 10, 10) == "SWAPSPACE2".encode("ascii"):
            fits = False
            for order in "<>":
                version, last = struct.unpack(order + "II", view.read(1024, 8))
                if version == 1 and 0 <= view.size - (last + 1) * page < 1048576:
                    fits = True
            if not fits:
                raise Unknown("a swap header that does not fit")


def head_only(first, last):
    if first < CHUNK:
        yield first, min(last, CHUNK)


def everything(first, last):
    yield first, last


def nothing(first, last):
    return iter(())
