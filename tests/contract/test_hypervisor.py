"""What every Hypervisor promises: the fake, and libvirt's own test driver."""

import ast
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import libvirt
import pytest

import adapters.hypervisor
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
    if isinstance(hypervisor, LibvirtHypervisor):
        assert hypervisor.connection.lookupByName("one").autostart() == 1


# What libvirt 0.9.10 answers, of all that could be called here.
OF_2012 = {
    *("isAlive", "close", "getCapabilities", "defineXML", "lookupByName", "lookupByID"),
    *("listDefinedDomains", "listDomainsID", "listStoragePools", "storagePoolLookupByName"),
    *("name", "state", "isActive", "create", "destroy", "undefine", "setAutostart", "XMLDesc"),
    *("migrate", "get_error_code"),
}


def test_nothing_is_called_that_a_libvirtd_of_centos_6_3_does_not_know() -> None:
    known = {
        name
        for kind in (libvirt.virConnect, libvirt.virDomain, libvirt.virStoragePool)
        for name in vars(kind)
        if not name.startswith("_")
    }
    source = ast.parse(Path(adapters.hypervisor.__file__).read_text())
    called = {
        node.func.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert called & known - OF_2012 == set()
    assert "lookupByName" in called


def test_a_domain_that_is_on_and_not_defined_is_listed_and_found() -> None:
    made = LibvirtHypervisor("test:///default")
    made.connection.createXML(XML.format(name="passing", kind="test", arch="i686"), 0)
    assert made.domains()["passing"] == "running"
    made.destroy("passing")
    assert "passing" not in made.domains()
    made.close()


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
