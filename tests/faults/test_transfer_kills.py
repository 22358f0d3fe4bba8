"""Kill -9 of the controller, an agent, a worker or ssh at any time: at most 64 MiB go over again,
and the replica is what the source is, bit for bit."""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate import transfer
from migrate.transfer_manifest import Journal
from tests.contract.sshd import sshd
from tests.faults.harness import ROLES, start
from tests.unit.transfer import estate, images

RATE = 12 * images.MIB
KILLS = 6
LARGE = 8  # files that have whole chunks for themselves


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with some 25 MiB in use."""
    root = tmp_path_factory.mktemp("template")
    tree = images.tree(root / "tree")
    for number in range(LARGE):
        (tree / f"big{number}").write_bytes(random.Random(number).randbytes(2 * images.MIB))
    estate.disk(root, files=tree)
    return root / "disk"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running sshd."""
    root = tmp_path_factory.mktemp("sshd") / ".ssh"
    with sshd(root) as running:
        told = {"port": running.port, "user": running.login.user}
        (root / "login.json").write_text(json.dumps(told))
        yield root


def copied(journal: Path) -> bool:
    """Whether the first copy came to its end."""
    if not journal.exists():
        return False
    found = Journal(journal)
    found.close()
    return found.finished("full")


@pytest.mark.parametrize("way", ["here", "ssh", "straight"])
def test_kills_at_random_times_leave_nothing_wrong(
    template: Path, server: Path, seed: int, way: str, tmp_path: Path, tally: Counter[str]
) -> None:
    dice = random.Random(f"{seed} {way}")
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    killed = 0
    roles = [role for role in ROLES if role != "ssh" or way != "here"]
    for _ in range(KILLS):
        far = server if way != "here" else None
        victim = start(
            tmp_path, "full", "delta", "final", rate=RATE, sshd=far, straight=way == "straight"
        )
        full = not copied(victim.journal)
        victim.until("full" if full else dice.choice(("delta", "final")))
        try:
            victim.process.wait(dice.uniform(0, 0.7 if full else 0.1))
        except subprocess.TimeoutExpired:
            killed += victim.kill(dice.choice(roles), dice)
        victim.process.wait(60)
        if (old.folder / "transfer.json").exists():
            break
        # A source that was at rest wakes up, works, and may put old content back (seeds repeat).
        estate.change(old.disk, dice.randrange(3), writes=4)
        estate.free(old.disk, *(f"/big{n}" for n in dice.sample(range(LARGE), 2)))
    result = transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()
    assert result.disks[0].differing == 0
    assert killed > 0
    tally["kills"] += killed
    said = (tmp_path / "victim.log").read_text()
    assert ("straight, not through" in said) == (way == "straight")


@pytest.mark.parametrize("role", ROLES[:-1])
def test_what_was_acknowledged_is_not_sent_again(template: Path, role: str, tmp_path: Path) -> None:
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    victim = start(tmp_path, "full", rate=RATE)
    victim.until("full", position=4 * images.MIB)
    assert victim.kill(role, random.Random(1))
    upto = Journal(victim.journal).resume("full")
    assert upto >= 4 * images.MIB
    (rest,) = transfer.copy(old.source, old.target, old.plan, old.folder)
    left = sum(end - max(start, upto) for start, end in images.extents(old.disk) if end > upto)
    assert rest.read <= left + 2 * images.MIB
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_no_agent_outlives_its_controller(template: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    estate.make(tmp_path, tmp_path / "disk")
    victim = start(tmp_path, "full", rate=RATE)
    victim.until("full", position=2 * images.MIB)
    mine = [pid for role in ("reader", "worker", "writer") for pid in victim.pids(role)]
    assert len(mine) >= 3
    assert victim.kill("controller", random.Random(1))
    for _ in range(200):
        if not any(Path(f"/proc/{pid}/exe").exists() for pid in mine):
            return
        images.run("sleep", "0.05")
    raise AssertionError("an agent is still there")
