"""Whether a site can be installed now: its rules, its mirror, its nodes. Changes nothing."""

from collections import defaultdict

from core.errors import OutsideFailed
from core.ports import PlayEvent, PlayResult
from core.progress import Report, track
from core.rules import Finding, Outcome, Rule, Severity, blockers, failed, judge, passed, unknown
from deploy import run, supplies
from deploy.run import Cloud, World
from deploy.site import Site

PRECHECK = "precheck"
Asked = tuple[Site, PlayResult | None]


def check(cloud: Cloud, world: World, report: Report) -> tuple[Finding, ...]:
    """All findings. Nodes are asked only about a site whose rules hold: asking needs addresses."""
    findings = run.judge(cloud) + _mirror(cloud, world)
    findings += supplies.findings(cloud.site, cloud.content.bundle, world.web, report)
    result = None
    if not blockers(run.judge(cloud)):
        result = _ask(cloud, world, report)
    return findings + judge(NODE_RULES, (cloud.site, result))


def _mirror(cloud: Cloud, world: World) -> tuple[Finding, ...]:
    def reachable(site: Site) -> Outcome:
        try:
            run.mirror_identity(site, world.web)
        except OutsideFailed as fault:
            return failed(str(fault), where=site.mirror.url)
        return passed(site.mirror.url)

    return judge(
        (
            Rule(
                "mirror.reachable",
                "The mirror answers",
                Severity.BLOCKER,
                "run `groundlift mirror serve`, and correct `mirror.url` if it serves elsewhere",
                reachable,
            ),
        ),
        cloud.site,
    )


def _ask(cloud: Cloud, world: World, report: Report) -> PlayResult:
    hosts, _ = cloud.describe(check=True)
    playbook = cloud.content.root / "playbooks" / f"{PRECHECK}.yml"
    with track(report, "ask the nodes") as meter:
        return world.playbooks.run(
            playbook,
            hosts,
            check=True,
            on_event=lambda event: meter.advance() if event.kind == "task" else None,
        )


def _failures(result: PlayResult, kind: str) -> dict[str, list[PlayEvent]]:
    found: dict[str, list[PlayEvent]] = defaultdict(list)
    for event in result.failures:
        if event.kind == kind:
            found[event.host].append(event)
    return found


def _reachable(asked: Asked) -> list[Outcome]:
    site, result = asked
    if result is None:
        return [unknown("not asked: the site's rules do not hold yet")]
    lost = _failures(result, "unreachable")
    return [
        failed(lost[node.name][0].message, where=node.name)
        if node.name in lost
        else passed(str(node.address), where=node.name)
        for node in site.nodes
    ]


def _ready(asked: Asked) -> list[Outcome]:
    site, result = asked
    if result is None:
        return [unknown("not asked: the site's rules do not hold yet")]
    faults, lost = _failures(result, "failed"), _failures(result, "unreachable")
    outcomes = []
    for node in site.nodes:
        if node.name in faults:
            outcomes += [
                failed(f"{event.task}: {event.message}", where=node.name)
                for event in faults[node.name]
            ]
        elif node.name in lost or node.name not in result.stats:
            outcomes.append(unknown("the node was not reached", where=node.name))
        else:
            outcomes.append(passed(where=node.name))
    return outcomes


NODE_RULES: tuple[Rule[Asked], ...] = (
    Rule(
        "node.reachable",
        "Nodes answer over SSH",
        Severity.BLOCKER,
        "see that the node is up, that its host key is in `ssh.known_hosts` and that "
        "`ssh.key` opens it",
        _reachable,
    ),
    Rule(
        "node.ready",
        "Nodes are fit to be installed",
        Severity.BLOCKER,
        "mend on the node what the evidence names; playbooks/precheck.yml says what is asked",
        _ready,
    ),
)
