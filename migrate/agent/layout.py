"""What of a disk is in use, read from the disk itself: MBR, GPT, LVM, ext2/3/4, swap.

Every doubt ends in "copy all of it". Joined after wire.py; works on any ``read(offset, length)``.
An area is (start, end, kind, note, walk): walk(start, end) yields used (start, end) in order,
None stands for everything. Memory does not depend on the disk's size.
"""
import struct
import sys
import zlib

SECTOR = 512
FAULTS = (struct.error, ValueError, IndexError, KeyError, TypeError, EnvironmentError,
          OverflowError, RuntimeError)


class Unknown(ValueError):
    """Not understood: all of it must be copied."""


def field(raw, form, at):
    return struct.unpack(form, raw[at:at + struct.calcsize(form)])[0]


def areas(read, size, final):
    """The disk in order, without gaps."""
    try:
        leaves = partitions(read, size)
    except FAULTS:
        return [(0, size, "whole", "partitions not understood: %s" % sys.exc_info()[1], None)]
    if leaves is None:
        return volume(Slice(read, 0, size), 0, "disk", final)
    result, at = [], 0
    for start, end, name in leaves:
        if at < start:
            result.append((at, start, "gap", "", None))
        result.extend(volume(Slice(read, start, end - start), start, name, final))
        at = end
    if at < size:
        result.append((at, size, "gap", "", None))
    return result


def used(found):
    """Used (start, end) of areas, in order."""
    for start, end, _, _, walk in found:
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

    def physical(self, offset):
        return self.base + offset


class Pieces(Slice):
    """A logical volume: sorted (logical, physical, length)."""

    def __init__(self, source, pieces):
        self.source, self.pieces = source, pieces
        self.size = pieces[-1][0] + pieces[-1][2]

    def read(self, offset, length):
        parts, want = [], length
        for logical, physical, size in self.pieces:
            if want and logical <= offset < logical + size:
                count = min(want, logical + size - offset)
                parts.append(self.source(physical + offset - logical, count))
                offset, want = offset + count, want - count
        raw = NOTHING.join(parts)
        if len(raw) != length:
            raise Unknown("a pointer leads beyond the end")
        return raw


# --- partitions -----------------------------------------------------------------------------


def partitions(read, size):
    """[(start, end, name)] in order; None where there is no table."""
    first = read(0, SECTOR)
    if first[510:512] != struct.pack("BB", 0x55, 0xAA):
        return None
    entries = table(first, 0, size)
    if entries is None:
        return None
    if [kind for kind, _, _ in entries if kind == 0xEE]:
        return ordered(gpt(read, size), size)
    if signatures(Slice(read, 0, size)):
        raise Unknown("a partition table and a file system in one place")
    leaves = []
    for kind, start, end in entries:
        if kind in (0x05, 0x0F, 0x85):
            leaves.extend(logical(read, start, end))
        else:
            leaves.append((start, end, "partition"))
    return ordered(leaves, size)


def table(sector, base, size):
    """[(type, start, end)] of the four entries; None if they can't be a table."""
    result = []
    for number in range(4):
        entry = sector[446 + 16 * number:462 + 16 * number]
        flag, kind = field(entry, "B", 0), field(entry, "B", 4)
        start, count = struct.unpack("<II", entry[8:16])
        if flag not in (0, 0x80):
            return None
        if kind and count:
            end = base + (start + count) * SECTOR
            if kind == 0xEE:
                end = min(end, size)
            if end > size or (start == 0 and kind != 0xEE and base == 0):
                return None
            result.append((kind, base + start * SECTOR, end))
    if not result:
        return None
    return result


def logical(read, base, end):
    """The chain of extended boot records. Their own sectors stay in the gaps: copied."""
    leaves, at, seen = [], base, []
    while True:
        if at in seen or len(seen) > 128 or not base <= at < end:
            raise Unknown("the chain of logical partitions is broken")
        seen.append(at)
        sector = read(at, SECTOR)
        if sector[510:512] != struct.pack("BB", 0x55, 0xAA):
            raise Unknown("an extended boot record has no signature")
        following = None
        for number in range(2):
            entry = sector[446 + 16 * number:462 + 16 * number]
            kind = field(entry, "B", 4)
            start, count = struct.unpack("<II", entry[8:16])
            if not kind or not count:
                continue
            if kind in (0x05, 0x0F, 0x85):
                following = base + start * SECTOR
            else:
                leaves.append((at + start * SECTOR, at + (start + count) * SECTOR, "partition"))
        if following is None:
            return leaves
        at = following


