"""What ext's bitmaps call used though nobody will ever read it: the ends of inode tables where no
inode lies, and a journal without work. Joined after ext.py.

mke2fs gives a 64th of the disk to inode tables; each pass would read them again, the last one while
the services stand. In doubt nothing is left out. Layouts: ext4 and jbd2 in Linux' documentation.
"""
import bisect
import struct

JOURNAL_INODE, FAST_COMMIT, BY_EXTENTS = 8, 0x400, 0x80000
JOURNAL_MAGIC, EXTENT_MAGIC = 0xC03B3998, 0xF30A
PIECES = 32768  # more are read like the rest
JOURNAL_LONGEST = 262144  # blocks of a journal: mke2fs makes none longer by itself


def cut_out(runs, pieces):
    """Sorted runs without sorted pieces."""
    result = []
    for first, last in runs:
        number = bisect.bisect(pieces, (first, 0))
        if number and pieces[number - 1][1] > first:
            number -= 1
        while number < len(pieces) and pieces[number][0] < last:
            low, high = pieces[number]
            if first < low:
                result.append((first, low))
            first = max(first, high)
            number += 1
        if first < last:
            result.append((first, last))
    return result


def joined(pieces, first, last):
    """Add a piece to those found before."""
    if pieces and pieces[-1][1] == first:
        pieces[-1] = (pieces[-1][0], last)
    elif len(pieces) < PIECES:
        pieces.append((first, last))


def table_end(system, found, held):
    """(first, last) blocks of a group's inode table behind its first ``held`` inodes; or None."""
    first = found.table + -(-max(0, held) * system.inode // system.block)
    last = found.table + system.tables
    if system.first < found.table and first < last <= system.count:
        return first, last
    return None


def held(system, found):
    """How many inodes there are up to the last one in use, by the group's bitmap of them."""
    if not system.first < found.inodes < system.count or system.inodes > 8 * system.block:
        return system.inodes
    try:
        raw = system.view.read(found.inodes * system.block, -(-system.inodes // 8))
    except FAULTS:
        return system.inodes
    signs = "".join([BITS[byte] for byte in raw])[:system.inodes]
    if system.final and signs.count("0") != found.free_inodes:
        return system.inodes  # at rest the two agree
    return signs.rfind("1") + 1


def empty_journal(system, raw):
    """Blocks (first, last) of a journal that has nothing to tell, but for its own superblock.
    ``raw`` is the file system's. Raises what FAULTS names where one thing does not fit another."""
    compat, incompat = struct.unpack("<II", raw[0x5C:0x64])
    if not compat & JOURNAL or compat & FAST_COMMIT or incompat & RECOVER:
        return []
    # the superblock keeps a copy of the journal's inode, so a damaged one is noticed
    number, outside, kind = field(raw, "<I", 0xE0), field(raw, "<I", 0xE4), field(raw, "B", 0xFD)
    if number != JOURNAL_INODE or outside or kind != 1:
        return []
    copy, size = raw[0x10C:0x148], field(raw, "<I", 0x14C) | field(raw, "<I", 0x148) << 32
    table = [found.table for found in system.descriptors(0, 1)][0]
    inode = system.view.read(table * system.block + (number - 1) * system.inode, 128)
    if inode[40:100] != copy or size > JOURNAL_LONGEST * system.block:
        return []
    if field(inode, "<I", 32) & BY_EXTENTS:
        blocks = by_extents(system, copy, 5)
    else:
        blocks = by_pointers(system, copy)
    runs, total = [], 0
    for place, first, count in blocks:
        if place != total or first <= system.first or first + count > system.count:
            raise Unknown("a journal in strange places")
        total += count
        joined(runs, first, first + count)
        if total * system.block >= size or len(runs) == PIECES:
            break
    if not runs or total * system.block != size:
        return []
    head = system.view.read(runs[0][0] * system.block, 1024)
    magic, form, _, block, length, _, _, start = struct.unpack(">8I", head[:32])
    if (magic, block, start) != (JOURNAL_MAGIC, system.block, 0) or form not in (3, 4):
        return []
    if length > total:
        return []
    runs[0] = (runs[0][0] + 1, runs[0][1])
    return [run for run in runs if run[0] < run[1]]


def by_extents(system, node, deepest):
    """(block of the file, block of the volume, count) below a node of a tree of extents."""
    magic, entries, _, depth = struct.unpack("<HHHH", node[:8])
    if magic != EXTENT_MAGIC or depth > deepest or not 0 < entries < len(node) // 12:
        raise Unknown("a strange tree of extents")
    for at in range(12, 12 * (entries + 1), 12):
        if depth:
            low, high = struct.unpack("<IH", node[at + 4:at + 10])
            lower = system.view.read((low | high << 32) * system.block, system.block)
            for run in by_extents(system, lower, depth - 1):
                yield run
        else:
            place, count, high, low = struct.unpack("<IHHI", node[at:at + 12])
            if not 0 < count <= 32768:
                raise Unknown("a journal that was never written")
            yield place, low | high << 32, count


def by_pointers(system, raw):
    """The same of an inode of ext2 or ext3: 12 blocks, then one, two and three levels."""
    places = struct.unpack("<15I", raw)
    total = 0
    for number in range(15):
        for block in pointed(system, places[number], max(0, number - 11)):
            yield total, block, 1
            total += 1


def pointed(system, place, level):
    """Blocks of a file below one pointer; they end at the first that leads nowhere."""
    if not level or not place:
        yield place
        return
    raw = system.view.read(place * system.block, system.block)
    for below in struct.unpack("<%dI" % (system.block // 4), raw):
        for block in pointed(system, below, level - 1):
            yield block
