"""The nouns of a machine, as facts give them. Sizes are bytes."""

from core.documents import Document


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
    """A whole disk, or one path to it: ``wwid`` is the same on every path. ``boots`` when its
    first sector holds a boot loader."""

    name: str
    path: str
    size: int
    sector: int = 512
    model: str = ""
    serial: str = ""
    driver: str = ""
    removable: bool = False
    wwid: str = ""
    boots: bool = False


class Partition(Document):
    """A partition; ``start`` and ``size`` in bytes."""

    disk: str
    path: str
    number: int
    start: int
    size: int


class Multipath(Document):
    """An active map: ``disks`` are the kernel's names of its paths, ``partitions`` the names of
    the maps that kpartx made of it."""

    name: str
    wwid: str = ""
    size: int
    disks: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()


class Member(Document):
    """A disk or partition in an array; ``state`` is in_sync, spare, faulty, or unsaid."""

    path: str
    slot: int
    state: str


class Array(Document):
    """A software RAID set. ``up`` is UU or U_ as in /proc/mdstat; ``busy`` is what the kernel is
    doing to it; ``external`` when a firmware's metadata describes it."""

    name: str
    level: str = ""
    active: bool = False
    legs: int = 0
    up: str = ""
    busy: str = ""
    external: bool = False
    members: tuple[Member, ...] = ()


class LogicalVolume(Document):
    """An LVM logical volume; ``kind`` is the first letter of its attributes (s snapshot, V thin,
    t thin pool, m mirror, - plain)."""

    group: str
    name: str
    path: str
    size: int
    kind: str = "-"


class VolumeGroup(Document):
    """An LVM volume group and what is left in it."""

    name: str
    size: int
    free: int
    volumes: tuple[str, ...] = ()
    partial: bool = False
    clustered: bool = False


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


class Evidence(Document):
    """A line that a rule may quote: a path and what was seen there."""

    path: str
    text: str


class Boot(Document):
    """How the machine starts: ``loader`` is grub, grub2, lilo or empty; the paths are of the
    running kernel, empty where there is no such file."""

    loader: str = ""
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
