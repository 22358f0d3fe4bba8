"""ext2/3/4 block bitmaps and LVM2 physical volumes. Joined after layout.py.

Features are counted off one by one: what is not in these sets makes the whole volume "unknown".
Left out on purpose: meta_bg, bigalloc, external journals' devices, snapshots, compression.
"""
import re
import struct
import sys
import zlib

# filetype recover extents 64bit mmp flex_bg ea_inode csum_seed largedir inline_data encrypt casefold
EXT_INCOMPAT = (0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000
                | 0x10000 | 0x20000)
# sparse_super large_file btree_dir huge_file uninit_bg dir_nlink extra_isize quota metadata_csum
# read-only project verity orphan_present
EXT_READONLY = (0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x1000 | 0x2000
                | 0x8000 | 0x10000)
# dir_prealloc imagic has_journal ext_attr resize_inode dir_index exclude_bitmap sparse_super2
# fast_commit stable_inodes orphan_file
EXT_COMPAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x100 | 0x200 | 0x400 | 0x800 | 0x1000
RECOVER, BIT64, CHECKSUMS, JOURNAL, SPARSE, SPARSE2 = 0x4, 0x80, 0x10 | 0x400, 0x4, 0x1, 0x200

BITS = {}  # one byte of a bitmap, as indexing yields it -> eight signs, lowest bit first
for number in range(256):
    BITS[struct.pack("B", number)[0]] = "".join(["01"[number >> bit & 1] for bit in range(8)])


