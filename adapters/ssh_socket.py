"""The TCP connection under SSH, for the library and for the program alike.

Both ends of SSH write small packets one behind the other. A kernel holds the second back until the
first is acknowledged (Nagle's algorithm), and an acknowledgement waits 40 ms for data that it can
go with: a login by the ssh program alone stands still twice. So our end sends at once and
acknowledges at once, which spares the other end's packets the wait as well.
"""

import contextlib
import errno
import logging
import select
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Self

import paramiko

DEAD = 60  # seconds without an answer to what was sent, after which a peer is taken for dead
GREETING = 8192
MOMENT = 0.005  # seconds
NO_SERVER = "it is no SSH server, or turned us away before its greeting"
# The ssh program makes no connection, it takes the one that its standard error holds.
TAKES_OURS: tuple[str, ...] = (
    *("-o", "ProxyUseFdpass=yes", "-o"),
    "ProxyCommand="
    + shlex.join(
        (sys.executable, "-I", "-S", str(Path(__file__).with_name("ssh_hand.py")))
    ).replace("%", "%%"),
)


def connected(address: str, port: int, within: float) -> socket.socket:
    """A connection whose ends do not wait for each other. Raises OSError."""
    plain = socket.create_connection((address, port), timeout=within)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD * 1000)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


class Overheard(logging.Handler):
    """What a jump host says when it can't connect. The library writes that into its log alone."""

    def __init__(self, transport: paramiko.Transport) -> None:
        super().__init__()
        self.words = ""
        name = f"paramiko.jump.{id(transport)}"
        transport.set_log_channel(name)
        self._log = logging.getLogger(name)

    def __enter__(self) -> Self:
        self._log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the last one."""
        self.words = record.getMessage()


def silence(fault: Exception, words: str = "") -> bool:
    """Whether nothing is at the other end, as far as one can tell: a refusal comes from something,
    and that no network can be reached says more of this machine. Of a jump host's ``words`` those
    of OpenSSH are known."""
    if isinstance(fault, OSError):
        return isinstance(fault, TimeoutError) or fault.errno in (
            errno.EHOSTUNREACH, errno.EHOSTDOWN
        )  # fmt: skip
    told = f"{fault} {words}"
    return any(
        known in told for known in ("timed out", "No route to host", "is down", "Timeout opening")
    )


def acknowledge(plain: "socket.socket | paramiko.Channel") -> None:
    """Acknowledge what has come, now. The kernel forgets the wish again, so it is said often."""
    if isinstance(plain, socket.socket):
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Replayed:
    """A socket whose first bytes were read already and are given once more."""

    def __init__(self, plain: "socket.socket | paramiko.Channel", head: bytes) -> None:
        self._plain, self._head = plain, head

    @property
    def _closed(self) -> bool:  # paramiko looks at it when its thread ends
        return bool(getattr(self._plain, "_closed", getattr(self._plain, "closed", False)))

    def recv(self, count: int) -> bytes:
        """What was read before, then what comes."""
        if self._head:
            data, self._head = self._head[:count], self._head[count:]
            return data
        data = self._plain.recv(count)
        acknowledge(self._plain)
        return data

    def send(self, data: bytes) -> int:
        """As of a socket."""
        return self._plain.send(data)

    def settimeout(self, seconds: float | None) -> None:
        """As of a socket."""
        self._plain.settimeout(seconds)

    def close(self) -> None:
        """As of a socket."""
        self._plain.close()


def banner(plain: "socket.socket | paramiko.Channel") -> tuple[str, Replayed]:
    """The server's version, which it tells before anything is agreed on."""
    head, line = b"", b""
    while not line.startswith(b"SSH-"):
        line = b""
        while not line.endswith(b"\n"):
            byte = plain.recv(1)
            if not byte or len(head) > GREETING:
                raise EOFError(NO_SERVER)
            head, line = head + byte, line + byte
    return line.decode("ascii", "replace").strip(), Replayed(plain, head)


def looked_at(plain: socket.socket, within: float) -> str:
    """The server's version, left in the connection for whoever gets it."""
    deadline, seen = time.monotonic() + within, -1
    plain.setblocking(True)  # the ssh program shares this setting
    looking = select.poll()
    looking.register(plain, select.POLLIN | select.POLLRDHUP)
    while (left := deadline - time.monotonic()) > 0 and (found := looking.poll(left * 1000)):
        head = plain.recv(GREETING, socket.MSG_PEEK)
        for line in head.splitlines(keepends=True):
            if line.startswith(b"SSH-") and line.endswith(b"\n"):
                return line.decode("ascii", "replace").strip()
        over = found[0][1] & ~select.POLLIN  # what was looked at stays readable for ever
        if len(head) in (seen, GREETING) and (over or len(head) == GREETING):
            raise EOFError(NO_SERVER)
        seen = len(head)
        time.sleep(MOMENT)
    raise TimeoutError("timed out")
