"""One command over one paramiko channel: wait for its mark, answer sudo, then feed and drain all
three ends at once, since any of them may block the others."""

import contextlib
import threading
import time

import paramiko

from adapters import shell
from adapters.process import Tail
from adapters.ssh_command import NOISE, Prepared
from core.errors import OutsideFailed
from core.ports import Completed


class Exchange:
    """Runs ``prepared`` to its end. Raises TimeoutError at the deadline."""

    def __init__(
        self,
        channel: paramiko.Channel,
        prepared: Prepared,
        password: str | None,
        name: str,
        deadline: float,
    ) -> None:
        self._channel, self._prepared, self._name = channel, prepared, name
        self._password, self._deadline = password, deadline
        self._tail = Tail()
        self._begun = threading.Event()
        self._over = threading.Event()

    def run(self, argv: tuple[str, ...], stdin: bytes) -> Completed:
        """The command's own code and words."""
        threads = [
            threading.Thread(target=work, args=arguments, daemon=True)
            for work, arguments in ((self._feed, (stdin,)), (self._drain, ()))
        ]
        self._channel.exec_command(self._prepared.line)
        for thread in threads:
            thread.start()
        try:
            output = self._receive()
            if not self._channel.status_event.wait(max(0.0, self._left())):
                raise TimeoutError
            self._over.set()
            for thread in threads:
                thread.join(max(0.1, self._left()))
        finally:
            self._over.set()
        code = self._channel.recv_exit_status()
        if not self._begun.is_set():
            if code == -1:
                raise EOFError("closed without an exit code")
            raise self._refused(output)
        if code == -1:
            raise EOFError("closed without an exit code")
        errors = self._prepared.cleaned(self._tail.data)
        return Completed(argv, code, self._prepared.after(output), errors)

    def _refused(self, output: bytes) -> OutsideFailed:
        return self._prepared.refused(self._name, output, self._tail.data)

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _feed(self, stdin: bytes) -> None:
        """Nothing of the input goes out before the command has begun: sudo would take it for the
        password."""
        answered = not self._prepared.sudo
        while not self._begun.wait(0.01):
            if self._over.is_set():
                return
            asked = self._prepared.asked(self._tail.data)
            if asked and not answered and self._password is not None:
                answered = True
                with contextlib.suppress(OSError, EOFError):
                    self._channel.sendall(self._password.encode() + b"\n")
            elif asked > 1 or (
                asked and not answered
            ):  # none to give, or not accepted: sudo gives up at the end of its input
                break
        with contextlib.suppress(OSError, EOFError):
            if self._begun.is_set():
                self._channel.sendall(stdin)
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def _drain(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := self._channel.recv_stderr(32768):
                self._tail.add(data)

    def _receive(self) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            left = self._left()
            if left <= 0:
                raise TimeoutError
            self._channel.settimeout(left)
            data = self._channel.recv(65536)
            if not data:
                return b"".join(parts)
            parts.append(data)
            total += len(data)
            if not self._begun.is_set():
                self._look(b"".join(parts))
            if total > shell.OUTPUT_LIMIT:
                raise EOFError(f"more than {shell.OUTPUT_LIMIT} bytes of output")

    def _look(self, so_far: bytes) -> None:
        if self._prepared.mark + b"\n" in so_far:
            self._begun.set()
        elif len(so_far) > NOISE:
            raise EOFError(f"more than {NOISE} bytes before the command began")
