"""Budgets hold for all processes together, and live copies keep to their hours."""

import multiprocessing
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from core.progress import Event, silent
from migrate import limits, transfer
from migrate.limits import Budget, Hours, Limits, OutsideHours
from migrate.transfer_manifest import Journal
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

NIGHT = Hours.parse("22:00-06:00")
DAY, EVENING = datetime(2026, 7, 1, 12), datetime(2026, 7, 1, 23)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 24 * images.MIB)


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Estate:
    shutil.copy(template, tmp_path / "disk")
    return estate.make(tmp_path, tmp_path / "disk")


@pytest.mark.parametrize(
    ("hours", "clock", "inside"),
    [
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("22:00-06:00", "21:59", False),
        ("08:00-12:30", "12:29", True),
        ("08:00-12:30", "12:30", False),
    ],
)
def test_hours_begin_and_end_on_the_minute_also_past_midnight(
    hours: str, clock: str, inside: bool
) -> None:
    assert Hours.parse(hours).holds(datetime.fromisoformat(f"2026-07-01T{clock}")) == inside


def test_the_next_beginning_is_today_or_tomorrow() -> None:
    assert NIGHT.next(DAY) == datetime(2026, 7, 1, 22)
    assert NIGHT.next(EVENING) == datetime(2026, 7, 2, 22)
    for text in ("22:00", "25:00-26:00", "08:00-08:00", ""):
        with pytest.raises(ValueError, match=r".+"):
            Hours.parse(text)


def test_what_one_sends_another_waits_for(tmp_path: Path) -> None:
    one, two = (Budget(tmp_path / "b" / "all", 100.0) for _ in range(2))
    assert [one.take(50, 10.0), two.take(100, 10.0), one.take(1, 10.0)] == [0.0, 0.5, 1.5]
    assert two.take(1, 20.0) == 0.0  # what was not spent is not saved up


def test_a_budget_from_before_a_reboot_holds_nobody_up(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "all", 1.0)
    budget.path.write_bytes(struct.pack("<d", 1e6))
    assert budget.take(1, 5.0) == 0.0
    budget.path.write_bytes(b"torn")
    assert budget.take(1, 5.0) == 0.0


def _takes(path: Path) -> None:
    for _ in range(100):
        Budget(path, 1.0).take(1, 5.0)


def test_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "all"
    workers = [multiprocessing.Process(target=_takes, args=(path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert Budget(path, 1.0).take(0, 5.0) == 400.0


def test_a_rate_for_all_is_kept_by_a_copy(old: Estate) -> None:
    slow = Limits((Budget(old.root / "all", 20 * images.MIB),))
    (full,) = copy(old, slow)
    assert full.seconds >= full.sent / (20 * images.MIB) * 0.9


def copy(old: Estate, bound: Limits, report: Callable[[Event], None] = silent) -> tuple:
    options = transfer.Options(limits=bound)
    return transfer.copy(
        old.source, old.target, old.plan, old.folder, options=options, report=report
    )


class Clock:
    """Night for so many questions, then day for some, then night."""

    def __init__(self, night: int, day: int) -> None:
        self.night, self.day, self.asked = night, day, 0

    def __call__(self) -> datetime:
        self.asked += 1
        return DAY if self.night < self.asked <= self.night + self.day else EVENING


def test_a_copy_stops_when_its_hours_end_and_goes_on_where_it_was(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STEP", 0.001)
    seen: list[str] = []
    bound = Limits(hours=(NIGHT,), now=Clock(night=12, day=20))
    copy(old, bound, lambda event: seen.append(event.task))
    assert "wait until 22:00" in seen
    journal = Journal(old.folder / "disks" / "old-sda.journal")
    starts = [line for line in journal.lines if line["event"] == "start"]
    journal.close()
    assert len(starts) == 2
    finish = transfer.finish(old.source, old.target, old.plan, old.folder)
    assert finish.disks[0].differing == 0
    assert old.replica.read_bytes() == old.expected()


def test_the_last_pass_is_bound_by_nothing(old: Estate) -> None:
    copy(old, limits.UNLIMITED)
    shut = replace(Limits(hours=(NIGHT,)), now=lambda: DAY)
    with pytest.raises(OutsideHours, match="22:00-06:00 only"):
        shut.check()
    options = transfer.Options(limits=shut)
    transfer.finish(old.source, old.target, old.plan, old.folder, options)
    assert old.replica.read_bytes() == old.expected()
