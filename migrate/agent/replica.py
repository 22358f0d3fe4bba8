"""Where a disk is written to: a sparse file in the pool's directory, or a block device.

A file's name ends in .part until the controller has proved the whole, and no name leads out of the
directory. A device is opened for us alone, and only if nobody uses it and it holds nothing, unless
the plan gives its content up by name. Joined after direct.py.
"""
import errno
import fcntl
import os
import sys
import time

PATIENCE = 150  # times 0.2 s: a writer whose controller was killed may still be busy for a moment
TAIL = 64 * 1048576  # a volume may be so much larger than the disk: its extents are coarser
MAGICS = (
    (510, "55aa", "a partition table"), (512, "4546492050415254", "a partition table"),
    (1080, "53ef", "an ext file system"), (0, "58465342", "an XFS file system"),
    (512, "4c4142454c4f4e45", "an LVM physical volume"), (3, "4e544653", "an NTFS file system"),
    (4086, "53574150535041434532", "swap space"), (0, "4c554b53babe", "a LUKS container"),
    (65600, "5f42485266535f4d", "a btrfs file system"), (4096, "fc4e2ba9", "an md array"),
)


class Trouble(Refused):
    """A refusal with an errno and more fields."""

    def __init__(self, sentence, number, **more):
        Refused.__init__(self, sentence)
        self.number, self.more = number, more


def harmless(name):
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise Refused("%r is no plain file name" % name)
    return name


class Replica:
    """A sparse file. ``created``: nothing that the controller knows of it holds. One that is
    ``known`` is not made: where it is missing its pool may not be mounted."""

    block = False
    identity = ""

    def __init__(self, fields):
        self.directory = fields["directory"]
        if not os.path.isabs(self.directory) or not os.path.isdir(self.directory):
            raise Refused("%s is no directory" % self.directory)
        self.final = os.path.join(self.directory, harmless(fields["name"]))
        self.path, self.size = self.final + ".part", int(fields["size"])
        self.published = self.created = False
        self.known = fields.get("known") == "1"
        self.open(fields.get("again") == "1")

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
        try:
            self.descriptor = os.open(self.path, flags)
        except OSError:
            if sys.exc_info()[1].errno != errno.ENOENT:
                raise
            if self.known:
                raise Trouble("%s is gone, and nothing was begun anew" % self.path, errno.ENOENT,
                              gone=1)
            self.descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 384)
            self.created = True
        self.alone()
        info = os.fstat(self.descriptor)
        if info.st_mode & 0xF000 != 0x8000:
            raise Refused("%s is no regular file" % self.path)
        if info.st_size == 0 and not self.published and not self.known:
            self.created = True  # made, and then nothing: as good as new
        if self.created:
            os.ftruncate(self.descriptor, self.size)
            os.fsync(self.descriptor)
            self.sync_directory()
        elif info.st_size != self.size:
            raise Refused("%s has %d bytes instead of %d" % (self.path, info.st_size, self.size))

    def alone(self):
        for attempt in range(PATIENCE):
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

    def sync(self):
        getattr(os, "fdata" + "sync", os.fsync)(self.descriptor)

    def put(self, offset, data):
        os.lseek(self.descriptor, offset, 0)
        put(self.descriptor, data)

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

    def blank(self, offset, length):
        """Zeros; what is zero already stays as it is, so holes remain and no cell wears."""
        for start in range(offset, offset + length, 4 * CHUNK):
            size = min(4 * CHUNK, offset + length - start)
            if self.get(start, size) != ZEROS[:size]:
                self.put(start, ZEROS[:size])

    def past_cache(self):
        """A ``get`` that asks the medium, as far as the system lets us."""
        if not self.published:
            os.fsync(self.descriptor)
        if not forget(self.descriptor, self.block):
            try:
                return Direct(self.path).read
            except EnvironmentError:
                pass
        return self.get

    def publish(self):
        if not self.published:
            os.fsync(self.descriptor)
            if os.path.lexists(self.final):
                raise Refused("%s appeared meanwhile" % self.final)
            os.rename(self.path, self.final)
            self.sync_directory()
            self.path, self.published = self.final, True

    def room(self):
        """(free bytes, bytes this replica has already)"""
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize, os.fstat(self.descriptor).st_blocks * 512

    def trouble(self, fault):
        """A write's failure in words; a full pool is told with its room."""
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            return Trouble("%s: %s" % (self.path, os.strerror(errno.ENOSPC)), errno.ENOSPC,
                           free=self.room()[0])
        return Trouble("%s: %s" % (self.path, fault.strerror), fault.errno)


