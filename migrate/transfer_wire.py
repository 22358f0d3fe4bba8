"""Sessions with the agents: how they get to the other machine, and the frames both speak.

Nothing is written there: the program goes through standard input. Every frame carries a CRC, or
the digests of its data; what comes from an agent is checked before it is used.
"""

import contextlib
import fcntl
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from io import BufferedReader, BufferedWriter
from typing import BinaryIO

from core.errors import OutsideFailed
from core.ports import Channel, Host
from core.quantities import duration

VERSION = 2
CHUNK = 64 * 1024
LIMIT = 4 * 1024 * 1024
PIPE = 1024 * 1024
STALL = 1800.0  # seconds without a sign of life
GREETING = 120.0  # the same, until an agent has said its first words
HEADER = struct.Struct("!2sBBIQII")
MAGIC = b"GL"
NUMBER = re.compile(r"[0-9]{1,9}")
PARTS = {
    "reader": (
        *("wire.py", "direct.py", "device.py", "workers.py", "pace.py", "known.py"),
        *("layout.py", "crc32c.py", "tables.py", "raid.py", "lvm.py"),
        *("ext.py", "unread.py", "xfs.py", "ntfs.py", "fat.py", "moment.py", "freeze.py"),
        *("holders.py", "route.py", "reader.py"),
    ),
    "writer": ("wire.py", "direct.py", "replica.py", "door.py", "writer.py"),
}
PYTHONS = (
    *("python3", "python", "python2", "python2.7", "python2.6", "python2.5", "python2.4"),
    *("/usr/libexec/platform-python", "/usr/bin/python3", "/usr/bin/python"),
)
# The first of the interpreters that can run the agents: its name, or the agent itself at once.
# Of Python's own library and nothing else: -E and -S; a third of its start is spared, too.
# Nothing is written there, no compiled library either.
CLEAN = "import sys;sys.dont_write_bytecode=True"
ABLE = f'if "$p" -ES -c "{CLEAN};import struct,zlib,threading,select,fcntl" 2>/dev/null; then'
PROBE = f'for p in "$@"; do {ABLE} echo "$p"; exit 0; fi; done; exit 3'
# glibc gives freed megabytes back to the kernel and takes them again, page fault by page fault.
KEEP = "MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=16777216"
RUN = f'{KEEP} exec "$p" -ESu -c "$boot"'
START = f'boot=$1; shift; for p in "$@"; do {ABLE} {RUN}; fi; done; exit 3'
NONE = 3
# Exactly so many bytes, so that nothing of the first frame is swallowed; text-mode stdin would.
BOOT = f"""{CLEAN};import os
size={{size}};got=''.encode()
while len(got)<size:
 part=os.read(0,size-len(got))
 if not part:raise SystemExit(1)
 got+=part
exec(compile(got,'agent','exec'))"""


class Kind(IntEnum):
    """What a frame says; the numbers are the protocol."""

    HELLO = 1
    OPEN = 2
    PASS = 3
    MAPPED = 4
    MANIFEST = 5
    CREDIT = 6
    DATA = 7
    ZERO = 8
    SAME = 9
    POSITION = 10
    BAD = 11
    END = 12
    ACK = 13
    VERIFY = 14
    DIGESTS = 15
    PUBLISH = 16
    ERROR = 17
    BYE = 18
    HOLDERS = 19
    FLUSH = 20
    OFFER = 21
    ANSWERED = 22
    COPY = 23
    COPIED = 24
    PROBE = 25
    TABLES = 26
    KEEP = 27
    FREEZE = 28
    FROZEN = 29
    THAW = 30
    DOOR = 31
    ROUTE = 32
    DIRECT = 33


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; ``head`` and ``payload`` as they came, so that data can be passed on as is.
    ``rest`` bytes of the payload have not been read yet: they are to be moved on next."""

    kind: Kind
    codec: int
    offset: int
    length: int
    payload: bytes
    head: bytes
    rest: int = 0

    @property
    def fields(self) -> dict[str, str]:
        """The payload of a control frame."""
        lines = self.payload.decode("utf-8", "surrogateescape").split("\n")
        return {key: value for key, sign, value in (ln.partition("=") for ln in lines) if sign}

    def number(self, key: str) -> int:
        """A field that must be a number."""
        try:
            return int(self.fields[key])
        except (KeyError, ValueError) as fault:
            raise OutsideFailed(f"the agent's {self.kind.name} frame lacks {key}") from fault


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent can do: the Python it runs on, hash → MB per second and processor, and how
    many processors it has."""

    python: str
    hashes: Mapping[str, int]
    cpus: int = 1


