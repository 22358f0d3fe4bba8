"""What the state directory says of a whole run: every stage's documents as sections of a report.

Stages are read through their files alone, so that a report can be made of any run, however far it
came, and of results that an older version wrote.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.documents import load
from core.errors import Problem
from core.quantities import duration, size
from core.rules import Answer, Finding, Severity
from core.state import State
from migrate.plan import Plan
from migrate.source import SourceHost

LIMIT = 16 * 1024 * 1024
SIZES = ("size", "bytes", "memory", "used", "free", "room")
HIDDEN = ("version", "inode", "modified", "skip")  # what a stage keeps for itself
ROWS, COLUMNS, LONG = 60, 8, 300


class Status(StrEnum):
    """How far a stage is."""

    DONE = "done"
    BLOCKED = "blocked"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading each; ``title`` is a word of the vocabulary."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one subject. ``facts`` are pairs of a key and a readable value."""

    name: str
    status: Status
    path: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """The mirror, a site, or a server, with its stages in order."""

    kind: str
    name: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """All of it; ``until`` is when the newest document was written."""

    subjects: tuple[Subject, ...]
    until: datetime | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding that is no pass."""
        return tuple(
            finding
            for subject in self.subjects
            for stage in subject.stages
            for finding in stage.findings
            if finding.answer is not Answer.PASS
        )


MIGRATION = (
    ("discover", "source.json"),
    ("assess", "report.json"),
    ("plan", "plan.yml"),
    ("forecast", "forecast.json"),
    ("transfer", "transfer.json"),
    ("prove", "proof.json"),
    ("convert", "convert.json"),
    ("define", "domain.xml"),
    ("verify", "verify.json"),
    ("cutover", "cutover.json"),
)
EXTRA = ("forecast", "prove")  # done for those who ask


def gather(state: State) -> Run:
    """Read what is there. A document that can't be read is said to be so, never left out."""
    subjects = [
        Subject(
            "mirror", "mirror", (_stage("mirror", state.mirror / "current" / "published.json"),)
        )
    ]
    subjects += [_site(folder) for folder in _folders(state.root / "deploy")]
    subjects += [_server(folder) for folder in _folders(state.root / "migrate")]
    paths = [Path(stage.path) for subject in subjects for stage in subject.stages if stage.path]
    newest = max((path.stat().st_mtime for path in paths if path.exists()), default=None)
    until = None if newest is None else datetime.fromtimestamp(newest, UTC)
    return Run(tuple(subjects), until)


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(entry for entry in path.iterdir() if entry.is_dir())


def _site(folder: Path) -> Subject:
    stages = [_stage(path.stem, path) for path in sorted(folder.glob("*.json"))]
    return Subject("site", folder.name, tuple(stages) or (Stage("deploy", Status.OPEN),))


def _server(folder: Path) -> Subject:
    made = {"discover": _discovery, "plan": _plan}
    stages = [
        made.get(name, _of_file(name))(folder / file)
        for name, file in MIGRATION
        if name not in EXTRA or (folder / file).exists()
    ]
    return Subject("server", folder.name, tuple(stages))


def _of_file(name: str) -> Any:
    return lambda path: _stage(name, path)


def _stage(name: str, path: Path) -> Stage:
    """Any JSON document: its scalars as facts, its lists as tables, its findings as findings."""
    if not path.exists():
        return Stage(name, Status.OPEN)
    if path.suffix != ".json":
        return Stage(name, Status.DONE, str(path), (("file", path.name), ("bytes", _file(path))))
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError(f"{path.stat().st_size} bytes")
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        return Stage(name, Status.BLOCKED, str(path), (("unreadable", _short(fault)),))
    if not isinstance(data, dict):
        data = {"value": data}
    findings = tuple(_findings(data.pop("findings", ())))
    blocked = any(finding.blocks for finding in findings)
    return Stage(
        name,
        Status.BLOCKED if blocked else Status.DONE,
        str(path),
        tuple(_facts(data)),
        tuple(_tables(data)),
        findings,
    )


def _findings(raw: object) -> Iterator[Finding]:
    for entry in raw if isinstance(raw, list) else ():
        try:
            yield Finding.model_validate(entry)
        except ValidationError:
            yield Finding(
                rule="report.unreadable",
                title="a finding that can't be read",
                severity=Severity.WARNING,
                answer=Answer.ERROR,
                evidence=_short(entry),
            )


