"""The plan of one server's migration: drafted here, corrected by a person, obeyed by later stages.

plan.yml carries a digest of the text as drafted: that is how a person's edits are told from ours,
and never overwritten.
"""

import hashlib
import json
import uuid
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

from core.documents import Document, load
from core.errors import BadDocument, UsageProblem
from core.quantities import GIB, MIB, size
from migrate.reading import reading
from migrate.rules.software import DATABASE_SERVICES, SYSTEM
from migrate.rules.subject import Subject
from migrate.rules.system import VIRTIO
from migrate.source import Interface, SourceHost

VERSION = 1
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "domain.groundlift")
GRAINS = ((4 * GIB, 128 * MIB), (16 * GIB, 512 * MIB), (2**63, GIB))
MARK = "# as drafted: sha256:"


def _path(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or not text.isprintable():
        raise ValueError("an absolute path without .. is needed")
    return text


def _probe(text: str) -> str:
    return str(IPv4Interface(text))


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,100}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Bridge = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,14}$")]
Absolute = Annotated[str, AfterValidator(_path)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


SOURCE = r"^/dev/[A-Za-z0-9._:+!@=/-]+$"  # device-mapper allows more than the kernel's own names
DEVICE = r"^(/dev/[A-Za-z0-9._/+-]+)?$"


def _absent(value: object) -> bool:
    """A field that most plans do without is not written."""
    return not value


class DiskPlan(Document):
    """One disk: read from ``source``, kept as ``replica`` (a file name in the pool), seen as
    ``target`` (``vda``) on ``bus`` by the domain. With ``device`` it is kept on that block device
    of the hypervisor instead; ``overwrite``, the same path again, gives up what it holds. A
    ``leg`` is of RAID1 arrays whose other legs are not read."""

    source: Annotated[Absolute, Field(pattern=SOURCE)]
    size: Annotated[int, Field(gt=0, lt=2**63, multiple_of=512)]
    replica: Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9._-]{0,120}\.replica\.raw$")]
    target: Annotated[str, Field(pattern=r"^[vhs]d[a-z]$")]
    bus: Annotated[str, Field(pattern=r"^(virtio|ide)$")] = "virtio"
    device: Annotated[str, Field(pattern=DEVICE, exclude_if=_absent)] = ""
    overwrite: Annotated[str, Field(pattern=DEVICE, exclude_if=_absent)] = ""
    leg: Annotated[bool, Field(exclude_if=_absent)] = False

    @property
    def overlay(self) -> str:
        """The converted disk's file name in the pool, beside the replica it stands on."""
        return f"{self.replica.removesuffix('.replica.raw')}.qcow2"


class NicPlan(Document):
    """One network card, MAC kept; ``bridge`` is where it is plugged after cutover."""

    mac: Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
    bridge: Bridge
    model: Annotated[str, Field(pattern=r"^(virtio|e1000|rtl8139)$")] = "virtio"


class Quiesce(Document):
    """What stands still for the last pass: services are stopped, then file systems remounted
    read-only, in these orders. ``last_resort`` is what makes them so when files stay open.
    ``rehearse`` is how a rehearsal has it: a moment of the server at work instead, by LVM's
    snapshots, with what they can't hold frozen for at most ``freeze_seconds`` or not at all."""

    services: tuple[Word, ...] = ()
    mountpoints: tuple[Absolute, ...] = ()
    last_resort: Annotated[str, Field(pattern=r"^(sysrq)?$", exclude_if=_absent)] = ""
    rehearse: Annotated[str, Field(pattern=r"^(stopped|snapshot|frozen)$")] = "stopped"
    freeze_seconds: Annotated[int, Field(ge=1, le=3600, exclude_if=lambda n: n == 60)] = 60


class Rehearsal(Document):
    """The isolated network of the test boot: a bridge with no uplink on the hypervisor, and an
    address of the source's subnet that the hypervisor takes on it to reach the guest."""

    bridge: Bridge = "br-rehearse"
    probe: Annotated[str, AfterValidator(_probe)]


class Plan(Document):
    """Everything later stages need; sizes in bytes, ``memory`` in bytes."""

    version: Annotated[int, Field(ge=1, le=1)] = VERSION
    host: Name
    address: str
    source_sha256: Digest
    hypervisor: Name
    pool: Name
    pool_path: Absolute
    domain: Name
    uuid: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    vcpus: Annotated[int, Field(ge=1, le=160)]
    memory: Annotated[int, Field(ge=64 * MIB, lt=2**46, multiple_of=1024)]
    disks: tuple[DiskPlan, ...]
    nics: tuple[NicPlan, ...]
    quiesce: Quiesce = Quiesce()
    downtime_minutes: Annotated[float, Field(ge=0, le=100_000)] = 0
    rehearsal: Rehearsal
    pages: tuple[str, ...] = ()


