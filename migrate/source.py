"""The nouns of a source host, as discovery writes them to source.json. Sizes are bytes."""

from datetime import datetime

from core.documents import Document

VERSION = 1


class Os(Document):
    """Operating system release."""

    id: str = ""
    version: str = ""
    name: str = ""
    kernel: str = ""
    arch: str = ""


class Cpu(Document):
    """Logical processors as the kernel counts them."""

    count: int = 0
    model: str = ""
    flags: tuple[str, ...] = ()


class Disk(Document):
    """A whole disk."""

    name: str
    path: str
    size: int
    sector: int = 512
    model: str = ""
    serial: str = ""
    driver: str = ""
    removable: bool = False


class Partition(Document):
    """A partition; ``start`` and ``size`` in bytes."""

    disk: str
    path: str
    number: int
    start: int
    size: int


class LogicalVolume(Document):
    """An LVM logical volume."""

    group: str
    name: str
    path: str
    size: int


class VolumeGroup(Document):
    """An LVM volume group and what is left in it."""

    name: str
    size: int
    free: int
    volumes: tuple[str, ...] = ()


class Filesystem(Document):
    """A mounted file system on a block device (or a network one when ``remote``)."""

    device: str
    mountpoint: str
    kind: str
    options: tuple[str, ...] = ()
    size: int = 0
    used: int = 0
    available: int = 0
    inodes_free: int = 0
    uuid: str = ""
    remote: bool = False


class Interface(Document):
    """A network interface; addresses as ``10.0.0.5/24``."""

    name: str
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    driver: str = ""
    kind: str = ""
    addresses: tuple[str, ...] = ()


class Listener(Document):
    """A listening socket."""

    protocol: str
    address: str
    port: int
    process: str = ""


class Service(Document):
    """A system service."""

    name: str
    running: bool
    enabled: bool


class Process(Document):
    """A running process; secrets in its arguments are masked at the source."""

    pid: int
    user: str
    command: str


class Device(Document):
    """A PCI or USB device by its numbers: class code, vendor, product (hexadecimal)."""

    bus: str
    address: str
    kind: str = ""
    vendor: str = ""
    product: str = ""
    driver: str = ""


class Page(Document):
    """What a web address answered: the proof that the application lives."""

    url: str
    status: int
    sha256: str = ""
    excerpt: str = ""


class Evidence(Document):
    """A line that a rule may quote: a path and what was seen there."""

    path: str
    text: str


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
    firmware: str = "bios"
    product: str = ""
    disks: tuple[Disk, ...] = ()
    partitions: tuple[Partition, ...] = ()
    volume_groups: tuple[VolumeGroup, ...] = ()
    logical_volumes: tuple[LogicalVolume, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    swaps: tuple[str, ...] = ()
    md_arrays: tuple[str, ...] = ()
    multipaths: tuple[str, ...] = ()
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
    sessions: tuple[Evidence, ...] = ()
    fixed_addresses: tuple[Evidence, ...] = ()
    serial_used: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    pages: tuple[Page, ...] = ()
    missing: dict[str, str] = {}
