"""The hands of the reader: forked processes that read, hash, compare and compress.

A task is one MiB of the disk: its used pieces, and of each chunk in it the first bytes of the
digest that the controller has. The answer is a list of records, in order. Tasks go round the
workers and answers are taken round them too, so the disk's order is kept and no worker can be
more than two tasks ahead: that bounds the memory. Joined after device.py.
"""
import os
import struct
import sys
import zlib

TASK = 16 * CHUNK
READ = 8 * CHUNK  # at once: with more, a cold disk and the hashing wait for each other
GAP = 2 * CHUNK  # unused: read over rather than left out
WINDOW = 4 * CHUNK
SHORT = 8  # bytes of a digest that tell a changed chunk; the whole digest proves an equal one
FORKS = hasattr(os, "fork")
SCHEDSTAT = "/proc/self/schedstat"
SHORT_READ = 0.001  # seconds
TRIAL = 2  # beside RAW and ZLIB: send raw, but compress one chunk to see what it would bring
ORDER = "!QQBBHH"  # base, end, codec, whether each chunk is told alone, pieces, short digests
ANSWER = "!IQIIIIII"  # size, used, read bytes, reads, µs reading, raw, compressed, µs compressing
RECORD = "!BBQII"  # kind, codec, offset, length, payload
RECORD_SIZE = struct.calcsize(RECORD)


def windows(extents, width):
    """(base, [(start, end)]) of every ``width`` bytes with something used, in order."""
    base, pieces = -1, []
    for start, end in extents:
        start -= start % 512
        while start < end:
            at = start - start % width
            if at != base:
                if pieces:
                    yield base, pieces
                base, pieces = at, []
            stop = min(end, at + width)
            if pieces and pieces[-1][1] >= start:
                pieces[-1] = (pieces[-1][0], max(stop, pieces[-1][1]))
            else:
                pieces.append((start, stop))
            start = stop
    if pieces:
        yield base, pieces


def stretches(pieces):
    """Pieces that one read takes together."""
    together = []
    for first, last in pieces:
        if together and first - together[-1][1] > GAP:
            yield together
            together = []
        together.append((first, last))
    if together:
        yield together


def masked(raw, base, pieces, start, end):
    """The bytes from start to end, where ``raw`` begins at base; zeros outside the pieces."""
    for first, last in pieces:
        if first <= start and end <= last:
            return cut(raw, start - base, end - start)
    parts, at = [], start
    for first, last in pieces:
        first, last = max(first, start), min(last, end)
        if first < last:
            parts.append(ZEROS[:first - at])
            parts.append(whole(raw[first - base:last - base]))
            at = last
    parts.append(ZEROS[:end - at])
    return NOTHING.join(parts)


