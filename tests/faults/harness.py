"""A transfer as processes that can be killed one by one: the controller, and by their role the
agents, their workers and the ssh programs between them."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from migrate.transfer_manifest import Journal
from migrate.transfer_wire import program

ROOT = Path(__file__).parents[2]
ROLES = ("controller", "reader", "worker", "writer", "ssh")


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, listed) for found in (child, *descendants(child))]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text().replace("\0", " ")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    return int(_read(pid, "stat").rpartition(") ")[2].split()[1] or 0)


def agents() -> dict[int, str]:
    """Every agent on this machine, also below an sshd: pid → reader, worker or writer."""
    sizes = {f"size={len(program(role))};": role for role in ("reader", "writer")}
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            line = _read(int(entry.name), "cmdline")
            role = next((role for mark, role in sizes.items() if mark in line), "")
            if role and _read(int(entry.name), "comm").startswith("python"):
                found[int(entry.name)] = role
    readers = {pid for pid, role in found.items() if role == "reader"}
    for pid in readers:
        if _read(pid, "stat") and _parent(pid) in readers:
            found[pid] = "worker"
    return found


def _listeners(sshd: Path) -> list[int]:
    """The sshd of a test, known by its configuration."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if f"{sshd}/sshd_config" in _read(pid, "cmdline")]


@dataclass
class Victim:
    """A running controller. ``sshd`` is the folder of the one that the agents live below, if they
    do not live below the controller; ``told`` how long the journal was when it started."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    sshd: Path | None = None
    told: int = 0

    @property
    def journal(self) -> Path:
        return self.folder / "disks" / "old-sda.journal"

    def alive(self) -> bool:
        return self.process.poll() is None

    def until(self, kind: str, position: int = 0, patience: float = 30.0) -> None:
        """Wait for a pass of this kind to have come so far, or for the end."""
        deadline = time.monotonic() + patience
        while self.alive() and time.monotonic() < deadline:
            if self.journal.exists():
                lines = self.journal.read_text()[self.told :]  # not what an earlier one told
                if f'"pass": "{kind}"' in lines[lines.rfind('"start"') :] and (
                    not position or Journal(self.journal).resume(kind) >= position
                ):
                    return
            time.sleep(0.02)

    def pids(self, role: str) -> list[int]:
        """The processes of one role."""
        if role == "controller":
            return [self.process.pid]
        below = descendants(self.process.pid)
        if self.sshd and role != "ssh":
            below = [pid for listener in _listeners(self.sshd) for pid in descendants(listener)]
        if role == "ssh":
            return [pid for pid in below if _read(pid, "comm").strip() == "ssh"]
        return [pid for pid, found in agents().items() if found == role and pid in below]

    def kill(self, role: str, dice: random.Random) -> bool:
        """Kill -9 one process of this role, or the controller where there is none just now; its
        death must end the controller by itself. False when all was over before."""
        found = self.pids(role) or self.pids("controller")
        if not found or not self.alive():
            return False
        try:
            os.kill(dice.choice(sorted(found)), signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.process.wait(40)
        return True


def start(
    root: Path, *kinds: str, rate: int, sshd: Path | None = None, straight: bool = False
) -> Victim:
    """A controller at work on the estate in ``root``: the passes, in order. With ``sshd``, the
    folder of a running tests.contract.sshd, both agents are reached through it; or only the data
    goes that way, ``straight`` from the reader to the writer."""
    module, folder = "tests.faults.transfer_victim", root / "state"
    journal = folder / "disks" / "old-sda.journal"
    told = journal.stat().st_size if journal.exists() else 0
    process = subprocess.Popen(
        (sys.executable, "-m", module, root, str(rate), str(sshd or "-"),
         "straight" if straight else "-", *kinds),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=(root / "victim.log").open("ab"),
        start_new_session=True,
    )  # fmt: skip
    return Victim(process, folder, None if straight else sshd, told)
