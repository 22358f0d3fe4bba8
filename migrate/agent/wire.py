"""Frames between the controller and its agents, the agents' half.

The controller joins this file with layout.py and reader.py, or with writer.py, into one program
and sends it through the standard input of a Python from 2.4 to 3.x. Hence no with, no "except X
as y", no b'', no conditional expression, no hashlib by import.
"""
import errno
import fcntl
import os
import select
import struct
import sys
import threading
import time
import zlib

VERSION = 2
CHUNK = 65536
HEADER = "!2sBBIQII"  # magic, kind, codec, payload length, offset, raw length, CRC-32
HEADER_SIZE = struct.calcsize(HEADER)
MAGIC = "GL".encode("ascii")
NOTHING = "".encode("ascii")
LIMIT = 4 * 1024 * 1024  # no frame is longer

HELLO, OPEN, PASS, MAPPED, MANIFEST, CREDIT, DATA, ZERO, SAME, POSITION = range(1, 11)
BAD, END, ACK, VERIFY, DIGESTS, PUBLISH, ERROR, BYE, HOLDERS, FLUSH = range(11, 21)
OFFER, ANSWERED, COPY, COPIED, PROBE, TABLES, KEEP, FREEZE, FROZEN, THAW = range(21, 31)
DOOR, ROUTE, DIRECT = range(31, 34)
RAW, ZLIB = 0, 1

ZEROS = struct.pack("%dx" % (16 * CHUNK))
ticks = getattr(time, "mono" + "tonic", time.time)  # a clock that nobody sets, where there is one


class Closed(Exception):
    """The other end is gone."""


class Refused(Exception):
    """Something the controller must be told in words."""


def text(raw):
    """Bytes as the native string; what is no UTF-8 survives."""
    if isinstance(raw, str):
        return raw
    return raw.decode("utf-8", "surrogateescape")


def octets(string):
    """The native string as bytes."""
    if isinstance(string, type(NOTHING)):
        return string
    return string.encode("utf-8", "surrogateescape")


def packed(fields):
    """Fields as lines of key=value; a line break inside a value becomes a space."""
    lines = []
    for key, value in sorted(fields.items()):
        lines.append("%s=%s\n" % (key, str(value).replace("\n", " ")))
    return octets("".join(lines))


def unpacked(payload):
    fields = {}
    for line in text(payload).split("\n"):
        at = line.find("=")
        if at > 0:
            fields[line[:at]] = line[at + 1:]
    return fields


def viewer():
    """cut(data, start, size): bytes that are looked at and not copied."""
    try:
        return getattr(__import__("__builtin__"), "buffer")
    except ImportError:
        look = getattr(__import__("builtins"), "memory" + "view")
        return lambda data, start, size: look(data)[start:start + size]


cut = viewer()


def whole(view):
    """What ``cut`` looks at, as bytes of its own."""
    if isinstance(view, type(NOTHING)):
        return view
    return getattr(view, "tobytes", view.__str__)()


def summed(data):
    """What a quick pass compares of a chunk: a one, and the CRC-32."""
    return struct.pack("!II", 1, zlib.crc32(data) & 0xFFFFFFFF)


def all_summed(data, crc32=zlib.crc32):
    """The same of chunk after chunk."""
    sums = [crc32(cut(data, start, CHUNK)) & 0xFFFFFFFF for start in range(0, len(data), CHUNK)]
    found = [1] * (2 * len(sums))
    found[1::2] = sums
    return struct.pack("!%dI" % len(found), *found)


def put(descriptor, data):
    """All of it."""
    while data:
        done = os.write(descriptor, data)
        if done == len(data):
            return
        data = data[done:]


def patient(descriptor, reading):
    """After a fault: wait, if it was only that a descriptor is not ready yet."""
    if sys.exc_info()[1].errno != errno.EAGAIN:
        raise
    looking = select.poll()
    if reading:
        looking.register(descriptor, select.POLLIN)
    else:
        looking.register(descriptor, select.POLLOUT)
    looking.poll()


def exactly(descriptor, count):
    """So many bytes. Raises Closed at the end of the stream."""
    parts = []
    while count:
        try:
            part = os.read(descriptor, min(count, 1048576))
        except (IOError, OSError):
            patient(descriptor, True)
            continue
        if not part:
            raise Closed()
        parts.append(part)
        count -= len(part)
    return NOTHING.join(parts)


