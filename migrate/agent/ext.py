"""ext2/3/4 block bitmaps. Joined after layout.py and crc32c.py.

Features are counted off one by one: what is not in these sets makes the whole volume "unknown".
Left out on purpose: external journals' devices, snapshots, compression.
"""
import array
import struct

# filetype recover meta_bg extents 64bit mmp flex_bg ea_inode csum_seed largedir inline_data
# encrypt casefold
EXT_INCOMPAT = (0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000
                | 0x10000 | 0x20000)
# sparse_super large_file btree_dir huge_file uninit_bg dir_nlink extra_isize quota bigalloc
# metadata_csum read-only project verity orphan_present
EXT_READONLY = (0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x1000
                | 0x2000 | 0x8000 | 0x10000)
# dir_prealloc imagic has_journal ext_attr resize_inode dir_index exclude_bitmap sparse_super2
# fast_commit stable_inodes orphan_file
EXT_COMPAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x100 | 0x200 | 0x400 | 0x800 | 0x1000
RECOVER, META_BG, BIT64, SEED, JOURNAL, SPARSE, SPARSE2 = 0x4, 0x10, 0x80, 0x2000, 0x4, 0x1, 0x200
OLD_CHECKSUMS, BIGALLOC, CHECKSUMS = 0x10, 0x200, 0x400
MANY = 4194304  # groups, and pieces of metadata in groups that have no bitmap


class Group:
    """One group's descriptor."""

    def __init__(self, number, raw, checked):
        self.number = number
        places = struct.unpack("<III", raw[:12])
        self.free, self.check = field(raw, "<H", 12), field(raw, "<H", 24)
        self.wide = len(raw) >= 64
        if self.wide:
            high = struct.unpack("<III", raw[32:44])
            places = [low | up << 32 for low, up in zip(places, high)]
            self.free |= field(raw, "<H", 44) << 16
            self.check |= field(raw, "<H", 56) << 16
        self.bitmap, self.inodes, self.table = places
        self.free_inodes = field(raw, "<H", 14)
        self.absent, self.blank = False, 0
        if checked:
            self.absent = bool(field(raw, "<H", 18) & 0x2)
            self.blank = field(raw, "<H", 28)  # inodes at the end that were never used
            if self.wide:
                self.blank |= field(raw, "<H", 50) << 16
            if field(raw, "<H", 18) & 0x1:
                self.blank = 1 << 32


