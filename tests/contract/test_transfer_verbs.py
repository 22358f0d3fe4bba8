"""The verbs transfer, prove and unquiesce as a person calls them: a disk of this machine, read
through its own sshd, which sees every file system read-only, so that the server is at rest."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from adapters.local import LocalHost
from cli import groundlift
from commands import migrate_transfer
from commands.connect import Case, open_case
from core.errors import Blocked, Locked, OutsideFailed, UsageProblem
from core.state import State, lock
from migrate import plan as planning
from migrate.plan import Quiesce
from migrate.transfer import Options
from tests.contract.sshd import Server, sshd
from tests.unit.transfer import estate, images

# What lies on devices is read-only in a mount namespace of its own, and nowhere else.
AT_REST = """
while read -r device place rest; do
    case "$device" in /dev/*) mount -o remount,bind,ro "$place" || exit 1 ;; esac
done < /proc/mounts
exec "$@"
"""
WITHIN = ("unshare", "-m", "--propagation", "private", "sh", "-c", AT_REST, "sh")
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="loop devices and mounts need root")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd"), within=WITHIN) as running:
        yield running


class Place:
    """A state directory, a site, a plan, and the server's disk."""

    def __init__(self, root: Path, server: Server, device: str, size: int) -> None:
        self.root, self.site = root, root / "cloud.yml"
        self.folder = root / "migrate" / "old"
        for name in ("id_rsa", "known_hosts"):
            shutil.copy(server.root / name, root / name)
        site = yaml.safe_load(Path("inventories/lab/cloud.yml").read_text())
        site["ssh"] = {"user": server.login.user, "key": "id_rsa", "known_hosts": "known_hosts"}
        site["sources"] = [
            {
                "name": "old",
                "address": "127.0.0.1",
                "port": server.port,
                "rate_mib": 900,
                "group": "rack",
                "target": {"hypervisor": "hv1", "pool": "shared", "network": "management"},
            }
        ]
        site["traffic"] = {"rate_mib": 2000, "groups": {"rack": 1000}, "hours": []}
        self.site.write_text(yaml.safe_dump(site))
        (root / "pool").mkdir()
        plan = estate.plan(Path(device), root / "pool", size)
        plan = plan.model_copy(update={"quiesce": Quiesce()})
        self.folder.mkdir(parents=True)
        (self.folder / "plan.yml").write_text(planning.text(plan))
        self.replica = root / "pool" / "old-sda.replica.raw"

    def call(self, verb: str, *rest: str) -> Result:
        argv = ["--state", str(self.root), "migrate", verb, "old", "--site", str(self.site), *rest]
        return CliRunner().invoke(groundlift, argv)

    def case(self) -> Case:
        return open_case(State(self.root), "old", self.site)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return estate.disk(tmp_path, 24 * images.MIB)


@pytest.fixture
def place(
    tmp_path: Path, server: Server, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setattr(Case, "node_host", lambda _, name: LocalHost(name))
    device = images.run("losetup", "-f", "--show", disk).decode().strip()
    try:
        (tmp_path / "place").mkdir()
        yield Place(tmp_path / "place", server, device, disk.stat().st_size)
    finally:
        images.run("losetup", "-d", device)


def good(result: Result) -> str:
    assert result.exit_code == 0, (result.exception, result.output)
    return result.stdout


def test_a_disk_goes_from_the_first_copy_to_its_proof(place: Place, disk: Path) -> None:
    (full,) = json.loads(good(place.call("transfer", "--json")))
    assert full["kind"] == "full"
    assert full["sent"] > 0
    assert good(place.call("transfer")).strip() == "nothing left to copy"
    estate.change(disk, 1)
    told = good(place.call("transfer", "--pass", "delta", "--every", "0.1", "--times", "1"))
    assert told.startswith("delta ")

    refused = place.call("transfer", "--pass", "final")
    assert isinstance(refused.exception, UsageProblem)
    assert not place.replica.exists()
    estate.change(disk, 2)
    told = good(place.call("transfer", "--pass", "final", "--consent", "old"))
    assert "0 differ" in told
    assert "old is at rest since" in told
    spans = images.extents(disk, final=True)
    expected = images.masked(disk, place.root / "expected", spans).read_bytes()
    assert place.replica.read_bytes() == expected

    told = good(place.call("prove"))
    assert "blocks that differ               0" in told
    first = json.loads((place.folder / "proof.json").read_text())
    assert first["disks"][0]["blocks_verified"] > 0
    with place.replica.open("r+b") as file:
        file.seek(images.MIB + 70_000)
        file.write(b"rot")
    spoilt = place.call("prove", "--json")
    assert isinstance(spoilt.exception, Blocked)
    found = json.loads(spoilt.stdout)["disks"][0]
    assert found["blocks_differing"] == 1
    assert found["places"] == [images.MIB + 65536]

    assert "serves again" in good(place.call("unquiesce"))
    assert not (place.folder / "quiesce.json").exists()


def test_while_somebody_else_is_at_it_nothing_begins(place: Place) -> None:
    with lock(place.folder / "lock", "the migration of old"):
        for verb in ("transfer", "prove"):
            assert isinstance(place.call(verb).exception, Locked)


def test_a_dry_run_copies_nothing(place: Place) -> None:
    assert "old-sda.replica.raw" in good(place.call("transfer", "--dry-run"))
    assert not list((place.root / "pool").iterdir())


def test_what_is_said_on_the_command_line_is_what_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Options] = []

    def live(_: Case, __: Any, kind: str, options: Options, ___: Any) -> tuple[()]:
        asked.append(options)
        return ()

    monkeypatch.setattr(migrate_transfer, "live", live)
    good(place.call("transfer"))
    good(
        place.call(
            *("transfer", "--rate", "1.5", "--compress", "--connections", "3"),
            *("--slowdown", "0", "--no-index", "--again"),
        )
    )
    limits = place.case().limits()
    assert asked == [
        Options(limits=limits),
        Options(
            rate=3 * images.MIB // 2, compress=True, connections=3, slowdown=0, index=False,
            again=True, limits=limits,
        ),
    ]  # fmt: skip
    budgets = {budget.path.name: budget.rate / images.MIB for budget in limits.budgets}
    assert budgets == {"all": 2000, "group-rack": 1000, "server-old": 900}


def test_a_server_that_can_not_be_reached_is_named(place: Place) -> None:
    site = yaml.safe_load(place.site.read_text())
    site["sources"][0]["port"] = 9  # nobody listens there
    place.site.write_text(yaml.safe_dump(site))
    refused = place.call("transfer")
    assert isinstance(refused.exception, OutsideFailed)
    assert refused.exception.where == "old"
