"""The order of a migration, and where each of its two ways ends."""

from dataclasses import fields

from migrate.workflow import WAYS, Actions, run
from tests.fakes.engine import FakeEngine

PREPARED = ["discover", "assess", "plan", "copy"]
TRIED = ["convert", "define", "verify"]


def actions(log: list[str]) -> Actions:
    return Actions(**{f.name: (lambda name=f.name: log.append(name)) for f in fields(Actions)})


def done(way: str) -> list[str]:
    log: list[str] = []
    run(FakeEngine(), "web1", actions(log), way)
    return log


def test_preparing_disturbs_nobody() -> None:
    assert done("prepare") == PREPARED


def test_a_rehearsal_wakes_the_source_before_the_long_work() -> None:
    assert done("rehearse") == [*PREPARED, "warm", "finish", "wake", *TRIED]


def test_a_cutover_fences_the_source_before_the_domain_starts() -> None:
    assert done("cutover") == [*PREPARED, "warm", "finish", *TRIED, "fence", "switch_on", "confirm"]


def test_a_cutover_after_a_rehearsal_asks_every_step_again() -> None:
    log: list[str] = []
    engine = FakeEngine()
    run(engine, "web1", actions(log), "rehearse")
    before = len(log)
    run(engine, "web1", actions(log), "cutover")
    assert log[before:] == done("cutover")


def test_step_names_are_unique_because_the_record_goes_by_them() -> None:
    for way in WAYS.values():
        names = [step.name for step in way(actions([]))]
        assert len(set(names)) == len(names)
