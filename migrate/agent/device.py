"""The disk at the source. Joined after direct.py."""
import errno
import os
import sys

FLUSH_EVERY = 64 * 1048576
# A medium's error: EIO, and ENODATA of direct reads since Linux 4.13; of its checksums the others.
UNREADABLE = (errno.EIO, getattr(errno, "ENODATA", 61), getattr(errno, "EILSEQ", 84),
              getattr(errno, "EBADMSG", errno.EIO), getattr(errno, "EREMOTEIO", 121))


class Device:
    """A disk, read past every cache that could hold old data.

    The maps of used blocks are read through the cache, which is emptied before; data by O_DIRECT
    where ``direct`` is asked for and possible, else by emptying the cache again and again.
    """

    def __init__(self, path, direct=False):
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        self.size = os.lseek(self.descriptor, 0, 2)
        self.block = os.fstat(self.descriptor).st_mode & 0xF000 == 0x6000
        self.bad, self.took, self.unflushed = [], 0, 0
        self.positioned = getattr(os, "pread", None)
        self.direct = None
        if direct and self.block:
            try:
                self.direct = Direct(path)
            except EnvironmentError:
                pass
        if self.direct is None:
            self.fresh()

    def fresh(self):
        """A mounted file system's writes do not show in the disk's own cache: drop that cache."""
        self.unflushed = 0
        if not forget(self.descriptor, self.block) and self.block:
            raise Refused("can't drop the disk's cache: root is needed on the source")

    def another(self):
        """The same for another process, past the cache where that is possible."""
        return Device(self.path, True)

    def close(self):
        os.close(self.descriptor)
        if self.direct is not None:
            self.direct.close()

    def plain(self, offset, length):
        if self.direct is not None:
            try:
                return self.direct.read(offset, length)
            except (IOError, OSError):
                if sys.exc_info()[1].errno != errno.EINVAL:
                    raise
            self.direct.close()  # larger sectors than 512 bytes, or a driver that does not do it
            self.direct = None
            self.fresh()
        if self.positioned is not None:
            return self.positioned(self.descriptor, length, offset)
        os.lseek(self.descriptor, offset, 0)
        return os.read(self.descriptor, length)

    def full(self, offset, length):
        raw = self.plain(offset, length)
        while len(raw) < length:
            raw = whole(raw)
            more = whole(self.plain(offset + len(raw), length - len(raw)))
            if not more:
                return raw
            raw += more
        return raw

    def read(self, offset, length):
        """Never fails: sectors that can't be read are zeros, and are remembered."""
        self.took += length
        self.unflushed += length
        if self.unflushed >= FLUSH_EVERY and self.block and self.direct is None:
            self.fresh()
        try:
            return self.full(offset, length)
        except (IOError, OSError):
            if sys.exc_info()[1].errno not in UNREADABLE:
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
                    parts.append(whole(self.full(start, count)))
                except (IOError, OSError):
                    if sys.exc_info()[1].errno not in UNREADABLE:
                        raise
                    parts.append(self.bisect(start, count))
        return NOTHING.join(parts)
