"""Passes that follow each other keep their agents, and what they bring is right all the same."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from commands import migrate_transfer
from commands.connect import Case
from core.errors import OutsideFailed
from core.ports import Channel
from migrate import transfer, transfer_work
from migrate.limits import Hours, Limits
from migrate.transfer import Options, Rounds
from migrate.transfer_manifest import Journal
from migrate.transfer_wire import Session
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate
from tests.unit.transfer.test_pace import patched

MIB = images.MIB


class Source(estate.Source):
    """Counts the agents that it starts."""

    started = 0

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        self.started += 1
        return super().stream(argv)


class Old(Estate):
    """An estate that counts."""

    source: Source


@pytest.fixture
def old(tmp_path: Path) -> Old:
    plain = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    transfer.copy(plain.source, plain.target, plain.plan, plain.folder)
    return Old(tmp_path, plain.disk, Source(tmp_path), plain.target, plain.plan, plain.folder)


def rounds(old: Old, options: Options = transfer.DEFAULTS) -> Rounds:
    return Rounds(old.source, old.target, old.plan, old.folder, options)


def part(old: Old) -> Path:
    return old.replica.with_name(old.replica.name + ".part")


def agents(pid: int) -> list[int]:
    """The Pythons that a process started, and that were started for those."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *agents(child)]
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_rounds_start_their_agents_once_and_the_replica_follows_the_disk(
    old: Old, count: int
) -> None:
    options = Options(connections=count)
    with rounds(old, options) as passes:
        for seed in range(4):
            estate.change(old.disk, seed)
            (found,) = passes.go("delta")
            assert part(old).read_bytes() == old.expected()
            assert 0 < found.sent < 2 * MIB
        (found,) = passes.go("delta")
        assert found.sent == 0
        assert old.source.started == count
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_a_round_after_one_with_little_to_send_uses_one_connection_of_those_that_stand(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    class Counting(transfer_work.Pump):
        def __init__(self, readers: Sequence[Session], *rest: Any) -> None:
            used.append(len(readers))
            super().__init__(readers, *rest)

    monkeypatch.setattr(transfer_work, "Pump", Counting)
    monkeypatch.setattr(transfer_work, "LARGE", 0)
    journal = Journal(old.folder / "disks" / "old-sda.journal")
    journal.add("connections", count=3)
    journal.close()
    with rounds(old) as passes:
        for seed in range(3):
            estate.change(old.disk, seed)
            passes.go("delta")
            assert part(old).read_bytes() == old.expected()
    assert used == [3, 1, 1]
    assert old.source.started == 3


def test_nobody_is_busy_with_waiting_for_a_reader_that_looks_for_what_is_used(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = "plain = areas\ndef areas(*rest):\n    time.sleep(1.5)\n    return plain(*rest)"
    patched(monkeypatch, f"import time\n{late}")
    looked, look = [], transfer_work.Pump._look

    def counted(pump: transfer_work.Pump) -> None:
        looked.append(time.monotonic())
        look(pump)

    monkeypatch.setattr(transfer_work.Pump, "_look", counted)
    with rounds(old) as passes:
        passes.go("delta")
    assert looked[-1] - looked[0] > 1
    assert len(looked) < 100


def test_all_disks_are_read_by_the_same_connection(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    plain = estate.make(tmp_path, estate.disk(tmp_path, 16 * MIB))
    other = estate.disk(tmp_path / "second", 16 * MIB)
    (entry,) = plain.plan.disks
    second = entry.model_copy(update={"source": str(other), "replica": "old-sdb.replica.raw"})
    plan = plain.plan.model_copy(update={"disks": (entry, second)})
    old = Old(tmp_path, plain.disk, Source(tmp_path), plain.target, plan, plain.folder)
    assert len(transfer.copy(old.source, old.target, plan, old.folder)) == 2
    assert old.source.started == 1
    result = transfer.finish(old.source, old.target, plan, old.folder)
    assert [disk.differing for disk in result.disks] == [0, 0]
    assert old.source.started == 2
    assert old.replica.read_bytes() == old.expected()


def test_an_agent_that_died_between_rounds_is_told_and_the_next_round_goes_on(old: Old) -> None:
    before = set(agents(os.getpid()))
    with rounds(old) as passes:
        passes.go("delta")
        for pid in set(agents(os.getpid())) - before:
            with suppress(ProcessLookupError):  # a worker that was about to end
                os.kill(pid, signal.SIGKILL)
        estate.change(old.disk, 1)
        with pytest.raises(OutsideFailed, match="connection"):
            passes.go("delta")
        passes.go("delta")
        assert part(old).read_bytes() == old.expected()


def test_a_chunk_that_rots_is_sent_again_after_a_last_pass_that_had_much_to_send(old: Old) -> None:
    span = next(span for span in images.extents(old.disk) if span[0] > 4 * MIB)
    with part(old).open("r+b") as file:
        file.seek(MIB + 70_000)
        file.write(b"rot")
    with old.disk.open("r+b") as file:
        file.seek(span[0])
        file.write(b"changed")
    result = transfer.finish(old.source, old.target, old.plan, old.folder, Options(again=True))
    assert result.disks[0].repaired == 1
    assert result.disks[0].passes[-2].sent >= 65536
    assert old.replica.read_bytes() == old.expected()


def test_connections_end_with_the_hours_and_come_again_with_them(old: Old) -> None:
    begin = datetime(2026, 7, 1, 22, 30)
    clock = {"now": begin}

    def now() -> datetime:
        clock["now"] += timedelta(seconds=1)
        return clock["now"]

    limits = Limits(hours=(Hours.parse("22:00-06:00"),), now=now)
    with rounds(old, Options(limits=limits)) as passes:
        passes.go("delta")
        clock["now"] = begin.replace(hour=21, minute=59, second=58)
        estate.change(old.disk, 1)
        passes.go("delta")
        assert old.source.started == 2
        assert passes.idle > 0
        assert part(old).read_bytes() == old.expected()


def case(old: Old) -> Case:
    found = SimpleNamespace(
        folder=old.folder, source_host=lambda: old.source, node_host=lambda _: old.target
    )
    return cast(Case, found)


def repeat(old: Old, times: int) -> None:
    migrate_transfer.repeat(case(old), old.plan, Options(), 0.3, times, as_json=True)


def test_deltas_are_repeated_in_time_by_the_same_agents(
    old: Old, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat(old, 3)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[entry["kind"] for entry in line] for line in told] == [["delta"]] * 3
    assert old.source.started == 1


def test_nobody_keeps_a_connection_for_long(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_transfer, "NEAR", 0.1)
    repeat(old, 2)
    assert old.source.started == 2


def failing(old: Old, monkeypatch: pytest.MonkeyPatch, numbers: set[int]) -> Callable[[], int]:
    """Let rounds of these numbers fail."""
    plain, done = Rounds.go, []

    def go(self: Rounds, *arguments: object, **more: object) -> object:
        done.append(1)
        if len(done) in numbers:
            raise OutsideFailed("no SSH connection", where="old")
        return plain(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Rounds, "go", go)
    return lambda: len(done)


def test_a_delta_that_fails_is_told_and_does_not_end_the_series(
    old: Old, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = failing(old, monkeypatch, {2})
    estate.change(old.disk, 1)
    repeat(old, 3)
    told = capsys.readouterr()
    assert count() == 3
    assert len(told.out.splitlines()) == 2
    assert "no SSH connection" in told.err
    assert part(old).read_bytes() == old.expected()


def test_a_series_that_can_not_begin_ends_at_once(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = failing(old, monkeypatch, {1})
    with pytest.raises(OutsideFailed, match="no SSH connection"):
        repeat(old, 3)
    assert count() == 1
