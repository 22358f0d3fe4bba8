"""A server that outlives its terminal: started once, known by its file, ended by its own pid.

The file holds the process and when it started, because a pid alone may belong to somebody else by
now.
"""

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import OutsideFailed
from core.state import publish

PATIENCE = 15.0  # seconds; the server's own grace is shorter


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs: process, its start in clock ticks since boot, and what it serves."""

    pid: int
    started: int
    url: str
    identity: str


def running(file: Path) -> Serving | None:
    """The server that wrote ``file``, if it still lives."""
    try:
        told = Serving(**json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # not: a file that is closed to us
        return None
    alive = isinstance(told.pid, int) and told.pid > 1 and _started(told.pid) == told.started
    return told if alive else None


def announce(file: Path, url: str, identity: str) -> None:
    """Say that this process is the server."""
    told = Serving(os.getpid(), _started(os.getpid()) or 0, url, identity)
    publish(file, json.dumps(asdict(told)) + "\n")


def end(served: Serving, file: Path) -> None:
    """End exactly this server, and wait until it is gone."""
    os.kill(served.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while _started(served.pid) == served.started:
        if time.monotonic() > deadline:
            raise OutsideFailed(
                f"the server (process {served.pid}) does not stop",
                hint=f"look at it with ps -p {served.pid}",
            )
        time.sleep(0.05)
    file.unlink(missing_ok=True)


def detach(log: Path, ready: Path) -> bool:
    """Go on in a process that no terminal ends: True there. In the one that was called, False,
    when the other has written ``ready``."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        deadline = time.monotonic() + PATIENCE
        while running(ready) is None:
            if time.monotonic() > deadline:
                raise OutsideFailed("the server does not start", where=str(log))
            time.sleep(0.02)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number, target in ((0, null), (1, out), (2, out)):
        os.dup2(target, number)
    return True


def _started(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
