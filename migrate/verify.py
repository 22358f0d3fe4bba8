"""Verification: is the migrated server the server that was discovered? Rules over two sets of
facts: the source's as discovered, and the guest's, taken when its services have come up.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from core.documents import Document
from core.errors import Blocked, OutsideFailed
from core.ports import Clock, Host, Web
from core.progress import Meter
from core.rules import Answer, Finding, Outcome, Rule, Severity, failed, passed, unknown
from migrate.source import SourceHost

VERSION = 1
SETTLE = 420.0
BOOT = 600.0  # seconds; an emulated boot beside other work takes minutes
UUID = ("cat", "/sys/class/dmi/id/product_uuid")


class NotVerified(Blocked):
    """The migrated server differs from the source in ways that block the cutover."""


class Verified(Document):
    """verify.json. ``seconds`` is power-on to answers; the digest is of the conversion seen."""

    version: int = VERSION
    where: str
    seconds: float
    converted_sha256: str = ""
    findings: tuple[Finding, ...]
    when: datetime


@dataclass(frozen=True, slots=True)
class Comparison:
    """The source as discovered, and the migrated server; ``uuid`` as the guest shows it,
    ``expected`` as the domain has it."""

    before: SourceHost
    after: SourceHost
    uuid: str
    expected: str


def _same(old: Iterable[str], new: Iterable[str], what: str) -> Outcome:
    missing = sorted(set(old) - set(new))
    if missing:
        return failed(f"missing {what}: {', '.join(missing[:12])}")
    return passed(f"{len(set(old))} {what}")


Judge = Callable[[Comparison], Outcome]


def _needs(
    *facts: str,
) -> Callable[[Callable[[Comparison], Outcome]], Callable[[Comparison], Outcome]]:
    """Unknown rather than a verdict when a fact is missing on either side."""

    def wrap(judge: Judge) -> Judge:
        def asked(c: Comparison) -> Outcome:
            for fact in facts:
                for side, host in (("source", c.before), ("migrated server", c.after)):
                    if fact in host.missing:
                        return unknown(f"{fact} of the {side}: {host.missing[fact]}")
            return judge(c)

        return asked

    return wrap


def alike(shown: str, wanted: str) -> bool:
    """Whether a machine that shows one UUID may be the domain with the other. ValueError: it shows
    none."""
    found = uuid.UUID(shown.strip())
    # old kernels print the first three fields in the other byte order
    return uuid.UUID(wanted) in (found, uuid.UUID(bytes_le=found.bytes))


def _clone(c: Comparison) -> Outcome:
    shown = c.uuid.strip()
    try:
        same = alike(shown, c.expected)
    except ValueError:
        return unknown(f"the guest shows no UUID: {shown[:60]!r}")
    return passed(c.expected) if same else failed(f"{shown}, the domain is {c.expected}")


@_needs("uname")
def _hostname(c: Comparison) -> Outcome:
    seen = f"{c.before.hostname} → {c.after.hostname}"
    return passed(seen) if c.before.hostname == c.after.hostname else failed(seen)


@_needs("services")
def _services(c: Comparison) -> Outcome:
    """Only services that start by themselves: what somebody once started by hand is not missed."""
    old = {s.name for s in c.before.services if s.running and s.enabled}
    return _same(old - HARDWARE, (s.name for s in c.after.services if s.running), "services")


HARDWARE = {
    "smartd", "mcelog", "mcelogd", "ipmi", "ipmievd", "mdmonitor", "cpuspeed", "hpsmhd",
    "hp-health", "multipathd", "lm_sensors", "microcode_ctl", "irqbalance",
}  # fmt: skip


@_needs("sockets")
def _listeners(c: Comparison) -> Outcome:
    def ports(host: SourceHost) -> set[str]:
        return {f"{x.protocol[:3]}/{x.port}" for x in host.listeners if x.port < 32768}

    return _same(ports(c.before), ports(c.after), "listening ports")


@_needs("mounts")
def _mounts(c: Comparison) -> Outcome:
    def mounts(host: SourceHost) -> set[str]:
        return {f"{fs.mountpoint} ({fs.kind})" for fs in host.filesystems if not fs.remote}

    return _same(mounts(c.before), mounts(c.after), "mounts")


@_needs("interfaces", "addresses")
def _addresses(c: Comparison) -> Outcome:
    def addresses(host: SourceHost) -> set[str]:
        return {
            address
            for card in host.interfaces
            for address in card.addresses
            if not address.startswith(("127.", "::1", "fe80:", "169.254."))
        }

    return _same(addresses(c.before), addresses(c.after), "addresses")


def _pages(c: Comparison) -> Iterator[Outcome]:
    after = {page.url: page for page in c.after.pages}
    for page in c.before.pages:
        now = after.get(page.url)
        if now is None:
            why = c.after.missing.get(f"page {page.url}", "no answer")
            yield failed(f"{page.status} → {why}", page.url)
        elif (now.status, now.sha256) != (page.status, page.sha256):
            yield failed(f"{page.status} → {now.status}, now: {now.excerpt[:200]}", page.url)
        else:
            yield passed(f"status {page.status}, same content", page.url)


BLOCKER, WARNING = Severity.BLOCKER, Severity.WARNING
RULES: tuple[Rule[Comparison], ...] = (
    Rule(
        "verify.guest_clone", "It is the domain that answers, not the source", BLOCKER,
        "something else answers under this address: stop it before going on", _clone,
    ),
    Rule(
        "verify.host_name", "The host name is the same", BLOCKER,
        "look at /etc/sysconfig/network or /etc/hostname of the migrated server", _hostname,
    ),
    Rule(
        "verify.services_running", "Every service runs again", BLOCKER,
        "start the service in the rehearsal and read its log: "
        "a driver, an address or a licence is missing", _services,
    ),
    Rule(
        "verify.ports_listening", "Every port listens again", BLOCKER,
        "find the service that listened there before and read its log", _listeners,
    ),
    Rule(
        "verify.mounts_present", "Every file system is mounted", BLOCKER,
        "compare /etc/fstab with the disks of the domain", _mounts,
    ),
    Rule(
        "verify.addresses_present", "Every address is there", BLOCKER,
        "the interface was renamed or lost its configuration: "
        "compare MAC addresses in ifcfg files or udev rules", _addresses,
    ),
    Rule(
        "verify.page_same", "Every page answers as before", BLOCKER,
        "open the page in the rehearsal and read the application's log", _pages,
    ),
)  # fmt: skip


def await_guest(guest: Host, clock: Clock, meter: Meter, limit: float = BOOT) -> str:
    """Wait until the guest answers; its UUID. Raises OutsideFailed when the time is over."""
    end = clock.monotonic() + limit
    while True:
        try:
            return guest.run(UUID, timeout=20).text
        except OutsideFailed as problem:
            if clock.monotonic() > end:
                raise OutsideFailed(
                    f"the server did not answer within {limit:.0f} s: {problem.message}",
                    where=guest.name,
                    hint="look at its console with virt-viewer or `virsh console`",
                ) from problem
        meter.advance(0, text="waiting for the server to boot")
        clock.sleep(3)


def await_services(
    guest: Host, before: SourceHost, clock: Clock, take: Callable[[], SourceHost],
    expected: str, web: Web, limit: float = SETTLE, told: Callable[[str], None] = lambda _: None,
) -> Comparison:  # fmt: skip
    """Facts of the guest once its pages answer as before, taken again while services are still
    coming up. A guest that boots on a busy host may lose a connection or two: within the limit
    that is no verdict."""
    end = clock.monotonic() + limit
    while not _answering(before, web) and clock.monotonic() < end - limit / 4:
        told("waiting for its pages to answer as before")
        clock.sleep(1)
    while True:
        try:
            shown = guest.run(UUID, timeout=60).text
            comparison = Comparison(before, take(), shown, expected)
        except OutsideFailed:
            guest.close()
            if clock.monotonic() > end:
                raise
        else:
            if _settled(comparison) or clock.monotonic() > end:
                return comparison
        clock.sleep(5)


def _answering(before: SourceHost, web: Web) -> bool:
    """Whether every page is as it was: cheap to ask, and behind it stand most services."""
    try:
        answers = [web.fetch(page.url) for page in before.pages]
    except OutsideFailed:
        return False
    found = [(answer.status, hashlib.sha256(answer.body).hexdigest()) for answer in answers]
    return found == [(page.status, page.sha256) for page in before.pages]


def _settled(comparison: Comparison) -> bool:
    outcomes = (_services(comparison), _listeners(comparison), *_pages(comparison))
    return all(outcome.answer is Answer.PASS for outcome in outcomes)
