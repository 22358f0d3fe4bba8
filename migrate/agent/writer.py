"""The writer: runs where the pool is, keeps one sparse raw file. Joined after wire.py.

Nothing is acknowledged before it is on the disk. Until the controller has proved the whole, the
file's name ends in .part; no name leads out of the directory that was given.
"""
import errno
import fcntl
import os
import struct
import sys
import threading
import time
import zlib

SYNC_BYTES = 16 * 1048576
SYNC_SECONDS = 0.5
DONTNEED = 4


def harmless(name):
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise Refused("%r is no plain file name" % name)
    return name


class Replica:
    """The file, and the thread that makes it durable."""

    def __init__(self, link, fields):
        self.link = link
        self.directory = fields["directory"]
        if not os.path.isabs(self.directory) or not os.path.isdir(self.directory):
            raise Refused("%s is no directory" % self.directory)
        self.final = os.path.join(self.directory, harmless(fields["name"]))
        self.path, self.size = self.final + ".part", int(fields["size"])
        self.new = hashes()[fields["hash"]]
        self.width = len(self.new().digest())
        self.published = False
        self.created = self.open(fields.get("again") == "1")
        self.wrote, self.safe, self.bytes = 0, 0, 0
        self.hurry, self.fault, self.aged = False, None, True
        self.condition = threading.Condition()
        keeper = threading.Thread(target=self.keep)
        if sys.version_info < (2, 6):
            keeper.setDaemon(True)
        else:
            setattr(keeper, "daemon", True)
        keeper.start()

    def open(self, again):
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_LARGEFILE", 0)
        if os.path.lexists(self.final):
            if os.path.lexists(self.path):
                raise Refused("both %s and %s.part are there" % (self.final, self.final))
            if again:
                os.rename(self.final, self.path)
            else:
                self.path, self.published = self.final, True
                flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
        created = False
        try:
            self.descriptor = os.open(self.path, flags)
        except OSError:
            if sys.exc_info()[1].errno != errno.ENOENT:
                raise
            self.descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 384)
            created = True
        self.alone()
        info = os.fstat(self.descriptor)
        if info.st_mode & 0xF000 != 0x8000:
            raise Refused("%s is no regular file" % self.path)
        if info.st_size == 0 and not self.published:
            created = True  # made, and then nothing: as good as new
        if created:
            os.ftruncate(self.descriptor, self.size)
            os.fsync(self.descriptor)
            self.sync_directory()
        elif info.st_size != self.size:
            raise Refused("%s has %d bytes instead of %d" % (self.path, info.st_size, self.size))
        return created

    def alone(self):
        """A writer whose controller was killed may still be busy for a moment."""
        for attempt in range(150):
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except IOError:
                fault = sys.exc_info()[1]
                if fault.errno not in (errno.EAGAIN, errno.EACCES):
                    return  # no locks on this file system
            time.sleep(0.2)
        raise Refused("another writer holds %s" % self.path)

    def sync_directory(self):
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def keep(self):
        """Thread: sync what was written, then say so."""
        sync = getattr(os, "fdatasync", os.fsync)
        while True:
            self.condition.acquire()
            while self.safe == self.wrote:
                self.condition.wait()
            if self.bytes < SYNC_BYTES and not self.hurry:
                self.condition.wait(SYNC_SECONDS)
            upto, self.bytes, self.hurry = self.wrote, 0, False
            self.condition.release()
            try:
                sync(self.descriptor)
                self.link.send(ACK, offset=upto)
            except (IOError, OSError):
                self.fault = sys.exc_info()[1]
                complain(self.link, "%s: %s" % (self.path, self.fault.strerror), self.fault.errno)
                return
            self.condition.acquire()
            self.safe = upto
            self.condition.release()

    def count(self, size):
        if self.fault is not None:
            raise self.fault
        self.aged = True
        self.condition.acquire()
        self.wrote += 1
        self.bytes += size
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
        if self.published:
            raise Refused("%s is finished: nothing is written to it" % self.path)
        if offset % CHUNK or length <= 0 or offset + length > self.size:
            raise Refused("a frame leads out of the disk")

    def put(self, offset, data):
        os.lseek(self.descriptor, offset, 0)
        while data:
            done = os.write(self.descriptor, data)
            if done == len(data):
                return
            data = data[done:]

    def get(self, offset, length):
        os.lseek(self.descriptor, offset, 0)
        parts = []
        while length:
            part = os.read(self.descriptor, length)
            if not part:
                raise Refused("%s ends too early" % self.path)
            parts.append(part)
            length -= len(part)
        return NOTHING.join(parts)

    def data(self, codec, offset, length, payload):
        self.inside(offset, length)
        digests, content = opened(codec, length, payload, self.width)
        for number in range(len(digests)):
            if self.new(content[number * CHUNK:(number + 1) * CHUNK]).digest() != digests[number]:
                raise Refused("a chunk at %d does not have its hash: damaged on the way"
                              % (offset + number * CHUNK))
        self.put(offset, content)
        self.count(length)

    def zero(self, codec, offset, length, payload):
        self.inside(offset, length)
        for start in range(offset, offset + length, 4 * CHUNK):
            size = min(4 * CHUNK, offset + length - start)
            if self.get(start, size) != ZEROS[:size]:
                self.put(start, ZEROS[:size])
        self.count(0)

    def verify(self, codec, offset, length, payload):
        """Read back from the disk itself, not from memory, where the system lets us."""
        if offset % CHUNK or offset + length > self.size:
            raise Refused("a frame leads out of the disk")
        if self.aged:
            self.aged = False
            if not self.published:
                os.fsync(self.descriptor)
            advise = getattr(os, "posix_" + "fadvise", None)
            if advise is not None:
                advise(self.descriptor, 0, 0, DONTNEED)
        digests = []
        for start in range(offset, offset + length, CHUNK):
            size = min(CHUNK, offset + length - start)
            digests.append(self.new(self.get(start, size)).digest())
        self.link.send(DIGESTS, NOTHING.join(digests), offset, length)

    def publish(self, *_):
        if not self.published:
            os.fsync(self.descriptor)
            if os.path.lexists(self.final):
                raise Refused("%s appeared meanwhile" % self.final)
            os.rename(self.path, self.final)
            self.sync_directory()
            self.path, self.published = self.final, True
        self.link.send(PUBLISH, packed({"path": self.final}))

    def told(self):
        room = os.statvfs(self.directory)
        flag = {True: 1, False: 0}
        return packed({
            "created": flag[self.created], "published": flag[self.published],
            "free": room.f_bavail * room.f_frsize,
            "allocated": os.fstat(self.descriptor).st_blocks * 512})


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
    body = payload[at + 2 + 4 * pieces:]
    if codec == ZLIB:
        opener = zlib.decompressobj()
        body = opener.decompress(body, length) + opener.flush()
    parts, place, taken = [], 0, 0
    for number in range(pieces):
        start, size = table[2 * number] * 512, table[2 * number + 1] * 512
        size = min(size, length - start)
        if start < place or size <= 0:
            raise Refused("a data frame has a broken table")
        parts.append(ZEROS[:start - place])
        parts.append(body[taken:taken + size])
        place, taken = start + size, taken + size
    if taken != len(body) or place > length:
        raise Refused("a data frame has a broken table")
    parts.append(ZEROS[:length - place])
    return digests, NOTHING.join(parts)


def handlers(link):
    table = {}

    def start(codec, offset, length, payload):
        if DATA in table:
            raise Refused("a file is open already")
        replica = Replica(link, unpacked(payload))
        table.update({
            DATA: replica.data, ZERO: replica.zero, VERIFY: replica.verify,
            FLUSH: replica.flush, PUBLISH: replica.publish})
        link.send(OPEN, replica.told())

    table[OPEN] = start
    return table


if __name__ == "__main__":
    sys.exit(serve("writer", handlers))
