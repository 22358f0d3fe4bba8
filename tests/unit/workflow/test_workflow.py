"""The order of a migration, and where each of its two ways ends."""

from dataclasses import fields

from migrate.workflow import Actions, cutover, rehearse, run
from tests.fakes.engine import FakeEngine

MOVED = ["discover", "assess", "plan", "copy", "finish", "convert", "define", "verify"]


def actions(log: list[str]) -> Actions:
    return Actions(**{f.name: (lambda name=f.name: log.append(name)) for f in fields(Actions)})


def test_a_rehearsal_ends_with_the_source_back_at_work() -> None:
    log: list[str] = []
    run(FakeEngine(), "web1", actions(log), consented=False)
    assert log == [*MOVED, "wake"]


def test_a_cutover_fences_the_source_before_the_domain_starts() -> None:
    log: list[str] = []
    run(FakeEngine(), "web1", actions(log), consented=True)
    assert log == [*MOVED, "fence", "switch_on", "confirm"]


def test_a_cutover_after_a_rehearsal_asks_every_step_again() -> None:
    log: list[str] = []
    engine = FakeEngine()
    run(engine, "web1", actions(log), consented=False)
    run(engine, "web1", actions(log), consented=True)
    assert log[len(MOVED) + 1 :][: len(MOVED)] == MOVED


def test_step_names_are_unique_because_the_record_goes_by_them() -> None:
    for way in (rehearse, cutover):
        names = [step.name for step in way(actions([]))]
        assert len(set(names)) == len(names)
