"""LVM2 physical volumes: metadata, and what their logical volumes use. Joined after layout.py.

Only linear volumes that lie on this disk alone are looked into. Of all others every extent that
belongs to them is copied.
"""
import re
import struct
import zlib

LONGEST = 16777216
IGNORED = 1  # by LVM, which leaves the text there as it was when it was told to
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
    best = (-1, "")
    for start, size in lists[1]:
        string = copy_of(view, start, size)
        if string is not None:
            best = max(best, (serial(string), string))
    if best[0] < 0:
        raise Unknown("no LVM metadata with a good checksum")
    return uuid, best[1]


def copy_of(view, start, size):
    """The text in one metadata area; None where it is damaged or there is none."""
    try:
        header = view.read(start, SECTOR)
        if header[4:20] != LVM_MAGIC or lvm_crc(header[4:]) != field(header, "<I", 0):
            return None
        where, length, check, flags = struct.unpack("<QQII", header[40:64])
        if flags & IGNORED:
            return None
        if not 0 < length < min(size, LONGEST) or not SECTOR <= where < size:
            return None
        raw = view.read(start + where, min(length, size - where))
        raw += view.read(start + SECTOR, length - len(raw))  # it is a ring
    except Unknown:
        return None
    if lvm_crc(raw) != check:
        return None
    return text(raw.rstrip(ZEROS[:1]))


def serial(string):
    """Each change of the group counts up. An area that was not reachable then has an older one."""
    return group_of(parsed(string))["seqno"]


def group_of(values):
    for value in values.values():
        if isinstance(value, dict) and "physical_volumes" in value:
            return value
    raise Unknown("no volume group in LVM's metadata")


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


def membership(view):
    """(group, our name in it, bytes of an extent, the first extent's place, the last one's end)"""
    uuid, string = metadata(view)
    group = group_of(parsed(string))
    own = [name for name, data in group["physical_volumes"].items()
           if data["id"].replace("-", "") == uuid]
    if len(own) != 1:
        raise Unknown("this physical volume is not in its own group")
    data = group["physical_volumes"][own[0]]
    extent, start = group["extent_size"] * SECTOR, data["pe_start"] * SECTOR
    last = start + data["pe_count"] * extent
    if not 0 < start < last <= view.size or extent < 1024:
        raise Unknown("a physical volume with strange sizes")
    return group, own[0], extent, start, last


def spread(view):
    """Lines "place on the disk, length, place in the volume, UUID of the volume" for the pieces of
    all volumes that are linear throughout; they may go on on other disks."""
    group, own, extent, start, last = membership(view)
    lines, volumes = [], group.get("logical_volumes", {})
    for data in volumes.values():
        parts = [part for part in data.values()
                 if isinstance(part, dict) and "extent_count" in part]
        plain = [part for part in parts
                 if part.get("type") == "striped" and len(part.get("stripes", [])) == 2]
        if "VISIBLE" not in data.get("status", []) or len(plain) != len(parts):
            continue
        for part in plain:
            name, at = part["stripes"]
            if name == own:
                lines.append("%d %d %d %s" % (
                    view.base + start + at * extent, part["extent_count"] * extent,
                    part["start_extent"] * extent, data["id"]))
    return lines


def physical(view, final):
    """The areas of a physical volume: what no volume owns is free, the rest is judged by volume."""
    group, own, extent, start, last = membership(view)
    result, at = [(view.base, view.base + start, "lvm metadata", "", None)], start
    for first, count, walk, kind, note in sorted_claims(view, group, own, start, extent, final):
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
                if member(inside) is not None:
                    raise Unknown("an array inside")
                walk, kind, note = content(inside, plain(inside), final)
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
