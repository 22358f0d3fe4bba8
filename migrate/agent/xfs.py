"""XFS: what is free is what the free-space tree by block number names, group by group.

Joined after layout.py and crc32c.py. Versions 4 and 5. Everything not named free is used: logs,
headers, trees, the list of blocks kept for the trees. In the last pass a group whose two trees or
counters differ is copied whole, and the log must say that the file system was unmounted, made
read-only or frozen.
"""
import struct

# lazy counters, attr2, parent, project32, crc, ftype
XFS_FEATURES2 = 0x2 | 0x8 | 0x10 | 0x80 | 0x100 | 0x200
# ftype, sparse inodes, meta UUID, bigtime, many extents, exchange, parents
XFS_INCOMPAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
# free inode tree, reverse map, shared blocks, inode tree counters
XFS_READONLY = 0x1 | 0x2 | 0x4 | 0x8
MORE_BITS = 0x8000
PRIME, WORD = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF
LOG_STEP, LIVE_RECORDS = 1048576, 64


class Xfs:
    """One file system; ``walk`` goes from group to group."""

    def __init__(self, view, final):
        raw = view.read(0, 512)
        self.view, self.final = view, final
        self.block, self.count = field(raw, ">I", 4), field(raw, ">Q", 8)
        self.length, self.groups = struct.unpack(">II", raw[84:92])
        version, self.sector = struct.unpack(">HH", raw[100:104])
        self.uuid = self.own = raw[32:48]
        self.crc = version & 0xF == 5
        self.logged, self.log_length = field(raw, ">Q", 48), field(raw, ">I", 96)
        self.shift = field(raw, "B", 124)
        self.check(raw, version)
        self.note = "version %d, block %d" % (version & 0xF, self.block)
        if final and not self.at_rest():
            raise Unknown("the file system was not at rest")

    def check(self, raw, version):
        if self.block not in [512 << shift for shift in range(8)]:
            raise Unknown("an XFS superblock with strange sizes")
        if self.sector not in (512, 1024, 2048, 4096, 8192, 16384, 32768):
            raise Unknown("an XFS superblock with strange sectors")
        if version & 0xF not in (4, 5) or field(raw, "B", 126):
            raise Unknown("XFS version 0x%x is not known" % version)
        if not 64 <= self.length <= 1 << self.shift or self.shift > 31:
            raise Unknown("an XFS superblock with strange groups")
        if not (self.groups - 1) * self.length < self.count <= self.groups * self.length:
            raise Unknown("an XFS superblock with strange groups")
        if max(self.count, self.log_length) * self.block > self.view.size:
            raise Unknown("an XFS larger than its volume")
        if version & MORE_BITS and field(raw, ">I", 200) & ~XFS_FEATURES2:
            raise Unknown("XFS feature 0x%x is not known" % field(raw, ">I", 200))
        if self.crc:
            full = self.view.read(0, self.sector)
            if crc32c(full[:224] + ZEROS[:4] + full[228:], WORD >> 32) ^ 0xFFFFFFFF \
                    != field(full, "<I", 224):
                raise Unknown("an XFS superblock with a wrong checksum")
            readonly, incompat = struct.unpack(">II", raw[212:220])
            if readonly & ~XFS_READONLY or incompat & ~XFS_INCOMPAT:
                raise Unknown("XFS features 0x%x, 0x%x are not known" % (readonly, incompat))
            if incompat & 0x4:
                self.uuid = raw[248:264]

    def walk(self, first, last):
        size = self.length * self.block
        number = first // size - 1
        while number + 1 < min(-(-last // size), self.groups):
            number += 1
            base = number * size
            end = min(base + size, self.count * self.block)
            for one, other in self.group(number):
                one, other = max(base + one, first), min(base + other, end, last)
                if one < other:
                    yield one, other
        end = self.count * self.block
        if last > end:
            yield max(end, first), last

    def group(self, number):
        """Used (first, last) bytes of one group, from its start on."""
        blocks = min(self.length, self.count - number * self.length)
        at = 0
        try:
            trees = self.trees(number, blocks)
            if self.final:
                self.compare(number, blocks, trees)
            for start, count in self.records(number, blocks, trees[0]):
                if at < start:
                    yield at * self.block, start * self.block
                at = start + count
        except FAULTS:
            pass  # from here on all of it
        if at < blocks:
            yield at * self.block, blocks * self.block

    def trees(self, number, blocks):
        """Of both trees (mark, root, levels, by size); how much they should say is free."""
        raw = self.view.read(number * self.length * self.block + self.sector, self.sector)
        words = struct.unpack(">16I", raw[:64])
        if raw[:4] != "XAGF".encode("ascii") or words[1] != 1 or words[2:4] != (number, blocks):
            raise Unknown("an XFS group with a strange header")
        if self.crc:
            check = crc32c(raw[:216] + ZEROS[:4] + raw[220:], WORD >> 32) ^ 0xFFFFFFFF
            if raw[64:80] != self.uuid or check != field(raw, "<I", 216):
                raise Unknown("an XFS group with a damaged header")
        marks = ("ABTB", "ABTC")
        if self.crc:
            marks = ("AB3B", "AB3C")
        return ((marks[0], words[4], words[7], False), (marks[1], words[5], words[8], True),
                words[13])

    def compare(self, number, blocks, trees):
        """Both trees must hold the same extents, and as much as the header says."""
        sums = []
        for tree in trees[:2]:
            total, mixed = 0, 0
            for start, count in self.records(number, blocks, tree):
                total += count
                mixed = mixed + (start * PRIME ^ count * 0xC2B2AE3D27D4EB4F) * PRIME & WORD
            sums.append((total, mixed))
        if sums[0] != sums[1] or sums[0][0] != trees[2]:
            raise Unknown("XFS trees that do not agree")

    def records(self, number, blocks, tree):
        """(start, count) of a tree's leaves, in the tree's order; in memory is one path only."""
        mark, root, levels, by_size = tree
        if not 0 < levels <= 9:
            raise Unknown("an XFS tree with strange levels")
        path, last = [self.node(number, blocks, mark, root, levels - 1)], (-1, 0)
        while path:
            entries = path[-1]
            if not entries:
                path.pop()
                continue
            if len(path) < levels:
                child = entries.pop()
                path.append(self.node(number, blocks, mark, child, levels - 1 - len(path)))
                if not path[-1]:
                    raise Unknown("an XFS tree with an empty block")
                continue
            path.pop()
            for start, count in entries:
                key = (start, count)
                if by_size:
                    key = (count, start)
                after = last[0] + last[1]
                if by_size:
                    after = last[0]
                if count < 1 or start + count > blocks or key <= last or key[0] < after:
                    raise Unknown("an XFS tree that is out of order")
                last = key
                yield start, count

    def node(self, number, blocks, mark, place, level):
        """Of a leaf the records, of another block its children, the first one last."""
        if not 0 < place < blocks:
            raise Unknown("an XFS tree that leads outside")
        at = (number * self.length + place) * self.block
        raw = self.view.read(at, self.block)
        found, count, head = field(raw, ">H", 4), field(raw, ">H", 6), 16
        if raw[:4] != mark.encode("ascii") or found != level:
            raise Unknown("an XFS tree with a strange block")
        if self.crc:
            head = 56
            if field(raw, ">Q", 16) * 512 != at or raw[32:48] != self.uuid \
                    or field(raw, ">I", 48) != number:
                raise Unknown("an XFS tree with a stray block")
        if level == 0:
            if head + count * 8 > self.block:
                raise Unknown("an XFS tree with a strange block")
            words = struct.unpack(">%dI" % (2 * count), raw[head:head + 8 * count])
            return [(words[2 * index], words[2 * index + 1]) for index in range(count)]
        room = (self.block - head) // 12
        if count > room:
            raise Unknown("an XFS tree with a strange block")
        children = list(struct.unpack(">%dI" % count,
                                      raw[head + 8 * room:head + 8 * room + 4 * count]))
        children.reverse()
        return children

    def at_rest(self):
        """Whether replaying the log would change nothing but the superblock: its live part is the
        record of an unmount, or the superblock's dummies, which a freeze leaves."""
        group, place = self.logged >> self.shift, self.logged & (1 << self.shift) - 1
        if not self.logged or group >= self.groups:
            return False
        self.log, size = (group * self.length + place) * self.block, self.log_length * self.block
        newest = (0, -1)
        start = -LOG_STEP
        while start + LOG_STEP < size:
            start += LOG_STEP
            raw = self.view.read(self.log + start, min(LOG_STEP, size - start))
            at = raw.find(LOG_MAGIC)
            while at >= 0:
                place = (start + at) // 512
                if at % 512 == 0 and self.own_record(raw[at:at + 512], place):
                    newest = max(newest, (field(raw, ">I", at + 4), place))
                at = raw.find(LOG_MAGIC, at + 4)
        if newest[1] < 0:
            return False
        lsn = field(self.sectors(newest[1], 1), ">Q", 24)
        block, last = lsn & 0xFFFFFFFF, newest[1]
        for _ in range(LIVE_RECORDS):
            head = self.sectors(block, 1)
            if not self.own_record(head, block):
                return False
            heads = 1
            if field(head, ">I", 8) == 2:
                heads = max(1, -(-field(head, ">I", 320) // 32768))
            length = field(head, ">I", 12)
            count = -(-length // 512)
            if count > 64 or not harmless(self.restored(head, block + heads, count)[:length],
                                          field(head, ">I", 40)):
                return False
            if block == last:
                return True
            block = (block + heads + count) % (size // 512)
        return False

    def own_record(self, head, block):
        """Whether this is the head of a record of this log, at this place."""
        version, length, cycle, own = struct.unpack(">IIII", head[8:24])
        uuid = head[304:320]
        return head[:4] == LOG_MAGIC and own == block and version in (1, 2) \
            and 0 < length <= LOG_STEP and cycle == field(head, ">I", 4) \
            and (uuid == self.own or uuid == ZEROS[:16])

    def sectors(self, block, count):
        """Of the log, which is a ring."""
        total = self.log_length * self.block // 512
        parts = []
        for number in range(block, block + count):
            parts.append(self.view.read(self.log + number % total * 512, 512))
        return ZEROS[:0].join(parts)

    def restored(self, head, block, count):
        """A record's content: each sector's first word stands in the head, its own tells the
        cycle."""
        raw, parts = self.sectors(block, count), []
        for number in range(count):
            parts.append(head[44 + 4 * number:48 + 4 * number])
            parts.append(raw[512 * number + 4:512 * number + 512])
        return ZEROS[:0].join(parts)


def harmless(raw, count):
    """Whether the operations of a record are an unmount or changes of the superblock alone."""
    at, regions = 0, 0
    for _ in range(count):
        if at + 12 > len(raw):
            return False
        length, client, flags = struct.unpack(">IBB", raw[at + 4:at + 10])
        at += 12
        data = raw[at:at + length]
        at += length
        if len(data) < length or flags & ~0x23:
            return False  # broken off, or continued elsewhere
        if flags & 0x20 and client == 0xAA:
            continue
        if client != 0x69:
            return False
        if flags or not length:
            continue  # the start or the commit of a transaction
        if regions:
            regions -= 1
            continue
        if length == 16 and field(data, "<I", 0) == 0x5452414E:
            continue
        if length < 24 or struct.unpack("<H", data[:2])[0] != 0x123C or field(data, "<Q", 8):
            return False
        regions = field(data, "<H", 2) - 1
    return not regions


LOG_MAGIC = struct.pack(">I", 0xFEEDBABE)
