"""The domain's XML, held to golden files for the hypervisors we know.

A golden file is changed by hand, after reading the difference.
"""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.errors import OutsideFailed
from migrate.define import define, domain_xml, offered
from migrate.plan import DiskPlan, NicPlan, Plan, Rehearsal
from tests.fakes.hypervisor import FakeHypervisor

GOLDEN = Path(__file__).parents[2] / "golden" / "domain"

PLAN = Plan(
    host="web1",
    address="10.77.0.50",
    source_sha256="0" * 64,
    hypervisor="hv1",
    pool="shared",
    pool_path="/var/lib/libvirt/shared",
    domain="web1",
    uuid="715a758b-8abd-5f2f-95b3-e5fa56570af0",
    vcpus=2,
    memory=1 << 30,
    disks=(
        DiskPlan(source="/dev/sda", size=4 << 30, replica="web1-sda.replica.raw", target="vda"),
        DiskPlan(
            source="/dev/sdb", size=4 << 30, replica="web1-sdb.replica.raw", target="hdb", bus="ide"
        ),
    ),
    nics=(
        NicPlan(mac="00:1b:78:31:0a:50", bridge="br0"),
        NicPlan(mac="00:1b:78:31:0a:51", bridge="br0", model="e1000"),
    ),
    rehearsal=Rehearsal(probe="10.77.0.254/24"),
)


@pytest.mark.parametrize("name", ["el63-kvm", "debian12-tcg"])
def test_the_domain_fits_the_hypervisor(name: str) -> None:
    capabilities = (GOLDEN / f"{name}.capabilities.xml").read_text()
    assert domain_xml(PLAN, offered(capabilities)) == (GOLDEN / f"{name}.domain.xml").read_text()


def test_a_rehearsal_is_another_domain_on_other_disks_and_another_bridge() -> None:
    guest = offered((GOLDEN / "el63-kvm.capabilities.xml").read_text())
    usual = domain_xml(PLAN, guest)
    text = domain_xml(
        PLAN, guest, name="web1-rehearsal", uuid="00000000-0000-4000-8000-000000000001",
        bridge="br-rehearse", suffix=".rehearsal",
    )  # fmt: skip
    tree = ElementTree.fromstring(text)
    assert {source.get("bridge") for source in tree.iter("source") if source.get("bridge")} == {
        "br-rehearse"
    }
    files = {source.get("file") for source in tree.iter("source") if source.get("file")}
    assert files == {
        "/var/lib/libvirt/shared/web1-sda.qcow2.rehearsal",
        "/var/lib/libvirt/shared/web1-sdb.qcow2.rehearsal",
    }
    assert not files & {s.get("file") for s in ElementTree.fromstring(usual).iter("source")}
    assert PLAN.uuid not in text


def test_nothing_that_libvirt_0_9_10_does_not_know_is_used() -> None:
    text = domain_xml(PLAN, offered((GOLDEN / "el63-kvm.capabilities.xml").read_text()))
    for unknown in ("unit=", "q35", "<rng", "firmware=", "<loader", "virtio-scsi", "<panic"):
        assert unknown not in text


def test_a_clock_in_local_time_stays_in_local_time() -> None:
    guest = offered((GOLDEN / "el63-kvm.capabilities.xml").read_text())
    assert "<clock offset='localtime'/>" in domain_xml(PLAN, guest, clock_local=True)


def test_text_from_a_plan_can_not_become_markup() -> None:
    hostile = PLAN.model_copy(update={"pool_path": "/p'/><evil a='"})
    text = domain_xml(hostile, offered((GOLDEN / "el63-kvm.capabilities.xml").read_text()))
    assert ElementTree.fromstring(text).find(".//evil") is None


@pytest.mark.parametrize(
    "capabilities",
    [
        "<capabilities/>",
        "not xml",
        "<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/e</emulator>"
        "<machine>q35</machine><domain type='kvm'/></arch></guest></capabilities>",
        "<capabilities><guest><os_type>xen</os_type><arch name='x86_64'/></guest></capabilities>",
    ],
)
def test_a_hypervisor_without_such_guests_is_a_problem(capabilities: str) -> None:
    with pytest.raises(OutsideFailed):
        offered(capabilities)


def test_defining_again_changes_nothing_and_a_lost_domain_is_defined_again(tmp_path: Path) -> None:
    hypervisor = FakeHypervisor()
    assert define(PLAN, hypervisor, tmp_path)
    assert not define(PLAN, hypervisor, tmp_path)
    hypervisor.undefine("web1")
    assert define(PLAN, hypervisor, tmp_path)
    changed = PLAN.model_copy(update={"vcpus": 4})
    assert define(changed, hypervisor, tmp_path)
    assert "<vcpu>4</vcpu>" in hypervisor.xml("web1")
