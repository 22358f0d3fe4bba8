"""How fast the reader goes: it rests for a busy disk, and compresses only where that is faster."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from core.progress import Event
from migrate import transfer, transfer_wire
from migrate.transfer import Options
from migrate.transfer_wire import program
from migrate.transfer_work import opened
from tests.unit.transfer import estate, images

MIB = images.MIB


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The reader's names, and a clock that the test sets."""
    names = images.agent()
    names["now"] = 1000.0
    names["ticks"] = lambda: names["now"]
    return names


def rests(agent: dict[str, object], latencies: list[float], most: float = 4.0) -> list[float]:
    """How long it rests after each of these reads, which follow each other."""
    calm, found = agent["Calm"](most), []  # type: ignore[operator]
    for seconds in latencies:
        agent["now"] += seconds  # type: ignore[operator]
        found.append(calm.pause(seconds, 1))
    return found


def test_a_disk_that_others_keep_busy_is_left_to_them_in_part(agent: dict[str, object]) -> None:
    pauses = rests(agent, [0.004] * 40 + [0.040] * 40 + [0.004] * 40)
    assert not any(pauses[:40])
    assert pauses[79] == pytest.approx(0.040 * 3, rel=0.01)  # never more than four times as slow
    assert pauses[-1] == 0


def test_a_burst_that_is_soon_over_is_no_load(agent: dict[str, object]) -> None:
    assert not any(rests(agent, ([0.004] * 40 + [0.040] * 5) * 4))
    assert any(rests(agent, [0.004] * 40 + [0.040] * 9))


def test_who_does_not_want_to_wait_is_never_held_up(agent: dict[str, object]) -> None:
    assert not any(rests(agent, [0.004] * 40 + [0.4] * 40, most=0))


def test_a_quick_disk_is_never_called_busy(agent: dict[str, object]) -> None:
    assert not any(rests(agent, [0.00005] * 40 + [0.0009] * 40))


def test_the_inside_of_a_disk_is_no_load(agent: dict[str, object]) -> None:
    slower = [0.004 + 0.008 * number / 6000 for number in range(6000)]
    assert sum(rests(agent, slower)) < 0.1 * sum(slower)


def run_codec(
    agent: dict[str, object], *, line: float, ratio: float, speed: float, workers: int = 2
) -> int:
    """The codec after ten seconds of a line of so many MB/s, data that shrinks to ``ratio``, and
    processors that compress so many MB/s each."""
    codec = agent["Codec"]("auto", workers)  # type: ignore[operator]
    for _ in range(1000):
        mode = codec.mode
        cap = min(line / ratio, workers * speed * 0.7) if mode else line
        codec.learn(65536, int(65536 * ratio), int(65536 / speed))
        disk = cap * 1e6 * 0.01
        wire = disk * (ratio if mode else 1)
        agent["now"] += 0.01  # type: ignore[operator]
        codec.spent(wire, disk, 0.009 if wire >= 0.99 * line * 1e4 else 0.0)
    return codec.mode  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("line", "ratio", "speed", "mode"),
    [
        (12, 0.5, 60, 1),  # a 100 Mbit/s line: worth it
        (12, 0.97, 60, 0),  # pictures and archives: not worth it
        (110, 0.5, 60, 0),  # the line is quicker than the processors
        (110, 0.5, 200, 1),
        (40, 0.4, 15, 0),  # an old server
    ],
)
def test_compression_is_used_where_it_is_faster(
    agent: dict[str, object], line: float, ratio: float, speed: float, mode: int
) -> None:
    assert run_codec(agent, line=line, ratio=ratio, speed=speed) == mode


def test_compression_stops_when_the_line_got_quicker(agent: dict[str, object]) -> None:
    codec = agent["Codec"]("auto", 2)  # type: ignore[operator]
    codec.mode, codec.line = agent["ZLIB"], 50e6
    codec.learn(65536, 32768, 2000)
    for _ in range(300):
        agent["now"] += 0.01  # type: ignore[operator]
        codec.spent(20e4, 40e4, 0.0)
    assert codec.mode == agent["RAW"]


