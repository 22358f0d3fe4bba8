"""A disk that keeps changing arrives bit for bit, and the proof says so."""

import errno
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from core.errors import OutsideFailed, PastReturn, UsageProblem
from core.progress import silent
from migrate import quiesce, transfer
from migrate.transfer import Options
from migrate.transfer_manifest import Journal, Manifest
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 24 * images.MIB)


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Estate:
    shutil.copy(template, tmp_path / "disk")
    return estate.make(tmp_path, tmp_path / "disk")


def copy(old: Estate, kind: str = "full", **options: object) -> tuple[transfer.PassResult, ...]:
    return transfer.copy(old.source, old.target, old.plan, old.folder, kind, Options(**options))


def finish(old: Estate, **options: object) -> transfer.Transfer:
    return transfer.finish(old.source, old.target, old.plan, old.folder, Options(**options))


def test_a_changing_disk_arrives_bit_for_bit(old: Estate) -> None:
    (full,) = copy(old)
    estate.change(old.disk, 1)
    (delta,) = copy(old, "delta")
    estate.change(old.disk, 2)
    result = finish(old)
    assert old.replica.read_bytes() == old.expected()
    assert not list(old.replica.parent.glob("*.part"))
    (disk,) = result.disks
    assert disk.differing == disk.repaired == disk.unreadable == 0
    assert disk.chunks * 65536 >= disk.used == full.used
    assert [entry.kind for entry in disk.passes] == ["full", "delta", "final"]
    assert full.wire <= 1.03 * full.used
    assert 0 < delta.sent <= 8 * 2 * 65536
    assert 0 < disk.passes[2].sent <= 8 * 2 * 65536
    assert transfer.read(old.folder) == result


@pytest.mark.parametrize("chunks", [1, 2, 3, 5, 37])
def test_a_pass_goes_on_from_any_chunk_also_in_the_middle_of_what_is_read_at_once(
    old: Estate, chunks: int
) -> None:
    copy(old)
    (journal,) = old.folder.glob("disks/*.journal")
    stopped = [
        {"event": "reset"},
        {"event": "start", "pass": "full", "from": 0},
        {"event": "upto", "at": chunks * 65536},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in stopped))
    copy(old)
    finish(old)
    assert old.replica.read_bytes() == old.expected()


def test_only_the_first_copy_writes_down_how_far_it_is(old: Estate) -> None:
    copy(old)
    estate.change(old.disk, 1)
    copy(old, "delta")
    (path,) = old.folder.glob("disks/*.journal")
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    first = events.index("end")
    assert "upto" in events[:first]
    assert events[first + 1 :] == ["start", "end"]


def test_the_replica_is_sparse_and_holds_nothing_that_was_deleted(old: Estate) -> None:
    copy(old)
    part = old.replica.with_name(old.replica.name + ".part")
    used = sum(end - start for start, end in images.extents(old.disk))
    assert part.stat().st_blocks * 512 < used + 2 * images.MIB


def test_a_finished_transfer_is_left_alone(old: Estate) -> None:
    copy(old)
    first = finish(old)
    done = len(old.source.done)
    estate.change(old.disk, 3)
    assert finish(old) == first
    assert copy(old) == ()
    assert len(old.source.done) == done


def test_a_finished_transfer_goes_on_when_asked_to(old: Estate) -> None:
    copy(old)
    finish(old)
    quiesce.release(old.source, old.folder, lambda _: None)
    estate.change(old.disk, 4)
    again = finish(old, again=True)
    assert old.replica.read_bytes() == old.expected()
    assert again.disks[0].passes[-1].sent < 2 * images.MIB


@pytest.mark.parametrize("mark", ["fenced.json", "cutover.json"])
def test_nothing_is_copied_over_a_replica_that_a_domain_lives_on(old: Estate, mark: str) -> None:
    copy(old)
    finish(old)
    (old.folder / mark).write_text("{}")
    before, said = old.replica.stat().st_mtime_ns, len(old.source.done)
    old.source.boot = "boot-2"  # the domain answers
    for again in (copy, finish):
        with pytest.raises(PastReturn, match="was cut over"):
            again(old, again=True)
    assert old.replica.stat().st_mtime_ns == before
    assert len(old.source.done) == said  # no service of the domain was stopped either
    assert (old.folder / "transfer.json").exists()


def test_zlib_carries_the_same_bytes_on_a_thinner_wire(tmp_path: Path) -> None:
    files = tmp_path / "tree"
    files.mkdir()
    (files / "text").write_bytes(b"the same old story\n" * 300_000)
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB, files=files))
    (full,) = copy(old, compress=True)
    finish(old)
    assert old.replica.read_bytes() == old.expected()
    assert full.wire < 0.5 * full.used


def test_a_rate_is_kept(old: Estate) -> None:
    (full,) = copy(old, rate=20 * images.MIB)
    assert full.wire / full.seconds < 21 * images.MIB


