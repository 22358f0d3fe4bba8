"""Closure: whether a repository holds every package that named roots need on a minimal install.

libsolv decides, with yum's rules: what is not proven is a finding. A walk of our own then names
each missing requirement, because a solver stops at the first reason it finds.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import solv

from core.documents import Document
from core.errors import Blocked
from core.progress import Report, track
from core.rules import Finding, Outcome, Rule, Severity, failed, judge, passed
from isomirror import comps
from isomirror.metadata import BadMetadata, Metadata

MINIMAL = "@core"
SHOWN = 50  # missing requirements named one by one
_SELECT = (
    solv.Selection.SELECTION_NAME
    | solv.Selection.SELECTION_PROVIDES
    | solv.Selection.SELECTION_FILELIST
    | solv.Selection.SELECTION_CANON
    | solv.Selection.SELECTION_DOTARCH
    | solv.Selection.SELECTION_REL
)


class NotClosed(Blocked):
    """The repository does not hold everything that what was named needs."""


class Needed(Document):
    """A package that is installed beyond the minimal install. ``bytes`` are those of its file;
    ``wanted_by`` is "" when it was named."""

    nevra: str
    path: str
    medium: str
    bytes: int
    wanted_by: str


class Missing(Document):
    """A requirement that nothing meets, and what wants it, from the root on."""

    requirement: str
    wanted_by: tuple[str, ...]


class Proof(Document):
    """What was asked and what came of it."""

    roots: tuple[str, ...]
    minimal: int
    packages: tuple[Needed, ...]
    missing: tuple[Missing, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Answer:
    """What the rules judge."""

    lost_roots: tuple[str, ...]
    lost_members: tuple[str, ...]
    missing: tuple[Missing, ...]
    problems: tuple[str, ...]
    asked: int


def prove(
    metadata: Metadata,
    roots: Sequence[str],
    medium: Callable[[str], str],
    report: Report,
    arch: str = "x86_64",
) -> Proof:
    """Resolve ``roots`` (names, name.arch, files, ``@group``) together with the minimal install.
    ``medium`` names the medium of a package's path. Raises BadMetadata."""
    with track(report, "resolve dependencies") as meter:
        world = _World(metadata, arch)
        meter.advance(text="the minimal install")
        base, lost, members = world.jobs((MINIMAL,))
        small = world.solve(base)
        meter.advance(text=", ".join(roots))
        more, lost_too, members_too = world.jobs(roots)
        whole = world.solve([*base, *more])
        missing = () if whole.installed else world.missing([*base, *more])
    known = {solvable.id for solvable in small.installed}
    packages = tuple(
        Needed(
            nevra=str(solvable), path=solvable.lookup_location()[0],
            medium=medium(solvable.lookup_location()[0]),
            bytes=solvable.lookup_num(solv.SOLVABLE_DOWNLOADSIZE),
            wanted_by=wanted,
        )
        for solvable, wanted in world.reasons(whole.installed, [*base, *more])
        if solvable.id not in known
    )  # fmt: skip
    answer = _Answer(
        (*lost, *lost_too), (*members, *members_too), missing, whole.problems, len(whole.installed)
    )
    return Proof(
        roots=tuple(roots), minimal=len(known), packages=packages, missing=missing,
        findings=judge(RULES, answer),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Solved:
    installed: tuple["solv.XSolvable", ...]
    problems: tuple[str, ...] = ()


class _World:
    """A pool with one repository in it."""

    def __init__(self, metadata: Metadata, arch: str) -> None:
        self.pool = solv.Pool()
        self.pool.setarch(arch)
        self.repo = self.pool.add_repo("mirror")
        self._load(metadata.primary, metadata.names["primary"], 0)
        self._load(metadata.filelists, metadata.names["filelists"],
                   solv.Repo.REPO_EXTEND_SOLVABLES)  # fmt: skip
        self.pool.addfileprovides()
        self.pool.createwhatprovides()
        self.groups = comps.groups(metadata.groups, "comps") if metadata.groups else {}

    def _load(self, raw: bytes, name: str, flags: int) -> None:
        memory = os.memfd_create(name)
        try:
            os.write(memory, raw)
            os.lseek(memory, 0, os.SEEK_SET)
            file = solv.xfopen_fd(name, memory)
            if file is None or not self.repo.add_rpmmd(file, None, flags):
                raise BadMetadata(
                    f"{name} can't be read: {self.pool.errstr}",
                    hint="run `groundlift mirror build` again",
                )
            file.close()
        finally:
            os.close(memory)

    def jobs(
        self, roots: Iterable[str]
    ) -> tuple[list["solv.Job"], tuple[str, ...], tuple[str, ...]]:
        """Jobs that install ``roots``; the roots, and the members of groups, that are not there."""
        jobs, lost, members = [], [], []
        for root in roots:
            if not root.startswith("@"):
                found = self.select(root)
                jobs += found
                lost += [] if found else [root]
                continue
            group = self.groups.get(root[1:])
            if group is None:
                lost.append(root)
                continue
            for name in (*group.required, *group.default):
                found = self.select(name)
                jobs += found
                if not found and name in group.required:
                    lost.append(f"{name} (of {root})")
                elif not found:
                    members.append(f"{name} (of {root})")
            for name, when in group.conditional:
                if not self.select(name) and self.select(when):
                    members.append(f"{name} (of {root}, with {when})")
        return jobs, tuple(lost), tuple(members)

    def select(self, name: str) -> list["solv.Job"]:
        jobs: list[solv.Job] = self.pool.select(name, _SELECT).jobs(solv.Job.SOLVER_INSTALL)
        return jobs

    def solve(self, jobs: list["solv.Job"]) -> _Solved:
        solver = self.pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        problems = solver.solve(jobs)
        if problems:
            said = {
                str(rule.info().problemstr()) for p in problems for rule in p.findallproblemrules()
            }
            return _Solved((), tuple(sorted(said)))
        return _Solved(tuple(solver.transaction().newsolvables()))

    def reasons(
        self, installed: tuple["solv.XSolvable", ...], jobs: list["solv.Job"]
    ) -> list[tuple["solv.XSolvable", str]]:
        """Each package with what wants it first; "" for one that was named."""
        left = {solvable.id: solvable for solvable in installed}
        queue = [(s, "") for job in jobs for s in job.solvables() if s.id in left]
        found = []
        for solvable, wanted in queue:  # grows as it is walked
            if left.pop(solvable.id, None) is None:
                continue
            found.append((solvable, wanted))
            for dep in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES):
                queue += [(p, str(solvable)) for p in self.pool.whatprovides(dep) if p.id in left]
        return found

    def missing(self, jobs: list["solv.Job"]) -> tuple[Missing, ...]:
        """Every requirement without a provider that the roots lead to, by the likeliest way."""
        seen: dict[int, tuple[str, ...]] = {}
        found: dict[str, tuple[str, ...]] = {}
        queue: list[tuple[solv.XSolvable, tuple[str, ...]]] = []
        for job in jobs:
            queue += [(solvable, ()) for solvable in job.solvables()[:1]]
        for solvable, chain in queue:  # grows as it is walked
            if solvable.id in seen:
                continue
            here = seen[solvable.id] = (*chain, str(solvable))
            for dep in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES):
                providers = self.pool.whatprovides(dep)
                if not providers:
                    found.setdefault(str(dep), here)
                elif not any(provider.id in seen for provider in providers):
                    queue.append((providers[0], here))
        return tuple(Missing(requirement=dep, wanted_by=chain) for dep, chain in found.items())


