"""The plan of one server's migration: written by a stage, corrected by a person."""

from core.documents import Document

VERSION = 1


class DiskPlan(Document):
    """One disk: read from ``source``, kept as ``replica`` (a file name in the pool), seen as
    ``target`` (``vda``) on ``bus`` by the domain."""

    source: str
    size: int
    replica: str
    target: str
    bus: str = "virtio"


class NicPlan(Document):
    """One network card, MAC kept; ``bridge`` is where it is plugged after cutover."""

    mac: str
    bridge: str
    model: str = "virtio"


class Quiesce(Document):
    """What stands still for the last pass: services are stopped, then file systems remounted
    read-only, in these orders."""

    services: tuple[str, ...] = ()
    mountpoints: tuple[str, ...] = ()


class Rehearsal(Document):
    """The isolated network of the test boot: a bridge with no uplink on the hypervisor, and an
    address of the source's subnet that the hypervisor takes on it to reach the guest."""

    bridge: str = "br-rehearse"
    probe: str


class Plan(Document):
    """Everything later stages need; sizes in bytes, ``memory`` in bytes."""

    version: int = VERSION
    host: str
    address: str
    source_sha256: str
    hypervisor: str
    pool: str
    pool_path: str
    domain: str
    uuid: str
    vcpus: int
    memory: int
    disks: tuple[DiskPlan, ...]
    nics: tuple[NicPlan, ...]
    quiesce: Quiesce = Quiesce()
    rehearsal: Rehearsal
    pages: tuple[str, ...] = ()