def test_a_slow_line_is_noticed_and_compression_begins_by_itself(tmp_path: Path) -> None:
    files = tmp_path / "tree"
    files.mkdir()
    (files / "text").write_bytes(b"the same old story\n" * 1_200_000)
    old = estate.make(tmp_path, estate.disk(tmp_path, 48 * MIB, files=files))
    seen: list[str] = []
    (full,) = transfer.copy(
        *(old.source, old.target, old.plan, old.folder, "full"),
        *(Options(rate=6 * MIB), lambda event: seen.append(event.text)),
    )
    assert full.wire < 0.8 * full.used
    assert any("compressed" in text for text in seen)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def patched(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the reader be another one in one place."""
    plain = transfer_wire.program

    def program(role: str) -> bytes:
        body = plain(role)
        if role == "reader":
            last = body.rindex(b"\nif __name__")
            body = body[:last] + b"\n" + code.encode() + b"\n" + body[last:]
        return body

    monkeypatch.setattr(transfer_wire, "program", program)


SLOW = """
import time
plain = Device.full
class Reads:
    count = 0
def slow(self, offset, length):
    Reads.count += 1
    time.sleep({True: 0.002, False: 0.01}[Reads.count < 40])
    return plain(self, offset, length)
Device.full = slow
"""


def test_a_throttled_pass_says_so_and_what_it_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.junk(tmp_path / "disk", 48 * MIB)
    old = estate.make(tmp_path, tmp_path / "disk")
    patched(monkeypatch, SLOW)
    seen: list[str] = []

    def listen(event: Event) -> None:
        seen.append(event.text)

    def paused(kind: str, slowdown: float) -> float:
        options = Options(workers=1, slowdown=slowdown)
        (disk,) = old.plan.disks
        with opened(old.source, old.target, old.plan, old.folder, disk, options, kind) as work:
            return work.walk(kind, options, listen).paused

    assert paused("full", 3.0) > 0.3
    assert any("throttled: the disk is busy" in text for text in seen)
    assert paused("delta", 0) == 0
    assert paused("final", 3.0) == 0  # the server is down: nobody to wait for


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell")
def test_waiting_for_a_processor_does_not_count_as_a_busy_disk() -> None:
    queue = images.agent()["Queue"]()  # type: ignore[operator]
    assert queue.without(0.0005) == 0.0005
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as rival:
            start, count = time.monotonic(), 0
            while time.monotonic() - start < 0.8:
                count += 1
            taken = time.monotonic() - start
            rival.kill()
    finally:
        os.sched_setaffinity(0, before)
    assert 0 <= queue.without(taken) < 0.9 * taken


def test_a_worker_that_dies_is_said_and_the_rest_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    with monkeypatch.context() as patch:
        patched(
            patch,
            "answer = Hand.answer\n"
            "def dying(self, order):\n"
            "    self.tasks = getattr(self, 'tasks', 0) + 1\n"
            "    if self.tasks == 3:\n"
            "        os.kill(os.getpid(), 9)\n"
            "    return answer(self, order)\n"
            "Hand.answer = dying\n",
        )
        with pytest.raises(OutsideFailed, match="worker processes died"):
            transfer.copy(old.source, old.target, old.plan, old.folder)
    transfer.copy(old.source, old.target, old.plan, old.folder)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_a_reader_that_calls_changed_chunks_unchanged_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    transfer.copy(old.source, old.target, old.plan, old.folder)
    estate.change(old.disk, 3)
    with monkeypatch.context() as patch:
        patched(
            patch,
            "judge = Hand.judge\n"
            "def lying(self, start, data, summed_up):\n"
            "    return SAME, judge(self, start, data, summed_up)[1]\n"
            "Hand.judge = lying\n",
        )
        with pytest.raises(OutsideFailed, match="unchanged that are not"):
            transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_where_no_process_can_be_made_the_reader_does_all_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    patched(monkeypatch, "def fork():\n    raise OSError(12, 'no memory')\nos.fork = fork\n")
    transfer.copy(old.source, old.target, old.plan, old.folder)
    estate.change(old.disk, 4)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def proportional(pid: str) -> int:
    """The memory of a process in bytes, what it shares counted once for all."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("Pss:")[2].split()[0]) * 1024


@pytest.mark.parametrize("compress", [False, True])
def test_the_reader_and_four_workers_stay_below_64_mib(tmp_path: Path, compress: bool) -> None:
    images.junk(tmp_path / "disk", 64 * MIB)
    old = estate.make(tmp_path, tmp_path / "disk")
    most, count = 0, 0

    def look(_: Event) -> None:
        nonlocal most, count
        mark = f"size={len(program('reader'))};"
        total = found = 0
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                if mark in "".join(words) and os.getsid(int(entry.name)) in mine():
                    total, found = total + proportional(entry.name), found + 1
        most, count = max(most, total), max(count, found)

    def mine() -> set[int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {int(child) for child in children}

    options = Options(workers=4, compress=compress, rate=40 * MIB)
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options, look)
    assert count >= 5
    assert 4 * MIB < most < 64 * MIB


def test_an_unchanged_disk_costs_a_thousandth_of_its_used_bytes(tmp_path: Path) -> None:
    images.junk(tmp_path / "disk", 64 * MIB)
    old = estate.make(tmp_path, tmp_path / "disk")
    transfer.copy(old.source, old.target, old.plan, old.folder)
    (delta,) = transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    assert delta.used == 64 * MIB
    assert delta.sent == 0
    assert delta.wire * 1000 < delta.used
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(33 * MIB + 5)
        file.write(b"one byte")
    (delta,) = transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    assert delta.sent == 65536