def test_the_services_stop_before_the_mounts_and_the_record_tells_the_way_back(
    old: Estate,
) -> None:
    copy(old)
    finish(old)
    stopped = [command for command in old.source.done if command[0] != "sync"]
    assert stopped == [
        ("systemctl", "stop", "app.service"),
        ("systemctl", "stop", "db.service"),
        ("mount", "-o", "remount,ro", "/"),
    ]
    assert quiesce.record(old.folder) is not None
    assert quiesce.release(old.source, old.folder, lambda _: None)
    assert old.source.done[-3:] == [
        ("mount", "-o", "remount,rw", "/"),
        ("systemctl", "start", "db.service"),
        ("systemctl", "start", "app.service"),
    ]
    assert not quiesce.release(old.source, old.folder, lambda _: None)


def test_where_no_systemd_runs_services_are_asked_the_old_way(old: Estate) -> None:
    old.source.systemd = False
    (old.root / "stopped-db").touch()  # it did not run, so it is not started later
    quiesce.hold(old.source, old.plan, old.folder, lambda _: None)
    quiesce.release(old.source, old.folder, lambda _: None)
    assert [command for command in old.source.done if command[0] == "service"] == [
        ("service", "app", "stop"),
        ("service", "app", "start"),
    ]


def test_a_mount_that_stays_busy_wakes_the_source_and_names_the_remedy(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ = ["612 rsyslogd /var/log/syslog", "301 systemd-journal /var/log/journal/a"]
    monkeypatch.setattr(quiesce, "_holders", lambda *_: open_)
    copy(old)
    old.source.fails = ("mount", "-o", "remount,ro", "/")
    with pytest.raises(OutsideFailed, match="/ can't become read-only") as caught:
        finish(old)
    assert "quiesce: services" in caught.value.hint
    assert "their services (rsyslog, systemd-journald) to" in caught.value.hint
    assert old.source.done[-1] == ("systemctl", "start", "app.service")
    assert not (old.folder / "quiesce.json").exists()
    assert not (old.folder / "transfer.json").exists()


def test_files_that_stay_open_are_cut_off_by_the_kernel_only_when_the_plan_says_so(
    old: Estate,
) -> None:
    copy(old)
    old.source.fails = ("mount", "-o", "remount,ro", "/")
    with pytest.raises(OutsideFailed, match="/ can't become read-only") as caught:
        finish(old)
    assert "last_resort: sysrq" in caught.value.hint
    held = old.plan.quiesce.model_copy(update={"last_resort": "sysrq"})
    old.plan = old.plan.model_copy(update={"quiesce": held})
    assert finish(old).disks[0].differing == 0
    assert ("sh", "-c", "echo u > /proc/sysrq-trigger") in old.source.done
    assert old.source.done.index(("systemctl", "stop", "db.service")) < old.source.done.index(
        ("sh", "-c", "echo u > /proc/sysrq-trigger")
    )
    assert quiesce.release(old.source, old.folder, lambda _: None)
    assert ("mount", "-o", "remount,rw", "/") in old.source.done


def test_what_sysrq_made_read_only_beside_the_plan_becomes_writable_again(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {rest: f"/dev/sdb1 /late ext4 {'ro' if rest else 'rw'} 0 0\n" for rest in (True, False)}
    mounts = {rest: line + late[rest] for rest, line in estate.MOUNTS.items()}
    monkeypatch.setattr(estate, "MOUNTS", mounts)
    copy(old)
    old.source.fails = ("mount", "-o", "remount,ro", "/")
    held = old.plan.quiesce.model_copy(update={"last_resort": "sysrq"})
    old.plan = old.plan.model_copy(update={"quiesce": held})
    finish(old)
    quiesce.release(old.source, old.folder, silent)
    assert ("mount", "-o", "remount,rw", "/late") in old.source.done
    assert ("mount", "-o", "remount,rw", "/") in old.source.done


def test_a_failure_in_the_last_pass_wakes_the_source(old: Estate) -> None:
    copy(old)
    old.source.on_mount = lambda: (old.root / "pool").rename(old.root / "gone") and None
    with pytest.raises(OutsideFailed, match="is no directory"):
        finish(old)
    assert not old.source.resting
    assert old.source.done[-1] == ("systemctl", "start", "app.service")


def test_a_source_that_was_rebooted_meanwhile_is_no_proof(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(old)
    hold = quiesce.hold

    def reboot(*arguments: object, **more: object) -> quiesce.Quiesced:
        held = hold(*arguments, **more)  # type: ignore[arg-type]
        old.source.boot = "boot-2"
        return held

    monkeypatch.setattr(quiesce, "hold", reboot)
    with pytest.raises(OutsideFailed, match="did not stay at rest"):
        finish(old)
    assert not old.replica.exists()


def test_a_chunk_that_rots_on_the_target_is_found_and_sent_again(old: Estate) -> None:
    copy(old)
    part = old.replica.with_name(old.replica.name + ".part")
    with part.open("r+b") as file:
        file.seek(images.MIB + 70_000)
        file.write(b"rot")
    result = finish(old)
    assert result.disks[0].repaired == 1
    assert old.replica.read_bytes() == old.expected()


def test_a_disk_of_another_size_than_planned_is_refused(old: Estate) -> None:
    with old.disk.open("ab") as file:
        file.write(bytes(65536))
    with pytest.raises(OutsideFailed, match="the plan says"):
        copy(old)


def test_nothing_is_written_through_a_link(old: Estate) -> None:
    victim = old.root / "victim"
    victim.write_bytes(b"precious")
    old.replica.with_name(old.replica.name + ".part").symlink_to(victim)
    with pytest.raises(OutsideFailed):
        copy(old)
    assert victim.read_bytes() == b"precious"


def in_a_small_pool(old: Estate, room: str) -> OutsideFailed:
    """How a copy into a pool of this size fails."""
    pool = old.root / "pool"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", pool], check=True)
    try:
        with pytest.raises(OutsideFailed) as caught:
            copy(old)
        assert sum(path.stat().st_blocks for path in pool.iterdir()) * 512 <= 4 * images.MIB
    finally:
        subprocess.run(["umount", "-l", pool], check=True)
    return caught.value


def test_a_pool_without_room_is_refused_before_anything_is_sent(old: Estate) -> None:
    problem = in_a_small_pool(old, "4m")
    assert "the pool has room for" in problem.message
    assert Journal(old.folder / "disks" / "old-sda.journal").resume("full") == 0


def test_a_pool_that_fills_up_meanwhile_is_said_and_the_rest_follows(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrate.transfer_pass.Pump._check_room", lambda self, used: None)
    pool = old.root / "pool"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", pool], check=True)
    try:
        with pytest.raises(OutsideFailed) as caught:
            copy(old)
        assert re.search(rf"No space left in the pool {pool}: about .*iB are missing", str(caught))
        assert "make room" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,size=64m", pool], check=True)
        copy(old)
        assert finish(old).disks[0].repaired == 0
        assert old.replica.read_bytes() == old.expected()
    finally:
        subprocess.run(["umount", "-l", pool], check=True)


def test_a_torn_last_line_of_the_journal_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.add("start", **{"pass": "full", "from": 0})
    journal.add("upto", at=65536)
    journal.close()
    with (tmp_path / "j").open("a") as file:
        file.write('{"event": "upto", "at": 9')
    journal = Journal(tmp_path / "j")
    assert journal.resume("full") == 65536
    assert journal.resume("delta") == 0
    journal.add("end", **{"pass": "full"})
    journal.close()
    assert [json.loads(line)["event"] for line in (tmp_path / "j").read_text().splitlines()] == [
        "start",
        "upto",
        "end",
    ]
    assert Journal(tmp_path / "j").finished("full")


def test_the_manifest_tells_runs_and_forgets_what_is_withdrawn(tmp_path: Path) -> None:
    manifest = Manifest.create(tmp_path / "m", 10 * 65536 + 512, "md5")
    for chunk in (0, 1, 4, 10):
        manifest.put(chunk * 65536, bytes([chunk + 1]) * 16)
    manifest.withdraw(65536, 65536)
    found = [(offset, length) for offset, length, _ in manifest.runs(0, manifest.size)]
    assert found == [(0, 65536), (4 * 65536, 65536), (10 * 65536, 512)]
    assert manifest.known() == 3
    manifest.close()
    assert Manifest.open(tmp_path / "m").known() == 3


def test_no_transfer_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="not transferred yet"):
        transfer.read(tmp_path)


def test_unreadable_sectors_are_narrowed_down_told_and_zeros(old: Estate) -> None:
    names = images.agent()
    device = names["Device"](str(old.disk))  # type: ignore[operator]
    good, bad = device.full, range(3 * images.MIB + 1024, 3 * images.MIB + 2048)

    def full(offset: int, length: int) -> bytes:
        if offset < bad.stop and offset + length > bad.start:
            raise OSError(errno.EIO, "Input/output error")
        return good(offset, length)

    device.full = full
    raw = device.read(3 * images.MIB, 65536)
    truth = bytearray(good(3 * images.MIB, 65536))
    truth[1024:2048] = bytes(1024)
    assert raw == bytes(truth)
    assert device.bad == [(bad.start, 512), (bad.start + 512, 512)]


def test_in_its_rescue_system_a_source_is_at_rest_and_nothing_is_done_to_it(old: Estate) -> None:
    copy(old)
    estate.change(old.disk, 5)
    old.source.boot = "boot-of-the-rescue-system"
    with pytest.raises(OutsideFailed, match="still writable: /"):
        finish(old, rescue=True)
    (old.root / "resting").touch()
    old.source.done.clear()
    finish(old, rescue=True)
    assert old.replica.read_bytes() == old.expected()
    assert old.source.done == [("sync",)]
    held = quiesce.record(old.folder)
    assert (held.rescue, held.boot) == (True, "boot-of-the-rescue-system")
    assert quiesce.release(old.source, old.folder, lambda _: None)
    assert old.source.done == [("sync",)]


def test_one_read_takes_what_is_near_and_no_wide_gap() -> None:
    near = [(0, 4096), (8192, 65536), (65536 + 131072, 65536 + 135168)]
    far = [(65536 + 135168 + 131584, 400 * 1024)]
    assert list(images.agent()["stretches"](near + far)) == [near, far]  # type: ignore[operator]
