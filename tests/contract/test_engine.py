"""What every Engine promises; and what the durable one promises to a killed process."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.engine import DbosEngine
from core.errors import Blocked, OutsideFailed
from core.ports import Engine, Step
from tests.fakes.engine import FakeEngine

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["fake", "dbos"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return FakeEngine() if request.param == "fake" else DbosEngine(tmp_path / "w")


def steps(log: list[str], *names: str) -> tuple[Step, ...]:
    def step(name: str) -> Callable[[], None]:
        return lambda: log.append(name)

    return tuple(Step(name, step(name)) for name in names)


def test_steps_run_once_each_in_order(engine: Engine) -> None:
    log: list[str] = []
    for _ in range(2):
        engine.run("one", steps(log, "a", "b", "c"))
    assert log == ["a", "b", "c"]
    assert list(engine.finished("one")) == ["a", "b", "c"]


def test_a_failure_is_raised_as_it_was_and_the_next_run_goes_on_there(engine: Engine) -> None:
    log: list[str] = []
    trouble = [Blocked("no room", hint="make room", where="hv1")] * 2

    def fails() -> None:
        log.append("b")
        if trouble:
            raise trouble.pop()

    made = (*steps(log, "a"), Step("b", fails), *steps(log, "c"))
    for _ in range(2):
        with pytest.raises(Blocked) as caught:
            engine.run("one", made)
        assert (caught.value.hint, caught.value.where) == ("make room", "hv1")
        assert list(engine.finished("one")) == ["a"]
    engine.run("one", made)
    assert log == ["a", "b", "b", "b", "c"]


def test_workflows_know_nothing_of_each_other(engine: Engine) -> None:
    log: list[str] = []
    engine.run("one", steps(log, "a"))
    engine.run("two", steps(log, "a", "b"))
    assert log == ["a", "a", "b"]
    assert list(engine.finished("one")) == ["a"]


def test_a_forgotten_workflow_starts_anew(engine: Engine) -> None:
    log: list[str] = []
    engine.run("one", steps(log, "a"))
    engine.forget("one")
    assert list(engine.finished("one")) == []
    engine.run("one", steps(log, "a"))
    assert log == ["a", "a"]


def test_asking_about_the_unknown_finds_nothing(engine: Engine) -> None:
    assert list(engine.finished("none")) == []
    engine.forget("none")
    engine.close()


CHILD = """
import os, sys, time
from pathlib import Path
from adapters.engine import DbosEngine
from core.ports import Step
folder = Path(sys.argv[1])
def work(name):
    def run():
        with (folder / "begun").open("a") as file:
            file.write(name + "\\n")
        time.sleep(0.15)
        (folder / name).write_text("done")
        with (folder / "ended").open("a") as file:
            file.write(name + "\\n")
    return run
DbosEngine(folder / "w").run("one", [Step(f"s{i}", work(f"s{i}")) for i in range(8)])
"""


def test_a_process_killed_at_ten_points_repeats_no_finished_step(tmp_path: Path) -> None:
    dice = random.Random(1987)
    kills = 0
    for _ in range(60):
        process = subprocess.Popen((sys.executable, "-c", CHILD, str(tmp_path)), cwd=ROOT)
        begun = time.monotonic()
        limit = dice.uniform(1.2, 2.4) if kills < 12 else 60
        while process.poll() is None and time.monotonic() - begun < limit:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        elif process.returncode == 0 and kills >= 10:
            break
        elif process.returncode == 0:
            for path in tmp_path.glob("*"):  # finished early: another round, to have ten kills
                path.unlink() if path.is_file() else [p.unlink() for p in path.glob("*")]
        else:
            raise AssertionError(process.returncode)
    assert kills >= 10
    begun_steps = (tmp_path / "begun").read_text().split()
    ended = (tmp_path / "ended").read_text().split()
    assert sorted(set(ended)) == [f"s{i}" for i in range(8)]
    # Killed between a step's end and its record, the step runs again; no other ever does.
    order = [int(name[1:]) for name in begun_steps]
    assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(order))


def test_a_damaged_record_is_said_with_what_to_do(tmp_path: Path) -> None:
    log: list[str] = []
    DbosEngine(tmp_path).run("one", steps(log, "a"))
    for path in tmp_path.glob("workflows.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    engine = DbosEngine(tmp_path)
    for call in (
        lambda: list(engine.finished("one")),
        lambda: engine.forget("one"),
        lambda: engine.run("one", steps(log, "a")),
    ):
        with pytest.raises(OutsideFailed, match="can't be used") as caught:
            call()
        assert "remove it" in caught.value.hint
    for path in tmp_path.glob("workflows.sqlite*"):
        path.unlink()
    engine.run("one", steps(log, "a"))
    assert log == ["a", "a"]


def test_two_runs_of_one_workflow_at_once_are_refused(tmp_path: Path) -> None:
    from core.errors import Locked

    inner: list[str] = []

    def again() -> None:
        with pytest.raises(Locked):
            DbosEngine(tmp_path / "w").run("one", ())
        inner.append("refused")

    DbosEngine(tmp_path / "w").run("one", (Step("a", again),))
    assert inner == ["refused"]
