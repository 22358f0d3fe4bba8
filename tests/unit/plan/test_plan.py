"""The plan: drafted from facts and site, valid or refused with a place, never over an edit."""

import hashlib
import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.documents import parse
from core.errors import BadDocument, UsageProblem
from migrate.plan import MARK, DiskPlan, NicPlan, Plan, draft, edited, mountpoints, read, text
from migrate.source import Filesystem
from tests.unit.rules.healthy import HOST, subject

DIGEST = "ab" * 32
DISK = {"name": "sda", "path": "/dev/sda", "size": 512}
CARD = {"name": "eth0", "mac": "00:1b:78:31:0a:50", "kind": "hardware", "up": True}


def drafted(**more: object) -> Plan:
    return draft(subject(**more), DIGEST)


def faults(content: str) -> tuple[str, ...]:
    with pytest.raises(BadDocument) as caught:
        parse(content.encode(), Plan, "plan.yml")
    return caught.value.errors


def test_a_plan_says_where_everything_goes() -> None:
    plan = drafted()
    assert (plan.host, plan.domain, plan.hypervisor, plan.pool) == ("web1", "web1", "hv1", "shared")
    assert plan.pool_path == "/var/lib/libvirt/shared"
    assert plan.disks == (
        DiskPlan(
            source="/dev/sda",
            size=40 * 1024**3,
            replica="web1-sda.replica.raw",
            target="vda",
            bus="virtio",
        ),
    )
    assert plan.nics == (NicPlan(mac="00:1b:78:31:0a:50", bridge="br0", model="virtio"),)
    assert plan.quiesce.services == ("cron", "writer", "webapp", "mariadb")
    assert plan.quiesce.mountpoints == ("/",)
    assert plan.rehearsal.probe == "10.77.0.254/24"
    assert plan.memory == 8 * 1024**3
    assert plan.pages == ("http://10.77.0.50/",)


def test_a_server_keeps_its_uuid_for_life_and_shares_it_with_nobody() -> None:
    assert drafted().uuid == drafted(host={"memory": 2**33}).uuid
    assert drafted().uuid != drafted(host={"name": "web2"}).uuid


def test_without_virtio_drivers_the_domain_gets_ide_and_e1000() -> None:
    plan = drafted(host={"kernel_drivers": []})
    assert [(disk.target, disk.bus) for disk in plan.disks] == [("hda", "ide")]
    assert [nic.model for nic in plan.nics] == ["e1000"]


def test_a_controller_disk_gets_a_file_name_without_tricks() -> None:
    disk = {"name": "cciss!c0d0", "path": "/dev/cciss/c0d0", "size": 512}
    (planned,) = drafted(host={"disks": [disk]}).disks
    assert (planned.source, planned.replica) == ("/dev/cciss/c0d0", "web1-cciss-c0d0.replica.raw")


def test_removable_disks_stay_behind() -> None:
    plan = drafted(host={"disks": [DISK, {**DISK, "name": "sdb", "removable": True}]})
    assert [disk.source for disk in plan.disks] == ["/dev/sda"]


def test_the_halves_of_a_bond_become_one_card_and_unused_cards_none() -> None:
    cards = [CARD, {**CARD, "name": "eth1"}, {**CARD, "mac": "00:1b:78:31:0a:52", "up": False}]
    assert [nic.mac for nic in drafted(host={"interfaces": cards}).nics] == ["00:1b:78:31:0a:50"]


def test_without_a_word_of_the_site_services_stop_with_databases_last() -> None:
    names = ("postgresql", "crond", "tomcat6", "sshd", "mysqld", "rsyslog")
    services = [{"name": name, "running": True, "enabled": True} for name in names]
    plan = drafted(host={"services": services}, site={"quiesce": []})
    assert plan.quiesce.services == ("crond", "tomcat6", "mysqld", "postgresql")


def test_mountpoints_are_remounted_from_the_deepest_to_the_root() -> None:
    mounts = ("/", "/boot", "/var", "/var/lib/mysql", "/data")
    filesystems = tuple(
        Filesystem(device=f"/dev/{n}", mountpoint=mount, kind="ext4", options=("rw",))
        for n, mount in enumerate(mounts)
    )
    remote = Filesystem(device="nas:/x", mountpoint="/x", kind="nfs", options=("rw",), remote=True)
    fixed = Filesystem(device="/dev/cd", mountpoint="/cd", kind="iso9660", options=("ro",))
    host = HOST.model_copy(update={"filesystems": (*filesystems, remote, fixed)})
    assert mountpoints(host) == ("/var/lib/mysql", "/boot", "/data", "/var", "/")


def test_the_probe_is_inferred_from_the_servers_own_network() -> None:
    case = subject()
    unset = replace(case, site=case.site.model_copy(update={"rehearsal_probe": None}))
    assert draft(unset, DIGEST).rehearsal.probe == "10.77.0.254/24"
    alone = replace(unset, host=HOST.model_copy(update={"interfaces": (), "address": "10.77.0.50"}))
    with pytest.raises(UsageProblem, match="probe"):
        draft(alone, DIGEST)