class NoPython(OutsideFailed):
    """No Python from 2.4 on was found on a host."""


class Session:
    """A running agent. ``send`` may be called by several threads, ``receive`` by one."""

    def __init__(self, host: str, role: str, channel: Channel) -> None:
        self.host, self.role = host, role
        self._channel = channel
        self._lock = threading.Lock()
        self._parted = False
        self.received = self.sent = 0
        self.acknowledged = 0  # frames, over all passes: so a writer counts
        self.hello = Hello("", {})
        self.trouble: Mapping[str, str] = {}  # the fields of the agent's last ERROR
        for pipe in (channel.stdin, channel.stdout):
            with contextlib.suppress(OSError, TypeError):  # no pipe, no file
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)  # fewer, longer switches

    def greet(self) -> None:
        """Exchange versions."""
        fields = self.expect(Kind.HELLO).fields
        if fields.get("version") != str(VERSION) or fields.get("role") != self.role:
            raise self.failed("the agent speaks another version of the protocol")
        pairs = (item.partition(":") for item in fields.get("hashes", "").split(","))
        self.hello = Hello(
            fields.get("python", "?"),
            {name: int(speed) for name, _, speed in pairs if NUMBER.fullmatch(speed)},
            int(fields["cpus"]) if NUMBER.fullmatch(fields.get("cpus", "")) else 1,
        )
        self.say(Kind.HELLO, version=VERSION)

    def send(self, kind: Kind, payload: bytes = b"", offset: int = 0, length: int = 0) -> None:
        """One frame of our own."""
        head = HEADER.pack(MAGIC, kind, 0, len(payload), offset, length, 0)[:-4]
        check = zlib.crc32(payload, zlib.crc32(head))
        self.relay(head + check.to_bytes(4, "big"), payload)

    def relay(
        self, head: bytes, payload: bytes, rest: int = 0, source: "Session | None" = None
    ) -> None:
        """Pass a frame on as it came; ``rest`` more bytes of it are still with ``source``."""
        try:
            with self._lock:
                self._channel.stdin.write(head)
                self._channel.stdin.write(payload)
                self._channel.stdin.flush()
                if source is not None and rest:
                    source.move(rest, self._channel.stdin)
        except (OSError, ValueError) as fault:
            raise self.failed("the connection broke") from fault
        self.sent += len(head) + len(payload) + rest

    def move(self, count: int, sink: BinaryIO) -> None:
        """What comes next goes to ``sink``, from pipe to pipe without passing through memory."""
        source = self._channel.stdout
        if not isinstance(source, BufferedReader) or not isinstance(sink, BufferedWriter):
            sink.write(self._exactly(count))
            return
        first = self._exactly(min(count, len(source.peek()) or 1))
        sink.write(first)
        sink.flush()
        count -= len(first)
        while count:
            moved = os.splice(source.fileno(), sink.fileno(), count)
            if not moved:
                raise self.failed("the connection ended")
            count -= moved

    def say(self, kind: Kind, **fields: str | int) -> None:
        """A control frame of key=value lines."""
        if any("\n" in str(value) for value in fields.values()):
            raise self.failed("a line break in a field")
        text = "".join(f"{key}={value}\n" for key, value in fields.items())
        self.send(kind, text.encode("utf-8", "surrogateescape"))

    def receive(self, width: int = 0) -> Frame:
        """The next frame. An ERROR of the agent is raised, and so is every damage. With a ``width``
        of digests only those are read of a data frame."""
        head = self._exactly(HEADER.size)
        magic, kind, codec, size, offset, length, check = HEADER.unpack(head)
        if magic != MAGIC or size > LIMIT or kind not in Kind._value2member_map_:
            raise self.failed("what arrived is no frame: the data was damaged on the way")
        taken = min(size, -(-length // CHUNK) * width) if width and kind == Kind.DATA else size
        payload = self._exactly(taken)
        found = zlib.crc32(head[:-4])
        if kind != Kind.DATA:
            found = zlib.crc32(payload, found)
        if found != check:
            raise self.failed("a frame was damaged on the way")
        frame = Frame(Kind(kind), codec, offset, length, payload, head, size - taken)
        self.received += len(head) + size
        if frame.kind is Kind.ERROR:
            raise self.complaint(frame)
        return frame

    def expect(self, kind: Kind) -> Frame:
        """The next frame, which must be of this kind."""
        frame = self.receive()
        if frame.kind is not kind:
            raise self.failed(f"{frame.kind.name} came where {kind.name} should have")
        return frame

    def complaint(self, frame: Frame) -> OutsideFailed:
        """An agent's ERROR as ours."""
        self.trouble = frame.fields
        number = self.trouble.get("errno", "0")
        hint = {
            "28": "make room in the pool and run again: what was copied is kept",
            "5": "the disk reports read errors; check it with smartctl",
            "13": "root is needed there",
        }.get(number, "run again: what was copied is kept")
        message = f"the {self.role} says: {self.trouble.get('message', '?')[:500]}"
        return OutsideFailed(message, hint=hint, where=self.host)

    def failed(self, text: str) -> OutsideFailed:
        """A failure with the last words of the agent's standard error."""
        words = self._channel.errors().strip().splitlines()
        tail = f": {words[-1][:300]}" if words else ""
        return OutsideFailed(
            f"the {self.role} failed: {text}{tail}",
            hint="check the network and run again: what was copied is kept",
            where=self.host,
        )

    def charge(self, spend: Callable[[int], None]) -> bool:
        """Whether it waits itself, by ``spend``, for what it takes from the line; this one leaves
        that to whoever hands it on."""
        return False

    def part(self) -> None:
        """Say that nothing more is wanted, and do not wait for the answer: from afar it takes its
        time, and an agent without work ends with its connection, too."""
        with contextlib.suppress(OutsideFailed):
            self._parted = True
            self.send(Kind.BYE)

    def bye(self) -> None:
        """Part in peace."""
        if self._parted:
            return
        with contextlib.suppress(OutsideFailed):
            self.send(Kind.BYE)
            self.expect(Kind.BYE)

    def kill(self) -> None:
        """End the agent now, so that whoever waits for it wakes up."""
        self._channel.kill()

    def _exactly(self, count: int) -> bytes:
        try:
            data = _read(self._channel.stdout, count)
        except (OSError, ValueError) as fault:
            raise self.failed("the connection broke") from fault
        if len(data) != count:
            raise self.failed("the connection ended")
        return data


@contextmanager
def lively(agent: Session, seconds: float = STALL) -> Iterator[None]:
    """End an agent that says nothing for so long, so that nobody waits for a hung disk for ever."""
    over, dead = threading.Event(), threading.Event()

    def watch() -> None:
        heard, since = agent.received, time.monotonic()
        while not over.wait(min(1.0, seconds / 4)):
            if agent.received != heard:
                heard, since = agent.received, time.monotonic()
            elif time.monotonic() - since > seconds:
                dead.set()
                agent.kill()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except OutsideFailed as fault:
        if dead.is_set():
            raise agent.failed(f"no sign of life for {duration(seconds)}") from fault
        raise
    finally:
        over.set()
        thread.join()


def _read(stream: BinaryIO, count: int) -> bytes:
    return stream.read(count) if count else b""


def program(role: str) -> bytes:
    """The agent's source: its parts joined."""
    folder = resources.files("migrate").joinpath("agent")
    return b"\n".join(folder.joinpath(part).read_bytes() for part in PARTS[role])


def python_of(host: Host) -> str:
    """An interpreter on ``host`` that can run the agents."""
    done = host.run(("sh", "-c", PROBE, "sh", *PYTHONS), timeout=60)
    if done.code:
        raise _no_python(host)
    return done.text.split()[0]


def _no_python(host: Host) -> NoPython:
    return NoPython(
        "no Python from 2.4 on was found there",
        hint="the agents need one with zlib and threads; nothing is installed by Groundlift",
        where=host.name,
    )


@contextmanager
def session(host: Host, role: str, python: str = "") -> Iterator[Session]:
    """A greeted agent on ``host``, under ``python`` or the first that will do; leaving the context
    ends it. Raises NoPython when there is none."""
    source = program(role)
    boot = BOOT.format(size=len(source))
    argv = (python, "-ESu", "-c", boot) if python else ("sh", "-c", START, "sh", boot, *PYTHONS)
    with host.stream(argv) as channel:
        agent = Session(host.name, role, channel)
        try:
            with lively(agent, GREETING):
                agent.relay(source, b"")
                agent.sent = 0
                agent.greet()
        except OutsideFailed:
            if not python and _ended(channel) == NONE:
                raise _no_python(host) from None
            raise
        yield agent


def _ended(channel: Channel) -> int | None:
    """The exit code, if there is one by now."""
    with contextlib.suppress(OutsideFailed):
        return channel.wait(5)
    return None
