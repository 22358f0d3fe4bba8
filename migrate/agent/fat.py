"""FAT12, FAT16 and FAT32, as EFI system partitions have it. Joined after layout.py."""
import struct

FAT_STEP = 49152  # bytes of the table at a time: whole entries of every width


class Fat:
    """One file system: a cluster is free where every copy of the table says so."""

    def __init__(self, view, final):
        raw = view.read(0, 512)
        self.view = view
        sector, per, reserved, self.copies, roots, sectors, _, length = struct.unpack(
            "<HBHBHHBH", raw[11:24])
        self.cluster = sector * per
        if not length:
            length = field(raw, "<I", 36)
            if field(raw, "<H", 40) & 0x80 or field(raw, "<H", 42):
                raise Unknown("a FAT of an unknown version")
        sectors = sectors or field(raw, "<I", 32)
        self.table, self.length = reserved * sector, length * sector
        self.data = self.table + self.copies * self.length + -(-roots * 32 // sector) * sector
        self.end = sectors * sector
        self.count = (self.end - self.data) // max(1, self.cluster)
        if not 0 < self.data < self.end <= view.size or not 0 < self.count < 0xFFFFFF5:
            raise Unknown("a FAT with strange sizes")
        self.width = 32
        if self.count < 65525:
            self.width = 16
        if self.count < 4085:
            self.width = 12
        if (self.width == 32) != (field(raw, "<H", 22) == 0):
            raise Unknown("a FAT with strange sizes")
        if (self.count + 2) * self.width > self.length * 8 or not 1 <= self.copies <= 2:
            raise Unknown("a FAT with strange sizes")
        head = view.read(self.table, 8)
        if field(head, "B", 0) != field(raw, "B", 21):
            raise Unknown("a FAT with a strange start")
        dirty = {16: field(head, "<H", 2) & 0x8000 == 0, 12: False,
                 32: field(head, "<I", 4) & 0x8000000 == 0}[self.width]
        if final and dirty:
            raise Unknown("the file system was not at rest")
        self.note = "FAT%d, cluster %d" % (self.width, self.cluster)

    def entries(self, copy, at, count):
        """Entries of one copy of the table; ``at`` is a multiple of the step's."""
        base = self.table + copy * self.length
        size = -(-count * self.width // 8)
        raw = self.view.read(base + at * self.width // 8, size)
        if self.width == 16:
            return struct.unpack("<%dH" % count, raw)
        if self.width == 32:
            return [value & 0xFFFFFFF for value in struct.unpack("<%dI" % count, raw)]
        triples = struct.unpack("%dB" % len(raw), raw) + (0, 0)
        result = []
        for number in range(count):
            value = triples[number * 3 // 2] | triples[number * 3 // 2 + 1] << 8
            result.append(value >> number % 2 * 4 & 0xFFF)
        return result

    def walk(self, first, last):
        if first < self.data:
            yield first, min(self.data, last)
        step, total = FAT_STEP * 8 // self.width, self.count + 2
        low = max(0, first - self.data) // self.cluster + 2
        high = min(-(-max(0, last - self.data) // self.cluster) + 2, total)
        at = low // step * step
        while at < high:
            count = min(step, total - at)
            taken = self.entries(0, at, count)
            if self.copies == 2:
                taken = [one or other for one, other in zip(taken, self.entries(1, at, count))]
            signs = "".join(["01"[bool(value)] for value in taken])
            for one, other in runs_of(signs, "1"):
                one = max(self.data + (max(at + one, 2) - 2) * self.cluster, first)
                other = min(self.data + (at + other - 2) * self.cluster, last)
                if one < other:
                    yield one, other
            at += count
        end = self.data + self.count * self.cluster
        if last > end:
            yield max(end, first), last


def fat_mark(head):
    """A boot sector that says FAT and whose sizes could be some."""
    if len(head) < 512 or head[510:512] != struct.pack("BB", 0x55, 0xAA):
        return False
    sector, per = struct.unpack("<HB", head[11:14])
    if sector not in (512, 1024, 2048, 4096) or per not in (1, 2, 4, 8, 16, 32, 64, 128):
        return False
    return head[54:57] == "FAT".encode("ascii") or head[82:85] == "FAT".encode("ascii")
