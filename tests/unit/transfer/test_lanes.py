"""Several connections share one disk."""

import time
from pathlib import Path

import pytest

from adapters.local import LocalHost
from migrate import transfer, transfer_speed
from migrate.limits import UNLIMITED, Toll
from migrate.transfer import Options
from migrate.transfer_manifest import Journal
from tests.unit.transfer import estate, images


@pytest.mark.usefixtures("striped")
@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_connections_bring_one_disk_bit_for_bit(tmp_path: Path, count: int) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    options = Options(connections=count)
    (full,) = transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    estate.change(old.disk, 1)
    (delta,) = transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
    estate.change(old.disk, 2)
    result = transfer.finish(old.source, old.target, old.plan, old.folder, options)
    assert old.replica.read_bytes() == old.expected()
    used = sum(end - start for start, end in images.extents(old.disk))
    assert full.used == used == result.disks[0].used
    assert full.wire < 1.03 * used
    assert 0 < delta.sent < 2 * images.MIB


@pytest.mark.usefixtures("striped")
def test_a_pass_of_several_connections_goes_on_where_the_slowest_was(tmp_path: Path) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    options = Options(connections=3)
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    journal = old.folder / "disks" / "old-sda.journal"
    lines = journal.read_text().splitlines()
    assert '"end"' in lines[-1]
    journal.write_text("\n".join(lines[:-1]) + "\n")
    assert 0 <= Journal(journal).resume("full") <= old.disk.stat().st_size
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.parametrize(
    ("processors", "rates", "expected"),
    [
        (16, {1: 100e6, 2: 190e6, 4: 210e6}, 2),  # one cipher stream fills one processor
        (2, {1: 400e6}, 1),  # more would take what hashes
        (2, {1: 40e6, 4: 120e6}, 4),  # a far line holds each of them up; four fill it
        (2, {1: 40e6, 4: 160e6, 8: 200e6}, 4),
        (2, {1: 40e6, 4: 160e6, 8: 300e6}, 8),
        (2, {1: 40e6, 4: 55e6}, 1),  # an old processor's cipher: they share it with the hashes
        (8, {1: 200e6, 2: 380e6, 4: 760e6}, 4),  # eight would take what hashes
        (2, {1: 0.0}, 1),  # nothing came in time: that says nothing of more of them
    ],
)
def test_more_connections_are_taken_only_while_they_pay(
    monkeypatch: pytest.MonkeyPatch, processors: int, rates: dict[int, float], expected: int
) -> None:
    monkeypatch.setattr(transfer_speed, "_processors", lambda _: processors)
    monkeypatch.setattr(transfer_speed, "_rate", lambda found, _: rates[len(found)])
    readers = transfer_speed.Readers(LocalHost("old"))
    with readers, readers.lent(0) as found:
        assert len(found) == expected
        assert all(reader.hello.python for reader in found)


def test_a_line_is_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_speed, "SAMPLE", images.MIB)
    monkeypatch.setattr(transfer_speed, "BRIEF", 0.0)
    readers = transfer_speed.Readers(LocalHost("old"))
    with readers, readers.lent(0) as found:
        assert 1 <= len(found) <= transfer_speed.MOST
        assert found[0].received < (1 + 2 + 4 + 8) * 1.5 * images.MIB


def test_measuring_keeps_to_the_rate_and_does_not_take_that_for_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_speed, "SAMPLE", 4 * images.MIB)
    readers, start = transfer_speed.Readers(LocalHost("old")), time.monotonic()
    with readers, readers.lent(0, toll=Toll(8 * images.MIB, UNLIMITED, lambda: False)) as found:
        assert len(found) == 1
        received = found[0].received
    assert received < 6 * images.MIB  # no more connections were tried
    assert received <= (time.monotonic() - start + 0.5) * 8 * images.MIB


def test_neither_beginnings_nor_ends_count_as_the_rate_of_a_line() -> None:
    climbing = [(float(second), 2**second) for second in range(10)]
    full = [(10.0 + second / 2, 1000) for second in range(20)]
    assert transfer_speed.in_full_swing([climbing + full]) == 2000
    later = [(moment, size) for moment, size in full if moment > 12] + [(19.75, 1000)] * 9
    assert transfer_speed.in_full_swing([full, later]) == pytest.approx(4000, rel=0.1)


def test_a_quick_connection_brings_what_a_slow_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_speed, "SAMPLE", images.MIB)
    monkeypatch.setattr(transfer_speed, "BRIEF", 0.0)
    sample = transfer_speed.Sample(2)
    slow, quick = ([sample.more(wanted) for wanted in sizes] for sizes in ([9], [images.MIB] * 3))
    assert sum(slow + quick) == 2 * images.MIB
    assert quick == [images.MIB, images.MIB - 9, 0]


def test_what_the_last_delta_sent_tells_whether_the_next_needs_more_than_one(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "old-sda.journal")
    assert journal.last_delta() == float("inf")
    journal.add("end", **{"pass": "full", "sent": 5})
    assert journal.last_delta() == float("inf")
    journal.add("end", **{"pass": "delta", "sent": 7})
    assert journal.last_delta() == 7
    journal.close()