class Ext:
    """One file system; ``walk`` yields what its bitmaps call used, group by group."""

    def __init__(self, view, final):
        raw = view.read(1024, 1024)
        self.view, self.note = view, ""
        compat, incompat, readonly = struct.unpack("<III", raw[0x5C:0x68])
        if field(raw, "<I", 0x4C) == 0:
            compat = incompat = readonly = 0
        for name, found, known in (("incompat", incompat, EXT_INCOMPAT),
                                   ("ro_compat", readonly, EXT_READONLY),
                                   ("compat", compat, EXT_COMPAT)):
            if found & ~known:
                raise Unknown("ext %s feature 0x%x is not known" % (name, found & ~known))
        clean = field(raw, "<H", 0x3A) & 1
        if final and (incompat & RECOVER or (not compat & JOURNAL and not clean)):
            raise Unknown("the file system was not at rest")
        self.block = 1024 << field(raw, "<I", 0x18)
        self.count = field(raw, "<I", 0x4)
        self.first = field(raw, "<I", 0x14)
        self.per_group = field(raw, "<I", 0x20)
        self.width = 32
        if incompat & BIT64:
            self.count |= field(raw, "<I", 0x150) << 32
            self.width = max(32, field(raw, "<H", 0xFE))
        self.checksums = readonly & CHECKSUMS
        self.sparse, self.pair = readonly & SPARSE, None
        if compat & SPARSE2:
            self.pair = struct.unpack("<II", raw[0x24C:0x254])
        self.check(raw)
        inode = 128
        if field(raw, "<I", 0x4C):
            inode = field(raw, "<H", 0x58)
        self.tables = -(-field(raw, "<I", 0x28) * inode // self.block)
        self.groups = -(-(self.count - self.first) // self.per_group)
        descriptors = -(-self.groups * self.width // self.block)
        # For groups without a bitmap: their copy of the superblock, if any, and room to grow.
        self.backup = 1 + descriptors + field(raw, "<H", 0xCE)
        self.descriptors_at = (self.first + 1) * self.block
        self.strays = self.find_strays()
        self.note = "block %d" % self.block

    def check(self, raw):
        if not 1024 <= self.block <= 65536 or self.first > 1 or self.width > 1024:
            raise Unknown("an ext superblock with strange sizes")
        if not 0 < self.per_group <= 8 * self.block or self.per_group % 8:
            raise Unknown("an ext superblock with strange groups")
        if not self.first < self.count or self.count * self.block > self.view.size:
            raise Unknown("an ext file system larger than its volume")
        if field(raw, "<I", 0x1C) != field(raw, "<I", 0x18):
            raise Unknown("an ext file system with clusters")

    def descriptors(self, first, last):
        """(group, bitmap, inode bitmap, inode table, has no bitmap)"""
        step = 512
        for start in range(first, last, step):
            stop = min(start + step, last)
            raw = self.view.read(self.descriptors_at + start * self.width,
                                 (stop - start) * self.width)
            for group in range(start, stop):
                at = (group - start) * self.width
                places = list(struct.unpack("<III", raw[at:at + 12]))
                if self.width >= 64:
                    high = struct.unpack("<III", raw[at + 32:at + 44])
                    places = [low | up << 32 for low, up in zip(places, high)]
                absent = self.checksums and field(raw, "<H", at + 18) & 0x2
                yield group, places[0], places[1], places[2], bool(absent)

    def find_strays(self):
        """Metadata inside groups that have no bitmap: flex_bg may put any group's there."""
        absent, result = {}, {}
        for group, _, _, _, lacking in self.descriptors(0, self.groups):
            if lacking:
                absent[group] = True
        if absent:
            for _, bitmap, inodes, table, _ in self.descriptors(0, self.groups):
                for start, count in ((bitmap, 1), (inodes, 1), (table, self.tables)):
                    group = (start - self.first) // self.per_group
                    while group * self.per_group + self.first < start + count:
                        if group in absent:
                            result.setdefault(group, []).append((start, start + count))
                        group += 1
        return result

    def walk(self, first, last):
        """Used bytes of the volume between two bytes; the boot block and the tail always are."""
        at = self.first * self.block
        if first < at:
            yield first, min(at, last)
        end = self.count * self.block
        low = max(first // self.block, self.first)
        high = min(-(-last // self.block), self.count)
        if low < high:
            groups = ((low - self.first) // self.per_group,
                      (high - 1 - self.first) // self.per_group + 1)
            for found in self.descriptors(groups[0], groups[1]):
                for one, other in self.group(found):
                    one, other = max(one * self.block, first), min(other * self.block, last)
                    if one < other:
                        yield one, other
        if last > end:
            yield max(end, first), last

    def group(self, found):
        """Used (first, last) blocks of one group."""
        number, bitmap, _, _, absent = found
        start = self.first + number * self.per_group
        stop = min(start + self.per_group, self.count)
        if absent:
            return self.without_bitmap(number, start, stop)
        if not self.first < bitmap < self.count:
            return [(start, stop)]
        try:
            raw = self.view.read(bitmap * self.block, self.per_group // 8)
        except FAULTS:
            return [(start, stop)]
        signs = "".join([BITS[byte] for byte in raw])[:stop - start]
        if start <= bitmap < stop and signs[bitmap - start] != "1":
            return [(start, stop)]  # a bitmap that does not even know itself
        runs, at = [], signs.find("1")
        while at >= 0:
            end = signs.find("0", at)
            if end < 0:
                end = stop - start
            runs.append((start + at, start + end))
            at = signs.find("1", end)
        return runs

    def has_backup(self, number):
        """Whether the group begins with a copy of the superblock and the descriptors."""
        if number < 2 and self.pair is None or not (self.sparse or self.pair):
            return True
        if self.pair is not None:
            return number == 0 or number in self.pair
        for base in (3, 5, 7):
            power = base
            while power < number:
                power *= base
            if power == number:
                return True
        return False

    def without_bitmap(self, number, start, stop):
        runs = [(start, start)]
        if self.has_backup(number):
            runs = [(start, min(start + self.backup, stop))]
        for first, last in sorted(self.strays.get(number, [])):
            first, last = max(first, start), min(last, stop)
            if first <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
            elif first < last:
                runs.append((first, last))
        return [run for run in runs if run[0] < run[1]]


# --- LVM2 -------------------------------------------------------------------------------------

LVM_MAGIC = struct.pack("16B", 0x20, 0x4C, 0x56, 0x4D, 0x32, 0x20, 0x78, 0x5B, 0x35, 0x41, 0x25,
                        0x72, 0x30, 0x4E, 0x2A, 0x3E)


def lvm_crc(raw):
    """LVM's CRC: the usual polynomial with a start of its own and no inversions."""
    return (zlib.crc32(raw, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF) & 0xFFFFFFFF


def metadata(view):
    """(our UUID, the group's metadata text) of a physical volume."""
    for number in range(4):
        sector = view.read(number * SECTOR, SECTOR)
        if sector[:8] == "LABELONE".encode("ascii"):
            break
    else:
        raise Unknown("no LVM label")
    at = field(sector, "<I", 20)
    if sector[24:32] != "LVM2 001".encode("ascii") or at > 400:
        raise Unknown("an LVM label of another kind")
    uuid, at, lists = text(sector[at:at + 32]), at + 40, []
    while len(lists) < 2:
        found = []
        while True:
            start, size = struct.unpack("<QQ", sector[at:at + 16])
            at += 16
            if not start:
                break
            found.append((start, size))
        lists.append(found)
    for start, size in lists[1]:
        header = view.read(start, SECTOR)
        where, length, check = struct.unpack("<QQI", header[40:60])
        if header[4:20] != LVM_MAGIC or not 0 < length < size or not SECTOR <= where < size:
            continue
        raw = view.read(start + where, min(length, size - where))
        raw += view.read(start + SECTOR, length - len(raw))  # it is a ring
        if lvm_crc(raw) == check:
            return uuid, text(raw.rstrip(ZEROS[:1]))
    raise Unknown("no LVM metadata with a good checksum")


def parsed(string):
    """LVM's configuration language as dictionaries, lists, strings and numbers."""
    tokens = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+/-]+|[{}\[\]=,]|#[^\n]*').findall(string)
    tokens = [token for token in tokens if not token.startswith("#")]
    stack, position = [{}], 0
    while position < len(tokens):
        token = tokens[position]
        if token == "}":
            stack.pop()
            position += 1
        elif tokens[position + 1] == "{":
            stack.append(stack[-1].setdefault(token, {}))
            position += 2
        elif tokens[position + 1] == "=":
            value, position = lvm_value(tokens, position + 2)
            stack[-1][token] = value
        else:
            raise Unknown("LVM metadata not understood")
    return stack[0]


def lvm_value(tokens, position):
    if tokens[position] != "[":
        return atom(tokens[position]), position + 1
    result, position = [], position + 1
    while tokens[position] != "]":
        if tokens[position] != ",":
            result.append(atom(tokens[position]))
        position += 1
    return result, position + 1


def atom(token):
    if token.startswith('"'):
        return token[1:-1]
    return int(float(token))


def physical(view, final):
    """The areas of a physical volume: what no volume owns is free, the rest is judged by volume."""
    uuid, string = metadata(view)
    group = None
    for value in parsed(string).values():
        if isinstance(value, dict) and "physical_volumes" in value:
            group = value
    own = [name for name, data in group["physical_volumes"].items()
           if data["id"].replace("-", "") == uuid]
    if len(own) != 1:
        raise Unknown("this physical volume is not in its own group")
    data = group["physical_volumes"][own[0]]
    extent, start = group["extent_size"] * SECTOR, data["pe_start"] * SECTOR
    last = start + data["pe_count"] * extent
    if not 0 < start < last <= view.size or extent < 1024:
        raise Unknown("a physical volume with strange sizes")
    result, at = [(view.base, view.base + start, "lvm metadata", "", None)], start
    for first, count, walk, kind, note in sorted_claims(view, group, own[0], start, extent, final):
        end = first + count
        if first < at or end > last:
            raise Unknown("volumes overlap in the metadata")
        if at < first:
            result.append((view.base + at, view.base + first, "free", "", nothing))
        result.append((view.base + first, view.base + end, kind, note, walk))
        at = end
    if at < last:
        result.append((view.base + at, view.base + last, "free", "", nothing))
    if last < view.size:
        result.append((view.base + last, view.base + view.size, "lvm metadata", "", None))
    return result


def sorted_claims(view, group, own, start, extent, final):
    volumes = group.get("logical_volumes", {})
    referenced = references(volumes)
    claims = []
    for name, data in volumes.items():
        simple, pieces = placed(data, own, group["physical_volumes"])
        pieces = [(logical * extent, start + at * extent, count * extent)
                  for logical, at, count in sorted(pieces)]
        walk, kind, note = None, "volume", "%s, copied whole" % name
        if simple and name not in referenced:
            try:
                inside = Pieces(view.read, pieces)
                walk, kind, note = content(inside, signatures(inside), final)
                note = ("%s %s" % (name, note)).strip()
            except FAULTS:
                note = "%s: %s, copied whole" % (name, sys.exc_info()[1])
        for logical, at, count in pieces:
            moved = None
            if walk is not None:
                moved = shifted(walk, view.base + at, logical)
            claims.append((at, count, moved, kind, note))
    claims.sort(key=lambda claim: claim[:2])
    return claims


def references(volumes):
    """Names of volumes that other volumes are made of."""
    result = {}
    for data in volumes.values():
        for part in data.values():
            if isinstance(part, dict):
                for value in part.values():
                    if not isinstance(value, list):
                        value = [value]
                    for item in value:
                        if isinstance(item, str) and item in volumes:
                            result[item] = True
    return result


def placed(data, own, names):
    """(whether it lies in plain order on this disk alone, [(logical, physical, count)] here)"""
    simple, pieces = True, []
    for key in sorted(data):
        part = data[key]
        if not isinstance(part, dict) or "extent_count" not in part:
            continue
        stripes = part.get("stripes", [])
        width = max(1, len(stripes) // 2)
        plain = part.get("type") == "striped" and width == 1 and stripes[0] == own
        simple = simple and plain and "VISIBLE" in data.get("status", [])
        count = part["extent_count"]
        if part.get("type") == "striped":
            count = -(-count // width)
        for value in part.values():
            if isinstance(value, list):
                for index in range(len(value) - 1):
                    if value[index] == own and value[index] in names:
                        pieces.append((part["start_extent"], value[index + 1], count))
    return simple and bool(pieces), pieces
