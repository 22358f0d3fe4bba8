"""The reader: runs on the source, reads what is used, writes nothing. Joined after volumes.py.

PASS goes over one disk in order and compares each chunk with the manifest the controller streams
in: SAME for equal ones, DATA or ZERO for the others. A chunk is 64 KiB of the disk with every
unused block in it taken as zeros, so the replica never gets what was deleted long ago.
"""
import errno
import fcntl
import os
import struct
import sys
import time
import zlib

WINDOW = 4 * CHUNK
BLKFLSBUF = 0x1261
FLUSH_EVERY = 64 * 1048576
REPORT_EVERY = 16 * 1048576
RUN = 16 * 1048576


class Device:
    """A disk, read past every cache that could hold old data."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.lseek(self.descriptor, 0, 2)
        self.block = os.fstat(self.descriptor).st_mode & 0xF000 == 0x6000
        self.bad, self.took, self.unflushed = [], 0, 0
        self.positioned = getattr(os, "pread", None)
        self.advise = getattr(os, "posix_" + "fadvise", None)
        self.fresh()

    def fresh(self):
        """A mounted file system's writes do not show in the disk's own cache: drop that cache."""
        self.unflushed = 0
        if self.block:
            try:
                fcntl.ioctl(self.descriptor, BLKFLSBUF, 0)
            except (IOError, OSError):
                raise Refused("can't drop the disk's cache: root is needed on the source")
        elif self.advise is not None:
            self.advise(self.descriptor, 0, 0, 4)

    def plain(self, offset, length):
        if self.positioned is not None:
            return self.positioned(self.descriptor, length, offset)
        os.lseek(self.descriptor, offset, 0)
        return os.read(self.descriptor, length)

    def full(self, offset, length):
        raw = self.plain(offset, length)
        while len(raw) < length:
            more = self.plain(offset + len(raw), length - len(raw))
            if not more:
                return raw
            raw += more
        return raw

    def read(self, offset, length):
        """Never fails: sectors that can't be read are zeros, and are remembered."""
        self.took += length
        self.unflushed += length
        if self.unflushed >= FLUSH_EVERY and self.block:
            self.fresh()
        try:
            return self.full(offset, length)
        except (IOError, OSError):
            if sys.exc_info()[1].errno not in (errno.EIO, getattr(errno, "EBADMSG", errno.EIO)):
                raise
        return self.bisect(offset, length)

    def bisect(self, offset, length):
        if length <= 512:
            self.bad.append((offset, length))
            return ZEROS[:length]
        half = max(512, length // 1024 * 512)
        parts = []
        for start, count in ((offset, half), (offset + half, length - half)):
            if count:
                try:
                    parts.append(self.full(start, count))
                except (IOError, OSError):
                    parts.append(self.bisect(start, count))
        return NOTHING.join(parts)


def windows(extents):
    """(base, [(start, end)]) of every 256 KiB with something used, in order."""
    base, pieces = -1, []
    for start, end in extents:
        start -= start % 512
        while start < end:
            at = start - start % WINDOW
            if at != base:
                if pieces:
                    yield base, pieces
                base, pieces = at, []
            stop = min(end, at + WINDOW)
            if pieces and pieces[-1][1] >= start:
                pieces[-1] = (pieces[-1][0], max(stop, pieces[-1][1]))
            else:
                pieces.append((start, stop))
            start = stop
    if pieces:
        yield base, pieces


def masked(raw, base, pieces, start, end):
    """The bytes from start to end, where ``raw`` begins at base; zeros outside the pieces."""
    for first, last in pieces:
        if first <= start and end <= last:
            return raw[start - base:end - base]
    parts, at = [], start
    for first, last in pieces:
        first, last = max(first, start), min(last, end)
        if first < last:
            parts.append(ZEROS[:first - at])
            parts.append(raw[first - base:last - base])
            at = last
    parts.append(ZEROS[:end - at])
    return NOTHING.join(parts)


class Manifest:
    """What the controller knows, as it streams in; only ever a little ahead of the reading."""

    def __init__(self, width):
        self.width, self.runs, self.upto = width, [], 0

    def add(self, offset, length, payload):
        self.runs.append((offset, offset + length, payload))
        self.upto = offset + length

    def known(self, offset):
        while self.runs and self.runs[0][1] <= offset:
            self.runs.pop(0)
        if not self.runs or not self.runs[0][2] or offset < self.runs[0][0]:
            return None
        at = (offset - self.runs[0][0]) // CHUNK * self.width
        found = self.runs[0][2][at:at + self.width]
        if found == ZEROS[:self.width]:
            return None
        return found


class Pass:
    """One walk over one disk."""

    def __init__(self, link, device, fields):
        self.link, self.device = link, device
        self.new = hashes()[fields["hash"]]
        self.width = len(self.new().digest())
        self.compress = fields.get("codec") == "zlib"
        self.start = int(fields.get("start", "0"))
        self.rate = int(fields.get("rate", "0"))
        self.credit, self.manifest = 0, Manifest(self.width)
        self.run = None  # (kind, start, end, [digests]) of SAME or ZERO, not yet told
        self.told, self.used, self.sent, self.bad = self.start, 0, 0, 0
        self.began, self.paid = time.time(), 0
        self.zero = {}

    def listen(self, seconds):
        """Take what the controller sent; wait for it at most so long, None for ever."""
        while seconds is None or self.link.ready(seconds):
            kind, _, offset, length, payload = self.link.receive()
            if kind == CREDIT:
                self.credit += offset
            elif kind == MANIFEST:
                self.manifest.add(offset, length, payload)
            else:
                raise Refused("unexpected frame %d during a pass" % kind)
            seconds = 0

    def walk(self, extents):
        for base, pieces in windows(extents):
            end = min(base + WINDOW, self.device.size)
            if end <= self.start:
                continue
            self.listen(0)
            if base - self.told >= REPORT_EVERY or self.manifest.upto < end:
                self.tell(base)
            while self.manifest.upto < end:
                self.listen(None)
            self.window(base, end, pieces)
        self.flush()
        self.tell(self.device.size)

    def tell(self, position):
        self.flush()
        self.told = position
        payload = struct.pack("!QQ", self.used, self.device.took)
        self.link.send(POSITION, payload, position)

    def window(self, base, end, pieces):
        first, last = pieces[0][0], min(pieces[-1][1], end)
        last = min(-(-last // 512) * 512, end)
        raw = self.device.read(first, last - first)
        if len(raw) != last - first:
            raise Refused("the disk became shorter")
        pending = []
        for start in range(base, end, CHUNK):
            stop = min(start + CHUNK, end)
            inside = [piece for piece in pieces if piece[0] < stop and piece[1] > start]
            if not inside or start < self.start:  # a pass may go on in the middle of a window
                continue
            data = masked(raw, first, inside, start, stop)
            for one, other in inside:
                self.used += min(other, stop) - max(one, start)
            kind, digest = self.judge(start, data)
            if kind == DATA:
                if pending and pending[-1][1] != start:
                    self.data(pending, raw, first, pieces)
                    pending = []
                pending.append((start, stop, digest))
            else:
                self.data(pending, raw, first, pieces)
                pending = []
                self.gather(kind, start, stop, digest)
        self.data(pending, raw, first, pieces)

    def judge(self, start, data):
        size = len(data)
        if data == ZEROS[:size]:
            if size not in self.zero:
                self.zero[size] = self.new(data).digest()
            if self.manifest.known(start) == self.zero[size]:
                return SAME, self.zero[size]
            return ZERO, self.zero[size]
        digest = self.new(data).digest()
        if self.manifest.known(start) == digest:
            return SAME, digest
        return DATA, digest

    def gather(self, kind, start, stop, digest):
        run = self.run
        if run is None or run[0] != kind or run[2] != start or start - run[1] >= RUN:
            self.flush()
            self.run = run = [kind, start, stop, []]
        run[2] = stop
        if kind == SAME:
            run[3].append(digest)

    def flush(self):
        """Tell the run of SAME or ZERO gathered so far."""
        if self.run is not None:
            kind, start, stop, digests = self.run
            self.run = None
            self.pay(HEADER_SIZE)
            self.link.send(kind, NOTHING.join(digests), start, stop - start)

    def data(self, pending, raw, base, pieces):
        """One frame: digests, the table of used pieces in sectors, the pieces' bytes."""
        if not pending:
            return
        self.flush()
        start, stop = pending[0][0], pending[-1][1]
        table, parts = [], []
        for first, last in pieces:
            first, last = max(first, start), min(last, stop)
            if first < last:
                size = -(-(last - first) // 512)
                table.append(struct.pack("!HH", (first - start) // 512, size))
                parts.append(raw[first - base:last - base])
        body, codec = NOTHING.join(parts), RAW
        if self.compress:
            smaller = zlib.compress(body, 1)
            if len(smaller) < len(body) * 0.95:
                body, codec = smaller, ZLIB
        head = [entry[2] for entry in pending] + [struct.pack("!H", len(table))] + table
        payload = NOTHING.join(head + [body])
        self.pay(len(payload) + HEADER_SIZE)
        self.link.send(DATA, payload, start, stop - start, codec)
        self.sent += stop - start

    def pay(self, size):
        """Spend credit, and time when a rate is set; sleep in small steps, still listening."""
        while self.credit < size:
            self.listen(None)
        self.credit -= size
        self.paid += size
        while self.rate:
            ahead = self.paid / float(self.rate) - (time.time() - self.began)
            if not 0 < ahead < 3600:
                if ahead < -1:  # what was not used is not saved up
                    self.began, self.paid = time.time(), 0
                return
            self.listen(min(ahead, 0.2))


def politely():
    try:
        os.nice(19)
    except OSError:
        pass
    os.system("ionice -c3 -p %d >/dev/null 2>&1" % os.getpid())


def one_pass(link, fields):
    if fields.get("polite") == "1":
        politely()
    device = Device(fields["device"])
    if device.block:
        os.system("sync")  # bitmaps on the medium lag the journal until then
        device.fresh()
    if device.size != int(fields["size"]):
        raise Refused("%s has %d bytes, the plan says %s"
                      % (fields["device"], device.size, fields["size"]))
    final = fields.get("final") == "1"
    found = areas(device.read, device.size, final)
    total = 0
    for start, end in used(found):
        total += end - start
    told = ["%d %d %s: %s" % (area[0], area[1] - area[0], area[2], area[3])
            for area in found if area[2] not in ("gap", "free")]
    link.send(MAPPED, packed({"used": total, "areas": " | ".join(told)[:100000]}))
    device.fresh()
    device.took, device.bad = 0, []
    walk = Pass(link, device, fields)
    walk.walk(used(found))
    for offset, length in device.bad[:10000]:
        link.send(BAD, NOTHING, offset, length)
    link.send(END, packed({
        "used": walk.used, "read": device.took, "sent": walk.sent, "bad": len(device.bad)}))
    device.fresh()
    os.close(device.descriptor)


def holders(device):
    """Who holds files open for writing on the file system with this st_dev: those keep a
    remount from succeeding."""
    lines = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            names = os.listdir("/proc/%s/fd" % pid)
        except OSError:
            continue
        for name in names:
            try:
                path = "/proc/%s/fd/%s" % (pid, name)
                info = os.stat(path)
                target = os.readlink(path)
                writes = os.lstat(path).st_mode & 128  # the link's w bit: open for writing
            except OSError:
                continue
            plain = info.st_mode & 0xF000 in (0x8000, 0x4000)
            if info.st_dev == device and plain and (writes or target.endswith(" (deleted)")):
                lines.append("%s %s %s" % (pid, command(pid), target))
                break
    return lines


def command(pid):
    try:
        source = open("/proc/%s/stat" % pid)
        try:
            line = source.read()
        finally:
            source.close()
    except IOError:
        return "?"
    return line[line.find("(") + 1:line.rfind(")")].replace(" ", "_")


def handlers(link):
    def run(codec, offset, length, payload):
        one_pass(link, unpacked(payload))

    def who(codec, offset, length, payload):
        found = holders(os.stat(unpacked(payload)["path"]).st_dev)
        link.send(HOLDERS, packed({"lines": " | ".join(found[:200])}))

    def ignore(codec, offset, length, payload):
        """What was still under way when a pass ended."""

    return {PASS: run, HOLDERS: who, CREDIT: ignore, MANIFEST: ignore}


if __name__ == "__main__":
    sys.exit(serve("reader", handlers))
