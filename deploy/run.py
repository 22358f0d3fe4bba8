"""Installing a site, phase by phase. A phase is done when its result lies in the state directory
and still belongs to what the phase consists of; a run begins at the first that is not done."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from core.documents import Document, load
from core.errors import BadDocument, Blocked, OutsideFailed, UsageProblem
from core.ports import Clock, Playbooks, PlayEvent, PlayResult, Web
from core.progress import Meter, Report, Unit, track
from core.rules import Finding, blockers
from core.state import lock, publish_model
from deploy import bundle, inventory, rules
from deploy.bundle import Content, Phase
from deploy.site import Site


class SiteBlocked(Blocked):
    """The description of the site breaks rules; nothing was changed."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        """``findings`` are all answers; those that block are the reason."""
        count = len(blockers(findings))
        super().__init__(
            f"{count} finding{'s' * (count != 1)} of severity blocker",
            hint="follow what each finding says, then run the same command again",
        )
        self.findings = findings


class PhaseFailed(OutsideFailed):
    """A phase of an installation did not succeed on every host."""


class Change(Document):
    """One task that changed one host."""

    host: str
    task: str


class Done(Document):
    """A finished phase: what it was made from, when, and what came of it."""

    version: int = 1
    phase: str
    finished: datetime
    site: str
    bundle: str
    content: str
    mirror: str
    hosts: dict[str, dict[str, int]]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Cloud:
    """A site with its bundle, the directory of its inventory, and that of its results."""

    site: Site
    content: Content
    inventory: Path
    folder: Path

    def describe(self, *, check: bool) -> tuple[Path, tuple[Path, ...]]:
        """Write the inventory; its hosts.yml, and the files that changed. One that only checks
        leaves what stands beside cloud.yml alone."""
        folder = self.folder / "check" if check else self.inventory
        changed = inventory.write(self.site, folder)
        return folder / "hosts.yml", () if check else changed

    def result(self, phase: Phase) -> Path:
        """Where the phase's result lies; the number keeps a listing in order."""
        return self.folder / f"{self.content.number(phase)}-{phase.name}.json"


@dataclass(frozen=True, slots=True)
class World:
    """What an installation needs of the outside."""

    playbooks: Playbooks
    web: Web
    clock: Clock


