"""Kill -9 of the controller or of an agent at any time: at most 64 MiB go over again, and the
replica is what the source is, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrate import transfer
from migrate.transfer_manifest import Journal
from tests.unit.transfer import estate, images

ROOT = Path(__file__).parents[2]
RATE = 12 * images.MIB
KILLS = 4


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with some 25 MiB in use."""
    root = tmp_path_factory.mktemp("template")
    tree = images.tree(root / "tree")
    (tree / "big").write_bytes(random.Random(5).randbytes(16 * images.MIB))
    estate.disk(root, files=tree)
    return root / "disk"


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    for child in map(int, listed):
        found += [child, *descendants(child)]
    return found


def start(root: Path, *kinds: str) -> "subprocess.Popen[bytes]":
    module = "tests.faults.transfer_victim"
    return subprocess.Popen(
        (sys.executable, "-m", module, root, str(RATE), *kinds),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def until(victim: "subprocess.Popen[bytes]", folder: Path, kind: str) -> None:
    """Wait for a pass of this kind to be under way, or for the end."""
    journal, before = folder / "disks" / "old-sda.journal", 0
    if journal.exists():
        before = journal.stat().st_size
    deadline = time.monotonic() + 30
    while victim.poll() is None and time.monotonic() < deadline:
        if journal.exists() and f'"pass": "{kind}"' in journal.read_text()[before:]:
            return
        time.sleep(0.02)


def kill(victim: "subprocess.Popen[bytes]", dice: random.Random) -> None:
    """The controller or one of the agents; an agent's death must end the controller by itself."""
    below = descendants(victim.pid)
    chosen = dice.choice([victim.pid, victim.pid, *below])
    try:
        os.kill(chosen, signal.SIGKILL)
    except ProcessLookupError:
        return
    victim.wait(30)


def test_kills_at_random_times_leave_nothing_wrong(
    template: Path, seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    killed = 0
    for number in range(KILLS):
        victim = start(tmp_path, "full", "delta", "final")
        until(victim, old.folder, dice.choice(("full", "final")) if number else "full")
        time.sleep(dice.uniform(0, 0.7))
        if victim.poll() is None:
            kill(victim, dice)
            killed += 1
        victim.wait(60)
        if (old.folder / "transfer.json").exists():
            break
        # A source that was at rest wakes up, works, and may put old content back (seeds repeat).
        estate.change(old.disk, dice.randrange(3), writes=4)
    result = transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
    assert result.disks[0].differing == 0
    assert killed > 0


def test_what_was_acknowledged_is_not_sent_again(template: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    victim = start(tmp_path, "full")
    journal, deadline = old.folder / "disks" / "old-sda.journal", time.monotonic() + 30
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count("upto") >= 1:
            break
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(30)
    upto = Journal(journal).resume("full")
    assert upto > 0
    (rest,) = transfer.copy(old.source, old.target, old.plan, old.folder)
    left = sum(end - max(start, upto) for start, end in images.extents(old.disk) if end > upto)
    assert rest.read <= left + 2 * images.MIB
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
