"""The controller itself as a Host."""

import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from adapters import shell
from adapters.process import ENVIRONMENT, ProcessChannel, Tail, started
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
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                timeout=timeout,
                env=ENVIRONMENT,
                check=False,
            )
        except FileNotFoundError:
            return Completed(command, 127, b"", f"{command[0]}: not found".encode())
        except PermissionError:
            return Completed(command, 126, b"", f"{command[0]}: permission denied".encode())
        except subprocess.TimeoutExpired as fault:
            raise OutsideFailed(
                f"`{command[0]}` did not end in {timeout:.0f} s", where=self._name
            ) from fault
        tail = Tail()
        tail.add(done.stderr)
        if len(done.stdout) > shell.OUTPUT_LIMIT:
            raise OutsideFailed(f"`{command[0]}` printed too much", where=self._name)
        return Completed(command, done.returncode, done.stdout, tail.data)

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