class Ext:
    """One file system; ``walk`` yields what its bitmaps call used, group by group."""

    def __init__(self, view, final):
        raw = view.read(1024, 1024)
        self.view, self.final = view, final
        compat, incompat, readonly = struct.unpack("<III", raw[0x5C:0x68])
        if field(raw, "<I", 0x4C) == 0:
            compat = incompat = readonly = 0
        for name, found, known in (("incompat", incompat, EXT_INCOMPAT),
                                   ("ro_compat", readonly, EXT_READONLY),
                                   ("compat", compat, EXT_COMPAT)):
            if found & ~known:
                raise Unknown("ext %s feature 0x%x is not known" % (name, found & ~known))
        state = field(raw, "<H", 0x3A)
        if state & 2:
            raise Unknown("the file system has noted errors")
        clean = state & 1
        if final and (incompat & RECOVER or (not compat & JOURNAL and not clean)):
            raise Unknown("the file system was not at rest")
        self.shape(raw, incompat, readonly)
        self.checksums, self.seed = readonly & (OLD_CHECKSUMS | CHECKSUMS), 0
        self.uuid = raw[0x68:0x78]
        if readonly & CHECKSUMS:
            if crc32c(raw[:0x3FC], 0xFFFFFFFF) != field(raw, "<I", 0x3FC):
                raise Unknown("an ext superblock with a wrong checksum")
            self.seed = crc32c(self.uuid, 0xFFFFFFFF)
            if incompat & SEED:
                self.seed = field(raw, "<I", 0x270)
        self.sparse, self.pair = readonly & SPARSE, None
        if compat & SPARSE2:
            self.pair = struct.unpack("<II", raw[0x24C:0x254])
        # For groups without a bitmap: their copy of the superblock, if any, and room to grow.
        self.backup = 1 + min(self.directory, self.first_meta) + field(raw, "<H", 0xCE)
        self.strays, self.idle = {}, []
        self.find_strays()
        try:
            for first, last in empty_journal(self, raw):
                joined(self.idle, first, last)
        except FAULTS:
            pass  # it is copied, then
        self.idle.sort()
        self.note = "block %d" % self.block
        if self.ratio > 1:
            self.note += ", clusters of %d" % (self.ratio * self.block)

    def shape(self, raw, incompat, readonly):
        """Sizes and places, each checked before it is used."""
        shift, self.first, self.per_group = field(raw, "<I", 0x18), field(raw, "<I", 0x14), 0
        if shift > 6 or self.first > 1:
            raise Unknown("an ext superblock with strange sizes")
        self.block, self.count = 1024 << shift, field(raw, "<I", 0x4)
        self.width, self.ratio = 32, 1
        if incompat & BIT64:
            self.count |= field(raw, "<I", 0x150) << 32
            self.width = max(32, field(raw, "<H", 0xFE))
        self.per_group, bits = field(raw, "<I", 0x20), field(raw, "<I", 0x24)
        up = field(raw, "<I", 0x1C) - shift
        if readonly & BIGALLOC:
            if not 0 <= up <= 20:
                raise Unknown("an ext file system with strange clusters")
            self.ratio = 1 << up
        elif up:
            raise Unknown("an ext file system with clusters")
        else:
            bits = self.per_group
        self.bits = bits
        if not 0 < bits <= 8 * self.block or bits % 8 or bits * self.ratio != self.per_group:
            raise Unknown("an ext superblock with strange groups")
        if self.width not in (32, 64, 128, 256, 512, 1024):
            raise Unknown("an ext superblock with strange descriptors")
        if not self.first < self.count or self.count * self.block > self.view.size:
            raise Unknown("an ext file system larger than its volume")
        self.inode, self.inodes = 128, field(raw, "<I", 0x28)
        if field(raw, "<I", 0x4C):
            self.inode = field(raw, "<H", 0x58)
        if not 0 < self.inodes <= 8 * self.block:
            raise Unknown("an ext superblock with strange groups")
        self.tables = -(-self.inodes * self.inode // self.block)
        self.groups = -(-(self.count - self.first) // self.per_group)
        if self.groups > MANY or not 0 < self.tables < self.count:
            raise Unknown("an ext superblock with strange groups")
        self.per_block = self.block // self.width
        self.directory = -(-self.groups // self.per_block)
        self.meta, self.first_meta = incompat & META_BG, self.directory
        if self.meta:
            self.first_meta = min(field(raw, "<I", 0x104), self.directory)
        self.head = max(self.first, int(self.block == 1024))  # where the first superblock lies
        if self.meta and self.head != self.first:
            raise Unknown("an ext file system with clusters and scattered descriptors")

    def directory_block(self, number):
        """Where a block of descriptors lies."""
        if number < self.first_meta:
            return self.head + 1 + number
        group = number * self.per_block
        return self.first + group * self.per_group + int(self.has_backup(group))

    def descriptors(self, first, last):
        for number in range(first // self.per_block, -(-last // self.per_block)):
            raw = self.view.read(self.directory_block(number) * self.block, self.block)
            base = number * self.per_block
            for group in range(max(base, first), min(base + self.per_block, last)):
                at = (group - base) * self.width
                part = raw[at:at + self.width]
                self.verify(group, part)
                yield Group(group, part, self.checksums)

    def verify(self, group, raw):
        if self.checksums & CHECKSUMS:
            check = crc32c(struct.pack("<I", group), self.seed)
            check = crc32c(raw[:30] + ZEROS[:2] + raw[32:], check) & 0xFFFF
        elif self.checksums:
            check = crc16(self.uuid + struct.pack("<I", group) + raw[:30] + raw[32:], 0xFFFF)
        else:
            return
        if check != field(raw, "<H", 30):
            raise Unknown("an ext group descriptor with a wrong checksum")

    def find_strays(self):
        """Metadata inside groups that have no bitmap: flex_bg may put any group's there. One byte
        per group meanwhile. Checks all descriptors by the way, and notes the inode tables' ends."""
        absent, some, kept = array.array("B"), False, 0
        for group in self.descriptors(0, self.groups):
            absent.append(int(group.absent))
            end = self.checksums and table_end(self, group, self.inodes - group.blank)
            if end:
                joined(self.idle, end[0], end[1])
            some = some or group.absent
        if not some:
            return
        for found in self.descriptors(0, self.groups):
            for start, count in ((found.bitmap, 1), (found.inodes, 1), (found.table, self.tables)):
                if start < self.first or start + count > self.count:
                    raise Unknown("an ext group with metadata outside")
                group = (start - self.first) // self.per_group
                while group * self.per_group + self.first < start + count:
                    if absent[group]:
                        kept += self.stray(group, start, start + count)
                    group += 1
        if kept > MANY // 64:
            raise Unknown("ext metadata is scattered too much")

    def stray(self, group, start, end):
        """Note a piece, joined with one that it continues; how many more there are now."""
        runs = self.strays.setdefault(group, [])
        for number in range(len(runs)):
            if runs[number][1] == start:
                runs[number] = (runs[number][0], end)
                return 0
        if len(runs) > 1024:
            raise Unknown("ext metadata is scattered too much")
        runs.append((start, end))
        return 1

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
        start = self.first + found.number * self.per_group
        stop = min(start + self.per_group, self.count)
        if found.absent:
            return cut_out(self.without_bitmap(found.number, start, stop), self.idle)
        if not self.first < found.bitmap < self.count:
            return [(start, stop)]
        try:
            raw = self.view.read(found.bitmap * self.block, self.bits // 8)
        except FAULTS:
            return [(start, stop)]
        if self.checksums & CHECKSUMS and not self.sound(raw, found):
            return [(start, stop)]
        signs = "".join([BITS[byte] for byte in raw])[:-(-(stop - start) // self.ratio)]
        if start <= found.bitmap < stop and signs[(found.bitmap - start) // self.ratio] != "1":
            return [(start, stop)]  # a bitmap that does not even know itself
        if self.final and signs.count("0") != found.free:
            return [(start, stop)]  # at rest the two agree; before, one may lag the other
        runs = [(start + one * self.ratio, min(start + other * self.ratio, stop))
                for one, other in runs_of(signs, "1")]
        if not self.checksums:
            end = table_end(self, found, held(self, found))
            if end:
                runs = cut_out(runs, [end])
        return cut_out(runs, self.idle)

    def sound(self, raw, found):
        """Whether the bitmap's checksum is right. Many groups are full, and look the same."""
        check = crc32c_again(raw, self.seed)
        if found.wide:
            return check == found.check
        return check & 0xFFFF == found.check & 0xFFFF

    def has_backup(self, number):
        """Whether the group begins with a copy of the superblock and the descriptors."""
        if self.pair is not None:
            return number == 0 or number in self.pair
        if number < 2 or not self.sparse:
            return True
        for base in (3, 5, 7):
            power = base
            while power < number:
                power *= base
            if power == number:
                return True
        return False

    def without_bitmap(self, number, start, stop):
        length = 0
        if self.has_backup(number):
            length = self.backup
            if self.meta and number // self.per_block >= self.first_meta:
                length = 1
        if self.meta and number // self.per_block >= self.first_meta:
            length += int(number % self.per_block in (0, 1, self.per_block - 1))
        runs = [(start, min(start + length, stop))]
        for first, last in sorted(self.strays.get(number, [])):
            first, last = max(first, start), min(last, stop)
            if first <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
            elif first < last:
                runs.append((first, last))
        return [run for run in runs if run[0] < run[1]]
