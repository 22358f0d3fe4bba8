"""Nobody is switched off, and no domain takes a server's place, once the server worked on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands.migrate_cutover import _of_this_copy
from commands.migrate_run import _left_behind
from core.errors import Blocked, NoAnswer, OutsideFailed, TurnedAway
from core.ports import Completed
from core.progress import silent
from migrate import cutover, quiesce
from migrate.convert import Converted
from migrate.verify import Verified
from tests.unit.transfer import estate
from tests.unit.transfer.estate import Estate

ANOTHER = "11111111-2222-3333-4444-555555555555"


class Server(estate.Source):
    """A source that shows a UUID, or does not answer."""

    uuid, off = ANOTHER, False

    def run(self, argv, *, stdin=b"", timeout=60.0):
        if tuple(argv) == cutover.UUID:
            return Completed(tuple(argv), 0, f"{self.uuid}\n".encode(), b"")
        return super().run(argv, stdin=stdin, timeout=timeout)

    def read(self, path, limit=16 * 1024 * 1024):
        if self.off:
            raise NoAnswer("no answer", where=self.name)
        return super().read(path, limit)


@pytest.fixture
def old(tmp_path: Path) -> Estate:
    (tmp_path / "disk").write_bytes(bytes(1024))
    made = estate.make(tmp_path, tmp_path / "disk")
    made.source = Server(tmp_path)
    made.folder.mkdir()
    quiesce.hold(made.source, made.plan, made.folder, silent)
    return made


def standing(old: Estate) -> bool:
    return cutover.still_source(old.plan, old.source, quiesce.record(old.folder))


def test_a_server_at_rest_is_the_source(old: Estate) -> None:
    assert standing(old)


def test_the_domain_is_known_by_its_uuid(old: Estate) -> None:
    old.source.boot, old.source.uuid = "boot-2", old.plan.uuid
    assert not standing(old)


@dataclass
class Attempt:
    """One call of fence; ``told`` by an earlier run, ``heard`` by this one."""

    old: Estate
    source: estate.Source
    told: bool = False
    off: bool = False
    heard: int = 0
    now: float = 0.0

    def fence(self) -> None:
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        cutover.fence(
            self.old.plan, self.source, lambda: standing(self.old), lambda: self.told, self._hear,
            clock, silent, off=self.off,
        )  # fmt: skip

    def _hear(self) -> None:
        self.heard += 1

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("uuid", [ANOTHER, "Not Settable", ""])
def test_a_server_that_was_rebooted_is_not_switched_off(old: Estate, uuid: str) -> None:
    old.source.boot, old.source.uuid = "boot-2", uuid
    begun = len(old.source.done)
    with pytest.raises(Blocked, match="did not stay at rest since its last copy"):
        Attempt(old, old.source, told=True).fence()
    assert len(old.source.done) == begun


def test_silence_alone_is_no_proof_that_a_server_is_off(old: Estate) -> None:
    old.source.off = True
    with pytest.raises(Blocked, match="never heard that it is to be off") as caught:
        Attempt(old, old.source).fence()
    assert "--off" in caught.value.hint


class Gone(Server):
    """What it answers, one after the other; then nothing is there."""

    faults: Sequence[OutsideFailed | None] = ()

    def run(self, argv, *, stdin=b"", timeout=60.0):
        fault: OutsideFailed | None = NoAnswer("no route", where=self.name)
        if self.faults:
            fault, *self.faults = self.faults
        if fault is not None:
            raise fault
        return Completed(tuple(argv), 0, b"", b"")


def gone(old: Estate, *faults: OutsideFailed | None) -> Gone:
    source = Gone(old.root)
    source.faults = faults
    return source


def test_a_server_that_heard_the_order_is_off_when_it_is_silent(old: Estate) -> None:
    old.source.off = True
    attempt = Attempt(old, gone(old), told=True)
    attempt.fence()
    assert (attempt.now, attempt.heard) == (3, 0)


BROKEN = OutsideFailed("the connection broke during `sh`")
OTHER = TurnedAway("192.0.2.1 shows another host key than the pinned one")


def test_an_order_is_heard_when_it_is_answered(old: Estate) -> None:
    attempt = Attempt(old, gone(old, None, None, BROKEN))  # it takes a while to go down
    attempt.fence()
    assert (attempt.now, attempt.heard) == (5, 1)


def test_an_order_without_an_answer_is_none_and_is_given_again(old: Estate) -> None:
    """The line broke while the server was told: it may work on."""
    attempt = Attempt(old, gone(old, BROKEN))
    with pytest.raises(Blocked, match="never heard that it is to be off"):
        attempt.fence()
    assert attempt.heard == 0
    attempt = Attempt(old, gone(old, BROKEN, None))
    attempt.fence()
    assert attempt.heard == 1


def test_what_turns_us_away_is_not_silent_and_is_not_asked_often(old: Estate) -> None:
    source = gone(old, None, *[OTHER] * 200)
    attempt = Attempt(old, source, off=True)
    with pytest.raises(Blocked, match=r"is not silent 90 s after .* another host key"):
        attempt.fence()
    assert len(source.faults) >= 200 - 21
    reads: list[str] = []

    def turned_away(path: str, limit: int = 0) -> bytes:
        reads.append(path)
        raise OTHER

    old.source.read = turned_away
    for told, often in ((False, 2), (True, 10)):
        reads.clear()
        with pytest.raises(TurnedAway, match="another host key"):
            Attempt(old, gone(old), told=told).fence()
        assert len(reads) == often


def test_a_server_that_goes_down_and_reads_no_keys_any_more_is_waited_for(old: Estate) -> None:
    """Its disks are gone before its network: seen on the lab."""
    faults = [OTHER, OTHER, NoAnswer("no route")]

    def going(path: str, limit: int = 0) -> bytes:
        raise faults.pop(0)

    old.source.read = going
    attempt = Attempt(old, gone(old, OTHER), told=True)
    attempt.fence()
    assert not faults


def test_a_word_from_the_way_is_no_server_only_when_somebody_looked(old: Estate) -> None:
    """A firewall resets connections to what is off."""
    reset = OutsideFailed("no SSH connection: reset by peer")
    old.source.off = True
    for off in (False, True):
        attempt = Attempt(old, gone(old, *[reset] * 200), told=True, off=off)
        if not off:
            with pytest.raises(Blocked, match=r"is not silent 90 s after .* reset by peer"):
                attempt.fence()
            continue
        attempt.fence()
    with pytest.raises(Blocked, match="is not silent 90 s after"):  # it lets us in: it is on
        Attempt(old, gone(old, *[None] * 200), off=True).fence()


def test_a_server_whose_files_are_writable_again_is_not_switched_off(old: Estate) -> None:
    (old.root / "resting").unlink()
    with pytest.raises(Blocked, match="writable again"):
        standing(old)


@dataclass
class Engine:
    done: tuple[str, ...]

    def finished(self, _: str) -> tuple[str, ...]:
        return self.done


def behind(old: Estate, *done: str, way: str = "cutover") -> bool:
    case = SimpleNamespace(
        source=SimpleNamespace(name="old"), folder=old.folder, source_host=lambda: old.source
    )
    return _left_behind(case, Engine(done), way, silent)


def test_a_run_begins_again_at_the_copy_when_the_server_worked_since(old: Estate) -> None:
    assert not behind(old, "copy", "finish")
    old.source.boot = "boot-2"
    assert behind(old, "copy", "finish", "convert")
    assert not behind(old, "copy")
    assert not behind(old, "finish", way="rehearse")
    old.source.off = True
    assert not behind(old, "copy", "finish")


def test_a_server_that_was_woken_by_hand_worked_since(old: Estate) -> None:
    quiesce.release(old.source, old.folder, silent)
    assert behind(old, "finish")


def test_what_is_fenced_is_not_asked(old: Estate) -> None:
    old.source.boot = "boot-2"
    (old.folder / "fenced.json").write_text("{}")
    assert not behind(old, "finish")


def test_only_what_was_verified_of_this_copy_takes_the_servers_place(tmp_path: Path) -> None:
    def digest(name: str) -> str:
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    def converted() -> None:
        done = Converted(
            plan_domain="old", replica_sha256=digest("transfer.json"), overlays={}, seconds=1,
            messages=(), warnings=(), when=datetime.now(UTC),
        )  # fmt: skip
        (tmp_path / "convert.json").write_text(done.model_dump_json())

    def verified() -> None:
        when = datetime.now(UTC)
        done = Verified(where="hv1", seconds=1, converted_sha256=digest("convert.json"),
                        findings=(), when=when)  # fmt: skip
        (tmp_path / "verify.json").write_text(done.model_dump_json())

    (tmp_path / "transfer.json").write_text("first")
    converted()
    verified()
    assert _of_this_copy(tmp_path)
    (tmp_path / "transfer.json").write_text("second")
    assert not _of_this_copy(tmp_path)
    converted()
    assert not _of_this_copy(tmp_path)
    verified()
    assert _of_this_copy(tmp_path)
    (tmp_path / "transfer.json").unlink()
    assert not _of_this_copy(tmp_path)