@dataclass(frozen=True, slots=True)
class Options:
    """Which phases run: from one on, only one, done ones again; ``check`` changes nothing."""

    begin: str = ""
    only: str = ""
    again: bool = False
    check: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """One phase of a run. ``result`` is None when it was done before."""

    phase: str
    result: PlayResult | None = None

    @property
    def changed(self) -> int:
        """How many times a task changed a host."""
        return len(self.result.changes) if self.result else 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run. ``written`` are the inventory files that changed."""

    phases: tuple[Ran, ...]
    written: tuple[Path, ...] = field(default=())


def judge(cloud: Cloud) -> tuple[Finding, ...]:
    """What the rules say about the site."""
    return rules.check(cloud.site, bundle.variables(cloud.content))


def mirror_identity(site: Site, web: Web) -> str:
    """The digest of the repository's index. Raises OutsideFailed when the mirror does not answer
    with one."""
    url = f"{site.mirror.url}repodata/repomd.xml"
    hint = "`groundlift mirror serve` serves it; `mirror status` says whether it does"
    try:
        answer = web.fetch(url)
    except OutsideFailed as fault:
        raise OutsideFailed(fault.message, hint=hint, where=fault.where) from fault
    if answer.status != 200 or b"<repomd" not in answer.body:
        raise OutsideFailed(
            f"{url} is no index of a repository (status {answer.status})", hint=hint
        )
    return hashlib.sha256(answer.body).hexdigest()


def read(path: Path) -> Done | None:
    """A phase's result. One that can't be read is none: the phase runs again."""
    try:
        return load(path, Done) if path.exists() else None
    except BadDocument:
        return None


def site_digest(site: Site) -> str:
    """What of the site an installation depends on; the servers that move in later are no part."""
    return hashlib.sha256(site.model_dump_json(exclude={"sources"}).encode()).hexdigest()


def fresh(cloud: Cloud, phase: Phase, done: Done | None, mirror: str = "") -> bool:
    """Whether ``done`` is the result of what the phase is today. Without ``mirror`` (status asks no
    network) the repository counts as unchanged."""
    return done is not None and (
        (done.phase, done.site, done.bundle, done.content)
        == (
            phase.name,
            site_digest(cloud.site),
            cloud.content.bundle.name,
            cloud.content.digest(phase),
        )
        and mirror in ("", done.mirror)
    )


def chosen(cloud: Cloud, options: Options, mirror: str) -> tuple[Phase, ...]:
    """The phases to run: those asked for, or all from the first that is not done."""
    phases = cloud.content.bundle.phases
    known = [phase.name for phase in phases]
    for name in filter(None, (options.begin, options.only)):
        if name not in known:
            raise UsageProblem(f"there is no phase {name}", hint=f"one of: {', '.join(known)}")
    if options.begin and options.only:
        raise UsageProblem("--from and --only exclude each other")
    if options.only:
        return tuple(phase for phase in phases if phase.name == options.only)
    if options.begin:
        return phases[known.index(options.begin) :]
    if options.again or options.check:
        return phases
    for at, phase in enumerate(phases):
        if not fresh(cloud, phase, read(cloud.result(phase)), mirror):
            return phases[at:]
    return ()


def run(cloud: Cloud, world: World, options: Options, report: Report) -> Summary:
    """Install. Raises SiteBlocked, OutsideFailed or PhaseFailed; then run again to continue."""
    findings = judge(cloud)
    if blockers(findings):
        raise SiteBlocked(findings)
    with lock(cloud.folder / "lock", f"the installation of {cloud.site.site}"):
        mirror = mirror_identity(cloud.site, world.web)
        wanted = chosen(cloud, options, mirror)
        hosts, written = cloud.describe(check=options.check)
        ran: list[Ran] = []
        for phase in cloud.content.bundle.phases:
            turn = Turn(phase, mirror, hosts, options.check)
            left_out = phase not in wanted or (options.check and _proves_too_early(phase, ran))
            ran.append(Ran(phase.name) if left_out else _run_phase(cloud, world, turn, report))
    return Summary(tuple(ran), written)


def _proves_too_early(phase: Phase, before: list[Ran]) -> bool:
    """A phase without roles asks what the others made: nothing to ask while that is to come."""
    return not phase.roles and any(ran.changed for ran in before)


@dataclass(frozen=True, slots=True)
class Turn:
    """One phase that is run now, with the repository and the inventory it is run with."""

    phase: Phase
    mirror: str
    hosts: Path
    check: bool


def _run_phase(cloud: Cloud, world: World, turn: Turn, report: Report) -> Ran:
    path = cloud.result(turn.phase)
    before = read(path)
    if not turn.check:
        path.unlink(missing_ok=True)  # what a broken run leaves behind is not what stood there
    name = f"{turn.phase.name}{' (check)' if turn.check else ''}"
    with track(report, name, unit=Unit.ITEMS) as meter:
        result = world.playbooks.run(
            cloud.content.playbook(turn.phase),
            turn.hosts,
            check=turn.check,
            on_event=_watch(meter),
        )
        if result.code != 0 or result.failures:
            raise _failure(turn.phase, result)
    if not turn.check:
        done = _done(cloud, turn, result, world.clock)
        publish_model(path, before if before is not None and _same(before, done) else done)
    return Ran(turn.phase.name, result)


def _watch(meter: Meter) -> Callable[[PlayEvent], None]:
    def watch(event: PlayEvent) -> None:
        if event.kind == "playbook":
            meter.total = event.total
        elif event.kind == "task":
            meter.total = max(meter.total or 0, meter.done + 1)  # included files come on top
            meter.advance(text=event.task)
        elif event.kind in ("failed", "unreachable"):
            meter.note(f"{event.host}: {event.task}: {event.message}")
        elif event.kind == "changed":
            meter.note(f"{event.host}: changed: {event.task}")

    return watch


def _failure(phase: Phase, result: PlayResult) -> PhaseFailed:
    hosts = sorted({event.host for event in result.failures})
    first = f": {result.failures[0].task}: {result.failures[0].message}" if hosts else ""
    return PhaseFailed(
        f"phase {phase.name} failed on {', '.join(hosts) or 'no host by name'}{first}",
        hint="mend what it names; the same command continues with this phase",
        where=hosts[0] if len(hosts) == 1 else "",
    )


def _done(cloud: Cloud, turn: Turn, result: PlayResult, clock: Clock) -> Done:
    return Done(
        phase=turn.phase.name,
        finished=clock.now(),
        site=site_digest(cloud.site),
        bundle=cloud.content.bundle.name,
        content=cloud.content.digest(turn.phase),
        mirror=turn.mirror,
        hosts={host: dict(counts) for host, counts in sorted(result.stats.items())},
        changes=tuple(Change(host=event.host, task=event.task) for event in result.changes),
    )


def _same(before: Done, now: Done) -> bool:
    """A second run that changed nothing has nothing new to tell, not even a time."""
    left_out = {"finished", "hosts", "changes"}
    return not now.changes and before.model_dump(exclude=left_out) == now.model_dump(
        exclude=left_out
    )
