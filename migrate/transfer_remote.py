"""The far end of a source without Python: a shell loop that reads ranges of its disk by dd."""

from collections import deque
from collections.abc import Callable

from core.errors import OutsideFailed
from core.ports import Channel

MIB = 1024 * 1024
PIECE = MIB // 4  # bytes taken at once
# One request a line: block size, blocks to skip, blocks. The answer is exactly that many bytes and
# one line: K when dd read all, B when sectors are unreadable, F when something else is wrong. What
# can't be read is filled up, so that both ends stay in step whatever dd does after an error.
SERVER = r"""
IFS= read -r disk || exit 0
polite=
nice -n 19 true 2>/dev/null && polite="nice -n 19"
ionice -c3 true 2>/dev/null && polite="ionice -c3 $polite"
sync
flush=no
if test -f "$disk"; then
    size=`wc -c < "$disk"` direct= flush=file
else
    size=`blockdev --getsize64 "$disk" 2>/dev/null` || {
        # by its number: cciss/c0d0 and mapper/mpatha have other names in /sys
        number=`ls -lL "$disk" | sed -n 's/^b.* \([0-9]*\), *\([0-9]*\) .*/\1:\2/p'`
        place=`grep -lx "$number" /sys/block/*/dev` || exit 3
        size=$((`cat "${place%dev}size"` * 512))
    }
    direct="iflag=direct"
    dd if="$disk" of=/dev/null bs=512 count=1 $direct 2>/dev/null || direct=
    blockdev --flushbufs "$disk" 2>/dev/null && flush=yes
    test -n "$direct" && flush=direct
fi
echo $size $flush
exec 3>&1
while read -r block skip count; do
    if test "$block" = flush; then
        test "$flush" = yes && blockdev --flushbufs "$disk" 2>/dev/null
        continue
    fi
    said=`{ { $polite dd if="$disk" bs=$block skip=$skip count=$count $direct 2>&4
        cat /dev/zero; } 2>/dev/null | head -c $(($block * $count)) >&3; } 4>&1`
    case "$said" in
        *"$count+0 records in"*) echo K ;;
        *nput/output*|*I/O\ error*|*"No data available"*|*"Bad message"*|*multibyte*) echo B ;;
        *) echo F ;;
    esac
done
"""


class Remote:
    """The shell loop at the other end; requests may be sent ahead of their answers."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name
        self.sent = self.received = 0
        self.spend: Callable[[int], None] = lambda _: None  # waits until so many bytes may come
        self._asked: deque[tuple[int, int]] = deque()

    def open(self, path: str) -> tuple[int, str]:
        """(size, how old data is kept out) of the disk."""
        if not path.startswith("/") or "\n" in path:
            raise OutsideFailed(f"{path!r} is no path of a disk", where=self._name)
        self._write(f"{path}\n")
        answer = self._line(128).split()
        if len(answer) != 2 or not answer[0].isdigit():
            raise self.failed(f"can't tell the size of {path}")
        return int(answer[0]), answer[1]

    def flush(self) -> None:
        """Drop the disk's cache before the next request."""
        self._write("flush 0 0\n")

    def ask(self, offset: int, length: int) -> None:
        """Send a request; both numbers are multiples of a sector."""
        block = MIB
        while offset % block or length % block:
            block //= 2
        self._write(f"{block} {offset // block} {length // block}\n")
        self._asked.append((offset, length))

    @property
    def asked(self) -> "deque[tuple[int, int]]":
        """(offset, length) of the requests without an answer yet."""
        return self._asked

    def take(self) -> tuple[bytes, bool]:
        """(bytes, whether all could be read) of the oldest request."""
        offset, length = self._asked.popleft()
        parts, left = [], length
        while left:
            self.spend(min(PIECE, left))
            parts.append(self._channel.stdout.read(min(PIECE, left)))
            if len(parts[-1]) != min(PIECE, left):
                raise self.failed("the connection to dd ended")
            left -= len(parts[-1])
        data = b"".join(parts)
        self.received += length
        word = self._line(8)
        if word not in ("K", "B"):
            raise self.failed(f"dd could not read {length} bytes at {offset}")
        return data, word == "K"

    def failed(self, text: str) -> OutsideFailed:
        """A failure with the last words of standard error."""
        words = self._channel.errors().strip().splitlines()
        tail = f": {words[-1][:300]}" if words else ""
        hint = "check the disk and the network and run again: what was copied is kept"
        return OutsideFailed(text + tail, hint=hint, where=self._name)

    def kill(self) -> None:
        """End it now."""
        self._channel.kill()

    def _write(self, line: str) -> None:
        raw = line.encode("utf-8", "surrogateescape")
        try:
            self._channel.stdin.write(raw)
            self._channel.stdin.flush()
        except (OSError, ValueError) as fault:
            raise self.failed("the connection to dd broke") from fault
        self.sent += len(raw)

    def _line(self, limit: int) -> str:
        line = self._channel.stdout.readline(limit)
        self.received += len(line)
        return line.decode("ascii", "replace").rstrip("\n")
