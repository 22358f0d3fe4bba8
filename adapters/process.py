"""A child process as a Channel: binary ends, a bounded tail of standard error, a sure end."""

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from core.errors import OutsideFailed

TAIL = 64 * 1024
GRACE = 5.0
# Old non-login shells have no sbin in their PATH, and translated output can't be parsed.
ENVIRONMENT = {
    "LC_ALL": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


def readable(descriptor: int, seconds: float) -> bool:
    """Whether something, or the end, can be read within ``seconds``. Many servers at once are more
    descriptors than select() knows."""
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(max(0.0, seconds) * 1000))


class Tail:
    """Drains a stream so that its writer never blocks, and keeps the last 64 KiB."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = b""

    def add(self, data: bytes) -> None:
        """Keep the end of what was seen so far."""
        with self._lock:
            self._kept = (self._kept + data)[-TAIL:]

    @property
    def data(self) -> bytes:
        """What was kept."""
        with self._lock:
            return self._kept


class ProcessChannel:
    """core.ports.Channel over a subprocess in its own process group. ``given`` is a connection that
    the command may take out of its standard error, which is a socket then."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        where: str,
        given: socket.socket | None = None,
    ) -> None:
        self._where, self._argv = where, tuple(argv)
        self._errors, theirs = _standard_error(given)
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=theirs,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as fault:
            os.close(self._errors)
            raise OutsideFailed(
                f"can't start {self._argv[0]}: {fault.strerror}", where=where
            ) from fault
        finally:
            os.close(theirs)
        self._tail = Tail()
        # What to leave out of standard error when it is told: a remote shell's greetings.
        self.cleaned: Callable[[bytes], bytes] = bytes
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    @property
    def stdin(self) -> BinaryIO:
        assert self._process.stdin is not None  # noqa: S101
        return self._process.stdin  # type: ignore[return-value]

    @property
    def stdout(self) -> BinaryIO:
        assert self._process.stdout is not None  # noqa: S101
        return self._process.stdout  # type: ignore[return-value]

    def wait(self, timeout: float) -> int:
        """The exit code. Raises OutsideFailed when the command does not end in time."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as fault:
            raise OutsideFailed(
                f"`{shlex.join(self._argv)[:200]}` did not end in {timeout:.0f} s",
                where=self._where,
            ) from fault
        self._drain.join(GRACE)
        return code

    @property
    def tail(self) -> bytes:
        """The last 64 KiB of standard error so far, as they came."""
        return self._tail.data

    def errors(self) -> str:
        """The last 64 KiB of standard error so far."""
        return self.cleaned(self._tail.data).decode("utf-8", "backslashreplace")

    def kill(self) -> None:
        """End the command and what it started; harmless when it has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)

    def close(self) -> None:
        """End the command and give up its pipes."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        self.kill()
        self._drain.join(GRACE)
        with contextlib.suppress(OSError):
            self.stdout.close()

    def _read_errors(self) -> None:
        try:
            while data := os.read(self._errors, TAIL):
                self._tail.add(data)
        except OSError:
            pass
        finally:
            os.close(self._errors)


def _standard_error(given: socket.socket | None) -> tuple[int, int]:
    """The end that is read, and the one that is written to."""
    if given is None:
        return os.pipe()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"\0"], [given.fileno()])
    return ours.detach(), theirs.detach()


@contextmanager
def started(
    argv: Sequence[str],
    environment: Mapping[str, str],
    where: str,
    given: socket.socket | None = None,
) -> Iterator[ProcessChannel]:
    """A running command; leaving the context ends it."""
    channel = ProcessChannel(argv, environment, where, given)
    try:
        yield channel
    finally:
        channel.close()
