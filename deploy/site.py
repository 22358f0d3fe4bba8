"""The site: cloud.yml as frozen types. What a field must look like stands here; whether the
whole makes sense is judged in deploy.rules. Relative key paths are relative to the state directory,
so that no key ever lies beside a description that is under version control."""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from core.documents import Document

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
BRIDGE = re.compile(r"[a-z][a-z0-9-]{0,14}")
VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,60}")
# Ansible would run what stands between these.
TEMPLATES = ("{{", "{%", "{#")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("a name is lower-case letters, digits and hyphens, 31 at most")
    return text


def _device(text: str) -> str:
    if not BRIDGE.fullmatch(text):
        raise ValueError("an interface name is lower-case letters and digits, 15 at most")
    return text


def _absolute(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", text) or {".", ".."} & set(text.split("/")):
        raise ValueError(
            "an absolute path of letters, digits, dots and hyphens is needed, without . or .."
        )
    return text


def _plain(text: str) -> str:
    if not text or len(text) > 1000 or not text.isprintable():
        raise ValueError("printable text on one line is needed, 1000 characters at most")
    if any(mark in text for mark in TEMPLATES):
        raise ValueError("text must not hold {{, {% or {#: it would be run as a template")
    return text


def _mac(text: str) -> str:
    if not re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text):
        raise ValueError("a hardware address such as 52:54:00:12:34:56 is needed")
    if int(text[:2], 16) & 1:
        raise ValueError("this is the address of a group, not of a card")
    return text.lower()


def _disk(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{1,15}(/[a-z0-9]{1,15})?", text):
        raise ValueError("a disk's name below /dev is needed, such as sda or cciss/c0d0")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,63}", text):
        raise ValueError("one word of letters, digits and @ . _ + - is needed")
    return text


def _zone(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]+([/_+-][A-Za-z0-9]+)*", text):
        raise ValueError("a time zone such as Asia/Shanghai is needed")
    return text


def _variable(text: str) -> str:
    if not VARIABLE.fullmatch(text):
        raise ValueError("a variable's name is lower-case letters, digits and underscores")
    if text.startswith(("ansible_", "groundlift_")):
        raise ValueError("variables that begin with ansible_ or groundlift_ can't be set here")
    return text


def _value(value: str | int | bool) -> str | int | bool:
    return _plain(value) if isinstance(value, str) else value


def _http(text: str) -> str:
    if not re.fullmatch(r"http://[A-Za-z0-9.-]+(:\d{1,5})?/[A-Za-z0-9._/-]*", text):
        raise ValueError("a plain http:// address is needed (EL6 speaks no modern TLS)")
    return text


Name = Annotated[str, AfterValidator(_name)]
Mac = Annotated[str, AfterValidator(_mac)]
Disk = Annotated[str, AfterValidator(_disk)]
Device = Annotated[str, AfterValidator(_device)]
Absolute = Annotated[str, AfterValidator(_absolute)]
Url = Annotated[str, AfterValidator(_http)]
Plain = Annotated[str, AfterValidator(_plain)]
Word = Annotated[str, AfterValidator(_word)]
Zone = Annotated[str, AfterValidator(_zone)]
Vars = dict[
    Annotated[str, AfterValidator(_variable)],
    Annotated[StrictStr | StrictBool | StrictInt, AfterValidator(_value)],
]


class Role(StrEnum):
    """What a node is for."""

    MANAGEMENT = "management"
    STORAGE = "storage"
    HYPERVISOR = "hypervisor"


class Mirror(Document):
    """Where nodes get packages: the tree's address, ending in /."""

    url: Url


class Ssh(Document):
    """How the controller logs in."""

    user: Word = "root"
    key: Plain
    known_hosts: Plain


class Network(Document):
    """A network of the site; ``bridge`` is what hypervisors plug domains into, on ``device``."""

    name: Name
    cidr: IPv4Network
    gateway: IPv4Address | None = None
    bridge: Device | None = None
    device: Device = "eth0"


