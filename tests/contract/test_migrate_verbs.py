"""The verbs pin, discover, assess and plan, from end to end on a real machine: this one, by its own
sshd on 127.0.0.1."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cli import groundlift
from core.errors import Blocked, OutsideFailed, Problem, UsageProblem
from migrate.rules.catalogue import RULES
from tests.contract.sshd import Server, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@dataclass
class Place:
    """A state directory and a site whose one server is this machine."""

    root: Path
    site: Path

    def call(self, *arguments: str, answer: str = "") -> Result:
        verb, *rest = arguments
        argv = ["--state", str(self.root), "migrate", verb, "old1", "--site", str(self.site), *rest]
        return CliRunner().invoke(groundlift, argv, input=answer)

    def file(self, name: str) -> Path:
        return self.root / "migrate" / "old1" / name


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Place:
    return make(tmp_path, server)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Place:
    """Discovered once for all tests that are about something else."""
    place = make(tmp_path_factory.mktemp("asked"), server)
    done = place.call("discover")
    assert done.exit_code == 0, done.exception
    return place


@pytest.fixture
def known(place: Place, asked: Place) -> Place:
    shutil.copytree(asked.root / "migrate", place.root / "migrate")
    return place


def make(tmp_path: Path, server: Server) -> Place:
    (tmp_path / "id_rsa").write_bytes((server.root / "id_rsa").read_bytes())
    (tmp_path / "known_hosts").write_bytes(server.login.known_hosts.read_bytes())
    site = yaml.safe_load(Path("inventories/lab/cloud.yml").read_text())
    site["ssh"] = {"user": server.login.user, "key": "id_rsa", "known_hosts": "known_hosts"}
    site["nodes"][1]["address"] = "127.0.0.9"  # nobody listens there
    site["sources"] = [
        {
            "name": "old1",
            "address": "127.0.0.1",
            "port": server.port,
            "target": {"hypervisor": "hv1", "pool": "shared", "network": "management"},
        }
    ]
    path = tmp_path / "cloud.yml"
    path.write_text(yaml.safe_dump(site))
    return Place(tmp_path, path)


def accept_all(place: Place) -> Result:
    every = [part for rule in RULES for part in ("--waive", rule.id)]
    return place.call("assess", *every, "--person", "Wang Li", "--reason", "a test")


def test_a_server_goes_from_an_address_to_a_plan(place: Place) -> None:
    discovered = place.call("discover", "--json")
    assert discovered.exit_code == 0, discovered.exception
    source = json.loads(place.file("source.json").read_text())
    assert source["cpu"]["count"] >= 1
    assert source["os"]["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert (place.file("facts") / "uname.txt").read_text().startswith("Linux ")

    refused = place.call("plan")
    assert isinstance(refused.exception, UsageProblem)
    assert "not assessed yet" in str(refused.exception)

    assessed = place.call("assess")
    assert isinstance(assessed.exception, Blocked)
    assert "storage.pool_room" in str(assessed.exception)
    report = json.loads(place.file("report.json").read_text())
    assert report["verdict"] in ("undecided", "not feasible")
    refused = place.call("plan")
    assert isinstance(refused.exception, Blocked)
    assert not place.file("plan.yml").exists()

    assert accept_all(place).exit_code == 0
    planned = place.call("plan")
    assert planned.exit_code == 0, planned.exception
    assert "drafted; correct what is wrong" in planned.output


def test_a_persons_edit_of_the_plan_is_kept_until_forced(known: Place) -> None:
    place = known
    accept_all(place)
    place.call("plan")
    path = place.file("plan.yml")
    draft = path.read_text()
    assert "unchanged" in place.call("plan").output

    edit = draft.replace("domain: old1", "domain: old1", 1).replace(
        "\nvcpus: ", "\n# less\nvcpus: "
    )
    path.write_text(edit)
    assert "edited by hand, checked and kept" in place.call("plan").output
    assert path.read_text() == edit
    place.call("plan", "--force")
    assert path.read_text() == draft

    path.write_text(draft.replace("\nvcpus: ", "\nvcpus: -"))
    fault = place.call("plan").exception
    assert isinstance(fault, Problem)
    assert fault.exit_code == 2
    assert "vcpus" in fault.errors[0]


def test_what_was_asked_is_not_asked_again_unless_told(known: Place) -> None:
    place = known
    first = place.file("source.json").read_text()
    assert place.call("discover").exit_code == 0
    assert place.file("source.json").read_text() == first
    place.call("discover", "--again")
    assert place.file("source.json").read_text() != first


def test_a_server_that_was_cut_over_is_never_asked_again(place: Place) -> None:
    place.file("x").parent.mkdir(parents=True)
    place.file("cutover.json").write_text("{}")
    refused = place.call("discover", "--again")
    assert "was cut over" in str(refused.exception)


def test_a_dry_run_of_discovery_lists_its_commands_and_asks_nothing(place: Place) -> None:
    listed = place.call("discover", "--dry-run")
    assert "uname: node name" in listed.output
    assert not place.file("source.json").exists()


def test_a_dry_run_of_the_assessment_writes_nothing(known: Place) -> None:
    waiver = ("--waive", "firmware.uefi", "--person", "Wang Li", "--reason", "a test")
    known.call("assess", "--dry-run", *waiver)
    assert not known.file("report.json").exists()
    assert not known.file("waivers.yml").exists()


def test_an_unknown_host_key_is_pinned_with_consent_alone(place: Place, server: Server) -> None:
    known = place.root / "known_hosts"
    pinned = known.read_text()
    known.unlink()
    refused = place.call("discover")
    assert isinstance(refused.exception, OutsideFailed)
    assert "migrate pin" in refused.exception.hint

    assert place.call("pin", answer="n\n").exit_code == 1
    assert not known.exists()
    assert place.call("pin", "--fingerprint", "SHA256:wrong").exit_code != 0
    assert not known.exists()

    shown = place.call("pin", "--dry-run").output.split()
    done = place.call("pin", "--fingerprint", next(w for w in shown if w.startswith("SHA256:")))
    assert done.exit_code == 0, done.exception
    assert place.call("discover").exit_code == 0
    assert "already pinned" in place.call("pin", answer="y\n").output
    assert known.read_text().split()[0] == pinned.split()[0]


def test_a_changed_host_key_is_never_pinned_over(place: Place, server: Server) -> None:
    kind, blob, *_ = (server.root / "id_rsa.pub").read_text().split()
    known = place.root / "known_hosts"
    known.write_text(f"{server.login.host_id} {kind} {blob}\n")
    before = known.read_text()
    refused = place.call("pin", answer="y\n")
    assert isinstance(refused.exception, UsageProblem)
    assert known.read_text() == before


def test_a_server_no_site_names_is_a_usage_fault(place: Place) -> None:
    argv = ["--state", str(place.root), "migrate", "discover", "db9", "--site", str(place.site)]
    refused = CliRunner().invoke(groundlift, argv)
    assert isinstance(refused.exception, UsageProblem)
    assert "no site names the server db9" in str(refused.exception)


def test_a_waiver_without_a_name_is_refused(known: Place) -> None:
    refused = known.call("assess", "--waive", "firmware.uefi", "--reason", "because")
    assert isinstance(refused.exception, UsageProblem)
    assert not known.file("waivers.yml").exists()
