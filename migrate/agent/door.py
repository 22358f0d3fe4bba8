"""The door: data comes in straight from the server, and waits for the controller's word. Joined
after replica.py.

sshd lets in one key, from one address, to one command: a program that carries its standard input
to our socket. Nothing is written before the controller has told the digests and the place.
"""
import fcntl
import os
import re
import socket
import struct
import sys
import threading

ROOM = 64 * 1048576  # bytes that may wait for the controller's word; it has no more under way
WAIT = 300  # seconds for data whose digests have come
PEERCRED = 17  # SO_PEERCRED
GREETING = octets("groundlift-door\n")
MARK = "groundlift-door-"
# For `python -c` on one line: sshd's options and a shell's single quotes leave \n to Python.
CARRY = r"\n".join((
    "import os,socket,sys", "s=socket.socket(socket.AF_UNIX)", "s.connect(chr(0)+sys.argv[1])",
    "os.write(1,s.recv(64))", "while 1:", " d=os.read(0,262144)", " if not d:break",
    " s.sendall(d)"))
LIMITS = "no-pty,no-port-forwarding,no-X11-forwarding,no-agent-forwarding"
OPEN_DOORS = []


def entry(fields):
    """The line of authorized_keys."""
    token, origin, key = fields["token"], fields["origin"], fields["key"]
    if not re.match("[0-9a-f]{16,64}$", token) or not re.match("[0-9A-Fa-f.:]{2,45}$", origin):
        raise Refused("no token, or no address, to open the door for")
    if not re.match("ssh-rsa [A-Za-z0-9+/=]{100,2000}$", key):
        raise Refused("no key to open the door for")
    if not re.match("[A-Za-z0-9._/+-]+$", sys.executable or ""):
        raise Refused("%r can't be named in authorized_keys" % sys.executable)
    program = "exec %s -c 'exec(\\\"%s\\\")' %s%s" % (sys.executable, CARRY, MARK, token)
    return 'from="%s",%s,command="%s" %s %s%s' % (origin, LIMITS, program, key, MARK, token)


def authorized(change):
    """Rewrite the account's authorized_keys: ``change`` gets its lines and returns them."""
    folder = os.path.join(os.path.expanduser("~"), ".ssh")
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = os.path.realpath(os.path.join(folder, "authorized_keys"))
        info = os.stat(path)
        old = os.open(path, os.O_RDONLY)
        try:
            before = exactly(old, info.st_size)
        finally:
            os.close(old)
        lines = change([line for line in before.split(octets("\n")) if line])
        after = octets("\n").join(lines + [NOTHING])
        if after != before:
            replaced(path, after, info)
            os.fsync(lock)
    finally:
        os.close(lock)


def replaced(path, content, info):
    """Written beside, synced, renamed: a full disk loses no key."""
    beside = path + ".groundlift"
    if os.path.lexists(beside):
        os.unlink(beside)  # of a writer that was killed; the lock is ours
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 384)
    try:
        put(descriptor, content)
        os.chown(beside, info.st_uid, info.st_gid)
        os.chmod(beside, info.st_mode & 4095)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(beside, path)


def stale(line):
    """Whether this line opens a door that is no more: its writer was killed."""
    mark = line.rfind(octets(MARK))
    return mark >= 0 and text(line[mark:]).strip() not in content("/proc/net/unix")


class Door:
    """Bodies of data frames, by their offset."""

    def __init__(self, link, fields):
        self.link, self.line = link, octets(entry(fields))
        self.bodies, self.held, self.peers, self.fault = {}, 0, 0, ""
        self.condition = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(chr(0) + MARK + fields["token"])
        self.socket.listen(16)
        self.begin(self.accept)
        authorized(lambda lines: [old for old in lines if not stale(old)] + [self.line])

    def begin(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        if sys.version_info < (2, 6):
            thread.setDaemon(True)
        else:
            setattr(thread, "daemon", True)
        thread.start()

    def accept(self):
        """Thread: only processes of our own account get in; sshd has looked at the key."""
        while True:
            try:
                peer = self.socket.accept()[0]
            except (socket.error, IOError, OSError):
                return
            owner = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, PEERCRED, 12))[1]
            if owner != os.geteuid():
                peer.close()
                continue
            self.count(1)
            self.begin(self.take, peer)

    def count(self, change, fault=""):
        self.condition.acquire()
        self.peers += change
        self.fault = self.fault or fault
        self.condition.notify()
        self.condition.release()

    def take(self, peer):
        """Thread: what one reader sends."""
        fault = ""
        try:
            peer.sendall(GREETING)
            link = Link(peer.fileno(), peer.fileno())
            while True:
                kind, codec, offset, length, payload = link.receive()
                if kind != DATA:
                    raise Refused("a frame %d came through the door" % kind)
                self.keep(offset, (codec, offset, length, payload))
        except Closed:
            pass
        except (Refused, socket.error, IOError, OSError):
            fault = str(sys.exc_info()[1])
        peer.close()
        self.count(-1, fault)

    def keep(self, offset, frame):
        self.condition.acquire()
        try:
            if offset in self.bodies or self.held + len(frame[3]) > ROOM:
                raise Refused("more came through the door than was to come")
            self.bodies[offset] = frame
            self.held += len(frame[3])
            self.condition.notify()
        finally:
            self.condition.release()

    def claim(self, offset):
        """The frame whose digests the controller told."""
        until = ticks() + WAIT
        self.condition.acquire()
        try:
            while offset not in self.bodies:
                if self.fault:
                    raise Refused("the direct connection failed: %s" % self.fault)
                if not self.peers or self.link.gone() or not 0 < until - ticks() <= WAIT:
                    raise Refused("the direct connection ended before all had come")
                self.condition.wait(0.5)
            frame = self.bodies.pop(offset)
            self.held -= len(frame[3])
            return frame
        finally:
            self.condition.release()

    def shut(self):
        try:
            self.socket.shutdown(2)  # wakes the thread that accepts
        except (socket.error, IOError, OSError):
            pass
        self.socket.close()
        authorized(lambda lines: [line for line in lines if line != self.line])


def opened_door(link, fields):
    """Open a door, or shut those that are open; the controller is told whether it worked."""
    why = ""
    try:
        if "token" in fields:
            OPEN_DOORS.append(Door(link, fields))
        else:
            shut_doors()
    except (Refused, Closed, socket.error, IOError, OSError):
        fault = sys.exc_info()[1]
        why = str(fault) or "authorized_keys can't be read"
    link.send(DOOR, packed({"ok": int(not why), "why": why}))


def shut_doors():
    while OPEN_DOORS:
        OPEN_DOORS.pop().shut()


def claimed(offset, length, payload):
    """A frame that came straight, if it is the one that the controller was told of."""
    if not OPEN_DOORS:
        raise Refused("no door is open")
    frame = OPEN_DOORS[-1].claim(offset)
    if frame[2] != length or frame[3][:len(payload) - 4] != payload[4:]:
        raise Refused("a chunk at %d that came straight is not the one that was told" % offset)
    return frame
