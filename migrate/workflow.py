"""The whole migration as durable steps. Each step asks first what is done already, so that it may
run twice; the engine sees to it that a finished one does not.

Three ways: ``prepare`` disturbs nobody and ends with the live copy; ``rehearse`` stops services for
the last pass only, and tries the copy; ``cutover`` goes all the way. Stopping needs consent.
"""

from collections.abc import Callable
from dataclasses import dataclass

from core.ports import Engine, Step


@dataclass(frozen=True, slots=True)
class Actions:
    """What each step calls. All may be called again after they have succeeded."""

    discover: Callable[[], None]
    assess: Callable[[], None]
    plan: Callable[[], None]
    copy: Callable[[], None]
    warm: Callable[[], None]
    finish: Callable[[], None]
    convert: Callable[[], None]
    define: Callable[[], None]
    verify: Callable[[], None]
    wake: Callable[[], None]
    fence: Callable[[], None]
    switch_on: Callable[[], None]
    confirm: Callable[[], None]


def prepare(actions: Actions) -> tuple[Step, ...]:
    """Everything that can be done while the source works."""
    return (
        Step("discover", actions.discover),
        Step("assess", actions.assess),
        Step("plan", actions.plan),
        Step("copy", actions.copy),
    )


def rehearse(actions: Actions) -> tuple[Step, ...]:
    """A proved copy, tried in isolation; the source works again as soon as it is copied."""
    return (
        *prepare(actions),
        Step("warm", actions.warm),
        Step("finish", actions.finish),
        Step("wake", actions.wake),
        *_tried(actions),
    )


def cutover(actions: Actions) -> tuple[Step, ...]:
    """Everything, to the server running in the cloud."""
    return (
        *prepare(actions),
        Step("warm", actions.warm),
        Step("finish", actions.finish),
        *_tried(actions),
        Step("fence", actions.fence),
        Step("switch on", actions.switch_on),
        Step("confirm", actions.confirm),
    )


def _tried(actions: Actions) -> tuple[Step, ...]:
    return (
        Step("convert", actions.convert),
        Step("define", actions.define),
        Step("verify", actions.verify),
    )


WAYS = {"prepare": prepare, "rehearse": rehearse, "cutover": cutover}


def run(engine: Engine, host: str, actions: Actions, way: str) -> None:
    """Run or continue the migration of ``host``. Raises what the failing step raised."""
    engine.run(f"{host}-{way}", WAYS[way](actions))
