"""The controller itself as a Host."""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from adapters import shell
from adapters.process import ENVIRONMENT, ProcessChannel, readable, started
from core.errors import OutsideFailed
from core.ports import Channel, Completed


class LocalHost:
    """core.ports.Host on this machine."""

    def __init__(self, name: str = "controller") -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        """Run to the end; a program that is not there answers 127, as a shell would."""
        command = tuple(argv)
        program = shutil.which(command[0], path=ENVIRONMENT["PATH"])
        if program is None:
            return Completed(command, 127, b"", f"{command[0]}: not found".encode())
        deadline = time.monotonic() + timeout
        with started(command, ENVIRONMENT, self._name) as channel:
            feeder = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
            feeder.start()
            try:
                output = self._receive(channel, command[0], deadline, timeout)
                code = channel.wait(max(0.0, deadline - time.monotonic()))
            except OutsideFailed:
                channel.kill()  # first: the feeder may hold the pipe that leaving would close
                raise
        return Completed(command, code, output, channel.tail)

    def _receive(
        self, channel: ProcessChannel, name: str, deadline: float, timeout: float
    ) -> bytes:
        parts: list[bytes] = []
        total = 0
        descriptor = channel.stdout.fileno()
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not readable(descriptor, left):
                raise OutsideFailed(f"`{name}` did not end in {timeout:.0f} s", where=self._name)
            data = os.read(descriptor, 65536)
            if not data:
                return b"".join(parts)
            parts.append(data)
            total += len(data)
            if total > shell.OUTPUT_LIMIT:
                raise OutsideFailed(
                    f"`{name}` printed more than {shell.OUTPUT_LIMIT} bytes", where=self._name
                )

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        """Start a command for bulk data; leaving the context ends it."""
        context: AbstractContextManager[ProcessChannel] = started(argv, ENVIRONMENT, self._name)
        return context

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        """A file's content."""
        return shell.read(self, path, limit)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write beside, sync, rename."""
        shell.write(self, path, data, mode)

    def upload(self, source: Path, path: str) -> None:
        """Copy a file to ``path``."""
        shell.upload(self, source, path)

    def close(self) -> None:
        """Nothing to give up."""


def _feed(channel: ProcessChannel, data: bytes) -> None:
    """A command that ends without reading all of it is no fault."""
    with contextlib.suppress(OSError, ValueError):
        channel.stdin.write(data)
        channel.stdin.close()
