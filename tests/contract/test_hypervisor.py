"""What every Hypervisor promises: the fake, and libvirt's own test driver."""

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from adapters.hypervisor import LibvirtHypervisor, ssh_program, ssh_uri
from core.errors import OutsideFailed
from core.ports import Hypervisor
from tests.fakes.hypervisor import FakeHypervisor

XML = """<domain type='{kind}'><name>{name}</name><memory>65536</memory><vcpu>1</vcpu>
<os><type arch='{arch}'>hvm</type></os></domain>"""


@pytest.fixture(params=["fake", "libvirt"])
def hypervisor(request: pytest.FixtureRequest) -> Iterator[Hypervisor]:
    made: Hypervisor = (
        FakeHypervisor() if request.param == "fake" else LibvirtHypervisor("test:///default")
    )
    yield made
    for name in ("one", "two"):
        made.destroy(name)
        made.undefine(name)
    made.close()


def xml(hypervisor: Hypervisor, name: str) -> str:
    kind = "test" if hypervisor.uri.startswith("test:") else "qemu"
    return XML.format(name=name, kind=kind, arch="i686")


def test_a_defined_domain_is_known_and_off(hypervisor: Hypervisor) -> None:
    hypervisor.define(xml(hypervisor, "one"))
    assert hypervisor.domains()["one"] == "shut off"
    assert ElementTree.fromstring(hypervisor.xml("one")).findtext("name") == "one"


def test_defining_again_is_harmless(hypervisor: Hypervisor) -> None:
    hypervisor.define(xml(hypervisor, "one"))
    text = hypervisor.xml("one")
    hypervisor.define(text)
    assert hypervisor.xml("one") == text


def test_a_domain_starts_and_stops_and_both_may_be_repeated(hypervisor: Hypervisor) -> None:
    hypervisor.define(xml(hypervisor, "one"))
    for _ in range(2):
        hypervisor.start("one")
        assert hypervisor.domains()["one"] == "running"
    for _ in range(2):
        hypervisor.destroy("one")
        assert hypervisor.domains()["one"] == "shut off"


def test_an_undefined_domain_is_gone_and_that_may_be_repeated(hypervisor: Hypervisor) -> None:
    hypervisor.define(xml(hypervisor, "one"))
    for _ in range(2):
        hypervisor.undefine("one")
        assert "one" not in hypervisor.domains()


def test_autostart_can_be_set(hypervisor: Hypervisor) -> None:
    hypervisor.define(xml(hypervisor, "one"))
    hypervisor.autostart("one")


def test_what_is_not_there_is_a_problem_with_its_name(hypervisor: Hypervisor) -> None:
    for ask in (hypervisor.xml, hypervisor.start, hypervisor.autostart):
        with pytest.raises(OutsideFailed, match="none"):
            ask("none")
    hypervisor.destroy("none")
    hypervisor.undefine("none")


def test_a_domain_nobody_can_read_is_a_problem(hypervisor: Hypervisor) -> None:
    with pytest.raises(OutsideFailed):
        hypervisor.define("<domain")


def test_capabilities_and_pools_can_be_asked(hypervisor: Hypervisor) -> None:
    assert ElementTree.fromstring(hypervisor.capabilities()).tag == "capabilities"
    assert all(path.startswith("/") for path in hypervisor.pools().values())


def test_closing_twice_is_harmless(hypervisor: Hypervisor) -> None:
    hypervisor.domains()
    hypervisor.close()
    hypervisor.close()


def test_a_dead_libvirt_is_a_problem_with_its_address() -> None:
    dead = LibvirtHypervisor("qemu+unix:///system?socket=/nonexistent")
    with pytest.raises(OutsideFailed) as caught:
        dead.domains()
    assert caught.value.where == "qemu+unix:///system"


def test_the_ssh_address_goes_through_a_program_that_pins_the_host_key(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pins = ("ssh", "-o", "StrictHostKeyChecking=yes", "-i", "/a key")
    uri = ssh_uri("10.0.0.5", "root", ssh_program("10.0.0.5", pins, tmp_path))
    assert uri.startswith("qemu+ssh://root@10.0.0.5/system?command=")
    assert "no_verify" not in uri
    program = (tmp_path / "ssh-10.0.0.5").read_text()
    assert "exec ssh -o StrictHostKeyChecking=yes -i '/a key' \"$@\"" in program
