"""md superblocks: one leg of a RAID1 is as good as the array. Joined after layout.py.

All four places are looked at: at the end (0.90, 1.0), at the start (1.1), 4 KiB behind it (1.2).
Superblocks, bitmaps and logs lie outside the data and are copied with all around it.
"""
import struct

MD_MAGIC = 0xA92B4EFC
DISK_IN_STEP, DISK_GONE = 0x6, 0x9  # active and in sync; faulty or removed
WITH_BITMAP = 0x1  # the one feature that changes nothing about the data


def member(view):
    """The array's data as a Slice, None where there is no superblock; Unknown if it is no leg of a
    RAID1, or not a leg that is in step."""
    found = []
    for leg in (old_leg(view), new_leg(view, 0), new_leg(view, 4096),
                new_leg(view, (view.size // 512 - 16) // 8 * 4096)):
        if leg is not None:
            found.append(leg)
    if len(found) > 1:
        raise Unknown("RAID superblocks of several kinds")
    if not found:
        return None
    return found[0]


def folded(words):
    total = 0
    for word in words:
        total += word
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF


def old_leg(view):
    """Version 0.90: 4 KiB in the last whole 64 KiB but one, in the byte order of its machine."""
    place = view.size // 65536 * 65536 - 65536
    if place < 0:
        return None
    raw = view.read(place, 4096)
    for order in "<>":
        words = struct.unpack(order + "1024I", raw)
        if words[0] == MD_MAGIC:
            break
    else:
        return None
    check = words[38]
    if folded(words[:38] + words[39:]) != check:
        raise Unknown("a RAID superblock with a wrong checksum")
    if words[1:3] != (0, 90):
        raise Unknown("an array of version %d.%d" % words[1:3])
    if words[7] != 1:
        raise Unknown("a member of a RAID of level %d" % field(raw, order + "i", 28))
    if words[995] >= words[10] or words[996] & (DISK_GONE | DISK_IN_STEP) != DISK_IN_STEP:
        raise Unknown("a RAID1 member that is no leg in step")
    return fitting(view, 0, words[8] * 1024, place)


def new_leg(view, place):
    """Version 1: little-endian, and it says where it lies."""
    if place < 0 or place + 4096 > view.size:
        return None
    raw = view.read(place, 4096)
    magic, major, features = struct.unpack("<III", raw[:12])
    if magic != MD_MAGIC or major != 1 or field(raw, "<Q", 144) * SECTOR != place:
        return None
    count = field(raw, "<I", 220)
    if count > 1920:
        raise Unknown("a RAID superblock with strange sizes")
    words = list(struct.unpack("<%dI" % (64 + count // 2), raw[:256 + count // 2 * 4]))
    if count % 2:
        words.append(field(raw, "<H", 256 + count // 2 * 4))
    check, words[54] = words[54], 0
    if folded(words) != check:
        raise Unknown("a RAID superblock with a wrong checksum")
    level = field(raw, "<i", 72)
    if level != 1:
        raise Unknown("a member of a RAID of level %d" % level)
    if features & ~WITH_BITMAP:
        raise Unknown("a RAID1 that is being rebuilt or reshaped")
    number, legs = field(raw, "<I", 160), field(raw, "<I", 92)
    if number >= count or field(raw, "<H", 256 + 2 * number) >= legs:
        raise Unknown("a RAID1 member that is no leg in step")
    start, size = field(raw, "<Q", 128) * SECTOR, field(raw, "<Q", 80) * SECTOR
    end = view.size
    if place > start:
        end = place
    elif start < place + 4096:
        raise Unknown("a RAID superblock with strange sizes")
    return fitting(view, start, size, end)


def fitting(view, start, size, end):
    if not 0 < size <= end - start:
        raise Unknown("a RAID superblock with strange sizes")
    return Slice(view.source, view.base + start, size)
