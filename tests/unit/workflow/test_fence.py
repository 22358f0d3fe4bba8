"""Nobody is switched off, and no domain takes a server's place, once the server worked on."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands.migrate_cutover import _of_this_copy
from commands.migrate_run import _left_behind
from core.errors import Blocked, OutsideFailed
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
            raise OutsideFailed("no answer", where=self.name)
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


def never() -> None:
    raise AssertionError("it was not told now")


def test_a_server_at_rest_is_the_source(old: Estate) -> None:
    assert standing(old)


def test_the_domain_is_known_by_its_uuid(old: Estate) -> None:
    old.source.boot, old.source.uuid = "boot-2", old.plan.uuid
    assert not standing(old)


@pytest.mark.parametrize("uuid", [ANOTHER, "Not Settable", ""])
def test_a_server_that_was_rebooted_is_not_switched_off(old: Estate, uuid: str) -> None:
    old.source.boot, old.source.uuid = "boot-2", uuid
    begun = len(old.source.done)
    with pytest.raises(Blocked, match="did not stay at rest since its last copy"):
        cutover.fence(
            old.plan,
            old.source,
            lambda: standing(old),
            lambda: True,
            never,
            SimpleNamespace(),
            silent,
        )
    assert len(old.source.done) == begun


def test_silence_alone_is_no_proof_that_a_server_is_off(old: Estate) -> None:
    old.source.off = True
    with pytest.raises(Blocked, match="was never told to switch off"):
        cutover.fence(
            old.plan,
            old.source,
            lambda: standing(old),
            lambda: False,
            never,
            SimpleNamespace(),
            silent,
        )


class Gone(Server):
    """Off: nothing answers."""

    def run(self, argv, *, stdin=b"", timeout=60.0):
        raise OutsideFailed("no answer", where=self.name)


def test_a_server_that_was_told_to_switch_off_is_off_when_it_is_silent(old: Estate) -> None:
    old.source.off = True
    silence = Gone(old.root)
    silence.off = True
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=slept.append)
    cutover.fence(old.plan, silence, lambda: standing(old), lambda: True, never, clock, silent)
    assert len(slept) == 3


def test_an_order_without_an_answer_is_none(old: Estate) -> None:
    """The line broke while the server was told: it may work on."""
    taken_back: list[bool] = []
    for told in (False, True):
        clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: None)
        order = (lambda: True, lambda told=told: told, lambda: taken_back.append(True), clock)
        if told:  # by an earlier run, which it answered
            cutover.fence(old.plan, Gone(old.root), *order, silent)
            continue
        with pytest.raises(Blocked, match="did not answer when it was told") as caught:
            cutover.fence(old.plan, Gone(old.root), *order, silent)
        assert "--off" in caught.value.hint
    assert taken_back == [True]


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
