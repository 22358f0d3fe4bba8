"""Partition tables: MBR with extended boot records, GPT with its backup. Joined after layout.py."""
import struct
import sys
import zlib

EXTENDED = (0x05, 0x0F, 0x85)
FIRMWARE_RAID = (("Intel Raid ISM Cfg Sig. ".encode("ascii"), 1024),
                 (struct.pack(">I", 0xDE11DE11), 512))  # the mark, and how far from the end


def partitions(view):
    """[(start, end, name)] in order; None where there is no table."""
    size = view.size
    first = view.read(0, SECTOR)
    if first[510:512] != struct.pack("BB", 0x55, 0xAA):
        return None
    entries = table(first, size)
    if entries is None:
        return None
    for mark, back in FIRMWARE_RAID:
        if view.read(size - back, len(mark)) == mark:
            raise Unknown("a disk of a firmware RAID")
    if [kind for kind, _, _ in entries if kind == 0xEE]:
        return ordered(gpt(view), size)
    if signatures(view):
        raise Unknown("a partition table and a file system in one place")
    leaves, records = [], []
    for kind, start, end in entries:
        if kind in EXTENDED:
            leaves.extend(logical(view, start, end, records))
        else:
            leaves.append((start, end, "partition"))
    for at in records:
        if [leaf for leaf in leaves if leaf[0] <= at < leaf[1]]:
            raise Unknown("a partition covers an extended boot record")
    return ordered(leaves, size)


def table(sector, size):
    """[(type, start, end)] of the four entries; None if they can't be a table."""
    result = []
    for number in range(4):
        entry = sector[446 + 16 * number:462 + 16 * number]
        flag, kind = field(entry, "B", 0), field(entry, "B", 4)
        start, count = struct.unpack("<II", entry[8:16])
        if flag not in (0, 0x80):
            return None
        if kind and count:
            end = (start + count) * SECTOR
            if kind == 0xEE:
                end = min(end, size)
            if end > size or (start == 0 and kind != 0xEE):
                return None
            result.append((kind, start * SECTOR, end))
    if not result:
        return None
    return result


def logical(view, base, end, records):
    """The chain of extended boot records. Their own sectors stay in the gaps: copied."""
    leaves, at, seen = [], base, 0
    while True:
        if at in records or seen > 128 or not base <= at < end:
            raise Unknown("the chain of logical partitions is broken")
        records.append(at)
        seen += 1
        sector = view.read(at, SECTOR)
        if sector[510:512] != struct.pack("BB", 0x55, 0xAA):
            raise Unknown("an extended boot record has no signature")
        following = None
        for number in range(2):
            entry = sector[446 + 16 * number:462 + 16 * number]
            kind = field(entry, "B", 4)
            start, count = struct.unpack("<II", entry[8:16])
            if not kind or not count:
                continue
            if kind in EXTENDED:
                following = base + start * SECTOR
            else:
                leaves.append((at + start * SECTOR, at + (start + count) * SECTOR, "partition"))
        if following is None:
            return leaves
        at = following


def gpt(view):
    """The partitions of the first sound copy: the one at the start, else the one at the end."""
    faults = []
    for place, sector in ((512, 512), (4096, 4096),
                          (view.size - 512, 512), (view.size - 4096, 4096)):
        if view.size % sector:
            continue
        try:
            return gpt_copy(view, place, sector)
        except Unknown:
            faults.append(sys.exc_info()[1])
    for fault in faults:
        if str(fault) != NO_GPT:
            raise Unknown(str(fault))
    raise Unknown(NO_GPT)


NO_GPT = "a protective MBR without a GPT"


def gpt_copy(view, place, sector):
    header = view.read(place, 92)
    if header[:8] != "EFI PART".encode("ascii"):
        raise Unknown(NO_GPT)
    length, check = field(header, "<I", 12), field(header, "<I", 16)
    if not 92 <= length <= sector:
        raise Unknown("the GPT's header has a strange length")
    header = view.read(place, length)
    if zlib.crc32(header[:16] + ZEROS[:4] + header[20:]) & 0xFFFFFFFF != check:
        raise Unknown("the GPT's header is damaged")
    if field(header, "<Q", 24) * sector != place:
        raise Unknown("the GPT's header was made for another place")
    at, count, width, check = struct.unpack("<QIII", header[72:92])
    if width < 128 or width > 4096 or count * width > 4194304:
        raise Unknown("the GPT has a strange shape")
    raw = view.read(at * sector, count * width)
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
