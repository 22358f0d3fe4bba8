"""Rounds end when another would not help, the forecast says what it knows, and the gate holds."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import Blocked, OutsideFailed, UsageProblem
from core.progress import Report, silent
from migrate import forecast, proof, times, transfer, warm
from migrate.limits import Limits, OutsideHours
from migrate.warm import Round, Warm
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 24 * images.MIB)


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Estate:
    shutil.copy(template, tmp_path / "disk")
    return estate.make(tmp_path, tmp_path / "disk")


def copied(old: Estate) -> Estate:
    transfer.copy(old.source, old.target, old.plan, old.folder)
    return old


def rounds(old: Estate, **options: int) -> Warm:
    return warm.warm(old.source, old.target, old.plan, old.folder, **options)


def finish(old: Estate) -> transfer.Transfer:
    return transfer.finish(
        old.source, old.target, old.plan, old.folder, transfer.Options(again=True)
    )


def turn(at: float, seconds: float, sent: int) -> Round:
    began = BEGIN + timedelta(seconds=at)
    return Round(began=began, seconds=seconds, read=sent, sent=sent, wire=sent)


def test_nothing_is_warmed_before_the_first_copy(old: Estate) -> None:
    with pytest.raises(UsageProblem, match="not copied yet"):
        rounds(old)


def test_a_round_brings_the_copy_up_to_date_and_a_quiet_server_needs_one(old: Estate) -> None:
    estate.change(copied(old).disk, 1)
    found = rounds(old)
    assert found.settled
    assert len(found.rounds) == 1
    assert 0 < found.rounds[0].sent <= 8 * 2 * 65536
    assert found.reread > 0
    assert found.differing == 0
    assert warm.read(old.folder) == found
    assert finish(old).disks[0].passes[-1].sent == 0  # nothing was left for the last pass


def test_a_replica_that_was_proved_is_warmed_too_and_its_proof_is_void(old: Estate) -> None:
    finish(copied(old))
    estate.change(old.disk, 2)
    rounds(old)
    assert not (old.folder / "transfer.json").exists()
    finish(old)
    assert old.replica.read_bytes() == old.expected()


def test_rounds_go_on_while_they_shrink_and_end_when_they_do_not() -> None:
    pace = 10.0 * MIB
    first = turn(0, 100, 800 * MIB)
    assert not warm.settled((first,), pace)  # as far as is known, 80 s could be saved
    second = turn(100, 30, 200 * MIB)  # 2 MiB/s: the next would find 60 MiB, and save 14 s
    assert warm.changing((first, second)) == pytest.approx(2 * MIB)
    assert warm.gain((first, second), pace) == pytest.approx(14)
    assert not warm.settled((first, second), pace)
    third = turn(130, 12, 30 * MIB)  # 1 MiB/s: it would find 12 MiB, and save 1.8 s
    assert warm.settled((first, second, third), pace)


def test_a_server_that_changes_faster_than_the_line_ends_the_rounds() -> None:
    busy = (turn(0, 100, 1000 * MIB), turn(100, 100, 1000 * MIB))
    assert warm.settled(busy, 10.0 * MIB)


def test_so_many_rounds_and_no_more(old: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(old)
    monkeypatch.setattr(warm, "settled", lambda *_: False)
    found = rounds(old, most=3)
    assert len(found.rounds) == 3
    assert not found.settled


def test_waiting_for_the_hours_is_no_part_of_a_round(
    old: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(old)
    real, night = time.monotonic, {"passed": 0.0}

    def wait(self: Limits, report: Report) -> None:
        night["passed"] = 600.0

    def check(self: Limits) -> None:
        if not night["passed"]:
            raise OutsideHours("not now")

    monkeypatch.setattr(Limits, "wait", wait)
    monkeypatch.setattr(Limits, "check", check)
    monkeypatch.setattr(time, "monotonic", lambda: real() + night["passed"])
    assert rounds(old).rounds[0].seconds < 300


def expected(old: Estate, way: forecast.Way = "cutover", minutes: float = 0) -> forecast.Forecast:
    plan = old.plan.model_copy(update={"downtime_minutes": minutes})
    done = (turn(0, 40, 20 * MIB), turn(40, 20, 10 * MIB))
    found = Warm(host="old", rounds=done, pace=MIB, reread=7, differing=0, settled=True)
    return forecast.forecast(plan, old.folder, found, way)


def test_the_forecast_is_the_sum_of_what_was_measured(old: Estate) -> None:
    for part, seconds in (("quiesce", 5), ("convert", 60), ("define", 1), ("verify", 90)):
        times.publish_model(
            old.folder / times.FILE,
            times.Times(seconds={**times.read(old.folder), part: seconds}),
        )
    told = expected(old)
    # The last round found 10 MiB in 40 s and took 20 s: 5 MiB less is 5 s less at 1 MiB/s.
    assert {part.name: part.seconds for part in told.parts} == {
        "quiesce": 5, "last pass": 15, "read back": 7, "convert": 60, "define": 1,
        "verify": 90, "fence": forecast.FENCE, "start and compare": 90,
    }  # fmt: skip
    assert told.seconds == 5 + 15 + 7 + 60 + 1 + 90 + forecast.FENCE + 90
    assert forecast.read(old.folder) == told


def test_what_was_never_measured_is_not_known_and_so_is_the_sum(old: Estate) -> None:
    told = expected(old)
    assert told.seconds is None
    assert "not known before a rehearsal" in "\n".join(forecast.lines(told))
    assert told.go  # nobody set a limit
    assert expected(old, "rehearse").seconds is not None


def test_the_gate_is_shut_when_it_is_too_long_or_not_known(old: Estate) -> None:
    forecast.gate(expected(old, "rehearse", minutes=1))
    with pytest.raises(Blocked, match=r"no-go: old would stand still for 3\d s, 30 s are allowed"):
        forecast.gate(expected(old, "rehearse", minutes=0.5))
    with pytest.raises(Blocked, match=r"is not known \(convert, define, verify"):
        forecast.gate(expected(old, minutes=1))


def test_of_several_times_the_longest_counts_and_a_failure_is_not_noted(old: Estate) -> None:
    old.folder.mkdir()
    for seconds in (3.0, 9.0, 4.0):
        clock = iter((0.0, seconds))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(times.time, "monotonic", lambda clock=clock: next(clock))
            with times.timed(old.folder, "convert"):
                pass
    with pytest.raises(ValueError, match="no"), times.timed(old.folder, "verify"):
        raise ValueError("no")
    assert times.read(old.folder) == {"convert": 9.0}


def prove(old: Estate) -> proof.Proof:
    return proof.prove(old.source, old.target, old.plan, old.folder, silent)


def test_the_proof_reads_everything_back(old: Estate) -> None:
    done = finish(copied(old))
    found = prove(old)
    (disk,) = found.disks
    assert (disk.blocks_read, disk.blocks_verified, disk.blocks_differing) == (
        done.disks[0].chunks,
    ) * 2 + (0,)
    assert disk.manifest_sha256 == done.disks[0].manifest_sha256
    assert json.loads((old.folder / "proof.json").read_text())["disks"][0]["blocks_differing"] == 0


def test_a_flipped_bit_is_found_and_its_place_is_told(old: Estate) -> None:
    finish(copied(old))
    start = images.extents(old.disk)[-1][0]
    with old.replica.open("r+b") as file:
        file.seek(start)
        byte = file.read(1)
        file.seek(start)
        file.write(bytes([byte[0] ^ 1]))
    found = prove(old)
    assert found.differing == 1
    assert found.disks[0].places == (start // 65536 * 65536,)


def test_another_manifest_than_the_proved_one_is_no_proof(old: Estate) -> None:
    finish(copied(old))
    path = next((old.folder / "disks").glob("*.manifest"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(OutsideFailed, match="not the one that was proved"):
        prove(old)


def test_without_a_transfer_there_is_nothing_to_prove(old: Estate) -> None:
    with pytest.raises(UsageProblem, match="not transferred yet"):
        prove(copied(old))
