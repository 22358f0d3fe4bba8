"""core.ports.Engine on DBOS with SQLite: steps that a killed controller finished are not run again.

Guard rails, each for something that was seen to go wrong: one launch per workflow (a second one
would run a running step again), a fixed application version (else a new release would silently
not recover old workflows), an executor per workflow (a launch recovers its own executor's only),
and failures kept here as they were raised, because DBOS pickles exceptions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import OutsideFailed, Problem
from core.ports import Step
from core.state import lock

VERSION = "1"
RUNNING = ("PENDING", "ENQUEUED")


class DbosEngine:
    """``folder`` holds the database and the locks."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "workflows.sqlite"
        self._url = f"sqlite:///{self._file}"

    def run(self, workflow: str, steps: Sequence[Step]) -> None:
        """Run to the end, continuing an interrupted or failed run of this id."""
        with lock(self._folder / f"{workflow}.lock", f"the workflow {workflow}"), self._whole():
            _Run(self._url, workflow, tuple(steps)).go()

    def finished(self, workflow: str) -> Iterator[str]:
        """Names of the steps already finished; looks only, and recovers nothing."""
        if not self._file.exists():
            return
        with self._whole():
            client = self._client()
            try:
                known = _attempts(client, workflow)
                for done in client.list_workflow_steps(known[-1].workflow_id) if known else ():
                    if done["error"] is None and not done["function_name"].startswith("DBOS."):
                        yield str(done["function_name"])
            finally:
                client.destroy()

    def forget(self, workflow: str) -> None:
        """Drop the record, so that the next run starts anew."""
        if not self._file.exists():
            return
        with lock(self._folder / f"{workflow}.lock", f"the workflow {workflow}"), self._whole():
            client = self._client()
            try:
                for known in _attempts(client, workflow):
                    client.delete_workflow(known.workflow_id)
            finally:
                client.destroy()

    def close(self) -> None:
        """Nothing stays open between calls."""

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Raises OutsideFailed when the database is damaged, or can't be written."""
        from sqlalchemy.exc import DatabaseError

        try:
            yield
        except DatabaseError as fault:
            raise OutsideFailed(
                f"the record of finished steps can't be used: {fault.orig}",
                where=str(self._file),
                hint="look for space and rights there. If it is damaged, remove it and run again: "
                "every step finds what it had done",
            ) from fault

    def _client(self) -> Any:
        from dbos import DBOSClient

        return DBOSClient(system_database_url=self._url)


class _Run:
    """One launch: DBOS is global to a process, so this lives as long as ``go``."""

    def __init__(self, url: str, workflow: str, steps: tuple[Step, ...]) -> None:
        self.url, self.workflow = url, workflow
        self.steps = {step.name: step for step in steps}
        self.failure: BaseException | None = None

    def go(self) -> None:
        from dbos import DBOS

        DBOS(config=_config(self.url, self.workflow))
        try:

            @DBOS.workflow(name="steps")
            def body(names: list[str]) -> None:
                """The workflow: each step once, in order."""
                for name in names:
                    DBOS.run_step({"name": name}, self.step, name)

            DBOS.launch()
            handle = self.handle(DBOS, body)
            try:
                handle.get_result()
            except Exception as fault:
                if self.failure is not None:
                    raise self.failure from None
                raise OutsideFailed(f"the workflow engine failed: {fault}") from fault
        finally:
            DBOS.destroy(destroy_registry=True)

    def step(self, name: str) -> None:
        try:
            self.steps[name].run()
        except BaseException as fault:
            self.failure = fault
            text = str(fault) if isinstance(fault, Problem) else type(fault).__name__
            raise RuntimeError(text) from None

    def handle(self, dbos: Any, body: Any) -> Any:
        """A new workflow; or the one that launch recovered; or, after a failure, a fork that goes
        on at the step that failed."""
        from dbos import SetWorkflowID

        known = _attempts(dbos, self.workflow)
        if not known:
            with SetWorkflowID(f"{self.workflow}.1"):
                return dbos.start_workflow(body, list(self.steps))
        last = known[-1]
        if last.status in (*RUNNING, "SUCCESS"):
            return dbos.retrieve_workflow(last.workflow_id)
        done = [
            step for step in dbos.list_workflow_steps(last.workflow_id) if step["error"] is None
        ]
        with SetWorkflowID(f"{self.workflow}.{len(known) + 1}"):
            return dbos.fork_workflow(last.workflow_id, len(done) + 1, application_version=VERSION)


def _config(url: str, executor: str) -> Any:
    return {
        "name": "groundlift",
        "system_database_url": url,
        "application_version": VERSION,
        "executor_id": executor,
        "log_level": "CRITICAL",
        "console_log_level": "CRITICAL",
    }


def _attempts(dbos: Any, workflow: str) -> list[Any]:
    """All runs of a workflow, oldest first: ``name.1`` and one more for each failure."""
    found = dbos.list_workflows(workflow_id_prefix=f"{workflow}.")
    return sorted(found, key=lambda item: int(item.workflow_id.rsplit(".", 1)[1]))