class Node(Document):
    """A machine of the cloud. ``mac`` is of the card it is installed over, ``disk`` the one that is
    wiped for the system; ``disk_gib`` guards it: a disk of another size is left alone. ``direct``:
    servers that say so too may bring their data here by themselves."""

    name: Name
    address: IPv4Address
    roles: tuple[Role, ...] = Field(min_length=1)
    mac: Mac | None = None
    disk: Disk = "sda"
    disk_gib: int | None = Field(default=None, ge=8, le=65536)
    direct: bool = False
    vars: Vars = {}


class Install(Document):
    """What bare machines are installed with. ``root_password`` is a file that holds the hash
    ($6$…), ``authorized_key`` one with the public key; default: that of ``ssh.key``."""

    root_password: Plain
    authorized_key: Plain | Literal[""] = ""
    nameserver: IPv4Address | None = None
    keyboard: Word = "us"
    selinux: Literal["enforcing", "permissive"] = "enforcing"


class Pool(Document):
    """A directory pool; ``shared`` says that every hypervisor sees the same directory."""

    name: Name
    path: Absolute
    shared: bool = False


class Time(Document):
    """Who tells the time. ``servers`` are nodes or outside addresses that management follows."""

    servers: tuple[Word, ...] = ()
    zone: Zone = "Asia/Shanghai"


class Target(Document):
    """Where a source host goes."""

    hypervisor: Name
    pool: Name
    network: Name


class Jump(Document):
    """A machine on the way to a source, logged in to by key; its host key is pinned, too."""

    address: IPv4Address
    user: Word = "root"
    port: int = Field(default=22, ge=1, le=65535)
    key: Plain | Literal[""] = ""
    known_hosts: Plain | Literal[""] = ""


def _hours(text: str) -> str:
    found = re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text)
    if not found or text[:5] == text[6:]:
        raise ValueError("give two times of day, as 22:00-06:00")
    return text


Rate = Annotated[float, Field(ge=0.1, le=100_000)]


class Traffic(Document):
    """Limits of live copies: MiB per second for all servers together, for each of ``groups`` (those
    behind one switch, say), and the hours they may run in, by the controller's clock."""

    rate_mib: Rate | None = None
    groups: dict[Name, Rate] = {}
    hours: tuple[Annotated[str, AfterValidator(_hours)], ...] = ()


class Source(Document):
    """An old server that moves in. ``pages`` are compared before and after; ``quiesce`` names the
    services that stop for the last pass, in this order. ``login`` is by key or by password,
    ``sudo`` how the account becomes root; a password never stands here, at most its file.
    ``direct``: its data may go to a hypervisor that says so too without passing the controller."""

    name: Name
    address: IPv4Address
    user: Word = "root"
    port: int = Field(default=22, ge=1, le=65535)
    key: Plain | Literal[""] = ""
    known_hosts: Plain | Literal[""] = ""
    login: Literal["key", "password"] = "key"
    password_file: Plain | Literal[""] = ""
    sudo: Literal["no", "nopasswd", "password"] = "no"
    algorithms: Literal["", "modern", "before-7.2", "before-5.9", "before-4.4"] = ""
    jump: Jump | None = None
    pages: tuple[Url, ...] = ()
    quiesce: tuple[Word, ...] = ()
    mac: Mac | None = None  # for a rescue system over the network
    rate_mib: Rate | None = None
    group: Name | None = None  # of ``traffic``
    direct: bool = False
    target: Target


class Site(Document):
    """cloud.yml."""

    version: int = Field(ge=1, le=1)
    site: Name
    bundle: Name = "libvirt-el6"
    release: str = Field(default="6.3", pattern=r"^\d+\.\d+$")
    mirror: Mirror
    ssh: Ssh
    networks: tuple[Network, ...] = Field(min_length=1)
    nodes: tuple[Node, ...] = Field(min_length=1)
    pools: tuple[Pool, ...] = Field(min_length=1)
    time: Time = Time()
    install: Install | None = None
    rehearsal_probe: IPv4Interface | None = None
    sources: tuple[Source, ...] = ()
    traffic: Traffic = Traffic()
    vars: Vars = {}
