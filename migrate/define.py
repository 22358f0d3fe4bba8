"""From a plan and the hypervisor's real capabilities to a domain that this libvirt can define."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import jinja2

from core.errors import OutsideFailed
from core.ports import Hypervisor
from core.state import publish
from migrate.plan import NicPlan, Plan

MACHINES = ("pc", "rhel6.3.0", "rhel6.2.0", "rhel6.1.0", "rhel6.0.0")


@dataclass(frozen=True, slots=True)
class Guest:
    """What the hypervisor offers for one architecture. ``kind`` is kvm or qemu."""

    kind: str
    arch: str
    machine: str
    emulator: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A disk as the template needs it."""

    path: str
    target: str
    bus: str


def offered(capabilities: str, arch: str = "x86_64") -> Guest:
    """The best that the capabilities XML offers for ``arch``. Raises OutsideFailed."""
    try:
        root = ElementTree.fromstring(capabilities)  # noqa: S314 (from our own libvirtd)
    except ElementTree.ParseError as fault:
        raise OutsideFailed(f"the hypervisor's capabilities can't be read: {fault}") from fault
    for guest in root.findall("guest"):
        found = guest.find(f"arch[@name='{arch}']")
        if guest.findtext("os_type") == "hvm" and found is not None:
            return _guest(found, arch)
    raise OutsideFailed(
        f"the hypervisor offers no {arch} guests",
        hint="is qemu-kvm installed there? `groundlift deploy run` does that",
    )


def _guest(found: ElementTree.Element, arch: str) -> Guest:
    kinds = {domain.get("type", ""): domain for domain in found.findall("domain")}
    kind = "kvm" if "kvm" in kinds else "qemu"
    own = kinds.get(kind)
    nodes = [node for node in (own, found) if node is not None]
    emulator = next((text for node in nodes if (text := node.findtext("emulator"))), "")
    machines = [m.text or "" for node in nodes for m in node.findall("machine")]
    wanted = [name for name in MACHINES if name in machines]
    wanted += [name for name in machines if name.startswith(("pc-i440fx", "pc-0", "pc-1", "rhel6"))]
    if not wanted or not emulator:
        raise OutsideFailed(
            f"the hypervisor offers no PC machine for {arch}: {', '.join(machines[:9]) or 'none'}"
        )
    return Guest(kind, arch, wanted[0], emulator)


def domain_xml(
    plan: Plan,
    guest: Guest,
    *,
    clock_local: bool = False,
    name: str = "",
    uuid: str = "",
    bridge: str = "",
    suffix: str = "",
) -> str:
    """The domain's XML. A rehearsal has its own ``name``, ``uuid`` and ``bridge``, and disks whose
    file names end in ``suffix``."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    template = environment.from_string((Path(__file__).parent / "domain.xml.j2").read_text())
    disks = [
        Shown(f"{plan.pool_path}/{disk.overlay}{suffix}", disk.target, disk.bus)
        for disk in plan.disks
    ]
    nics = [NicPlan(mac=nic.mac, bridge=bridge or nic.bridge, model=nic.model) for nic in plan.nics]
    return template.render(
        kind=guest.kind, arch=guest.arch, machine=guest.machine, emulator=guest.emulator,
        name=name or plan.domain, uuid=uuid or plan.uuid, memory_kib=plan.memory // 1024,
        vcpus=plan.vcpus, clock="localtime" if clock_local else "utc", disks=disks, nics=nics,
    )  # fmt: skip


def define(plan: Plan, hypervisor: Hypervisor, folder: Path, *, clock_local: bool = False) -> bool:
    """Define the domain and keep its XML as domain.xml. True when that changed anything."""
    xml = domain_xml(plan, offered(hypervisor.capabilities()), clock_local=clock_local)
    kept = folder / "domain.xml"
    there = plan.domain in hypervisor.domains()
    if there and kept.exists() and kept.read_text() == xml:
        return False
    hypervisor.define(xml)
    publish(kept, xml)
    return True
