"""The writer: runs where the pool is, keeps one replica. Joined after replica.py.

Nothing is acknowledged before it is on the disk. A chunk is written only when it has its hash,
wherever it came from: the wire, or another replica in the same pool.
"""
import os
import struct
import sys
import threading
import zlib

SYNC_BYTES = 16 * 1048576
SYNC_SECONDS = 0.5
SOURCES = 16  # other replicas that are held open
UNKNOWN = struct.pack("8x")


class Keeper:
    """The replica, and the thread that makes it durable."""

    def __init__(self, link, fields):
        self.link = link
        if fields.get("device"):
            self.replica = Volume(fields)
        else:
            self.replica = Replica(fields)
        self.size = self.replica.size
        self.new = hashes()[fields["hash"]]
        self.width = len(self.new().digest())
        self.wrote, self.safe, self.bytes = 0, 0, 0
        self.sums = []  # of the data that is not acknowledged
        self.hurry, self.fault, self.reread = False, None, None
        self.sources = {}
        self.condition = threading.Condition()
        thread = threading.Thread(target=self.keep)
        if sys.version_info < (2, 6):
            thread.setDaemon(True)
        else:
            setattr(thread, "daemon", True)
        thread.start()

    def keep(self):
        """Thread: sync what was written, then say so."""
        while True:
            self.condition.acquire()
            while self.safe == self.wrote:
                self.condition.wait()
            if self.bytes < SYNC_BYTES and not self.hurry:
                self.condition.wait(SYNC_SECONDS)
            upto, self.bytes, self.hurry = self.wrote, 0, False
            sums, self.sums = self.sums, []
            self.condition.release()
            try:
                self.replica.sync()
                self.link.send(ACK, NOTHING.join(sums), upto)
            except (IOError, OSError):
                self.fault = self.replica.trouble(sys.exc_info()[1])
                complain(self.link, str(self.fault), self.fault.number, **self.fault.more)
                return
            self.condition.acquire()
            self.safe = upto
            self.condition.notify()  # whoever flushes
            self.condition.release()

    def count(self, size, sums):
        """A frame is written: its bytes to sync, and the checksums of its chunks of data."""
        if self.fault is not None:
            raise self.fault
        self.reread = None
        self.condition.acquire()
        self.wrote += 1
        self.bytes += size
        self.sums.extend(sums)
        if self.bytes >= SYNC_BYTES or self.safe == self.wrote - 1:
            self.condition.notify()
        self.condition.release()

    def flush(self, *_):
        """Answer when all is durable; the last ACK has gone out by then."""
        self.condition.acquire()
        self.hurry = True
        self.condition.notify()
        while self.safe != self.wrote and self.fault is None:
            self.condition.wait(0.05)
        self.hurry = False
        self.condition.release()
        if self.fault is not None:
            raise self.fault
        self.link.send(FLUSH)

    def inside(self, offset, length):
        if self.replica.published:
            raise Refused("%s is finished: nothing is written to it" % self.replica.path)
        if offset % CHUNK or length <= 0 or offset + length > self.size:
            raise Refused("a frame leads out of the disk")

    def write(self, call, *arguments):
        try:
            call(*arguments)
        except (IOError, OSError):
            raise self.replica.trouble(sys.exc_info()[1])

    def data(self, codec, offset, length, payload):
        self.inside(offset, length)
        if length > len(ZEROS):
            raise Refused("a data frame is longer than any reader sends")
        digests, content = opened(codec, length, payload, self.width)
        sums = []
        for number in range(len(digests)):
            chunk = cut(content, number * CHUNK, min(CHUNK, length - number * CHUNK))
            if self.new(chunk).digest() != digests[number]:
                raise Refused("a chunk at %d does not have its hash: damaged on the way"
                              % (offset + number * CHUNK))
            sums.append(summed(chunk))
        self.write(self.replica.put, offset, content)
        self.count(length, sums)

    def zero(self, codec, offset, length, payload):
        self.inside(offset, length)
        self.write(self.replica.blank, offset, length)
        self.count(0, [])

    def copy(self, codec, offset, length, payload):
        """A chunk that another replica of this pool may have: looked at, never believed."""
        self.inside(offset, length)
        if length > CHUNK or len(payload) < self.width + 8:
            raise Refused("a copy frame is broken")
        digest, place = payload[:self.width], payload[self.width:self.width + 8]
        content = self.other(text(payload[self.width + 8:]), struct.unpack("!Q", place)[0], length)
        done, sums = 0, [UNKNOWN]
        if len(content) == length and self.new(content).digest() == digest:
            self.write(self.replica.put, offset, content)
            done, sums = length, [summed(content)]
        self.link.send(COPIED, NOTHING, offset, done)
        self.count(done, sums)

    def other(self, name, offset, length):
        """Bytes of another replica, or of this one; none when they can't be had."""
        if name not in self.sources:
            if len(self.sources) >= SOURCES:
                for descriptor in self.sources.values():
                    if descriptor >= 0:
                        os.close(descriptor)
                self.sources = {}
            self.sources[name] = self.source(name)
        descriptor = self.sources[name]
        if descriptor < 0:
            return NOTHING
        try:
            os.lseek(descriptor, offset, 0)
            return os.read(descriptor, length)
        except (IOError, OSError, OverflowError):
            return NOTHING

    def source(self, name):
        path = os.path.join(self.replica.directory, harmless(name))
        for candidate in (path, path + ".part"):
            try:
                descriptor = os.open(candidate, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            except OSError:
                continue
            if os.fstat(descriptor).st_mode & 0xF000 == 0x8000:
                return descriptor
            os.close(descriptor)
        return -1

    def verify(self, codec, offset, length, payload):
        """Read back from the disk itself, not from memory, where the system lets us."""
        if offset % CHUNK or offset + length > self.size:
            raise Refused("a frame leads out of the disk")
        if self.reread is None:
            self.reread = self.replica.past_cache()
        digests = []
        for start in range(offset, offset + length, 4 * CHUNK):
            raw = self.reread(start, min(4 * CHUNK, offset + length - start))
            for at in range(0, len(raw), CHUNK):
                digests.append(self.new(cut(raw, at, min(CHUNK, len(raw) - at))).digest())
        self.link.send(DIGESTS, NOTHING.join(digests), offset, length)

    def publish(self, *_):
        self.write(self.replica.publish)
        self.link.send(PUBLISH, packed({"path": self.replica.final}))

    def told(self):
        free, allocated = self.replica.room()
        return packed({
            "created": int(self.replica.created), "published": int(self.replica.published),
            "free": free, "allocated": allocated, "identity": self.replica.identity})


def opened(codec, length, payload, width):
    """([digests], content) of a data frame; the content has zeros where nothing is used."""
    count = -(-length // CHUNK)
    digests = [payload[at * width:(at + 1) * width] for at in range(count)]
    at = count * width
    try:
        pieces = struct.unpack("!H", payload[at:at + 2])[0]
        table = struct.unpack("!%dH" % (2 * pieces), payload[at + 2:at + 2 + 4 * pieces])
    except struct.error:
        raise Refused("a data frame is too short")
    at += 2 + 4 * pieces
    if codec != ZLIB and table == (0, length // 512) and len(payload) - at == length:
        return digests, cut(payload, at, length)  # all of it is used, as most is
    body = payload[at:]
    if codec == ZLIB:
        try:  # one byte more than it may hold: a source that lies costs that, not all memory
            body = zlib.decompressobj().decompress(body, length + 1)
        except zlib.error:
            raise Refused("a data frame can't be decompressed: damaged on the way")
    parts, place, taken = [], 0, 0
    for number in range(pieces):
        start, size = table[2 * number] * 512, table[2 * number + 1] * 512
        size = min(size, length - start)
        if start < place or size <= 0:
            raise Refused("a data frame has a broken table: damaged on the way")
        parts.append(ZEROS[:start - place])
        parts.append(body[taken:taken + size])
        place, taken = start + size, taken + size
    if taken != len(body) or place > length:
        raise Refused("a data frame has a broken table: damaged on the way")
    parts.append(ZEROS[:length - place])
    return digests, NOTHING.join(parts)


def handlers(link):
    table = {}

    def start(codec, offset, length, payload):
        if DATA in table:
            raise Refused("a replica is open already")
        keeper = Keeper(link, unpacked(payload))
        table.update({
            DATA: keeper.data, ZERO: keeper.zero, COPY: keeper.copy, VERIFY: keeper.verify,
            FLUSH: keeper.flush, PUBLISH: keeper.publish})
        link.send(OPEN, keeper.told())

    def door(codec, offset, length, payload):
        opened_door(link, unpacked(payload))

    def direct(codec, offset, length, payload):
        table[DATA](*claimed(offset, length, payload))

    table.update({OPEN: start, DOOR: door, DIRECT: direct})
    return table


if __name__ == "__main__":
    try:
        CODE = serve("writer", handlers)
    finally:
        shut_doors()
    sys.exit(CODE)
