"""The whole migration as durable steps. Each step asks first what is done already, so that it may
run twice; the engine sees to it that a finished one does not.

Two workflows: ``rehearse`` moves everything but the server itself and puts the source back to work;
``cutover`` copies what has changed since, and switches over.
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
    finish: Callable[[], None]
    convert: Callable[[], None]
    define: Callable[[], None]
    verify: Callable[[], None]
    wake: Callable[[], None]
    fence: Callable[[], None]
    switch_on: Callable[[], None]
    confirm: Callable[[], None]


def rehearse(actions: Actions) -> tuple[Step, ...]:
    """Everything short of the cutover; the source works again afterwards."""
    return (*_moved(actions), Step("wake", actions.wake))


def cutover(actions: Actions) -> tuple[Step, ...]:
    """Everything, to the server running in the cloud."""
    return (
        *_moved(actions),
        Step("fence", actions.fence),
        Step("switch on", actions.switch_on),
        Step("confirm", actions.confirm),
    )


def _moved(actions: Actions) -> tuple[Step, ...]:
    return (
        Step("discover", actions.discover),
        Step("assess", actions.assess),
        Step("plan", actions.plan),
        Step("copy", actions.copy),
        Step("finish", actions.finish),
        Step("convert", actions.convert),
        Step("define", actions.define),
        Step("verify", actions.verify),
    )


def run(engine: Engine, host: str, actions: Actions, *, consented: bool) -> None:
    """Run or continue the migration of ``host``. Raises what the failing step raised."""
    if consented:
        engine.run(f"{host}-cutover", cutover(actions))
    else:
        engine.run(f"{host}-rehearse", rehearse(actions))
