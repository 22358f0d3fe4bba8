"""What must hold for a site as a whole, judged before anything is touched.

What one field must look like is said in deploy.site; here are the rules about several of them.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from core.rules import Finding, Outcome, Severity, failed, judge, passed
from deploy import addressing
from deploy.addressing import all_of, having, repeated, rule
from deploy.site import Role, Site

# Names that mean something to Ansible in an inventory.
RESERVED = frozenset({"all", "ungrouped", "localhost", *(role.value for role in Role)})
# Directories that hold the system; a pool on one of them, or above one, would mix with it.
SYSTEM = tuple(
    PurePosixPath(path)
    for path in (
        *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin"),
        *("/sys", "/usr", "/var/cache", "/var/lib/libvirt/qemu", "/var/lib/rpm"),
        *("/var/lib/yum", "/var/log", "/var/run", "/var/spool", "/var/lib/groundlift"),
        *("/tmp", "/var/tmp"),  # noqa: S108 (names only)
    )
)

BLOCKER, WARNING = Severity.BLOCKER, Severity.WARNING


def names_unique(site: Site) -> Outcome | Iterable[Outcome]:
    groups = {
        "nodes": [node.name for node in site.nodes],
        "networks": [network.name for network in site.networks],
        "pools": [pool.name for pool in site.pools],
        "sources": [source.name for source in site.sources],
    }
    return all_of(
        failed(f"{name} is used twice", where=kind)
        for kind, names in groups.items()
        for name in repeated(names)
    )


def names_free(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{node.name} has a meaning of its own in an inventory", where=node.name)
        for node in site.nodes
        if node.name in RESERVED or node.name.endswith("-")
    )


def roles_once(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{role} is written twice", where=node.name)
        for node in site.nodes
        for role in repeated(role.value for role in node.roles)
    )


def has_management(site: Site) -> Outcome:
    return passed() if having(site, Role.MANAGEMENT) else failed("no node has it")


def has_hypervisor(site: Site) -> Outcome:
    return passed() if having(site, Role.HYPERVISOR) else failed("no node has it")


def has_two_hypervisors(site: Site) -> Outcome:
    count = len(having(site, Role.HYPERVISOR))
    return failed("one") if count == 1 else passed(str(count))


def has_shared_pool(site: Site) -> Outcome:
    if len(having(site, Role.HYPERVISOR)) < 2 or any(pool.shared for pool in site.pools):
        return passed()
    return failed("none of " + ", ".join(pool.name for pool in site.pools))


def _overlap(one: PurePosixPath, two: PurePosixPath) -> bool:
    return one == two or one in two.parents or two in one.parents


def pools_apart_from_system(site: Site) -> Outcome | Iterable[Outcome]:
    return all_of(
        failed(f"{pool.path} overlaps {system}", where=pool.name)
        for pool in site.pools
        for system in SYSTEM
        if _overlap(PurePosixPath(pool.path), system)
    )


def pools_apart(site: Site) -> Outcome | Iterable[Outcome]:
    pairs = [(one, two) for at, one in enumerate(site.pools) for two in site.pools[at + 1 :]]
    return all_of(
        failed(f"{one.path} and {two.path} overlap", where=f"{one.name}, {two.name}")
        for one, two in pairs
        if _overlap(PurePosixPath(one.path), PurePosixPath(two.path))
    )


def has_time(site: Site) -> Outcome:
    return passed() if site.time.servers else failed("time.servers is empty")


def time_from_management(site: Site) -> Outcome | Iterable[Outcome]:
    nodes = {str(node.address): node for node in site.nodes}
    nodes |= {node.name: node for node in site.nodes}
    return all_of(
        failed(f"{server} is a node, and none for management", where="time.servers")
        for server in site.time.servers
        if server in nodes and Role.MANAGEMENT not in nodes[server].roles
    )


def sources_have_targets(site: Site) -> Outcome | Iterable[Outcome]:
    hypervisors = {node.name for node in having(site, Role.HYPERVISOR)}
    pools = {pool.name for pool in site.pools}
    networks = {network.name for network in site.networks}
    return all_of(
        failed(f"there is no {kind} {name}", where=source.name)
        for source in site.sources
        for kind, name, known in (
            ("hypervisor", source.target.hypervisor, hypervisors),
            ("pool", source.target.pool, pools),
            ("network", source.target.network, networks),
            ("traffic group", source.group or "", {"", *site.traffic.groups}),
        )
        if name not in known
    )


def direct_by_both(site: Site) -> Outcome | Iterable[Outcome]:
    open_ = {node.name for node in site.nodes if node.direct}
    return all_of(
        failed(f"{source.target.hypervisor} does not say it", where=source.name)
        for source in site.sources
        if source.direct and source.target.hypervisor not in open_
    )


def mirror_of_release(site: Site) -> Outcome:
    wanted = f"/centos/{site.release}/os/x86_64/"
    if site.mirror.url.endswith(wanted):
        return passed(site.mirror.url)
    return failed(f"{site.mirror.url} does not end in {wanted}", where="mirror.url")


def variables_known(site: Site, known: frozenset[str]) -> Outcome | Iterable[Outcome]:
    groups = {"vars": site.vars, **{node.name: node.vars for node in site.nodes}}
    return all_of(
        failed(f"no role has a variable {name}", where=where)
        for where, names in groups.items()
        for name in names
        if name not in known
    )


RENAME = "give each its own name in cloud.yml"
RULES = (
    *addressing.RULES,
    rule("names_unique", "Names are unique", BLOCKER, RENAME, names_unique),
    rule("names_free", "Node names are free", BLOCKER, "choose another name", names_free),
    rule("roles_once", "A node has a role once", WARNING, "write it once", roles_once),
    rule(
        "has_management",
        "There is a management node",
        BLOCKER,
        "give one node the role management",
        has_management,
    ),
    rule(
        "has_hypervisor",
        "There is a hypervisor",
        BLOCKER,
        "give at least one node the role hypervisor",
        has_hypervisor,
    ),
    rule(
        "has_two_hypervisors",
        "There are two hypervisors",
        WARNING,
        "add a second one: with one, its maintenance stops every domain",
        has_two_hypervisors,
    ),
    rule(
        "has_shared_pool",
        "Hypervisors share a pool",
        WARNING,
        "mount one export on all of them and say `shared: true`: live migration needs it",
        has_shared_pool,
    ),
    rule(
        "pools_apart_from_system",
        "Pools lie apart from the system",
        BLOCKER,
        "choose a directory of their own, such as /var/lib/libvirt/images/NAME",
        pools_apart_from_system,
    ),
    rule(
        "pools_apart",
        "Pools lie apart from each other",
        BLOCKER,
        "choose directories of which none lies in another",
        pools_apart,
    ),
    rule(
        "has_time",
        "Somebody tells the time",
        WARNING,
        "name a management node or a clock of the customer's under `time.servers`: "
        "without, nodes drift apart and live migration suffers",
        has_time,
    ),
    rule(
        "time_from_management",
        "Nodes that tell the time are management nodes",
        BLOCKER,
        "name a node with the role management",
        time_from_management,
    ),
    rule(
        "sources_have_targets",
        "Targets of sources exist",
        BLOCKER,
        "name a hypervisor, a pool and a network of this site",
        sources_have_targets,
    ),
    rule(
        "direct_by_both",
        "Who sends data straight to a hypervisor is let in there",
        WARNING,
        "say `direct: true` of the hypervisor, too; else the data goes through the controller",
        direct_by_both,
    ),
    rule(
        "mirror_of_release",
        "The mirror is one of this release",
        BLOCKER,
        "write the address that `groundlift mirror serve` prints",
        mirror_of_release,
    ),
)


def check(site: Site, variables: frozenset[str]) -> tuple[Finding, ...]:
    """Every rule's answer; ``variables`` are those that the bundle's roles have."""
    known = rule(
        "variables_known",
        "Variables belong to a role",
        WARNING,
        "correct the name: the README of each role lists its variables",
        lambda subject: variables_known(subject, variables),
    )
    return judge((*RULES, known), site)
