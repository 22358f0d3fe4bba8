"""The nouns of a source host, as discovery writes them to source.json. Sizes are bytes."""

from datetime import datetime

from core.documents import Document
from core.facts.machine import (
    Array,
    Boot,
    Cpu,
    Device,
    Disk,
    Evidence,
    Filesystem,
    Interface,
    Listener,
    LogicalVolume,
    Member,
    Multipath,
    Os,
    Partition,
    Process,
    Service,
    VolumeGroup,
)

__all__ = [
    "Array",
    "Boot",
    "Cpu",
    "Device",
    "Disk",
    "Evidence",
    "Filesystem",
    "Interface",
    "Listener",
    "LogicalVolume",
    "Member",
    "Multipath",
    "Os",
    "Page",
    "Partition",
    "Process",
    "Service",
    "SourceHost",
    "VolumeGroup",
]

VERSION = 1


class Page(Document):
    """What a web address answered: the proof that the application lives."""

    url: str
    status: int
    sha256: str = ""
    excerpt: str = ""


class SourceHost(Document):
    """All that discovery learned. ``missing`` maps a fact's name to why it is not known."""

    version: int = VERSION
    name: str
    address: str
    taken: datetime
    hostname: str = ""
    os: Os = Os()
    cpu: Cpu = Cpu()
    memory: int = 0
    memory_used: int = 0
    swap: int = 0
    firmware: str = ""
    product: str = ""
    disks: tuple[Disk, ...] = ()
    partitions: tuple[Partition, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    logical_volumes: tuple[LogicalVolume, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    swaps: tuple[str, ...] = ()
    md_arrays: tuple[Array, ...] = ()
    multipaths: tuple[Multipath, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    peers: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    processes: tuple[Process, ...] = ()
    devices: tuple[Device, ...] = ()
    modules: tuple[str, ...] = ()
    cron: tuple[Evidence, ...] = ()
    databases: tuple[Evidence, ...] = ()
    sessions: tuple[Evidence, ...] = ()
    fixed_addresses: tuple[Evidence, ...] = ()
    serial_used: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    boot: Boot = Boot()
    kernel_drivers: tuple[str, ...] = ()
    fstab: tuple[Evidence, ...] = ()
    clock_skew: float | None = None
    clock_local: bool = False
    disk_errors: int = 0
    ssh_banner: str = ""
    ssh_weak: str = ""  # what is old about the algorithms that it needs
    pages: tuple[Page, ...] = ()
    missing: dict[str, str] = {}
