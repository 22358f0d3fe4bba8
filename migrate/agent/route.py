"""The direct route: data goes to the hypervisor by this server's own ssh, the controller is told
the digests. Joined before reader.py.

The key and the pinned host key lie in memory, in files of /dev/shm that have no name any more; ssh
finds them through /proc. Whatever ends here, nothing is left.
"""
import binascii
import os
import select
import struct
import subprocess
import sys

MEMORY = "/dev/shm"
GREETING = octets("groundlift-door\n")
PARTED = "\037"  # between the words of a command line
ENDING = 5.0  # seconds that ssh gets to end by itself


def nameless(content):
    """A descriptor of a file in memory that nobody else can open by a name."""
    name = "groundlift-%d-%s" % (os.getpid(), text(binascii.hexlify(os.urandom(8))))
    path = os.path.join(MEMORY, name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 384)
    os.unlink(path)
    put(descriptor, content)
    return descriptor


class Route:
    """An ssh to the door of the hypervisor's writer."""

    def __init__(self, fields):
        self.files, self.process = [], None
        if not os.path.isdir(MEMORY):
            raise Refused("there is no %s to keep a key in memory" % MEMORY)
        for name in ("key", "known"):
            self.files.append(nameless(binascii.a2b_base64(octets(fields[name]))))
        places = ["/proc/%d/fd/%d" % (os.getpid(), descriptor) for descriptor in self.files]
        words = fields["argv"].replace("@key@", places[0]).replace("@known@", places[1])
        try:
            self.process = subprocess.Popen(
                words.split(PARTED), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, close_fds=True)
        except OSError:
            raise Refused("can't start ssh there: %s" % sys.exc_info()[1].strerror)
        self.door = Link(self.process.stdout.fileno(), self.process.stdin.fileno())

    def greeted(self, seconds):
        """Whether the door answers in time."""
        said, until = NOTHING, ticks() + seconds
        while len(said) < len(GREETING):
            left = until - ticks()
            if not 0 < left <= seconds or not self.door.ready(left):
                return False
            part = os.read(self.door.source, len(GREETING) - len(said))
            if not part:
                return False
            said += part
        return said == GREETING

    def send(self, payload, offset, length, codec):
        try:
            self.door.send(DATA, payload, offset, length, codec)
        except (IOError, OSError):
            raise Refused("the direct connection to the hypervisor broke: %s" % self.words())

    def words(self):
        """What ssh says last."""
        self.close()
        said = text(self.process.stderr.read(65536)).strip().split("\n")
        return said[-1][:300] or "ssh ended without a word"

    def close(self):
        """End ssh: at its own pace first, for it may still have to deliver."""
        for descriptor in self.files:
            os.close(descriptor)
        self.files = []
        if self.process is None or self.process.poll() is not None:
            return
        self.process.stdin.close()
        until = ticks() + ENDING
        while self.process.poll() is None and 0 < until - ticks() <= ENDING:
            select.select([], [], [], 0.02)
        if self.process.poll() is None:
            try:
                os.kill(self.process.pid, 9)
            except OSError:
                pass
            self.process.wait()


def led(link, fields):
    """A Route to the door, or None; the controller is told which, and why."""
    route, why = None, ""
    try:
        route = Route(fields)
        if not route.greeted(float(fields["seconds"])):
            why = route.words()
    except (Refused, IOError, OSError):
        why = str(sys.exc_info()[1])
    if why and route is not None:
        route.close()
    link.send(ROUTE, packed({"ok": int(not why), "why": why}))
    if why:
        return None
    return route


def straight(link, route, width, frame):
    """A data frame by the route; the controller gets its size and the digests."""
    payload, offset, length, codec = frame
    route.send(payload, offset, length, codec)
    digests = whole(payload[:-(-length // CHUNK) * width])
    link.send(DIRECT, struct.pack("!I", HEADER_SIZE + len(payload)) + digests, offset, length)
