"""Reading past the page cache with O_DIRECT. Joined after wire.py, in both agents.

A mounted file system's writes do not show in the disk's own cache, and what was just written is
read back from memory, not from the medium. O_DIRECT wants aligned memory: a Python that can read
into a memory map has it (from 2.6 on); for the others there is BLKFLSBUF.
"""
import errno
import fcntl
import os
import sys

BLKFLSBUF = 0x1261
DONTNEED = 4
SIZES = (2097152, 1048576, 524288, 262144, 131072, 65536, 32768, 4096, 512)


class Direct:
    """One file or device by O_DIRECT. Raises EnvironmentError where that is not to be had."""

    def __init__(self, path):
        flag = getattr(os, "O_DIRECT", 0)
        if not flag:
            raise IOError(errno.EINVAL, "no O_DIRECT", path)
        self.descriptor = os.open(path, os.O_RDONLY | flag)
        try:
            self.file = getattr(__import__("io"), "FileIO")(self.descriptor, "rb", False)
            maker = getattr(__import__("mmap"), "mmap")
            self.buffers = [(size, maker(-1, size)) for size in SIZES]
            self.positioned = getattr(os, "pre" + "adv", None)
            self.read(0, 4096)
        except (ImportError, AttributeError, TypeError, ValueError):
            self.close()
            raise IOError(errno.EINVAL, "no aligned memory in this Python", path)
        except EnvironmentError:
            self.close()
            raise

    def close(self):
        os.close(self.descriptor)

    def read(self, offset, length):
        """Like pread; shorter only at the end. Whole sectors are read around what is asked. What
        it returns holds until the next read."""
        parts, end = [], offset + length
        while offset < end:
            skip = offset % 512
            size, memory = self.fitting(end - offset + skip)
            got = self.into(memory, offset - skip)
            count = min(got, end - offset + skip) - skip
            if count <= 0:
                break
            if not parts and count == end - offset:
                return cut(memory, skip, count)
            parts.append(whole(cut(memory, skip, count)))
            offset += count
            if got < size:
                break
        return NOTHING.join(parts)

    def into(self, memory, offset):
        if self.positioned is not None:
            return self.positioned(self.descriptor, [memory], offset)
        self.file.seek(offset)
        return self.file.readinto(memory)

    def fitting(self, want):
        """The largest buffer that is not larger than what is wanted; the rest may be read over. A
        Python that reads into a part of a buffer gets just that part."""
        size, memory = self.buffers[0]
        if self.positioned is not None and want <= size:
            size = want + -want % 512
            return size, cut(memory, 0, size)
        for size, memory in self.buffers:
            if size <= want or size == 512:
                return size, memory


def forget(descriptor, block):
    """Drop what the cache holds of a file or device. True when the system said it did."""
    try:
        if block:
            fcntl.ioctl(descriptor, BLKFLSBUF, 0)
            return True
        advise = getattr(os, "posix_" + "fadvise", None)
        if advise is not None:
            advise(descriptor, 0, 0, DONTNEED)
            return True
    except (IOError, OSError):
        pass
    return False
