"""How events and findings look on a terminal, in a log file, and as JSON."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from core.progress import Event, Kind, Report, Unit
from core.quantities import duration, plain, size
from core.rules import Answer, Finding, Severity

stderr = Console(stderr=True, highlight=False)
COLOURS = {Severity.BLOCKER: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


def _count(event: Event) -> str:
    show = size if event.unit is Unit.BYTES else lambda count: f"{count:.0f}"
    return f"{show(event.done)}/{show(event.total)}" if event.total else show(event.done)


class _Bars:
    """Bars with ETA on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event.kind is Kind.START or event.task not in self._tasks:
            self._tasks[event.task] = self._progress.add_task(
                event.task, total=event.total, what=""
            )
        if event.kind is Kind.NOTE:
            self._progress.console.print(f"  {plain(event.text)}", markup=False)
        task = self._tasks[event.task]
        what = _count(event) if event.done else ""
        self._progress.update(
            task, completed=event.done, total=event.total, what=what or plain(event.text)
        )
        if event.kind is Kind.FINISH:
            self._progress.update(task, total=event.done or 1, completed=event.done or 1)
            self._progress.stop_task(task)


class _Lines:
    """One line now and then, for logs and CI."""

    def __init__(self) -> None:
        self._start: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind is Kind.START:  # a task of the same name may have run before
            self._start[event.task] = now
        since = now - self._start.setdefault(event.task, now)
        if event.kind is Kind.ADVANCE and now - self._last.get(event.task, now - 5) < 10:
            return
        self._last[event.task] = now
        eta = ""
        if event.kind is Kind.ADVANCE and event.total and event.done:
            eta = f", {duration(since * (event.total - event.done) / event.done)} left"
        words = {Kind.START: "…", Kind.FINISH: f"done in {duration(since)}", Kind.FAIL: "FAILED"}
        text = " ".join(
            part
            for part in (words.get(event.kind, ""), _count(event) if event.done else "", event.text)
            if part
        )
        click.echo(plain(f"{event.task}: {text}{eta}"), err=True)


@contextmanager
def progress() -> Iterator[Report]:
    """A report that fits where stderr goes."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=False) as bars:
        yield _Bars(bars)


def show_findings(findings: Iterable[Finding], *, passes: bool = False) -> None:
    """Findings as paragraphs on stdout, the worst first; passes only when asked for."""
    order = list(Severity)
    for finding in sorted(findings, key=lambda finding: -order.index(finding.severity)):
        if finding.answer is Answer.PASS and not passes:
            continue
        mark = "ok" if finding.answer is Answer.PASS else finding.severity.value
        colour = "green" if finding.answer is Answer.PASS else COLOURS[finding.severity]
        where = f" [{finding.where}]" if finding.where else ""
        click.secho(f"{mark:8}", fg=colour, nl=False)
        answer = (
            "" if finding.answer in (Answer.PASS, Answer.FAIL) else f" ({finding.answer.value})"
        )
        click.echo(plain(f"{finding.rule}{where}: {finding.title}{answer}"))
        for text in (finding.evidence, f"→ {finding.remediation}" if finding.remediation else ""):
            if text:
                click.echo(f"         {plain(text)}")
        if finding.waiver:
            click.echo(f"         accepted by {finding.waiver.person}: {finding.waiver.reason}")