def _roots(answer: _Answer) -> list[Outcome]:
    return [failed("no package, group or file of this name", where=root)
            for root in answer.lost_roots]  # fmt: skip


def _members(answer: _Answer) -> list[Outcome]:
    return [failed("not in the repository", where=member) for member in answer.lost_members]


def _requirements(answer: _Answer) -> list[Outcome]:
    shown = [
        failed(f"nothing provides {lost.requirement}", where=" → ".join(lost.wanted_by))
        for lost in answer.missing[:SHOWN]
    ]
    more = len(answer.missing) - SHOWN
    return shown + ([failed(f"{more} more; --json names them all")] if more > 0 else [])


def _installable(answer: _Answer) -> Outcome | list[Outcome]:
    if answer.problems:
        return [failed(problem) for problem in answer.problems[:SHOWN]]
    return passed(f"{answer.asked} packages")


RULES: tuple[Rule[_Answer], ...] = (
    Rule(
        "closure.root_exists", "What was named is in the repository", Severity.BLOCKER,
        "add the medium that holds it (`groundlift mirror add`), or correct the name", _roots,
    ),
    Rule(
        "closure.requirement_met", "Every requirement is met", Severity.BLOCKER,
        "add the medium that holds a package which provides it (`groundlift mirror add`)",
        _requirements,
    ),
    Rule(
        "closure.installable", "Everything can be installed together", Severity.BLOCKER,
        "add what is missing, or name fewer packages: these can't stand side by side", _installable,
    ),
    Rule(
        "closure.group_complete", "The groups' default members are there", Severity.WARNING,
        "nothing, if nobody misses them: yum leaves out what it does not find", _members,
    ),
)  # fmt: skip
