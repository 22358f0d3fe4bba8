"""The time from the ssh program's start to the first word of the command itself."""

import contextlib
import socket
import threading
import time

from adapters.process import ProcessChannel
from adapters.ssh_command import NOISE, Prepared
from adapters.ssh_socket import MOMENT, acknowledge
from core.errors import OutsideFailed


class Beginning:
    """A command that was sent. ``plain`` is the connection below, if it is ours."""

    def __init__(
        self,
        channel: ProcessChannel,
        ready: Prepared,
        password: str | None,
        name: str,
        plain: socket.socket | None,
    ) -> None:
        self._channel, self._ready, self._password = channel, ready, password
        self._name, self._plain = name, plain
        self._over = threading.Event()

    def wait(self, timeout: float) -> None:
        """Read up to the command's mark, answering sudo on the way."""
        watching = threading.Thread(target=self._watch, args=(timeout,), daemon=True)
        watching.start()
        try:
            noise = self._marked()
        finally:
            self._over.set()
            watching.join()
        if noise:
            raise self._refused(noise)

    def _marked(self) -> bytes:
        """Nothing when the mark came; else what came instead."""
        noise = b""
        while not noise.endswith(self._ready.mark + b"\n"):
            line = self._channel.stdout.readline(NOISE)
            noise += line
            if not line or len(noise) > NOISE:
                return noise or b"\n"
        return b""

    def _watch(self, timeout: float) -> None:
        deadline, answered = time.monotonic() + timeout, False
        while not self._over.wait(MOMENT):
            if self._plain is not None:
                acknowledge(self._plain)
            asked = self._ready.asked(self._channel.tail)
            if asked == 1 and not answered and self._password is not None:
                answered = True
                with contextlib.suppress(OSError, ValueError):  # who reads the mark hears of it
                    self._channel.stdin.write(self._password.encode() + b"\n")
                    self._channel.stdin.flush()
            elif asked and (not answered or asked > 1):
                self._channel.kill()
                return
            if time.monotonic() > deadline:
                self._channel.kill()
                return

    def _refused(self, noise: bytes) -> OutsideFailed:
        self._channel.close()
        said = self._channel.tail.strip()
        if self._ready.sudo or not said:
            return self._ready.refused(self._name, noise, said)
        return OutsideFailed(
            "the connection for data was not made: "
            f"{said.decode('utf-8', 'backslashreplace')[-300:]}",
            hint="the control connection was; see docs/ssh.md",
            where=self._name,
        )
