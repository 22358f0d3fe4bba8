"""What runs there, and what of it binds it to its place, its neighbours or its hour."""

import re
from collections.abc import Iterable

from core.quantities import size
from core.rules import Outcome, Rule, Severity, failed, passed
from migrate.rules.network import own_addresses
from migrate.rules.subject import Subject, each, needs, one

DATABASES = re.compile(
    r"\b(mysqld|mariadbd|postgres|postmaster|ora_pmon_\w+|mongod|redis-server|db2sysc|slapd)\b"
)
DATABASE_SERVICES = re.compile(r"mysql|maria|postgres|mongo|redis|oracle|dbora|db2|slapd|ldap")
CLUSTERS = re.compile(
    r"\b(corosync|pacemakerd|cman|heartbeat|keepalived|clurgmgrd|crsd\.bin|ocssd\.bin|had|vcsd|drbd\w*)\b"
)
ORACLE_CLUSTER = ("crsd.bin", "ocssd.bin")
# Services of the system itself: they may go on while file systems are remounted.
SYSTEM = re.compile(
    r"(systemd-.*|dbus.*|getty.*|serial-getty.*|console-.*|ssh|sshd|network.*|NetworkManager|"
    r"rsyslog|syslog.*|auditd|udev.*|lvm2.*|blk-availability|kmod.*|keyboard.*|e2scrub.*|"
    r"irqbalance|acpid|haldaemon|messagebus|iptables|ip6tables|netfs|rc\.?local|wpa_.*|polkit|"
    r"cpuspeed|kdump|mdmonitor|abrt.*|sysstat|ntpd?|ntpdate|chrony.*|apparmor|grub.*|ifupdown.*|"
    r"user@.*|unattended-upgrades|emergency|rescue|dm-event|multipathd|firewalld|tuned|rpcbind)"
)


def _running(subject: Subject, pattern: re.Pattern[str]) -> list[str]:
    found = (pattern.search(process.command.split(" ")[0]) for process in subject.host.processes)
    return list(dict.fromkeys(match[1] for match in found if match))


@needs("sessions")
def _sessions(subject: Subject) -> Iterable[Outcome]:
    return each((line.text, line.path) for line in subject.host.sessions)


@needs("fixed_addresses")
def _fixed(subject: Subject) -> Iterable[Outcome]:
    """Its own address moves with it; a neighbour's must stay reachable."""
    own = own_addresses(subject) | set(subject.host.nameservers)
    return each(
        (line.text, line.path) for line in subject.host.fixed_addresses if line.text not in own
    )


@needs("cron")
def _cron(subject: Subject) -> Outcome:
    return one(f"{line.path}: {line.text}" for line in subject.host.cron)


@needs("processes")
def _database(subject: Subject) -> Outcome:
    programs = _running(subject, DATABASES)
    if not programs:
        return passed()
    stops = [name for name in subject.described.quiesce if DATABASE_SERVICES.search(name)]
    if stops:
        return passed(f"{', '.join(programs)}; {', '.join(stops)} stops for the last pass")
    places = [f"{line.path} {size(int(line.text))}" for line in subject.host.databases]
    return failed(", ".join([*programs, *places]))


@needs("processes")
def _cluster(subject: Subject) -> Outcome:
    return one(p for p in _running(subject, CLUSTERS) if p not in ORACLE_CLUSTER)


@needs("processes")
def _oracle(subject: Subject) -> Outcome:
    return one(p for p in _running(subject, CLUSTERS) if p in ORACLE_CLUSTER)


@needs("sockets")
def _peers(subject: Subject) -> Outcome:
    return one(peer for peer in subject.host.peers if not peer.endswith("-> 22"))


@needs("services")
def _quiesce(subject: Subject) -> Outcome:
    """What runs, is not the system's own, and nobody has said that it stops for the last pass."""
    named = set(subject.described.quiesce)
    return one(
        service.name
        for service in subject.host.services
        if service.running and service.name not in named and not SYSTEM.fullmatch(service.name)
    )


def _pages(subject: Subject) -> Iterable[Outcome]:
    gone = [(why, name) for name, why in subject.host.missing.items() if name.startswith("page ")]
    bad = [(f"status {p.status}", p.url) for p in subject.host.pages if p.status >= 400]
    return each([*gone, *bad])


def _no_pages(subject: Subject) -> Outcome:
    return passed() if subject.described.pages else failed("the site names no page of this server")


@needs("tools")
def _interpreter(subject: Subject) -> Outcome:
    found = [tool for tool in subject.host.tools if "python" in tool]
    return passed(found[0]) if found else failed("no Python of any age is on its PATH")


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "app.file_sessions",
        "The application keeps sessions in files",
        Severity.INFO,
        "Nothing must be done for one domain: they are copied by the last pass. Before running it "
        "on two, its vendor must move sessions to a shared store.",
        _sessions,
    ),
    Rule(
        "app.fixed_addresses",
        "Addresses of other machines are written into its configuration",
        Severity.WARNING,
        "Check from the domain's network that each is reachable; ask the vendor to use names.",
        _fixed,
    ),
    Rule(
        "app.cron_jobs",
        "Jobs run by the clock",
        Severity.INFO,
        "Choose a window in which none starts, and stop cron for the last pass (`quiesce`).",
        _cron,
    ),
    Rule(
        "app.database",
        "A database runs here that nobody stops for the last pass",
        Severity.WARNING,
        "Put its service into `quiesce` so that it is stopped for the last pass; for a large one "
        "prefer the database's own replication.",
        _database,
    ),
    Rule(
        "app.cluster_member",
        "The server is a member of a cluster",
        Severity.WARNING,
        "Plan the whole cluster; replace power fencing by one that knows the hypervisor.",
        _cluster,
    ),
    Rule(
        "app.oracle_cluster",
        "Oracle Clusterware runs here",
        Severity.BLOCKER,
        "Leave it physical, or move the database by its own tools.",
        _oracle,
    ),
    Rule(
        "app.peers",
        "Other machines are connected to it",
        Severity.INFO,
        "Make the list part of the test after cutover; tell their owners the window.",
        _peers,
    ),
    Rule(
        "app.quiesce_incomplete",
        "Services are running that nobody stops for the last pass",
        Severity.WARNING,
        "Add to `quiesce` (cloud.yml or plan.yml) each that writes; a file system with open files "
        "can't be remounted read-only.",
        _quiesce,
    ),
    Rule(
        "app.page_fails",
        "A page that proves the application does not answer well already",
        Severity.WARNING,
        "Repair the application or the address in cloud.yml first: after the migration nobody "
        "could tell whose fault it is.",
        _pages,
    ),
    Rule(
        "app.no_page",
        "Nothing proves that the application lives",
        Severity.INFO,
        "Name a page of it under `pages` in cloud.yml that answers the same before and after.",
        _no_pages,
    ),
    Rule(
        "app.no_interpreter",
        "No Python was found for the reader: dd will read the disks",
        Severity.WARNING,
        "Plan for it: every pass carries all that is in use, uncompressed, and so does the last. "
        "With the distribution's python package only changes cross the network.",
        _interpreter,
    ),
)
