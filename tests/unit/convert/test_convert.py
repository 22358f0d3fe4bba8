"""What virt-v2v is told about the disks before it looks at them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.errors import OutsideFailed
from migrate import legs
from migrate.convert import _around, _source_xml
from migrate.plan import DiskPlan, Plan, draft
from tests.fakes.host import FakeHost, answer
from tests.unit.rules.healthy import subject


def plan(*sources: str, leg: bool = False) -> Plan:
    disks = tuple(
        DiskPlan(
            source=source, size=512, replica=f"web1-{n}.replica.raw", target=f"vd{chr(97 + n)}",
            leg=leg,
        )
        for n, source in enumerate(sources)
    )  # fmt: skip
    return draft(subject(), "ab" * 32).model_copy(update={"disks": disks})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/dev/sda", ("sda", "scsi")),
        ("/dev/hda", ("hda", "ide")),
        ("/dev/vda", ("vda", "virtio")),
        ("/dev/cciss/c0d0", ("sda", "scsi")),
        ("/dev/mapper/mpatha", ("sda", "scsi")),
    ],
)
def test_virt_v2v_learns_by_the_bus_how_the_server_names_its_disks(
    source: str, target: tuple[str, str]
) -> None:
    xml = ElementTree.fromstring(_source_xml(plan(source), (Path("/w/a.qcow2"),)))
    (found,) = xml.iter("target")
    assert (found.get("dev"), found.get("bus")) == target


def test_virt_v2v_gets_every_disk_of_the_plan() -> None:
    names = [f"/dev/sd{chr(97 + n)}" for n in range(6)]
    overlays = tuple(Path(f"/w/{n}.qcow2") for n in range(6))
    xml = ElementTree.fromstring(_source_xml(plan(*names), overlays))
    assert [disk.get("file") for disk in xml.iter("source")] == [str(path) for path in overlays]
    assert [f"/dev/{disk.get('dev')}" for disk in xml.iter("target")] == names


def test_arrays_are_started_only_where_a_leg_travels_alone() -> None:
    host = FakeHost("here", answers={"id": answer("0"), "setpriv": answer()})
    around = _around(host, Path("/w"), kvm=False)
    overlays = (Path("/w/a.qcow2"),)
    assert not legs.start(host, around, plan("/dev/sda").disks, overlays)
    assert legs.start(host, around, plan("/dev/sda", leg=True).disks, overlays)


def test_arrays_that_do_not_start_end_the_conversion_with_a_reason() -> None:
    failing = answer(code=1, stderr="libguestfs: error: mdadm: no array found\n")
    host = FakeHost("here", answers={"env": failing})
    with pytest.raises(OutsideFailed, match="no array found") as caught:
        legs.start(host, ("env",), plan("/dev/sda", leg=True).disks, (Path("/w/a.qcow2"),))
    assert "leg:" in caught.value.hint


def test_the_start_touches_no_array_that_a_firmware_describes() -> None:
    assert re.search(r"external\*\) continue", legs.START)
    assert "'" not in legs.START  # guestfish would take it for a quote