def draft(subject: Subject, source_sha256: str) -> Plan:
    """The plan as the facts and the site have it."""
    host, target = subject.host, subject.target
    virtio = all(name in host.kernel_drivers for name in VIRTIO)
    identity = uuid.uuid5(NAMESPACE, f"{subject.site.site}/{host.name}")
    return Plan(
        host=host.name,
        address=host.address,
        source_sha256=source_sha256,
        hypervisor=target.node,
        pool=target.pool,
        pool_path=target.pool_path,
        domain=host.name,
        uuid=str(identity),
        vcpus=max(1, min(host.cpu.count, target.limits.vcpus)),
        memory=_installed(host.memory),
        disks=_disks(host, virtio=virtio),
        nics=_nics(subject, virtio=virtio),
        quiesce=Quiesce(services=_services(subject), mountpoints=mountpoints(host)),
        rehearsal=Rehearsal(probe=_probe_address(subject)),
        pages=subject.described.pages,
    )


def _installed(memory: int) -> int:
    """The kernel does not count what it keeps for itself: up to the next plausible module size."""
    grain = next(grain for most, grain in GRAINS if memory <= most)
    return max(grain, -(-memory // grain) * grain)


def _disks(host: SourceHost, *, virtio: bool) -> tuple[DiskPlan, ...]:
    found = reading(host)
    kept = [leg.kept for leg in found.legs]
    return tuple(
        DiskPlan(
            source=unit.source,
            size=unit.size,
            replica=f"{host.name}-{unit.name}.replica.raw",
            target=f"{'v' if virtio else 'h'}d{chr(ord('a') + index)}",
            bus="virtio" if virtio else "ide",
            leg=unit in kept,
        )
        for index, unit in enumerate(found.units)
    )


def _nics(subject: Subject, *, virtio: bool) -> tuple[NicPlan, ...]:
    """One per MAC: the halves of a bond share theirs. Unused cards stay behind."""
    cards = [card for card in subject.host.interfaces if card.kind == "hardware" and card.mac]
    used = [card for card in cards if card.up or card.addresses] or cards
    found = {card.mac: _bridge(subject, card) for card in used}
    model = "virtio" if virtio else "e1000"
    return tuple(NicPlan(mac=mac, bridge=bridge, model=model) for mac, bridge in found.items())


def _bridge(subject: Subject, card: Interface) -> str:
    """The bridge of the network that the card's address belongs to; else of the site's choice."""
    addresses = [ip_interface(address).ip for address in card.addresses]
    networks = {network.name: network for network in subject.site.networks}
    fitting = [
        n for n in networks.values() if any(a in n.cidr for a in addresses if a.version == 4)
    ]
    network = fitting[0] if fitting else networks[subject.target.network]
    if network.bridge is None:
        raise UsageProblem(
            f"the network {network.name} has no bridge on the hypervisors",
            hint="add `bridge:` to it in cloud.yml and run `groundlift deploy run`",
        )
    return network.bridge


def _services(subject: Subject) -> tuple[str, ...]:
    """The site's word; without one, what runs beside the system itself, databases last."""
    if subject.described.quiesce:
        return subject.described.quiesce
    own = [s.name for s in subject.host.services if s.running and not SYSTEM.fullmatch(s.name)]
    return tuple(sorted(own, key=lambda name: (bool(DATABASE_SERVICES.search(name)), name)))


def mountpoints(host: SourceHost) -> tuple[str, ...]:
    """What is mounted writable from this host's own disks, the deepest first, / last."""
    found = [fs.mountpoint for fs in host.filesystems if not fs.remote and "rw" in fs.options]
    return tuple(sorted(found, key=lambda path: (-len(path.rstrip("/").split("/")), path)))


def _probe_address(subject: Subject) -> str:
    """The site's probe, or the last free address of the source's own network."""
    if subject.site.rehearsal_probe is not None:
        return str(subject.site.rehearsal_probe)
    for card in subject.host.interfaces:
        for address in card.addresses:
            own = ip_interface(address)
            if isinstance(own, IPv4Interface) and str(own.ip) == subject.host.address:
                last = own.network.broadcast_address - 1
                return f"{last if last != own.ip else last - 1}/{own.network.prefixlen}"
    raise UsageProblem(
        "no address for the rehearsal's probe can be inferred",
        hint="set `rehearsal_probe` in cloud.yml to a free address of the server's network",
    )


def text(plan: Plan) -> str:
    """plan.yml, with what each part means, and the mark of a draft."""
    data = plan.model_dump(mode="json")
    parts = [
        "# The plan of one migration. Correct what is wrong: later stages obey this file, and",
        "# `groundlift migrate plan` never overwrites your edits. Sizes are bytes.",
        _lines(data, "version", "host", "address"),
        "# The discovery this plan was drafted from.",
        _lines(data, "source_sha256"),
        "\n# Where it goes.",
        _lines(data, "hypervisor", "pool", "pool_path", "domain"),
        "# Kept for life: licences may be bound to it.",
        _lines(data, "uuid"),
        _lines(data, "vcpus"),
        f"# {size(plan.memory)}",
        _lines(data, "memory"),
        "\n# `source` is read whole; the bus is ide where the kernel has no virtio drivers.",
        _lines(data, "disks"),
        "\n# MAC addresses stay. `bridge` is where the card is plugged at cutover, not before.",
        _lines(data, "nics"),
        "\n# For the last pass: services stop in this order, then mountpoints become read-only. A",
        "# rehearsal may spare that: `rehearse: snapshot` or `frozen` instead of `stopped`.",
        _lines(data, "quiesce"),
        "\n# How long the server may stand still; 0: no limit. What is forecast to take longer is",
        "# refused before anything stops.",
        _lines(data, "downtime_minutes"),
        "\n# The test boot happens on a bridge without uplink; `probe` must be free on it.",
        _lines(data, "rehearsal"),
        "\n# What the application answers, compared before and after.",
        _lines(data, "pages"),
    ]
    body = "\n".join(part.rstrip("\n") for part in parts) + "\n"
    return f"{body}{MARK}{hashlib.sha256(body.encode()).hexdigest()}\n"


def _lines(data: dict[str, object], *keys: str) -> str:
    return yaml.safe_dump(
        {key: data[key] for key in keys}, allow_unicode=True, sort_keys=False, width=100
    )


def edited(content: str) -> bool:
    """Whether a person has changed the text since it was drafted."""
    body, mark, digest = content.rpartition(MARK)
    return not mark or hashlib.sha256(body.encode()).hexdigest() != digest.strip()


def read(folder: Path) -> Plan:
    """plan.yml of ``folder``. Raises BadDocument when it is faulty, or of an older discovery."""
    path = folder / "plan.yml"
    if not path.exists():
        name = folder.name
        raise UsageProblem(
            f"{name} has no plan yet", hint=f"`groundlift migrate run {name}` makes one, or "
            f"`groundlift migrate plan {name}`",
        )  # fmt: skip
    plan = load(path, Plan)
    _check_names(plan, path)
    source = folder / "source.json"
    if source.exists() and hashlib.sha256(source.read_bytes()).hexdigest() != plan.source_sha256:
        raise BadDocument(
            f"the plan of {plan.host} belongs to an older discovery",
            errors=[f"{_line(path, 'source_sha256')}: source_sha256: not that of source.json"],
            hint=f"`groundlift migrate plan {plan.host} --force` drafts it anew",
        )
    return plan


def _check_names(plan: Plan, path: Path) -> None:
    """What no single field can tell."""
    faults = [] if plan.disks else [f"{_line(path, 'disks')}: disks: at least one is needed"]
    for key in ("replica", "target", "source"):
        seen = [json.dumps(getattr(disk, key)) for disk in plan.disks]
        faults += [
            f"{_line(path, 'disks')}: disks: {key} {name} stands twice"
            for name in sorted({name for name in seen if seen.count(name) > 1})
        ]
    devices = [disk.device for disk in plan.disks if disk.device]
    if len(set(devices)) != len(devices):
        faults.append(f"{_line(path, 'disks')}: disks: a device stands twice")
    if any(disk.overwrite not in ("", disk.device) for disk in plan.disks):
        faults.append(f"{_line(path, 'disks')}: disks: overwrite must repeat the disk's device")
    if len({nic.mac for nic in plan.nics}) != len(plan.nics):
        faults.append(f"{_line(path, 'nics')}: nics: a MAC stands twice")
    if any(not disk.replica.startswith(f"{plan.domain}-") for disk in plan.disks):
        faults.append(f"{_line(path, 'disks')}: disks: a replica's name starts with the domain's")
    if faults:
        raise BadDocument(f"the plan of {plan.host} can't be followed", errors=faults)


def _line(path: Path, key: str) -> str:
    lines = path.read_text().splitlines()
    number = next((n for n, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
    return f"{path}:{number}:1"
