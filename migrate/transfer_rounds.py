"""Live passes over all disks of a server, one after another. Between them the agents stay where
they are: a far connection takes half a second to make, and some of it of the server's processor.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from core.documents import Document
from core.ports import Host
from core.progress import Report, silent
from migrate import past
from migrate.limits import OutsideHours
from migrate.plan import DiskPlan, Plan
from migrate.transfer_order import Outcome
from migrate.transfer_speed import Readers
from migrate.transfer_work import DEFAULTS, Options, Work, opened


class PassResult(Document):
    """One pass in figures. ``sent`` are the disk's bytes in chunks that went over, ``wire`` all
    bytes on the source's connections, ``direct`` those that led straight to the hypervisor."""

    kind: str
    used: int
    read: int
    sent: int
    wire: int
    seconds: float
    direct: int = 0


class Rounds:
    """One server's live passes. A pass that fails ends its agents, and the next one starts new
    ones; the end of the context ends all."""

    def __init__(
        self, source: Host, target: Host, plan: Plan, folder: Path, options: Options = DEFAULTS
    ) -> None:
        self._source, self._target, self._plan, self._folder = source, target, plan, folder
        self._options = options
        self._readers = Readers(source)
        self._works: dict[str, tuple[Work, ExitStack]] = {}
        self.idle = 0.0  # seconds that the last ``go`` lost to the hours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def go(
        self, kind: str, report: Report = silent, *, last: bool = False
    ) -> tuple[PassResult, ...]:
        """A pass over every disk: ``full`` goes on where it was stopped and is not repeated once
        it is finished, ``delta`` compares all that is used. ``last``: none will follow."""
        if self._options.again:
            take_back(self._plan, self._folder)
        results, self.idle = [], 0.0
        for disk in self._plan.disks:
            stay = not last or disk is not self._plan.disks[-1]
            outcome = self._patiently(disk, kind, report, stay=stay)
            if outcome is not None:
                results.append(_told(kind, outcome))
            if last:
                self._part(disk)
        return tuple(results)

    def rest(self) -> None:
        """End all agents and connections; the next pass makes new ones."""
        self._end()
        self._source.close()
        self._target.close()

    def _end(self) -> None:
        for disk in self._plan.disks:
            self._part(disk)
        self._readers.close()

    def _patiently(
        self, disk: DiskPlan, kind: str, report: Report, *, stay: bool
    ) -> Outcome | None:
        """One disk's pass, in the hours when it may be done."""
        limits = self._options.limits
        while True:
            began = time.monotonic()
            try:
                limits.check()
                return self._pass(disk, kind, report, stay=stay)
            except OutsideHours:
                self.rest()  # nobody keeps a connection alive all day
                limits.wait(report)
                self.idle += time.monotonic() - began

    def _pass(self, disk: DiskPlan, kind: str, report: Report, *, stay: bool) -> Outcome | None:
        if disk.source not in self._works:
            self._open(disk, kind, report)
        work, stack = self._works[disk.source]
        if work.published or (kind == "full" and work.journal.finished("full")):
            return None
        try:
            return work.walk(kind, self._options, report, stay=stay)
        except BaseException as fault:
            del self._works[disk.source]
            stack.__exit__(type(fault), fault, fault.__traceback__)
            raise

    def _open(self, disk: DiskPlan, kind: str, report: Report) -> None:
        with ExitStack() as stack:
            work = stack.enter_context(
                opened(
                    *(self._source, self._target, self._plan, self._folder, disk, self._options),
                    *(kind, report, self._readers),
                )
            )
            self._works[disk.source] = work, stack.pop_all()

    def _part(self, disk: DiskPlan) -> None:
        _, stack = self._works.pop(disk.source, (None, ExitStack()))
        stack.close()


def take_back(plan: Plan, folder: Path) -> None:
    """The proof is void from here on. Never once the domain lives on the replica."""
    refuse(plan, folder)
    (folder / "transfer.json").unlink(missing_ok=True)


def refuse(plan: Plan, folder: Path) -> None:
    """Raises UsageProblem where a domain stands on the replica."""
    past.refuse(plan.host, folder, f"the domain {plan.domain} stands on this replica")


def _told(kind: str, outcome: Outcome) -> PassResult:
    return PassResult(
        kind=kind,
        used=outcome.used,
        read=outcome.read,
        sent=outcome.sent,
        wire=outcome.wire,
        seconds=outcome.seconds,
        direct=outcome.direct,
    )
