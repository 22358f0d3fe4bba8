"""What happens to servers and pools meanwhile, at places and times that seeds choose: sectors that
can't be read, a pool that fills up, reboots between the rounds, clocks that are turned."""

import os
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from migrate import quiesce, transfer, transfer_wire, warm
from tests.faults.disks import failing
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

PAGE = 4096  # FUSE reads no less
TURNED = """
import random
def ticks(told=[], dice=random.Random({seed}), turned=[0]):
    if not told:
        told.extend([0] + sorted(dice.sample(range(20, 120), 4)))
    told[0] += 1
    if told[0] in told[1:]:  # the last one is an hour that is lived twice
        turned[0] += dice.choice((-86400, -20, 20, 86400)) if told[0] != told[-1] else -3000
    return time.time() + turned[0]
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("trouble"), 24 * images.MIB)


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Estate:
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    return estate.make(tmp_path, tmp_path / "disk")


@pytest.fixture
def dice(seed: int) -> random.Random:
    return random.Random(seed)


def copy(old: Estate, kind: str = "full", rate: int = 0) -> None:
    options = transfer.Options(rate=rate)
    transfer.copy(old.source, old.target, old.plan, old.folder, kind, options)


def finish(old: Estate, rate: int = 0) -> transfer.Transfer:
    options = transfer.Options(again=True, rate=rate)
    return transfer.finish(old.source, old.target, old.plan, old.folder, options)


def used(old: Estate, dice: random.Random) -> int:
    """A byte that belongs to no table, in a page that is in use as a whole."""
    spans = [(-(-a // PAGE) * PAGE, b // PAGE * PAGE) for a, b in images.extents(old.disk)]
    first, last = dice.choice([(a, b) for a, b in spans if 4 * images.MIB < a < b])
    return dice.randrange(first, last)


def test_sectors_that_die_are_zeros_counted_and_the_rest_is_right(
    old: Estate, dice: random.Random, tmp_path: Path
) -> None:
    bad = used(old, dice)
    page = bad // PAGE * PAGE
    with failing(old.disk, bad, tmp_path) as (view, trigger):
        plan = estate.plan(view, old.root / "pool", old.disk.stat().st_size)
        early = dice.random() < 0.5
        if early:
            trigger.touch()
        transfer.copy(old.source, old.target, plan, old.folder)
        trigger.touch()
        result = transfer.finish(old.source, old.target, plan, old.folder)
    expected = bytearray(old.expected())
    expected[page : page + PAGE] = bytes(PAGE)
    assert result.disks[0].unreadable == PAGE // 512
    assert result.disks[0].differing == 0
    assert old.replica.read_bytes() == bytes(expected)


def test_a_pool_that_fills_up_anywhere_goes_on_when_there_is_room(
    old: Estate, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("needs root, for a file system of a chosen size")
    monkeypatch.setattr("migrate.transfer_pass.Pump._check_room", lambda self, used: None)
    pool, pages = old.root / "pool", dice.randrange(16, 1500)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * 4}k", "none", pool], check=True)
    try:
        with pytest.raises(OutsideFailed, match="No space left in the pool"):
            copy(old)
        subprocess.run(["mount", "-o", "remount,size=64m", pool], check=True)
        estate.change(old.disk, dice.randrange(100))
        assert finish(old).disks[0].repaired == 0
        assert old.replica.read_bytes() == old.expected()
    finally:
        subprocess.run(["umount", "-l", pool], check=True)


def test_reboots_between_the_rounds_are_nothing_special(old: Estate, dice: random.Random) -> None:
    for number, kind in enumerate(("full", *["delta"] * dice.randrange(1, 4))):
        copy(old, kind)
        if dice.random() < 0.7:
            old.source.boot = f"boot-{number + 2}"
        estate.change(old.disk, dice.randrange(100))
    finish(old)
    old.source.boot = "boot-9"  # and once when it was at rest: the proof of that rest is void
    (old.root / "resting").unlink()
    estate.change(old.disk, dice.randrange(100))
    assert finish(old).disks[0].differing == 0
    held = quiesce.record(old.folder)
    assert held is not None
    assert held.boot == "boot-9"
    assert old.replica.read_bytes() == old.expected()


def test_clocks_that_jump_spoil_no_copy_and_no_round(
    old: Estate, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2026, 7, 1, tzinfo=UTC) + timedelta(hours=dice.randrange(-9000, 9000))

    for module in (transfer, quiesce, warm):
        monkeypatch.setattr(module, "datetime", Jumping)
    copy(old)
    estate.change(old.disk, dice.randrange(100))
    found = warm.warm(old.source, old.target, old.plan, old.folder)
    assert 1 <= len(found.rounds) <= warm.MOST
    assert found.last >= 0
    estate.change(old.disk, dice.randrange(100))
    assert finish(old).disks[0].differing == 0
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.timeout(120)
def test_a_server_whose_clock_is_turned_is_copied_all_the_same(
    old: Estate, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Python 3.3 there is no clock that nobody turns: the agents have one that is."""
    whole = transfer_wire.program
    clock = b"ticks = getattr("
    turned = TURNED.format(seed=seed).encode()

    def program(role: str) -> bytes:
        lines = whole(role).splitlines(keepends=True)
        assert sum(line.startswith(clock) for line in lines) == 1
        return b"".join(turned if line.startswith(clock) else line for line in lines)

    monkeypatch.setattr(transfer_wire, "program", program)
    copy(old, rate=8 * images.MIB)
    estate.change(old.disk, seed)
    copy(old, "delta", rate=8 * images.MIB)
    estate.change(old.disk, seed + 1)
    assert finish(old, rate=8 * images.MIB).disks[0].differing == 0
    assert old.replica.read_bytes() == old.expected()
