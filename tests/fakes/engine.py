"""An Engine in memory: forgets with the process, keeps every other promise."""

from collections.abc import Iterator, Sequence

from core.ports import Step


class FakeEngine:
    """core.ports.Engine."""

    def __init__(self) -> None:
        self._done: dict[str, list[str]] = {}

    def run(self, workflow: str, steps: Sequence[Step]) -> None:
        done = self._done.setdefault(workflow, [])
        for step in steps:
            if step.name not in done:
                step.run()
                done.append(step.name)

    def finished(self, workflow: str) -> Iterator[str]:
        return iter(self._done.get(workflow, ()))

    def forget(self, workflow: str) -> None:
        self._done.pop(workflow, None)

    def close(self) -> None:
        """Nothing is open."""