def bundle(pending, raw, base, pieces):
    """(head, body) of a data frame: digests, the table of used pieces in sectors; their bytes."""
    start, stop = pending[0][0], pending[-1][1]
    table, parts = [], []
    for first, last in pieces:
        first, last = max(first, start), min(last, stop)
        if first < last:
            size = -(-(last - first) // 512)
            table.append(struct.pack("!HH", (first - start) // 512, size))
            parts.append(whole(raw[first - base:last - base]))
    head = [entry[2] for entry in pending] + [struct.pack("!H", len(table))] + table
    return NOTHING.join(head), NOTHING.join(parts)


class Queue:
    """How long this process waited for a processor. A read that ended long ago, while its process
    waits for its turn, does not tell that the disk is busy."""

    def __init__(self):
        self.descriptor = -1
        try:
            self.descriptor = os.open(SCHEDSTAT, os.O_RDONLY)
        except OSError:
            pass
        self.before = self.waited()

    def waited(self):
        """Seconds so far; 0 where the kernel does not tell."""
        if self.descriptor < 0:
            return 0.0
        try:
            os.lseek(self.descriptor, 0, 0)
            return int(os.read(self.descriptor, 128).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def without(self, seconds):
        """What remains of the duration of a read; of a short one all does."""
        if seconds < SHORT_READ:
            return seconds
        before, self.before = self.before, self.waited()
        return max(0.0, seconds - (self.before - before))


class Hand:
    """What one worker does. ``answer`` turns a task into records."""

    def __init__(self, device, new, quick=False):
        self.device, self.new, self.quick = device, new, quick
        self.zero, self.queue = {}, Queue()

    def answer(self, order):
        base, end, codec, single, count, shorts = struct.unpack(
            ORDER, order[:struct.calcsize(ORDER)])
        self.single = single
        at = struct.calcsize(ORDER)
        flat = struct.unpack("!%dQ" % (2 * count), order[at:at + 16 * count])
        self.shorts = order[at + 16 * count:at + 16 * count + SHORT * shorts]
        pieces = [(flat[2 * i], flat[2 * i + 1]) for i in range(count)]
        self.base, self.codec, self.records, self.size = base, codec, [NOTHING], 0
        self.used, self.reads, self.reading = 0, 0, 0.0
        self.raw, self.small, self.squeezing = 0, 0, 0.0
        self.device.took, self.run = 0, None
        for place, near in windows(pieces, READ):
            for inside in stretches(near):
                self.stretch(inside, end)
        self.flush()
        for offset, length in self.device.bad:
            self.record(BAD, 0, offset, length)
        self.device.bad = []
        self.records[0] = struct.pack(
            ANSWER, self.size, self.used, self.device.took, self.reads, int(self.reading * 1e6),
            self.raw, self.small, int(self.squeezing * 1e6))
        return NOTHING.join(self.records)

    def record(self, kind, codec, offset, length, *parts):
        size = 0
        for part in parts:
            size += len(part)
        self.records.append(struct.pack(RECORD, kind, codec, offset, length, size))
        self.records.extend(parts)
        self.size += RECORD_SIZE + size

    def alike(self, kind, start, stop, digest):
        """Equal chunks, or zeros: what follows each other is one record."""
        run = self.run
        if run is None or run[0] != kind or run[2] != start:
            self.flush()
            self.run = run = [kind, start, stop, []]
        run[2] = stop
        run[3].append(digest)

    def flush(self):
        if self.run is not None:
            kind, start, stop, digests = self.run
            self.run = None
            self.record(kind, 0, start, stop - start, *digests)

    def stretch(self, pieces, end):
        """What one read brings, window by window."""
        first, last = pieces[0][0], min(pieces[-1][1], end)
        last = min(-(-last // 512) * 512, end)
        began = ticks()
        raw = self.device.read(first, last - first)
        self.reading += self.queue.without(max(0, ticks() - began))
        self.reads += 1
        if len(raw) != last - first:
            raise Refused("the disk became shorter")
        sums = NOTHING
        chunks = first % CHUNK == 0 and (last % CHUNK == 0 or last == end)
        if self.quick and chunks and pieces == [(first, last)]:
            sums = all_summed(raw)
            if self.same(sums, first, last):
                return
        for place, inside in windows(pieces, WINDOW):
            at = max(0, place - first) // CHUNK * SHORT
            self.window(raw, first, place, min(place + WINDOW, end), inside,
                        sums[at:at + WINDOW // CHUNK * SHORT])

    def window(self, raw, first, base, end, pieces, sums):
        """``sums`` are the checksums of its chunks, if they are known and it is in use as a
        whole."""
        if self.quick and pieces == [(base, end)]:
            sums = sums or all_summed(cut(raw, base - first, end - base))
            if self.same(sums, base, end):
                return
        else:
            sums = NOTHING
        pending = []
        for start in range(base, end, CHUNK):
            stop = min(start + CHUNK, end)
            inside = [piece for piece in pieces if piece[0] < stop and piece[1] > start]
            if not inside:
                continue
            data = masked(raw, first, inside, start, stop)
            for one, other in inside:
                self.used += min(other, stop) - max(one, start)
            at = (start - base) // CHUNK * SHORT
            kind, digest = self.judge(start, data, sums[at:at + SHORT])
            if kind == DATA:
                self.flush()
                if pending and (self.single or pending[-1][1] != start):
                    self.data(pending, raw, first, pieces)
                    pending = []
                pending.append((start, stop, digest))
            else:
                self.data(pending, raw, first, pieces)
                pending = []
                self.alike(kind, start, stop, digest)
        self.data(pending, raw, first, pieces)

    def same(self, sums, start, stop):
        """Whether all checksums of what is in use as a whole are as they were; if so, that is
        noted."""
        at = (start - self.base) // CHUNK * SHORT
        if sums != self.shorts[at:at + len(sums)]:
            return False
        self.alike(SAME, start, stop, sums)
        self.used += stop - start
        return True

    def judge(self, start, data, summed_up):
        size, at = len(data), (start - self.base) // CHUNK * SHORT
        known = self.shorts[at:at + SHORT]
        if self.quick and known != ZEROS[:SHORT]:
            if known == (summed_up or summed(data)):
                return SAME, known
            known = NOTHING
        # most is told by the first sector; the comparison of all takes copies
        if data[:512] == ZEROS[:512] and whole(data) == ZEROS[:size]:
            if size not in self.zero:
                self.zero[size] = self.new(data).digest()
            kind, digest = ZERO, self.zero[size]
        else:
            kind, digest = DATA, self.new(data).digest()
        if known == digest[:SHORT] and known != ZEROS[:SHORT]:
            return SAME, digest
        return kind, digest

    def data(self, pending, raw, base, pieces):
        if not pending:
            return
        head, body = bundle(pending, raw, base, pieces)
        codec = RAW
        if self.codec == ZLIB:
            smaller = self.squeezed(body)
            if len(smaller) < len(body) * 0.95:
                body, codec = smaller, ZLIB
        elif self.codec == TRIAL:
            self.squeezed(body[:CHUNK])
            self.codec = RAW
        start, stop = pending[0][0], pending[-1][1]
        self.record(DATA, codec, start, stop - start, head, body)

    def squeezed(self, body):
        began = ticks()
        smaller = zlib.compress(body, 1)
        self.squeezing += max(0, ticks() - began)
        self.raw += len(body)
        self.small += len(smaller)
        return smaller


class Crew:
    """The workers and the pipes to them. ``FORKS`` false, or no room for a process: the reader's
    own process does their work."""

    def __init__(self, link, device, new, count, quick=False):
        self.quick = quick
        self.members, self.given, self.taken, self.kept = [], 0, 0, []
        self.alone = None
        if not FORKS:
            count = 0
        for number in range(count):
            try:
                self.hire(link, device, new)
            except OSError:
                break
        if not self.members:
            self.alone = Hand(device, new, quick)
        self.count = max(1, len(self.members))

    def hire(self, link, device, new):
        from_us, to_them = os.pipe()
        from_them, to_us = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # Whoever keeps an end of a pipe open hides the death of its owner.
                for other in [link.source, link.sink, to_them, from_them]:
                    os.close(other)
                for member in self.members:
                    os.close(member[1])
                    os.close(member[2])
                work(from_us, to_us, device, new, self.quick)
            except:
                pass  # the reader hears the end of the pipe and says so; its own code must not go on here
            os._exit(0)
        os.close(from_us)
        os.close(to_us)
        Link(from_them, to_them)  # for the longer pipes
        self.members.append((pid, to_them, from_them))

    def room(self):
        return self.given - self.taken < 2 * self.count

    def give(self, order):
        if self.alone is not None:
            self.given += 1
            self.kept.append(order)
            return
        pipe = self.members[self.given % len(self.members)][1]
        self.given += 1
        try:
            put(pipe, struct.pack("!I", len(order)) + order)
        except (IOError, OSError):
            self.lost()

    def take(self):
        """The oldest task's answer: (figures, records)."""
        if self.alone is not None:
            self.taken += 1
            answer = self.alone.answer(self.kept.pop(0))
            at = struct.calcsize(ANSWER)
            return struct.unpack(ANSWER, answer[:at]), answer[at:]
        pipe = self.members[self.taken % len(self.members)][2]
        self.taken += 1
        try:
            figures = struct.unpack(ANSWER, exactly(pipe, struct.calcsize(ANSWER)))
            return figures, exactly(pipe, figures[0])
        except (IOError, OSError, Closed):
            self.lost()

    def lost(self):
        raise Refused("one of the reader's worker processes died: killed, or out of memory")

    def dismiss(self):
        for pid, to_them, from_them in self.members:
            os.close(to_them)
            os.close(from_them)
        for pid, to_them, from_them in self.members:
            try:
                os.waitpid(pid, 0)
            except OSError:
                pass
        self.members = []


def work(source, sink, device, new, quick):
    """A worker's life: until the reader closes the pipe."""
    try:
        hand = Hand(device.another(), new, quick)
        while True:
            size = struct.unpack("!I", exactly(source, 4))[0]
            put(sink, hand.answer(exactly(source, size)))
    except Closed:
        return
    except (Refused, IOError, OSError):
        fault = sys.exc_info()[1]
    sentence = octets(str(getattr(fault, "strerror", None) or fault))
    number = getattr(fault, "errno", 0) or 0
    record = struct.pack(RECORD, ERROR, 0, number, 0, len(sentence)) + sentence
    put(sink, struct.pack(ANSWER, len(record), 0, 0, 0, 0, 0, 0, 0) + record)
    try:
        while True:  # a pipe without a reader would hide what we said
            exactly(source, 1)
    except Closed:
        pass


def records(body):
    """(kind, codec, offset, length, payload) of an answer; of data the payload is a view."""
    at = 0
    while at < len(body):
        kind, codec, offset, length, size = struct.unpack(RECORD, body[at:at + RECORD_SIZE])
        at += RECORD_SIZE
        payload = cut(body, at, size)
        if kind != DATA:
            payload = whole(payload)
        yield kind, codec, offset, length, payload
        at += size
