"""The state directory: where each stage's result lies, and how it gets its final name.

Work is finished when its verified result has its final name: write beside, fsync, rename.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from core.errors import Locked


@dataclass(frozen=True, slots=True)
class State:
    """All paths of one state directory."""

    root: Path

    @property
    def mirror(self) -> Path:
        return self.root / "mirror"

    def deploy(self, site: str) -> Path:
        return self.root / "deploy" / site

    def migrate(self, host: str) -> Path:
        return self.root / "migrate" / host

    @property
    def reports(self) -> Path:
        return self.root / "reports"


def publish(path: Path, data: bytes | str, mode: int = 0o644, *, exact: bool = False) -> None:
    """Give ``data`` its final name, durably, or leave what was there before. ``exact`` is for what
    another user has to read, whatever the umask says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if exact:
                os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def publish_model(path: Path, document: BaseModel) -> None:
    """``publish`` a document as indented JSON."""
    publish(path, document.model_dump_json(indent=2) + "\n")


def sync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold ``path`` as a lock for one run. Raises Locked, naming ``what``, when another has it.

    The kernel drops the lock with the process, so a killed run leaves nothing to clean.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            file.seek(0)
            holder = file.read(32).strip() or "unknown"
            raise Locked(
                f"{what} is in use by another run (process {holder})",
                hint="wait for it to end, or stop it with Ctrl-C in its terminal",
                where=str(path),
            ) from fault
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
