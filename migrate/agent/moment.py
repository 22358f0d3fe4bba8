"""A disk as it was at one moment while its file systems work on. Joined after fat.py.

LVM's snapshots hold the volumes; LVM's own metadata, which the making of a snapshot changes, was
kept by the controller before. All else is read from the disk and must be at rest.
"""
import os

MOST_KEPT = 8388608


class Moment(Device):
    """``kept`` are (offset, bytes), ``spans`` (offset, length, path, place in there)."""

    def __init__(self, path, kept, spans, direct=False):
        self.kept, self.spans, self.views, self.pieces = kept, spans, {}, []
        for offset, data in kept:
            self.pieces.append((offset, offset + len(data), data, None))
        for offset, length, name, place in spans:
            self.pieces.append((offset, offset + length, name, place))
        self.pieces.sort(key=lambda piece: piece[:2])
        for number in range(len(self.pieces) - 1):
            if self.pieces[number][1] > self.pieces[number + 1][0]:
                raise Refused("parts of the moment overlap")
        Device.__init__(self, path, direct)
        for span in spans:
            if span[2] not in self.views:
                self.views[span[2]] = Device(span[2], direct)

    def another(self):
        return Moment(self.path, self.kept, self.spans, True)

    def close(self):
        Device.close(self)
        for view in self.views.values():
            view.close()

    def plain(self, offset, length):
        for start, end, held, place in self.pieces:
            if offset < start:
                length = min(length, start - offset)
                break
            if offset < end:
                length = min(length, end - offset)
                if place is None:
                    return held[offset - start:offset - start + length]
                return self.view(held, place + offset - start, length)
        return Device.plain(self, offset, length)

    def view(self, path, offset, length):
        """An error here is no bad sector to be filled with zeros: the moment is lost."""
        try:
            raw = self.views[path].plain(offset, length)
        except EnvironmentError:
            raw = NOTHING
        if not raw:
            raise Refused("%s can't be read: it ran full, was removed, or its disk is bad" % path)
        return raw


def moment_of(fields, kept):
    """The device of a PASS: the disk itself, or as it was at the moment that was told before."""
    spans = []
    for line in fields.get("views", "").split("|"):
        if line:
            offset, length, place, path = line.split(" ", 3)
            spans.append((int(offset), int(length), path, int(place)))
    if kept or spans:
        return Moment(fields["device"], kept, spans)
    return Device(fields["device"])


def tables(link, fields):
    """Tell LVM's metadata on a disk, and where on it its plain volumes lie."""
    device = Device(fields["device"])
    if device.block:
        os.system("sync")
        device.fresh()
    read, lines, total = certain(device), [], 0
    for start, end, kind, _, _ in areas(read, device.size, False):
        if kind != "lvm metadata":
            continue
        try:
            lines.extend(spread(Slice(read, start, device.size - start)))
        except FAULTS:
            pass  # what lies behind the extents begins with no label
        total += end - start
        if total > MOST_KEPT:
            raise Refused("LVM's metadata on %s is larger than 8 MiB" % fields["device"])
        while start < end:
            part = read(start, min(end - start, 1048576))
            link.send(KEEP, part, start, len(part))
            start += len(part)
    device.close()
    link.send(END, packed({"volumes": "|".join(lines)}))
