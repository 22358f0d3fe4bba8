"""A rehearsal's copy is one moment of a server that works on; a moment that broke is no copy."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.local import LocalHost
from core.errors import Blocked, OutsideFailed
from core.progress import silent
from migrate import moment, quiesce, snapshots, transfer
from migrate.transfer import Options
from migrate.transfer_wire import Kind, session
from tests.unit.transfer import images, working
from tests.unit.transfer.estate import Estate


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("making a logical volume needs root")
    return working.disk(tmp_path_factory.mktemp("template"))


@pytest.fixture
def old(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Estate:
    shutil.copy(template, tmp_path / "disk")
    monkeypatch.setattr(moment, "DEVICES", str(tmp_path / "dev"))
    return working.make(tmp_path, tmp_path / "disk")


def finish(old: Estate, *, rehearsal: bool = True, **options: object) -> transfer.Transfer:
    chosen = Options(rehearsal=rehearsal, **options)
    return transfer.finish(old.source, old.target, old.plan, old.folder, chosen)


def words(old: Estate) -> list[str]:
    return [" ".join(command) for command in old.source.done if command[0] != "sync"]


def test_the_copy_is_the_moment_though_the_server_writes_on(old: Estate) -> None:
    transfer.copy(old.source, old.target, old.plan, old.folder)
    result = finish(old)
    assert old.replica.read_bytes() == working.expected(old)
    assert old.disk.read_bytes() != old.source.before
    assert result.disks[0].differing == 0
    assert "ext: root" in result.disks[0].areas[1]


def test_services_stand_still_for_the_moment_alone(old: Estate) -> None:
    finish(old)
    assert words(old) == [
        *("systemctl stop app.service", "systemctl stop db.service"),
        "lvcreate -s -l 8 -n groundlift-root vg/root",
        *("systemctl start db.service", "systemctl start app.service"),
    ]
    assert quiesce.release(old.source, old.folder, silent)
    assert words(old)[5:] == ["lvremove -f vg/groundlift-root"]
    assert quiesce.record(old.folder) is None


def test_nobody_is_cut_off_for_a_moment_of_a_server_that_works_on(old: Estate) -> None:
    old.source.fails = ("mount", "-o", "remount,ro", "/")
    held = old.plan.quiesce.model_copy(update={"last_resort": "sysrq"})
    plan = old.plan.model_copy(update={"quiesce": held})
    nothing = moment.Moment(old.source, (), (), 60, {})
    with pytest.raises(OutsideFailed, match="/ can't become read-only"):
        quiesce.hold(old.source, plan, old.folder, silent, nothing)
    assert not [line for line in words(old) if "sysrq" in line]


def test_a_moment_is_no_good_for_a_cutover(old: Estate) -> None:
    first = finish(old)
    old.source.done.clear()
    second = finish(old, rehearsal=False)
    assert second.proved > first.proved
    assert words(old)[0] == "lvremove -f vg/groundlift-root"
    assert "mount -o remount,ro /" in words(old)
    assert old.replica.read_bytes() == old.expected()
    assert not quiesce.record(old.folder).working


def test_a_run_that_died_is_taken_back_and_its_moment_taken_anew(old: Estate) -> None:
    plan = old.plan
    held = moment.look(old.source, plan, ("/",))
    quiesce.hold(old.source, plan, old.folder, silent, held)
    first = old.source.before
    finish(old)
    assert words(old).count("lvremove -f vg/groundlift-root") == 1
    assert old.source.before != first


def test_a_snapshot_that_ran_full_is_no_copy(old: Estate) -> None:
    old.source.used = "100.00"
    with pytest.raises(OutsideFailed, match="snapshot vg/groundlift-root is 100 % full"):
        finish(old)
    assert not old.replica.exists()
    assert "lvremove -f vg/groundlift-root" in words(old)
    assert quiesce.record(old.folder) is None


def test_a_snapshot_that_fills_is_given_up_during_the_pass(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, "EVERY", 0.01)
    old.source.used = "95.00"
    with pytest.raises(OutsideFailed, match="95 % full"):
        finish(old, rate=4 * images.MIB)
    assert not old.replica.exists()


def test_a_snapshot_that_vanished_or_fails_to_be_read_is_no_bad_sector(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    snap = old.source.snap

    def broken(path: Path) -> None:
        snap(path)
        os.truncate(path, 5 * images.MIB)

    monkeypatch.setattr(old.source, "snap", broken)
    with pytest.raises(OutsideFailed, match=r"groundlift-root can't be read"):
        finish(old)
    assert not old.replica.exists()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"free": 5}, "has 20.0 MiB free, its snapshots need 32.0 MiB"),
        ({"volumes": False}, "not on a plain logical volume"),
    ],
)
def test_what_stands_against_it_is_told_before_anything_stops(
    old: Estate, fault: dict[str, object], sentence: str
) -> None:
    for name, value in fault.items():
        setattr(old.source, name, value)
    with pytest.raises(Blocked, match=sentence):
        finish(old)
    assert words(old) == []


@pytest.mark.parametrize(
    ("length", "change", "free", "extents"),
    [
        (1000, None, 500, 500),  # what is free is used
        (1000, None, 2000, 1020),  # a snapshot that can't run full, with its table
        (1000, 100 * images.MIB, 50, 50),  # twice what changes
        (8, None, 50, 9),
    ],
)
def test_a_snapshot_gets_what_is_free_up_to_all_that_can_change(
    old: Estate, length: int, change: float | None, free: int, extents: int
) -> None:
    old.source.free = free
    volumes = {"/": ("vg", "root", working.UUID, length * working.EXTENT)}
    (volume,) = snapshots.room(old.source, volumes, change)
    assert volume.extents == extents


def test_two_volumes_share_what_is_free(old: Estate) -> None:
    old.source.free = 100
    volumes = {
        "/": ("vg", "root", working.UUID, 1000 * working.EXTENT),
        "/data": ("vg", "data", "other", 200 * working.EXTENT),
    }
    assert [volume.extents for volume in snapshots.room(old.source, volumes, None)] == [67, 33]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("freezing needs root")
    image, place = tmp_path / "image", tmp_path / "mounted"
    image.write_bytes(b"")
    os.truncate(image, 16 * images.MIB)
    images.run("mkfs.ext4", "-q", image)
    place.mkdir()
    images.run("mount", "-o", "loop", image, place)
    yield place
    images.run("umount", place)


def writer(place: Path) -> threading.Thread:
    thread = threading.Thread(target=lambda: (place / "file").write_bytes(os.urandom(9)))
    thread.start()
    thread.join(0.5)
    return thread


def test_a_frozen_file_system_takes_no_writes_until_it_is_thawed(mounted: Path) -> None:
    with session(LocalHost("old"), "reader") as agent:
        agent.say(Kind.FREEZE, paths=str(mounted), seconds=30)
        agent.expect(Kind.FROZEN)
        waiting = writer(mounted)
        assert waiting.is_alive()
        agent.send(Kind.THAW)
        assert agent.expect(Kind.FROZEN).number("status") == 0
        waiting.join(10)
        assert not waiting.is_alive()


def test_the_watchdog_thaws_in_time_and_says_so(mounted: Path) -> None:
    with session(LocalHost("old"), "reader") as agent:
        agent.say(Kind.FREEZE, paths=str(mounted), seconds=1)
        agent.expect(Kind.FROZEN)
        waiting = writer(mounted)
        waiting.join(10)
        assert not waiting.is_alive()
        agent.send(Kind.THAW)
        assert agent.expect(Kind.FROZEN).number("status") == 1


def test_it_thaws_when_the_controller_is_gone(mounted: Path) -> None:
    with session(LocalHost("old"), "reader") as agent:
        agent.say(Kind.FREEZE, paths=str(mounted), seconds=60)
        agent.expect(Kind.FROZEN)
        waiting = writer(mounted)
        agent.kill()
        begun = time.monotonic()
        waiting.join(30)
        assert not waiting.is_alive()
        assert time.monotonic() - begun < 20


def test_a_watchdog_that_was_killed_is_no_moment_and_all_is_thawed(mounted: Path) -> None:
    with session(LocalHost("old"), "reader") as agent:
        agent.say(Kind.FREEZE, paths=str(mounted), seconds=60)
        agent.expect(Kind.FROZEN)
        (watchdog,) = [pid for own in children(os.getpid()) for pid in children(own)]
        waiting = writer(mounted)
        os.kill(watchdog, signal.SIGKILL)
        agent.send(Kind.THAW)
        assert agent.expect(Kind.FROZEN).number("status") == 3
        waiting.join(10)
        assert not waiting.is_alive()


def children(parent: int) -> list[int]:
    """The processes that are agents, below this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            agent = b"'agent','exec'" in (place / "cmdline").read_bytes()
            above = (place / "stat").read_text().rpartition(")")[2].split()[1]
            found += [int(place.name)] if agent and int(above) == parent else []
    return found


def test_what_can_not_be_frozen_leaves_nothing_frozen(mounted: Path) -> None:
    with session(LocalHost("old"), "reader") as agent:
        agent.say(Kind.FREEZE, paths=f"{mounted}|/proc", seconds=60)
        with pytest.raises(OutsideFailed, match="/proc can't be frozen"):
            agent.expect(Kind.FROZEN)
    assert not writer(mounted).is_alive()
