"""The way back to work is gone to its end, whatever fails on it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.errors import BadDocument, OutsideFailed
from core.ports import Completed
from core.progress import silent
from migrate import proof, quiesce, transfer
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

START_DB = ("systemctl", "start", "db.service")


class Slow(estate.Source):
    """One command takes longer than anybody waits."""

    hangs: tuple[str, ...] = ()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        if tuple(argv)[: len(self.hangs)] == self.hangs and self.hangs:
            raise OutsideFailed(f"no answer within {timeout:.0f} s", where=self.name)
        return super().run(argv, stdin=stdin, timeout=timeout)


@pytest.fixture
def old(tmp_path: Path) -> Estate:
    made = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    made.source = Slow(tmp_path)
    return made


def test_a_service_that_does_not_start_in_time_keeps_no_other_one_down(old: Estate) -> None:
    transfer.finish(old.source, old.target, old.plan, old.folder)
    old.source.hangs = START_DB
    with pytest.raises(OutsideFailed, match=r"be woken: start db \(no answer within"):
        quiesce.release(old.source, old.folder, silent)
    assert ("systemctl", "start", "app.service") in old.source.done
    assert quiesce.record(old.folder) is not None
    old.source.hangs = ()
    assert quiesce.release(old.source, old.folder, silent)
    assert START_DB in old.source.done


def test_snapshots_that_can_not_be_asked_for_keep_nothing_stopped(old: Estate) -> None:
    transfer.finish(old.source, old.target, old.plan, old.folder)
    held = quiesce.record(old.folder)
    held = held.model_copy(update={"snapshots": ("vg/groundlift-root",)})
    (old.folder / "quiesce.json").write_text(held.model_dump_json())
    old.source.hangs = ("lvs",)
    with pytest.raises(OutsideFailed, match="lvremove -f vg/groundlift-root"):
        quiesce.release(old.source, old.folder, silent)
    assert ("mount", "-o", "remount,rw", "/") in old.source.done
    assert START_DB in old.source.done


class Moved(estate.Source):
    """/backup was unmounted by somebody after it had been made read-only."""

    mounted = True

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        done = super().run(argv, stdin=stdin, timeout=timeout)
        if argv[0] == "mount" and argv[-1] == "/backup":
            refused = not self.mounted or argv[2] == "remount,rw"  # as ntfs-3g's do
            return Completed(done.argv, 32 if refused else 0, b"", b"mount: /backup not mounted")
        return done

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        backup = "/dev/sdb1 /backup fuseblk %s 0 0\n" % ("ro" if self.resting else "rw")
        more = backup.encode() if path == "/proc/mounts" and self.mounted else b""
        return super().read(path, limit) + more


def test_what_was_unmounted_meanwhile_keeps_nobody_asleep(old: Estate) -> None:
    old.source = Moved(old.root)
    both = old.plan.quiesce.model_copy(update={"mountpoints": ("/backup", "/")})
    plan = old.plan.model_copy(update={"quiesce": both})
    quiesce.hold(old.source, plan, old.folder, silent)
    told: list[str] = []
    old.source.mounted = False
    quiesce.hold(old.source, plan, old.folder, silent)  # nor does it keep anybody from going on
    assert quiesce.release(old.source, old.folder, lambda event: told.append(event.text))
    assert START_DB in old.source.done
    assert not any("failed" in text for text in told)


def test_a_step_of_the_way_back_that_failed_is_not_told_as_done(old: Estate) -> None:
    quiesce.hold(old.source, old.plan, old.folder, silent)
    old.source.hangs = START_DB
    told: list[str] = []
    with pytest.raises(OutsideFailed):
        quiesce.release(old.source, old.folder, lambda event: told.append(event.text))
    assert "failed: start db" in told
    assert "started db" not in told


def test_what_an_earlier_plan_stopped_is_started_though_the_plan_forgets_it(old: Estate) -> None:
    quiesce.hold(old.source, old.plan, old.folder, silent)
    less = old.plan.quiesce.model_copy(update={"services": ("app",), "mountpoints": ("/", "/new")})
    plan = old.plan.model_copy(update={"quiesce": less})
    held = quiesce.hold(old.source, plan, old.folder, silent)
    assert held.services == ("app", "db")
    quiesce.release(old.source, old.folder, silent)
    assert START_DB in old.source.done


def test_a_file_that_can_not_be_read_after_the_rest_wakes_the_source(old: Estate) -> None:
    transfer.copy(old.source, old.target, old.plan, old.folder)
    (old.folder / "times.json").write_text("{")
    with pytest.raises(BadDocument):
        transfer.finish(old.source, old.target, old.plan, old.folder)
    assert quiesce.record(old.folder) is None
    assert START_DB in old.source.done


def test_a_proof_is_of_all_disks_or_none(old: Estate) -> None:
    transfer.finish(old.source, old.target, old.plan, old.folder)
    disk = old.plan.disks[0].model_copy(update={"replica": "other-sda.replica.raw"})
    plan = old.plan.model_copy(update={"disks": (disk,)})
    with pytest.raises(OutsideFailed, match="names other-sda"):
        proof.prove(old.source, old.target, plan, old.folder, silent)
    assert not (old.folder / proof.FILE).exists()
