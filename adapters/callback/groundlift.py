"""Ansible callback: one JSON line per event, written to the descriptor that the controller opened.

It runs inside ansible-playbook and must neither print nor fail: a fault here would end the run.
When nobody reads any more the controller is gone, and the run ends with it.
"""

import json
import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: groundlift
    type: notification
    short_description: JSON lines over an inherited descriptor
    description: The controller's view of a run, named by GROUNDLIFT_EVENTS.
"""
LONG = 500


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "groundlift"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._descriptor = int(os.environ.get("GROUNDLIFT_EVENTS", "-1"))
        self._play = ""
        if self._descriptor < 0:
            self.disabled = True
        else:
            # Programs that Ansible starts and leaves behind must not keep the pipe open.
            os.set_inheritable(self._descriptor, False)

    def _say(self, kind: str, **more: Any) -> None:
        line = json.dumps({"kind": kind, "play": self._play, **more}) + "\n"
        data = line.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BrokenPipeError:
            os.killpg(os.getpgrp(), signal.SIGTERM)

    def _told(self, kind: str, result: Any, message: str = "") -> None:
        self._say(
            kind,
            task=result._task.get_name(),
            host=result._host.get_name(),
            message=message[:LONG],
        )

    def v2_playbook_on_start(self, playbook: Any) -> None:
        # Blocks of a play hold its roles' tasks too; files included at run time are not known yet.
        plays = playbook.get_plays()
        blocks = [block for play in plays for block in play.compile()]
        count = sum((len(self._tasks(block)) for block in blocks), 0)
        self._say("playbook", total=count + sum(play.gather_facts is not False for play in plays))

    def _tasks(self, block: Any) -> list[Any]:
        found: list[Any] = []
        for item in [*block.block, *block.always]:
            inner = getattr(item, "block", None)
            found.extend([item] if inner is None else self._tasks(item))
        return [task for task in found if task.action not in ("meta", "ansible.builtin.meta")]

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name()
        self._say("play")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: Any) -> None:
        self._say("task", task=task.get_name())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._say("task", task=task.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        self._told("changed" if result.is_changed() else "ok", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._told("skipped", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._told("ok" if ignore_errors else "failed", result, reason(result._result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._told("unreachable", result, reason(result._result))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._say("stats", stats={host: stats.summarize(host) for host in sorted(stats.processed)})


def reason(result: dict[str, Any]) -> str:
    """Why a task failed, from what its module answered."""
    items = result.get("results")
    failed = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    failed = [item for item in failed if item.get("failed") or item.get("unreachable")]
    texts = [reason(item) for item in failed[:5]]
    if texts:
        return "; ".join(texts)
    said = str(result.get("msg") or "no reason given").strip()
    detail = str(result.get("stderr") or result.get("module_stderr") or "")
    if detail and detail.strip() not in said:
        said = f"{said}: {detail.strip()[-500:]}"
    return said