def gpt(read, size):
    for sector in (512, 4096):
        header = read(sector, 92)
        if header[:8] == "EFI PART".encode("ascii"):
            break
    else:
        raise Unknown("a protective MBR without a GPT")
    length, check = field(header, "<I", 12), field(header, "<I", 16)
    if not 92 <= length <= sector:
        raise Unknown("the GPT's header has a strange length")
    header = read(sector, length)
    if zlib.crc32(header[:16] + ZEROS[:4] + header[20:]) & 0xFFFFFFFF != check:
        raise Unknown("the GPT's header is damaged")
    at, count, width, check = struct.unpack("<QIII", header[72:92])
    if width < 128 or width > 4096 or count > 4096:
        raise Unknown("the GPT has a strange shape")
    raw = read(at * sector, count * width)
    if zlib.crc32(raw) & 0xFFFFFFFF != check:
        raise Unknown("the GPT's entries are damaged")
    leaves = []
    for number in range(count):
        entry = raw[number * width:number * width + 48]
        if entry[:16] != ZEROS[:16]:
            first, last = struct.unpack("<QQ", entry[32:48])
            leaves.append((first * sector, (last + 1) * sector, "partition"))
    return leaves


def ordered(leaves, size):
    result, at = sorted(leaves), 0
    for start, end, _ in result:
        if start < at or end <= start or end > size:
            raise Unknown("partitions overlap or lead beyond the end")
        at = end
    return result


# --- what lies in a volume --------------------------------------------------------------------


def signatures(view):
    """Kinds whose mark is there; more than one is a riddle nobody should solve by guessing."""
    found = []
    head = view.read(0, min(view.size, 69632))
    for number in range(4):
        if head[number * 512:number * 512 + 8] == "LABELONE".encode("ascii"):
            found.append("lvm")
    if head[1080:1082] == struct.pack("BB", 0x53, 0xEF):
        found.append("ext")
    for page in (4096, 8192, 16384, 65536):
        if head[page - 10:page] == "SWAPSPACE2".encode("ascii"):
            found.append("swap")
    for mark, at in (("XFSB", 0), ("LUKS", 0), ("NTFS", 3), ("_BHRfS_M", 65600)):
        if head[at:at + len(mark)] == mark.encode("ascii"):
            found.append("other")
    return found


def volume(view, base, name, final):
    """The areas of one volume that lies in one piece at ``base``."""
    try:
        found = signatures(view)
        if found == ["lvm"]:
            return physical(view, final)
        walk, kind, note = content(view, found, final)
        if walk is None:
            return [(base, base + view.size, kind, note, None)]
        return [(base, base + view.size, kind, note, shifted(walk, base, 0))]
    except FAULTS:
        note = "%s, copied whole" % sys.exc_info()[1]
        return [(base, base + view.size, name, note, None)]


def content(view, found, final):
    """(walk of logical bytes, kind, note) of a volume that is no physical volume of LVM."""
    if found == ["ext"]:
        ext = Ext(view, final)
        return ext.walk, "ext", ext.note
    if found == ["swap"]:
        swap(view)
        return head_only, "swap", "header only"
    if len(found) > 1:
        raise Unknown("marks of several kinds: %s" % ", ".join(found))
    return None, "unknown", "not understood, copied whole"


def shifted(walk, base, start):
    """``walk`` of logical bytes as a walk of an area that begins at ``base`` on the disk and at
    ``start`` in the volume."""
    def moved(first, last):
        for one, other in walk(start + first - base, start + last - base):
            yield base + one - start, base + other - start
    return moved


def swap(view):
    """Check a swap header: also a database on a raw device may carry the mark of former swap."""
    for page in (4096, 8192, 16384, 65536):
        if view.read(page - 10, 10) == "SWAPSPACE2".encode("ascii"):
            version, last, _ = struct.unpack("<III", view.read(1024, 12))
            if version != 1 or not 0 <= view.size - (last + 1) * page < 1048576:
                raise Unknown("a swap header that does not fit")


def head_only(first, last):
    if first < CHUNK:
        yield first, min(last, CHUNK)


def everything(first, last):
    yield first, last


def nothing(first, last):
    return iter(())
