"""The boundary to the world: what stages may ask of it. Adapters and fakes implement these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended. ``argv`` can be pasted into a shell after shlex.join."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; undecodable bytes survive as escapes."""
        return self.stdout.decode("utf-8", "backslashreplace")


class Channel(Protocol):
    """A running command with its binary ends; closing it ends the command."""

    @property
    def stdin(self) -> BinaryIO: ...
    @property
    def stdout(self) -> BinaryIO: ...

    def wait(self, timeout: float) -> int:
        """The exit code. Raises OutsideFailed when the command does not end in time."""
        ...

    def errors(self) -> str:
        """The last 64 KiB of standard error so far."""
        ...

    def kill(self) -> None:
        """End the command now; harmless when it has ended."""
        ...


class Host(Protocol):
    """A machine one can run commands on. Commands are argv tuples, never shell strings."""

    @property
    def name(self) -> str: ...

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        """Run to the end. A non-zero code is an answer, not an error; a dead host is one.

        Raises OutsideFailed when the host can't be reached or the time is over.
        """
        ...

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        """Start a command for bulk data; leaving the context ends it."""
        ...

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        """A file's content. Raises OutsideFailed if it is missing or longer than ``limit``."""
        ...

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write beside, sync, rename."""
        ...

    def upload(self, source: Path, path: str) -> None:
        """Stream a local file to ``path`` (beside, sync, rename)."""
        ...

    def close(self) -> None:
        """Give up the connection; harmless when repeated."""
        ...


class Hypervisor(Protocol):
    """libvirt on one node, narrow: exactly what definition, rehearsal and cutover need."""

    @property
    def uri(self) -> str: ...

    def capabilities(self) -> str:
        """The capabilities XML."""
        ...

    def domains(self) -> Mapping[str, str]:
        """Name → state (``running``, ``shut off``, ``paused``, ``other``) of every domain."""
        ...

    def define(self, xml: str) -> None:
        """Define or redefine a persistent domain."""
        ...

    def xml(self, name: str) -> str:
        """The domain's present XML. Raises OutsideFailed if there is none."""
        ...

    def start(self, name: str) -> None:
        """Start it; harmless when it runs."""
        ...

    def destroy(self, name: str) -> None:
        """Power off; harmless when it is off or absent."""
        ...

    def undefine(self, name: str) -> None:
        """Remove the definition; harmless when absent. Disks stay."""
        ...

    def autostart(self, name: str) -> None:
        """Have it started with the host."""
        ...

    def migrate(self, name: str, target: "Hypervisor") -> None:
        """Live-migrate a running domain over shared storage."""
        ...

    def pools(self) -> Mapping[str, str]:
        """Name → target path of every active directory pool."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlayEvent:
    """One line of the callback: ``kind`` is playbook (``total`` counts its tasks), play, task,
    ok, changed, failed, unreachable, skipped or stats."""

    kind: str
    play: str = ""
    task: str = ""
    host: str = ""
    message: str = ""
    stats: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    total: int = 0


@dataclass(frozen=True, slots=True)
class PlayResult:
    """What a playbook run came to. ``stats`` is host → counter → count."""

    code: int
    stats: Mapping[str, Mapping[str, int]]
    failures: tuple[PlayEvent, ...] = ()
    changes: tuple[PlayEvent, ...] = ()


class Playbooks(Protocol):
    """Ansible as a process."""

    def run(
        self,
        playbook: Path,
        inventory: Path,
        *,
        check: bool = False,
        limit: str = "",
        on_event: Callable[[PlayEvent], None] = lambda _: None,
    ) -> PlayResult: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One durable step. ``run`` may be called twice and must then come to the same end."""

    name: str
    run: Callable[[], None]


class Engine(Protocol):
    """Durable execution: finished steps of ``workflow`` are never run again."""

    def run(self, workflow: str, steps: Sequence[Step]) -> None:
        """Run to the end, continuing an interrupted run of this id. Raises what a step raised."""
        ...

    def finished(self, workflow: str) -> Iterator[str]:
        """Names of the steps already finished."""
        ...

    def forget(self, workflow: str) -> None:
        """Drop the record, so that the next run starts anew."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a web server answered; ``body`` is cut at the limit that was asked for."""

    status: int
    body: bytes


class Web(Protocol):
    """Pages by HTTP, from the controller."""

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 4 * 1024 * 1024) -> Fetched:
        """The answer, whatever its status; no redirect is followed, no proxy used.

        Raises OutsideFailed when there is none, or half of one.
        """
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...
