"""Each rule of verification: what it lets pass, what it blocks, and what it can't know."""

import hashlib
from datetime import UTC, datetime

import pytest

from core.errors import OutsideFailed
from core.ports import Fetched
from core.rules import Answer, Finding, blockers, judge
from migrate.source import Filesystem, Interface, Listener, Page, Service, SourceHost
from migrate.verify import RULES, Comparison, await_services
from tests.fakes.host import FakeHost, answer

UUID = "715a758b-8abd-5f2f-95b3-e5fa56570af0"
SWAPPED = "8b755a71-bd8a-2f5f-95b3-e5fa56570af0"
HOST = SourceHost(
    name="web1",
    address="10.77.0.50",
    taken=datetime(2026, 1, 1, tzinfo=UTC),
    hostname="web1",
    services=(
        Service(name="httpd", running=True, enabled=True),
        Service(name="smartd", running=True, enabled=True),
        Service(name="byhand", running=True, enabled=False),
        Service(name="off", running=False, enabled=True),
    ),
    listeners=(
        Listener(protocol="tcp", address="0.0.0.0", port=80),
        Listener(protocol="tcp", address="0.0.0.0", port=49321),
    ),
    filesystems=(
        Filesystem(device="/dev/sda1", mountpoint="/boot", kind="ext4"),
        Filesystem(device="nas:/x", mountpoint="/nas", kind="nfs", remote=True),
    ),
    interfaces=(
        Interface(name="lo", addresses=("127.0.0.1/8",)),
        Interface(name="eth0", addresses=("10.77.0.50/24", "fe80::1/64")),
    ),
    pages=(Page(url="http://10.77.0.50/", status=200, sha256="a" * 64),),
)


def seen(uuid: str = UUID, **changed: object) -> dict[str, Finding]:
    after = HOST.model_copy(update=changed)
    return {finding.rule: finding for finding in judge(RULES, Comparison(HOST, after, uuid, UUID))}


def test_the_same_server_passes_every_rule() -> None:
    assert {finding.answer for finding in seen().values()} == {Answer.PASS}


def test_what_may_differ_does_not_block() -> None:
    """Hardware's own services, what was started by hand, ports of the moment, network mounts."""
    found = seen(
        services=(Service(name="httpd", running=True, enabled=True),),
        listeners=(Listener(protocol="tcp6", address="::", port=80),),
        filesystems=(Filesystem(device="/dev/vda1", mountpoint="/boot", kind="ext4"),),
        interfaces=(Interface(name="eth1", addresses=("10.77.0.50/24",)),),
    )
    assert blockers(found.values()) == ()


@pytest.mark.parametrize(
    ("rule", "changed", "evidence"),
    [
        ("verify.host_name", {"hostname": "localhost"}, "web1 → localhost"),
        ("verify.services_running", {"services": ()}, "httpd"),
        ("verify.ports_listening", {"listeners": ()}, "tcp/80"),
        ("verify.mounts_present", {"filesystems": ()}, "/boot (ext4)"),
        ("verify.addresses_present", {"interfaces": ()}, "10.77.0.50/24"),
        ("verify.page_same", {"pages": ()}, "no answer"),
        (
            "verify.page_same",
            {"pages": (Page(url="http://10.77.0.50/", status=500, excerpt="no database"),)},
            "200 → 500, now: no database",
        ),
    ],
)
def test_a_difference_blocks_and_is_named(
    rule: str, changed: dict[str, object], evidence: str
) -> None:
    found = seen(**changed)
    assert [finding.rule for finding in blockers(found.values())] == [rule]
    assert evidence in found[rule].evidence


def test_another_machine_under_the_address_blocks() -> None:
    assert seen(uuid="11111111-2222-4333-8444-555555555555\n")["verify.guest_clone"].blocks
    assert seen(uuid="Not Settable\n")["verify.guest_clone"].answer is Answer.UNKNOWN
    assert seen(uuid="")["verify.guest_clone"].blocks


def test_an_old_kernel_s_byte_order_of_the_uuid_is_understood() -> None:
    assert seen(uuid=SWAPPED.upper() + "\n")["verify.guest_clone"].answer is Answer.PASS


@pytest.mark.parametrize("fact", ["uname", "services", "sockets", "mounts", "addresses"])
def test_a_fact_that_can_not_be_read_never_passes(fact: str) -> None:
    found = seen(missing={fact: "permission denied"})
    (unknown,) = blockers(found.values())
    assert unknown.answer is Answer.UNKNOWN
    assert "permission denied" in unknown.evidence


class Ticking:
    """A clock on which every sleep passes at once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Pages:
    """What the server's page answers, in turn: nothing, or a body; the last one for ever."""

    def __init__(self, *bodies: bytes | None) -> None:
        self.bodies = list(bodies)

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 0) -> Fetched:
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        if body is None:
            raise OutsideFailed(f"{url} does not answer")
        return Fetched(200, body)


def paged(body: bytes) -> SourceHost:
    page = Page(url="http://10.77.0.50/", status=200, sha256=hashlib.sha256(body).hexdigest())
    return HOST.model_copy(update={"pages": (page,)})


def test_facts_are_not_asked_before_the_pages_answer_as_they_did() -> None:
    before, clock, asked = paged(b"rows"), Ticking(), list[float]()
    guest = FakeHost("guest", answers={"cat": answer(UUID)})

    def take() -> SourceHost:
        asked.append(clock.seconds)
        return before

    web = Pages(None, b"no database yet", b"rows")
    await_services(guest, before, clock, take, UUID, web)
    assert asked == [2.0]  # one second after each of the answers that were none


def test_a_guest_that_is_still_booting_is_asked_again() -> None:
    before = paged(b"rows")
    answers = [OutsideFailed("broke"), before.model_copy(update={"services": ()}), before]

    def take() -> SourceHost:
        seen = answers.pop(0)
        if isinstance(seen, OutsideFailed):
            raise seen
        return seen

    guest = FakeHost("guest", answers={"cat": answer(UUID)})
    comparison = await_services(guest, before, Ticking(), take, UUID, Pages(b"rows"))
    assert comparison.after == before
    assert answers == []


def test_a_guest_that_never_settles_is_judged_as_it_is_when_the_time_is_over() -> None:
    dead = HOST.model_copy(update={"services": ()})
    guest = FakeHost("guest", answers={"cat": answer(UUID)})
    clock = Ticking()
    found = await_services(guest, HOST, clock, lambda: dead, UUID, Pages(b"error"), limit=60)
    assert found.after == dead
    assert 60 <= clock.seconds < 80
