"""Playbooks in memory: each playbook answers from a script, and every call is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import OutsideFailed
from core.ports import PlayEvent, PlayResult


@dataclass(frozen=True, slots=True)
class Call:
    playbook: str
    check: bool
    limit: str


@dataclass
class FakePlaybooks:
    """``scripts``: playbook name → the events of a run. Without one, both hosts are ok.

    As with the real one, failed and unreachable events make the code 2 or 4, and a playbook that is
    not there is an error of Ansible itself.
    """

    scripts: Mapping[str, tuple[PlayEvent, ...]] = field(default_factory=dict)
    hosts: tuple[str, ...] = ("localhost",)
    calls: list[Call] = field(default_factory=list)
    inventories: list[str] = field(default_factory=list)

    def run(
        self,
        playbook: Path,
        inventory: Path,
        *,
        check: bool = False,
        limit: str = "",
        on_event: Callable[[PlayEvent], None] = lambda _: None,
    ) -> PlayResult:
        if not playbook.exists():
            raise OutsideFailed(f"the playbook {playbook} could not be found")
        self.calls.append(Call(playbook.stem, check, limit))
        self.inventories.append(inventory.read_text())
        events = self.scripts.get(playbook.stem, ())
        tasks = sorted({event.task for event in events if event.task})
        said = (
            PlayEvent("playbook", total=len(tasks)),
            PlayEvent("play", play=playbook.stem),
            *(PlayEvent("task", play=playbook.stem, task=task) for task in tasks),
            *events,
        )
        stats = {host: self._count(host, events) for host in self.hosts}
        for event in (*said, PlayEvent("stats", stats=stats)):
            on_event(event)
        failures = tuple(event for event in events if event.kind in ("failed", "unreachable"))
        code = {"failed": 2, "unreachable": 4}.get(failures[0].kind, 0) if failures else 0
        changes = tuple(event for event in events if event.kind == "changed")
        return PlayResult(code, stats, failures, changes)

    def _count(self, host: str, events: tuple[PlayEvent, ...]) -> dict[str, int]:
        kinds = [event.kind for event in events if event.host == host]
        return {
            "ok": kinds.count("ok") + kinds.count("changed"),
            "changed": kinds.count("changed"),
            "failures": kinds.count("failed"),
            "unreachable": kinds.count("unreachable"),
            "skipped": kinds.count("skipped"),
        }
