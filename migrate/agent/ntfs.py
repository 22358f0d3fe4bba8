"""NTFS: what $Bitmap, the sixth record of $MFT, calls used. Joined after layout.py.

In the last pass the volume must not be dirty and its $LogFile must be closed.
"""
import struct

BITMAP_STEP = 32768  # bytes of the bitmap at a time
SYMBOLS = ("$MFT", "$MFTMirr", "$LogFile", "$Volume", "", "", "$Bitmap")
PLAIN_DATA, ABOUT_VOLUME, FILE_NAME = 0x80, 0x70, 0x30
DIRTY, CLOSED, NOBODY = 0x1, 0x2, 0xFFFF


class Ntfs:
    """One file system; ``walk`` reads the bitmap in steps."""

    def __init__(self, view, final):
        raw = view.read(0, 512)
        self.view = view
        self.sector, clusters = struct.unpack("<HB", raw[11:14])
        sectors, self.mft, mirror = struct.unpack("<QQQ", raw[40:64])
        if self.sector not in (256, 512, 1024, 2048, 4096) or raw[510:] != struct.pack("BB", 85, 170):
            raise Unknown("an NTFS boot sector with strange sizes")
        if clusters > 128:
            clusters = 1 << 256 - clusters
        self.cluster = self.sector * clusters
        if self.cluster & self.cluster - 1 or not 256 <= self.cluster <= 2097152:
            raise Unknown("an NTFS boot sector with strange sizes")
        self.width = field(raw, "b", 64)
        if self.width < 0 and self.width > -17:
            self.width = 1 << -self.width
        else:
            self.width *= self.cluster
        if self.width not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            raise Unknown("NTFS records of a strange size")
        self.count = sectors // clusters
        if not 0 < self.count * self.cluster <= view.size:
            raise Unknown("an NTFS larger than its volume")
        self.table = Pieces(view.read, [(0, self.mft * self.cluster, self.width)])
        try:
            start = self.record(0)
        except Unknown:
            self.table = Pieces(view.read, [(0, mirror * self.cluster, self.width)])
            start = self.record(0)
        places = self.runs(start, PLAIN_DATA)[0]
        self.table = self.pieces(places)
        self.look(final)
        found, size, ready = self.runs(self.record(6), PLAIN_DATA)
        if min(size, ready) * 8 < self.count:
            raise Unknown("an NTFS bitmap that is too short")
        self.bitmap = self.pieces(found)
        self.prove(places + found)
        self.note = "cluster %d" % self.cluster

    def record(self, number):
        """One record of $MFT by its number, whose name we know; each sector's end put right."""
        raw = self.table.read(number * self.width, self.width)
        at, count = struct.unpack("<HH", raw[4:8])
        if raw[:4] != "FILE".encode("ascii") or not field(raw, "<H", 22) & 1:
            raise Unknown("an NTFS record that is none")
        if count != self.width // 512 + 1 or at + 2 * count > 512:
            raise Unknown("an NTFS record with strange sizes")
        parts = []
        for index in range(count - 1):
            sector = raw[512 * index:512 * index + 512]
            if sector[510:] != raw[at:at + 2]:
                raise Unknown("an NTFS record that was written by halves")
            parts.append(sector[:510] + raw[at + 2 * index + 2:at + 2 * index + 4])
        raw = NOTHING.join(parts)
        name = self.attribute(raw, FILE_NAME)
        if name is None:
            raise Unknown("an NTFS record without a name")
        start = field(name, "<H", 20)
        length = field(name, "B", start + 64)
        name = name[start + 66:start + 66 + 2 * length]
        if name != SYMBOLS[number].encode("utf-16-le"):
            raise Unknown("an NTFS record of another name")
        return raw

    def attribute(self, raw, wanted):
        """The first unnamed attribute of a type; None where there is none."""
        at, end = field(raw, "<H", 20), min(field(raw, "<I", 24), len(raw))
        while at + 24 <= end:
            kind, length = struct.unpack("<II", raw[at:at + 8])
            if kind == 0xFFFFFFFF:
                return None
            if length < 24 or at + length > end:
                raise Unknown("an NTFS attribute with strange sizes")
            if kind == wanted and not field(raw, "B", at + 9):
                return raw[at:at + length]
            at += length
        return None

    def runs(self, raw, wanted):
        """([(first cluster on disk, count)], size, initialised size) of an attribute."""
        part = self.attribute(raw, wanted)
        if part is None or not field(part, "B", 8) or field(part, "<H", 12):
            raise Unknown("an NTFS file that is not plain")
        first, last, at = struct.unpack("<QQH", part[16:34])
        size, ready = struct.unpack("<QQ", part[48:64])
        result, place, total = [], 0, 0
        while field(part, "B", at):
            head = field(part, "B", at)
            lengths, offsets = head & 15, head >> 4
            if not 0 < lengths <= 8 or not 0 < offsets <= 8:
                raise Unknown("an NTFS file with holes")
            count = little(part[at + 1:at + 1 + lengths], False)
            place += little(part[at + 1 + lengths:at + 1 + lengths + offsets], True)
            if count < 1 or place < 0 or place + count > self.count:
                raise Unknown("an NTFS file that leads outside")
            result.append((place, count))
            total += count
            at += 1 + lengths + offsets
        if first or not result or total != last + 1:
            raise Unknown("an NTFS file that does not start in its record")
        return result, size, ready

    def pieces(self, runs):
        result, at = [], 0
        for place, count in runs:
            result.append((at, place * self.cluster, count * self.cluster))
            at += count * self.cluster
        return Pieces(self.view.read, result)

    def look(self, final):
        """Whether the volume is of a version we know, and at rest when it has to be."""
        part = self.attribute(self.record(3), ABOUT_VOLUME)
        value = part[field(part, "<H", 20):]
        major, minor, flags = struct.unpack("<BBH", value[8:12])
        if (major, minor) not in ((1, 2), (3, 0), (3, 1)):
            raise Unknown("NTFS version %d.%d is not known" % (major, minor))
        if final and (flags & DIRTY or not self.closed()):
            raise Unknown("the file system was not at rest")

    def closed(self):
        """Whether $LogFile says that nothing is left to be done."""
        log = self.pieces(self.runs(self.record(2), PLAIN_DATA)[0])
        raw = log.read(0, 4096)
        if raw == struct.pack("B", 255) * 4096:
            return True
        newest = (-1, True)
        for start in (0, field(raw, "<I", 16)):  # two pages, of which the younger one counts
            raw = log.read(start, 4096)
            if raw[:4] == "RSTR".encode("ascii"):
                at = field(raw, "<H", 24)
                user, flags = struct.unpack("<HH", raw[at + 12:at + 16])
                busy = user != NOBODY and flags & CLOSED == 0
                newest = max(newest, (field(raw, "<Q", at), busy))
            elif not start:
                return False
        return not newest[1]

    def prove(self, runs):
        """A bitmap must know the boot sector, $MFT's start and itself."""
        for place, count in [(0, 1)] + runs:
            for cluster in (place, place + count - 1):
                if self.signs(cluster, cluster + 1) != "1":
                    raise Unknown("an NTFS bitmap that does not know itself")

    def signs(self, first, last):
        raw = self.bitmap.read(first // 8, -(-last // 8) - first // 8)
        skip = first % 8
        return "".join([BITS[byte] for byte in raw])[skip:skip + last - first]

    def walk(self, first, last):
        at, end = first // self.cluster, min(-(-last // self.cluster), self.count)
        while at < end:
            step = min(at + BITMAP_STEP * 8, end)
            for one, other in runs_of(self.signs(at, step), "1"):
                one = max((at + one) * self.cluster, first)
                other = min((at + other) * self.cluster, last)
                if one < other:
                    yield one, other
            at = step
        end = self.count * self.cluster
        if last > end:
            yield max(end, first), last


def little(raw, signed):
    """A little-endian number of any length."""
    values = struct.unpack("%dB" % len(raw), raw)
    result = 0
    for index in range(len(values)):
        result |= values[index] << 8 * index
    if signed and values[-1] & 0x80:
        result -= 1 << 8 * len(values)
    return result
