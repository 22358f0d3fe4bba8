"""Discovery, assessment and plan of the lab's server, which runs and is not disturbed."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.clock import SystemClock
from adapters.web import HttpWeb
from commands.connect import Case, open_case
from core.errors import OutsideFailed
from core.progress import silent
from core.rules import Answer
from core.state import State
from lab import estate, source
from migrate.assess import Waivers, assess
from migrate.discover import discover
from migrate.plan import draft
from migrate.rules.subject import Subject
from migrate.source import SourceHost
from tests.unit.rules.healthy import TARGET

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def case() -> Iterator[Case]:
    """The server under its address: the old machine, or the domain it became."""
    state = State(Path(os.environ.get("GROUNDLIFT_STATE", ".state")).absolute())
    case = open_case(state, "web1", Path("inventories/lab/cloud.yml"))
    host = case.source_host()
    try:
        host.run(("true",))
    except OutsideFailed:
        source.up(estate.of(state), silent)
    finally:
        host.close()
    yield case


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("facts")


@pytest.fixture(scope="module")
def found(case: Case, facts: Path) -> Iterator[SourceHost]:
    host = case.source_host()
    yield discover(
        host,
        str(case.source.address),
        pages=case.source.pages,
        web=HttpWeb(),
        clock=SystemClock(),
        folder=facts,
    )
    host.close()


def subject(case: Case, found: SourceHost) -> Subject:
    return Subject(found, case.site, case.source, TARGET)


def test_no_fact_of_the_server_is_missing(found: SourceHost) -> None:
    assert found.missing == {}


def test_the_server_is_known_by_its_marks(found: SourceHost) -> None:
    (card,) = [card for card in found.interfaces if card.kind == "hardware"]
    assert (card.mac, card.addresses[0]) == ("00:1b:78:31:0a:50", "10.77.0.50/24")
    assert [disk.size for disk in found.disks] == [4 * 1024**3]
    assert {volume.path for volume in found.logical_volumes} == {
        "/dev/vg_web1/lv_root",
        "/dev/vg_web1/lv_swap",
    }
    assert {fs.mountpoint: fs.kind for fs in found.filesystems} == {"/": "ext4", "/boot": "ext4"}
    assert (found.firmware, found.boot.loader) == ("bios", "grub2")
    running = {service.name for service in found.services if service.running}
    assert running >= {"cron", "mariadb", "ssh", "webapp", "writer"}
    assert ("tcp", 80) in {(socket.protocol, socket.port) for socket in found.listeners}
    assert [page.status for page in found.pages] == [200]


def test_its_habits_are_found(case: Case, found: SourceHost) -> None:
    report = assess(subject(case, found), "0" * 64, Waivers())
    failing = {f.rule: f.where for f in report.findings if f.answer is Answer.FAIL}
    assert failing.keys() >= {"app.file_sessions", "app.fixed_addresses", "app.cron_jobs"}
    assert failing["app.file_sessions"] == "/var/lib/webapp/sessions"
    assert not failing.keys() & {"app.quiesce_incomplete", "app.database"}


def test_nothing_blocks_it_and_its_plan_names_what_stands_still(
    case: Case, found: SourceHost
) -> None:
    report = assess(subject(case, found), "0" * 64, Waivers())
    assert [f.rule for f in report.findings if f.blocks] == []
    plan = draft(subject(case, found), "0" * 64)
    assert plan.quiesce.mountpoints == ("/boot", "/")
    assert [(disk.source, disk.target) for disk in plan.disks] in (
        [("/dev/sda", "vda")],
        [("/dev/vda", "vda")],  # after its migration
    )


def test_asking_leaves_no_trace_on_the_server(
    case: Case, found: SourceHost, tmp_path: Path
) -> None:
    """Nothing in the places where a careless question would leave a file."""
    host = case.source_host()
    start = datetime.now(UTC).timestamp()
    discover(
        host,
        str(case.source.address),
        web=HttpWeb(),
        clock=SystemClock(),
        folder=tmp_path,
    )
    since = f"@{start + (found.clock_skew or 0.0) - 2:.0f}"
    argv = ("find", "/etc", "/root", "/tmp", "/boot", "/usr", "/opt", "-xdev", "-newermt", since)
    assert host.run((*argv, "-type", "f"), timeout=120).text == ""
    host.close()


def test_the_evidence_is_kept(found: SourceHost, facts: Path) -> None:
    kept = {path.stem for path in facts.glob("*.txt")}
    assert kept >= {"uname", "disks", "services", "sockets", "mounts"}
    assert json.loads(found.model_dump_json())["hostname"] == "web1"