def test_a_network_without_a_bridge_is_refused_with_a_remedy() -> None:
    case = subject()
    bare = tuple(n.model_copy(update={"bridge": None}) for n in case.site.networks)
    with pytest.raises(UsageProblem, match="no bridge"):
        draft(replace(case, site=case.site.model_copy(update={"networks": bare})), DIGEST)


def test_a_drafted_plan_reads_back_as_it_was() -> None:
    plan = drafted()
    assert parse(text(plan).encode(), Plan, "plan.yml") == plan
    assert "# " in text(plan)


@given(st.sampled_from(["vcpus: 4", "bridge: br0", "  - cron"]), st.text(min_size=1, max_size=20))
def test_any_edit_is_seen(place: str, addition: str) -> None:
    content = text(drafted())
    assert not edited(content)
    assert edited(content.replace(place, place + addition, 1))


def test_a_plan_without_the_mark_is_a_persons() -> None:
    content = text(drafted())
    assert edited(content[: content.index(MARK)])
    assert edited("")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("source: /dev/sda", "source: /etc/passwd", "disks.0.source"),
        ("source: /dev/sda", "source: /dev/../etc/shadow", "disks.0.source"),
        ("replica: web1-sda", "replica: ../../web1-sda", "disks.0.replica"),
        ("target: vda", "target: xvda1", "disks.0.target"),
        ("bus: virtio", "bus: nvme", "disks.0.bus"),
        ("size: 42949672960", "size: 42949672961", "disks.0.size"),
        ("vcpus: 4", "vcpus: 0", "vcpus"),
        ("domain: web1", "domain: 'web1;reboot'", "domain"),
        ("pool_path: /var", "pool_path: var", "pool_path"),
        ("bridge: br0", "bridge: 'br0\"/><x'", "nics.0.bridge"),
        ("mac: 00:1b", "mac: zz:1b", "nics.0.mac"),
        ("probe: 10.77.0.254/24", "probe: 10.77.0.999/24", "rehearsal.probe"),
        ("- cron", "- 'cron; rm -rf /'", "quiesce.services.0"),
        ("uuid: ", "uuid: x", "uuid"),
    ],
)
def test_a_faulty_edit_is_refused_with_its_line_and_column(old: str, new: str, place: str) -> None:
    content = text(drafted())
    assert old in content
    changed = content.replace(old, new, 1)
    line = next(n for n, row in enumerate(changed.splitlines(), 1) if new.split("\n")[0] in row)
    (fault,) = faults(changed)
    assert fault.startswith(f"plan.yml:{line}:")
    assert f" {place}: " in fault


def test_every_fault_of_a_plan_is_told_at_once() -> None:
    content = text(drafted()).replace("vcpus: 4", "vcpus: many").replace("host: web1", "hots: web1")
    assert len(faults(content)) == 3


def written(folder: Path, plan: Plan) -> Path:
    (folder / "plan.yml").write_text(text(plan))
    return folder


def test_a_plan_of_an_older_discovery_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text("{}")
    with pytest.raises(BadDocument, match="older discovery") as caught:
        read(written(tmp_path, drafted()))
    assert "--force" in caught.value.hint
    digest = hashlib.sha256(b"{}").hexdigest()
    assert read(written(tmp_path, draft(subject(), digest))).source_sha256 == digest


def test_two_disks_may_not_share_a_replica(tmp_path: Path) -> None:
    plan = drafted(host={"disks": [DISK, {**DISK, "name": "sdb", "path": "/dev/sdb"}]})
    same = tuple(disk.model_copy(update={"replica": "web1-a.replica.raw"}) for disk in plan.disks)
    with pytest.raises(BadDocument) as caught:
        read(written(tmp_path, plan.model_copy(update={"disks": same})))
    assert 'replica "web1-a.replica.raw" stands twice' in caught.value.errors[0]
    assert ":21:1: " in caught.value.errors[0]


def test_numbers_that_look_like_times_stay_macs() -> None:
    """YAML 1.1 reads 52:54:00:12:34:56 as a number in base 60."""
    card = {**CARD, "mac": "52:54:00:12:34:56"}
    content = text(drafted(host={"interfaces": [card]}))
    assert parse(content.encode(), Plan, "plan.yml").nics[0].mac == "52:54:00:12:34:56"
    assert yaml.safe_load(content)["nics"][0]["mac"] == "52:54:00:12:34:56"


@given(st.integers(min_value=1, max_value=2**45))
def test_memory_is_never_less_than_the_server_had(memory: int) -> None:
    planned = drafted(host={"memory": memory}).memory
    assert planned >= memory
    assert planned - memory < max(128 * 1024**2, memory / 8)
    assert planned % 1024 == 0


def test_the_probe_is_an_address() -> None:
    assert ipaddress.ip_interface(drafted().rehearsal.probe)
