"""A window that slides over a disc: every byte is read once, past the page cache, for all who want
it. Copying a whole disc through the cache costs more processor time than its checksum.

Whoever comes too late for a byte, or after the disc failed, is told so and reads the file itself.
"""

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from isomirror.iso9660 import BadDisc

BLOCK = 4 << 20
BLOCKS = 16
NOTHING = 1 << 62  # what somebody needs who needs nothing any more


class Passed(Exception):
    """Byte ``at`` is not to be had here."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Stopped(Exception):
    """The pass was called off."""


class Window:
    """BLOCKS blocks of a file. ``fill`` runs in a thread; each reader in its own. A block goes when
    no reader needs it; a reader needs what lies behind the place where it is."""

    def __init__(self, path: str, end: int) -> None:
        self.path, self.end = path, end
        self.position = 0  # bytes read so far
        self.fault: BadDisc | OSError | None = None
        self._change = threading.Condition()
        self._blocks: dict[int, mmap.mmap] = {}
        self._free: list[mmap.mmap] = []
        self._made = 0
        self._needs: dict[object, int] = {}
        self._stop = self._ended = False

    def need(self, who: object, at: int) -> None:
        """``who`` needs what lies from ``at`` on, until it says something else."""
        with self._change:
            self._needs[who] = at
            self._change.notify_all()

    def stop(self) -> None:
        """End everybody's waiting; they get Stopped."""
        with self._change:
            self._stop = True
            self._change.notify_all()

    def fill(self) -> None:
        """Read the file in order. What stops it is in ``fault``."""
        try:
            with _opened(self.path) as file:
                while self.position < self.end:
                    buffer = self._room()
                    wanted = min(BLOCK, self.end - self.position)
                    _read(file, buffer, self.position, wanted)
                    with self._change:
                        self._blocks[self.position] = buffer
                        self.position += wanted
                        self._change.notify_all()
        except Stopped:
            pass
        except (BadDisc, OSError) as fault:
            self.fault = fault
        finally:  # whatever ended it, nobody waits for more
            with self._change:
                self._ended = True
                self._change.notify_all()

    def read(self, who: object, start: int, end: int, piece: int) -> Iterator[memoryview]:
        """The bytes in pieces; each is good until the next is asked for. Raises Passed, Stopped."""
        while start < end:
            block = start - start % BLOCK
            with self._change:
                self._needs[who] = start
                self._change.notify_all()
                while self.position <= start < self.end and not (self._ended or self._stop):
                    self._change.wait()
                if self._stop:
                    raise Stopped
                if block not in self._blocks:
                    self._needs[who] = NOTHING
                    self._change.notify_all()
                    raise Passed(start)
                buffer = self._blocks[block]
            stop = min(end, block + BLOCK, start + piece)
            yield memoryview(buffer)[start - block : stop - block]
            start = stop

    def _room(self) -> mmap.mmap:
        with self._change:
            while True:
                if self._stop:
                    raise Stopped
                low = min(self._needs.values(), default=NOTHING)
                for block in [block for block in self._blocks if block + BLOCK <= low]:
                    self._free.append(self._blocks.pop(block))
                if self._free:
                    return self._free.pop()
                if self._made < BLOCKS:
                    self._made += 1
                    return mmap.mmap(-1, BLOCK)  # aligned, as a direct read must be
                self._change.wait()


@contextmanager
def _opened(path: str) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        file = os.open(path, flags | os.O_DIRECT)
    except OSError:  # some file systems only read through the cache
        file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


def _read(file: int, buffer: mmap.mmap, start: int, wanted: int) -> None:
    done = 0
    with memoryview(buffer) as view:
        while done < wanted:
            count = os.preadv(file, [view[done:]], start + done)
            if not count:
                raise BadDisc(f"the image ends at byte {start + done}")
            done += count