def _facts(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not prefix:
            yield from _facts(value, f"{name}.")
        elif isinstance(value, list):
            if value and all(not isinstance(item, dict | list) for item in value):
                yield name, _short(", ".join(str(item) for item in value))
        elif not isinstance(value, dict) and value not in ("", None) and key not in HIDDEN:
            yield name, _readable(key, value)


def _tables(data: dict[str, Any]) -> Iterator[Table]:
    for key, value in data.items():
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        names = dict.fromkeys(key for row in rows for key in row if key not in HIDDEN)
        columns = tuple(names)[:COLUMNS]
        if columns:
            cells = (tuple(_readable(c, row.get(c, "")) for c in columns) for row in rows[:ROWS])
            yield Table(key, columns, tuple(cells))


def _readable(key: str, value: object) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and any(key == word or key.endswith(f"_{word}") for word in SIZES):
        return size(float(value))  # type: ignore[arg-type]
    if number and key.endswith("seconds"):
        return duration(float(value))  # type: ignore[arg-type]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _short(value)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONG else f"{text[:LONG]} …"


def _file(path: Path) -> str:
    return size(path.stat().st_size)


def _discovery(path: Path) -> Stage:
    """source.json on a screen: what the machine was, not all that was asked."""
    if not path.exists():
        return Stage("discover", Status.OPEN)
    try:
        host = load(path, SourceHost)
    except Problem:
        return _stage("discover", path)
    facts = (
        ("address", host.address),
        ("system", f"{host.os.name}, {host.os.kernel}, {host.os.arch}"),
        ("machine", host.product or "–"),
        ("processors", f"{host.cpu.count} × {host.cpu.model}"),
        ("memory", size(host.memory)),
        ("firmware", host.firmware or "–"),
        ("taken", f"{host.taken:%F %T} UTC"),
        ("gateway", host.gateway),
    )
    return Stage(
        "discover", Status.DONE, str(path), tuple(pair for pair in facts if pair[1]), _machine(host)
    )


def _machine(host: SourceHost) -> tuple[Table, ...]:
    local = [fs for fs in host.filesystems if not fs.remote]
    tables = (
        _table(
            "disks",
            ("name", "size", "model"),
            ((d.path, size(d.size), d.model) for d in host.disks),
        ),
        _table(
            "filesystems",
            ("mountpoint", "kind", "used", "size"),
            ((fs.mountpoint, fs.kind, size(fs.used), size(fs.size)) for fs in local),
        ),
        _table(
            "interfaces",
            ("name", "mac", "addresses"),
            ((c.name, c.mac, ", ".join(c.addresses)) for c in host.interfaces),
        ),
        _table(
            "listeners",
            ("protocol", "address", "port", "process"),
            ((s.protocol, s.address, str(s.port), s.process) for s in host.listeners),
        ),
        _table(
            "pages",
            ("url", "status", "sha256"),
            ((page.url, str(page.status), page.sha256[:16]) for page in host.pages),
        ),
        _table("missing", ("fact", "reason"), host.missing.items()),
    )
    return tuple(table for table in tables if table.rows)


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    return Table(title, columns, tuple(rows)[:ROWS])


def _plan(path: Path) -> Stage:
    if not path.exists():
        return Stage("plan", Status.OPEN)
    try:
        plan = load(path, Plan)
    except Problem as problem:
        return Stage("plan", Status.BLOCKED, str(path), (("unreadable", problem.message),))
    facts = (
        ("domain", plan.domain),
        ("hypervisor", plan.hypervisor),
        ("pool", f"{plan.pool} ({plan.pool_path})"),
        ("uuid", plan.uuid),
        ("processors", str(plan.vcpus)),
        ("memory", size(plan.memory)),
        ("stops", ", ".join(plan.quiesce.services)),
        ("read_only", ", ".join(plan.quiesce.mountpoints)),
    )
    tables = (
        _table(
            "disks",
            ("source", "size", "target", "bus"),
            ((d.source, size(d.size), d.target, d.bus) for d in plan.disks),
        ),
        _table("nics", ("mac", "model", "bridge"), ((n.mac, n.model, n.bridge) for n in plan.nics)),
    )
    return Stage("plan", Status.DONE, str(path), facts, tables)