class Link:
    """Both directions. Only ``send`` may be called by several threads, and by one alone once it is
    lazy."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.late, self.waiting, self.most = [], 0, 0  # parts, their bytes, how many may wait
        self.lock = threading.Lock()
        for descriptor in (source, sink):
            try:
                fcntl.fcntl(descriptor, 1031, 1048576)  # F_SETPIPE_SZ: fewer, longer switches
            except (IOError, OSError):
                pass

    def send(self, kind, payload=NOTHING, offset=0, length=0, codec=0):
        # A data frame's payload is guarded by the digests of its chunks; of all others by the CRC.
        head = struct.pack(HEADER, MAGIC, kind, codec, len(payload), offset, length, 0)[:-4]
        check = zlib.crc32(head)
        if kind != DATA:
            check = zlib.crc32(payload, check)
        head += struct.pack("!I", check & 0xFFFFFFFF)
        self.lock.acquire()
        try:
            if len(payload) > CHUNK:  # a call costs less than a copy of so much
                self.late.extend([head, payload])
            else:
                self.late.append(head + whole(payload))
            self.waiting += len(head) + len(payload)
            self.push()
        finally:
            self.lock.release()

    def lazily(self, most):
        """From now on up to so many bytes may wait for the line while the work goes on."""
        flags = fcntl.fcntl(self.sink, fcntl.F_GETFL)
        fcntl.fcntl(self.sink, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        self.most = most

    def promptly(self):
        """Nothing waits any more, and nothing will."""
        self.most = 0
        self.push()

    def push(self):
        """Send what waits as far as the line takes it, and in any case all above ``most``."""
        while self.late:
            first = self.late[0]
            try:
                done = os.write(self.sink, first)
            except (IOError, OSError):
                if self.waiting <= self.most and sys.exc_info()[1].errno == errno.EAGAIN:
                    return
                patient(self.sink, False)
                continue
            self.waiting -= done
            if done < len(first):
                self.late[0] = cut(first, done, len(first) - done)
            else:
                self.late.pop(0)

    def ready(self, seconds):
        """Whether something came; meanwhile what waits is sent."""
        patience = -1
        if seconds is not None:
            patience = int(seconds * 1000 + 0.999)
        while True:
            looking = select.poll()  # select() fails where many descriptors are open
            looking.register(self.source, select.POLLIN)
            if self.most and self.late:
                looking.register(self.sink, select.POLLOUT)
            found = [descriptor for descriptor, _ in looking.poll(patience)]
            if self.sink in found:
                self.push()
            if not found or self.source in found:
                return bool(found)

    def gone(self):
        """Whether the other end is, whatever of its words is still unread."""
        looking = select.poll()
        looking.register(self.source, 0x2000)  # POLLRDHUP; POLLHUP and POLLERR come unasked
        return bool(looking.poll(0))

    def receive(self):
        """(kind, codec, offset, length, payload)"""
        head = exactly(self.source, HEADER_SIZE)
        magic, kind, codec, size, offset, length, check = struct.unpack(HEADER, head)
        if magic != MAGIC or size > LIMIT:
            raise Refused("what arrived is no frame: the data was damaged on the way")
        payload = exactly(self.source, size)
        found = zlib.crc32(head[:-4])
        if kind != DATA:
            found = zlib.crc32(payload, found)
        if found & 0xFFFFFFFF != check:
            raise Refused("a frame was damaged on the way")
        return kind, codec, offset, length, payload


def hashes():
    """Name -> constructor of the hashes this Python has; MD5 is missing under FIPS."""
    found = {}
    try:
        library = __import__("hashlib")
        for name in ("sha256", "sha1", "md5"):
            try:
                getattr(library, name)(NOTHING)
                found[name] = getattr(library, name)
            except (AttributeError, ValueError):
                pass
    except ImportError:  # Python 2.4
        found["md5"] = __import__("md5").new
        found["sha1"] = __import__("sha").new
    return found


def speeds():
    """Name -> MB per second: the best of some chunks, since others may keep the machine busy."""
    result = {}
    sample = ZEROS[:CHUNK]
    for name, new in hashes().items():
        best, end = 1.0, time.time() + 0.01
        for attempt in range(20):
            start = time.time()
            new(sample).digest()
            best = min(best, max(time.time() - start, 1e-6))
            if attempt > 2 and time.time() > end:
                break
        result[name] = int(CHUNK / 1e6 / best)
    return result


def processors():
    """How many this machine has online."""
    try:
        return max(1, os.sysconf("SC_NPROCESSORS_ONLN"))
    except (ValueError, OSError):
        return 1


def greet(link, role):
    found = speeds()
    ordered = sorted(found)
    link.send(HELLO, packed({
        "version": VERSION, "role": role, "pid": os.getpid(), "user": os.geteuid(),
        "python": "%d.%d.%d" % sys.version_info[:3], "codecs": "raw,zlib",
        "cpus": processors(),
        "hashes": ",".join(["%s:%d" % (name, found[name]) for name in ordered]),
    }))
    kind, _, _, _, payload = link.receive()
    if kind != HELLO or unpacked(payload).get("version") != str(VERSION):
        raise Refused("the controller speaks another version of the protocol")


def serve(role, handlers, source=0, sink=1):
    """Greet, then obey until BYE or the end of the input. ``handlers(link)`` is kind -> function."""
    link = Link(source, sink)
    try:
        greet(link, role)
        table = handlers(link)
        while True:
            kind, codec, offset, length, payload = link.receive()
            if kind == BYE:
                link.send(BYE)
                return 0
            if kind not in table:
                raise Refused("no such command: %d" % kind)
            table[kind](codec, offset, length, payload)
    except Closed:
        return 0
    except Refused:
        fault = sys.exc_info()[1]
        return complain(link, str(fault), getattr(fault, "number", 0), **getattr(fault, "more", {}))
    except (IOError, OSError):
        fault = sys.exc_info()[1]
        if fault.errno == errno.EPIPE:
            return 0
        return complain(link, "%s: %s" % (fault.filename or role, fault.strerror), fault.errno)


def complain(link, sentence, number, **more):
    try:
        link.most = 0
        more.update({"message": sentence, "errno": number or 0})
        link.send(ERROR, packed(more))
    except (IOError, OSError):
        pass
    return 1