class Volume(Replica):
    """A block device. ``mine`` is the identity of the device that the controller began with."""

    block = True

    def __init__(self, fields):
        self.asked, self.size = fields["device"], int(fields["size"])
        self.directory = fields.get("directory", "")
        self.path = self.final = os.path.realpath(self.asked)
        if not self.asked.startswith("/dev/") or not self.path.startswith("/dev/"):
            raise Refused("%s is no device" % self.asked)
        info = os.stat(self.path)
        if info.st_mode & 0xF000 != 0x6000:
            raise Refused("%s is no block device" % self.asked)
        self.number = info.st_rdev
        self.published = fields.get("finished") == "1" and fields.get("again") != "1"
        busy = not self.published and occupied(self.number)
        if busy:
            raise Refused("%s is in use: %s" % (self.asked, busy))
        self.open(fields.get("again") == "1")
        self.whole = os.lseek(self.descriptor, 0, 2)
        if not self.size <= self.whole <= self.size + TAIL:
            raise Refused("%s has %d bytes, the disk needs %d (and at most %d more)"
                          % (self.asked, self.whole, self.size, TAIL))
        self.identity = identity(self.number) or "%s %d" % (self.asked, self.whole)
        self.created = fields.get("mine") != self.identity
        if self.created and fields.get("overwrite") != self.asked:
            self.refuse_data()

    def open(self, again):
        flags = os.O_RDWR | os.O_EXCL | getattr(os, "O_LARGEFILE", 0)
        if self.published:  # a domain may live on top of it: it is read, and no more
            flags = os.O_RDONLY | getattr(os, "O_LARGEFILE", 0)
        for attempt in range(PATIENCE):
            try:
                self.descriptor = os.open(self.path, flags)
                return
            except OSError:
                if sys.exc_info()[1].errno != errno.EBUSY:
                    raise
            time.sleep(0.2)
        raise Refused("%s is in use" % self.asked)

    def refuse_data(self):
        """Only an empty device is taken without a word."""
        head = self.get(0, min(1048576, self.whole))
        tail = self.get(max(0, self.whole - 1048576), min(1048576, self.whole))
        for at, magic, name in MAGICS:
            if head[at:at + len(magic) // 2] == __import__("binascii").unhexlify(octets(magic)):
                raise Trouble("%s holds %s" % (self.asked, name), errno.EEXIST)
        for part in (head, tail):
            if part != ZEROS[:len(part)]:
                raise Trouble("%s holds data of an unknown kind" % self.asked, errno.EEXIST)

    def publish(self):
        if not self.published:
            if self.whole > self.size:  # what was beyond the disk's end must not be found there
                self.blank(self.size, self.whole - self.size)
            os.fsync(self.descriptor)
            self.published = True

    def room(self):
        return self.size, 0


def identity(number):
    """What tells this device from another one that gets its name later; nothing when unknown."""
    folder = "/sys/dev/block/%d:%d/" % (os.major(number), os.minor(number))
    for name in ("dm/uuid", "wwid", "device/wwid", "serial", "device/serial"):
        found = content(folder + name).strip()
        if found:
            return found
    return ""


def content(path):
    try:
        source = open(path)
        try:
            return source.read()
        finally:
            source.close()
    except (IOError, OSError, ValueError):
        return ""


def occupied(number):
    """Who uses this device or a part of it; nothing when nobody does."""
    folder = "/sys/dev/block/%d:%d/" % (os.major(number), os.minor(number))
    devices = ["%d:%d" % (os.major(number), os.minor(number))]
    held = listed(folder + "holders")
    for name in listed(folder):
        if os.path.exists(folder + name + "/partition"):
            devices.append(content(folder + name + "/dev").strip())
            held.extend(listed(folder + name + "/holders"))
    if held:
        return "it is a part of %s" % held[0]
    for line in content("/proc/self/mountinfo").split("\n"):
        words = line.split()
        if len(words) > 4 and words[2] in devices:
            return "it is mounted on %s" % words[4]
    for line in content("/proc/swaps").split("\n")[1:]:
        try:
            other = os.stat((line.split() or [""])[0]).st_rdev
        except OSError:
            continue
        if "%d:%d" % (os.major(other), os.minor(other)) in devices:
            return "it is swap space"
    return opened_by(devices)


def opened_by(devices):
    for pid in listed("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for name in listed("/proc/%s/fd" % pid):
            try:
                info = os.stat("/proc/%s/fd/%s" % (pid, name))
            except OSError:
                continue
            used = "%d:%d" % (os.major(info.st_rdev), os.minor(info.st_rdev))
            if info.st_mode & 0xF000 == 0x6000 and used in devices:
                command = content("/proc/%s/cmdline" % pid).replace("\0", " ")
                if "'agent','exec'" not in command:  # a writer whose controller is gone: it ends soon
                    return "process %s has it open (%s)" % (pid, command[:60].strip())
    return ""


def listed(path):
    try:
        return os.listdir(path)
    except OSError:
        return []
