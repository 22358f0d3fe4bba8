"""The reader: runs on the source, reads what is used, writes nothing. Joined last.

PASS goes over one disk in order and compares each chunk with the manifest the controller streams
in: SAME for equal ones, DATA or ZERO for the others. A chunk is 64 KiB of the disk with every
unused block in it taken as zeros, so the replica never gets what was deleted long ago.

The manifest comes as the first bytes of each digest: enough to know that a chunk changed. That a
run of chunks did not change is told by one digest over all of theirs, which the controller checks.
A quick pass compares checksums instead, and tells a digest over those.
"""
import os
import struct
import sys

REPORT_EVERY = 16 * 1048576
REPORT_SECONDS = 1.0
RUN = 16 * 1048576
HELD = 8  # tasks whose chunks the target is asked for: 8 MiB at most
LATE = 8388608  # bytes that may wait for the line while the disk is read on
STRIPE = 4 * 1048576  # of the disk: what one of several connections takes at a time


class Pass:
    """One walk over one disk, from ``begin`` to its end and then from its start to ``begin``."""

    def __init__(self, link, device, fields, route, found):
        self.link, self.device = link, device
        self.found, self.announced = found, False
        self.new = hashes()[fields["hash"]]
        self.start = int(fields.get("start", "0"))
        self.begin, self.fed = int(fields.get("begin", "0")), 0
        self.rate = int(fields.get("rate", "0"))
        self.lane, self.lanes = int(fields.get("lane", "0")), int(fields.get("lanes", "1"))
        # while one waits for the disk another one hashes
        count = int(fields.get("workers", "0")) or max(1, min(2 * processors() // self.lanes, 4))
        self.calm = Calm(float(fields.get("slowdown", "0")))
        self.credit, self.manifest = 0, Manifest()
        self.offers = fields.get("offer") == "1"
        self.held, self.answers = [], {}  # answers of workers whose chunks are offered: in order
        self.run = None  # [kind, start, end, [digests]] of SAME or ZERO, not yet told
        self.breaks, self.cursor = [], max(self.start, self.begin)
        self.told, self.clock = 0, ticks()
        self.used, self.sent, self.bad, self.took, self.serial = 0, 0, 0, 0, 0
        self.began, self.paid = ticks(), 0
        self.path, self.route = fields["device"], route
        quick = fields.get("quick") == "1"
        self.task = TASK
        if quick and FORKS:  # most of it is told in few words
            self.task = min(2 * TASK, STRIPE)
        self.crew = Crew(link, device, self.new, count, quick)
        self.codec = Codec(fields.get("codec", "raw"), self.crew.count)

    def listen(self, seconds):
        """Take what the controller sent; wait for it at most so long, None for ever."""
        while self.link.ready(seconds):
            kind, _, offset, length, payload = self.link.receive()
            if kind == CREDIT:
                self.credit += offset
            elif kind == MANIFEST:
                self.manifest.add(offset, length, payload)
                self.fed = self.along(offset + length)
            elif kind == ANSWERED and self.offers:
                self.answers[offset] = payload
            else:
                raise Refused("unexpected frame %d during a pass" % kind)
            seconds = 0

    def along(self, end):
        """How far on its way the walk is at the end of something."""
        way = end - self.begin
        if way <= 0:
            way += self.device.size
        return way

    def turn(self):
        """The disk's end is reached."""
        self.drain()
        self.flush()
        self.manifest.turn(self.begin)
        self.breaks, self.cursor = [], 0

    def announce(self):
        """Tell what is in use, once: it is counted while the first tasks are read."""
        if self.announced:
            return
        self.announced, total = True, 0
        for start, end in used(self.found, 0, self.device.size):
            total += end - start
        areas = ["%d %d %s: %s" % (area[0], area[1] - area[0], area[2], area[3])
                 for area in self.found if area[2] not in ("gap", "free")]
        self.link.send(MAPPED, packed({"used": total, "workers": self.crew.count,
                                       "areas": " | ".join(areas)[:100000]}))

    def walk(self, low, high):
        for base, pieces in windows(used(self.found, low, high), self.task):
            end = min(base + self.task, self.device.size)
            if end <= self.start or base // STRIPE % self.lanes != self.lane:
                continue
            self.listen(0)
            if self.fed < self.along(end):
                self.drain()
                self.tell(base)
                while self.fed < self.along(end):
                    self.listen(None)
            while not self.crew.room():
                self.collect()
            self.assign(base, end, pieces)

    def finish(self):
        self.drain()
        self.flush()
        self.tell(self.device.size)

    def assign(self, base, end, pieces):
        """Give one task to the crew, and note where chunks that the controller knows are unused
        now: no run of equal chunks may hide them."""
        inside = []
        for start, stop in pieces:  # a pass may go on in the middle of a task
            if min(stop, end) > self.start:
                inside.append((max(start, self.start), min(stop, end)))
        if not inside:
            return
        for start, stop in inside:
            first = start - start % CHUNK
            if first > self.cursor and self.manifest.known(self.cursor, first):
                self.breaks.append(first)
            self.cursor = max(self.cursor, min(stop + -stop % CHUNK, self.device.size))
        shorts = self.manifest.shorts(base, end)
        self.manifest.forget(min(base, self.cursor))
        order = [struct.pack(ORDER, base, end, self.codec.order(), int(self.offers), len(inside),
                             len(shorts) // SHORT)]
        for piece in inside:
            order.append(struct.pack("!QQ", piece[0], piece[1]))
        order.append(shorts)
        self.crew.give(NOTHING.join(order))

    def collect(self):
        """Take the oldest task's answer and tell the controller."""
        self.announce()
        figures, body = self.crew.take()
        self.used += figures[1]
        self.took += figures[2]
        self.codec.learn(*figures[5:8])
        wanted = self.offer(body)
        if wanted is None:
            self.tell_all(body, NOTHING)
        while len(self.held) > HELD:
            self.release()
        if self.used - self.told >= REPORT_EVERY or ticks() - self.clock > REPORT_SECONDS:
            self.tell(self.cursor)
        self.rest(self.calm.pause(figures[4] / 1e6, figures[3]) / self.crew.count)

    def drain(self):
        """Everything that was begun."""
        self.announce()
        while self.crew.taken < self.crew.given:
            self.collect()
        while self.held:
            self.release()

    def offer(self, body):
        """Ask whether the target has the chunks already, and hold the answer of the worker until
        the controller knows. None when there is nothing to ask and nothing held before it."""
        digests = []
        if self.offers:
            width = len(self.new().digest())
            for kind, codec, offset, length, payload in records(body):
                if kind == DATA:
                    digests.append(struct.pack("!Q", offset) + whole(payload[:width]))
        if not digests and not self.held:
            return None
        self.serial += 1
        self.held.append((self.serial, body))
        if digests:
            payload = NOTHING.join(digests)
            self.pay(HEADER_SIZE + len(payload), 0)
            self.link.send(OFFER, payload, self.serial)
            self.credit += HEADER_SIZE + len(payload)  # it ends at the controller
        else:
            self.answers[self.serial] = NOTHING
        return digests

    def release(self):
        """Tell what is held longest."""
        serial, body = self.held[0]
        while serial not in self.answers:
            self.listen(None)
        self.held.pop(0)
        self.tell_all(body, self.answers.pop(serial))

    def tell_all(self, body, wanted):
        """The records of an answer; chunks that are not wanted lie at the target by now."""
        width, number = len(self.new().digest()), 0
        for kind, codec, offset, length, payload in records(body):
            if kind == DATA and wanted:
                number += 1
                if wanted[number - 1:number] == ZEROS[:1]:
                    kind, payload = SAME, whole(payload[:width])
            if kind == DATA:
                self.flush()
                self.pay(len(payload) + HEADER_SIZE, length)
                self.post(DATA, payload, offset, length, codec)
                self.sent += length
            elif kind == BAD:
                self.bad += 1
                if self.bad <= 10000:
                    self.link.send(BAD, NOTHING, offset, length)
            elif kind == ERROR:
                raise IOError(offset, text(payload), self.path)
            else:
                self.gather(kind, offset, offset + length, payload)

    def tell(self, position):
        self.flush()
        self.told, self.clock = self.used, ticks()
        payload = struct.pack("!QQQBB", self.used, self.took, int(self.calm.paused * 1000),
                              int(self.calm.throttled), self.codec.mode)
        self.link.send(POSITION, payload, position)

    def gather(self, kind, start, stop, digest):
        run = self.run
        follows = False
        if run is not None and run[0] == kind and start - run[1] < RUN:
            follows = run[2] == start
            if kind == SAME and not follows:
                apart = [place for place in self.breaks if run[2] < place <= start]
                follows = not apart and start // STRIPE == run[1] // STRIPE
        if not follows:
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
            payload = NOTHING
            if kind == SAME:
                payload = self.new(NOTHING.join(digests)).digest()
            self.pay(HEADER_SIZE + len(payload), 0)
            self.post(kind, payload, start, stop - start, 0)
            while self.breaks and self.breaks[0] <= start:
                self.breaks.pop(0)

    def post(self, kind, payload, offset, length, codec):
        began = ticks()
        if kind == DATA and self.route is not None:
            width = len(self.new().digest())
            straight(self.link, self.route, width, (payload, offset, length, codec))
        else:
            self.link.send(kind, payload, offset, length, codec)
        self.codec.spent(len(payload) + HEADER_SIZE, length, max(0, ticks() - began))

    def pay(self, size, disk):
        """Spend credit, and time when a rate is set; sleep in small steps, still listening."""
        began = ticks()
        while self.credit < size:
            self.listen(None)
        self.credit -= size
        self.paid += size
        while self.rate:
            ahead = self.paid / float(self.rate) - (ticks() - self.began)
            if not 0 < ahead <= size / float(self.rate) + 1:
                if not -1 < ahead <= 0:  # not used, so not saved up; or the clock was turned
                    self.began, self.paid = ticks(), 0
                break
            self.listen(min(ahead, 0.2))
        self.codec.spent(0, 0, max(0, ticks() - began))

    def rest(self, seconds):
        """Leave the disk to others."""
        until = ticks() + min(seconds, 5.0)
        while seconds > 0:
            left = until - ticks()
            if not 0 < left <= 5:
                return
            self.listen(min(left, 0.2))


def politely():
    try:
        os.nice(19)
    except OSError:
        pass
    os.system("ionice -c3 -p %d >/dev/null 2>&1" % os.getpid())


def one_pass(link, fields, kept, route):
    if fields.get("polite") == "1":
        politely()
    device = moment_of(fields, kept)
    if device.block:
        os.system("sync")  # bitmaps on the medium lag the journal until then
        device.fresh()
    if device.size != int(fields["size"]):
        raise Refused("%s has %d bytes, the plan says %s"
                      % (fields["device"], device.size, fields["size"]))
    final = fields.get("final") == "1"
    found = areas(certain(device), device.size, final)
    walk = Pass(link, device, fields, route, found)
    link.lazily(LATE)
    if walk.crew.alone is not None:  # nobody reads meanwhile
        walk.announce()
        device.fresh()
    walk.walk(walk.begin, device.size)
    if walk.begin:
        walk.turn()
        walk.walk(0, walk.begin)
    walk.finish()
    link.promptly()
    link.send(END, packed({
        "used": walk.used, "read": walk.took, "sent": walk.sent, "bad": walk.bad,
        "paused": int(walk.calm.paused * 1000)}))
    walk.crew.dismiss()
    device.fresh()
    device.close()


def handlers(link):
    kept, routes = [], [None]

    def keep(codec, offset, length, payload):
        kept.append((offset, payload))

    def lead(codec, offset, length, payload):
        forget()
        routes[0] = led(link, unpacked(payload))

    def forget():
        """A route is good for one pass, and so is the key that it holds."""
        if routes[0] is not None:
            routes[0].close()
        routes[0] = None

    def run(codec, offset, length, payload):
        fields = unpacked(payload)
        if fields.get("direct") != "1":  # some other connection of this pass found no way
            forget()
        one_pass(link, fields, kept[:], routes[0])
        forget()
        del kept[:]

    def moment(codec, offset, length, payload):
        tables(link, unpacked(payload))

    def still(codec, offset, length, payload):
        freeze(link, unpacked(payload))

    def who(codec, offset, length, payload):
        found = holders(os.stat(unpacked(payload)["path"]).st_dev)
        link.send(HOLDERS, packed({"lines": " | ".join(found[:200])}))

    sample = []  # made once: an old kernel's random bytes are slower than the line

    def probe(codec, offset, length, payload):
        if not sample:
            sample.append(os.urandom(4 * CHUNK))
        while length > 0:
            link.send(PROBE, sample[0][:length])
            length -= len(sample[0])

    def ignore(codec, offset, length, payload):
        """What was still under way when a pass ended."""

    return {PASS: run, HOLDERS: who, PROBE: probe, CREDIT: ignore, MANIFEST: ignore,
            KEEP: keep, TABLES: moment, FREEZE: still, ROUTE: lead}


if __name__ == "__main__":
    sys.exit(serve("reader", handlers))
