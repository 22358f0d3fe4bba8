"""The site: cloud.yml as frozen types. What a field must look like stands here; whether the
whole makes sense is judged in deploy.rules. Relative key paths are relative to the state directory,
so that no key ever lies beside a description that is under version control."""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, Field

from core.documents import Document

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
BRIDGE = re.compile(r"[a-z][a-z0-9-]{0,14}")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("a name is lower-case letters, digits and hyphens, 31 at most")
    return text


def _device(text: str) -> str:
    if not BRIDGE.fullmatch(text):
        raise ValueError("an interface name is lower-case letters and digits, 15 at most")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or "\n" in text:
        raise ValueError("an absolute path without .. is needed")
    return text


def _http(text: str) -> str:
    if not re.fullmatch(r"http://[A-Za-z0-9.-]+(:\d{1,5})?/[A-Za-z0-9._/-]*", text):
        raise ValueError("a plain http:// address is needed (EL6 speaks no modern TLS)")
    return text


Name = Annotated[str, AfterValidator(_name)]
Device = Annotated[str, AfterValidator(_device)]
Absolute = Annotated[str, AfterValidator(_absolute)]
Url = Annotated[str, AfterValidator(_http)]


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

    user: str = "root"
    key: str
    known_hosts: str


class Network(Document):
    """A network of the site; ``bridge`` is what hypervisors plug domains into, on ``device``."""

    name: Name
    cidr: IPv4Network
    gateway: IPv4Address | None = None
    bridge: Device | None = None
    device: Device = "eth0"


class Node(Document):
    """A machine of the cloud."""

    name: Name
    address: IPv4Address
    roles: tuple[Role, ...] = Field(min_length=1)
    vars: dict[str, str | int | bool] = {}


class Pool(Document):
    """A directory pool; ``shared`` says that every hypervisor sees the same directory."""

    name: Name
    path: Absolute
    shared: bool = False


class Time(Document):
    """Who tells the time. ``servers`` are nodes or outside addresses that management follows."""

    servers: tuple[str, ...] = ()
    zone: str = "Asia/Shanghai"


class Target(Document):
    """Where a source host goes."""

    hypervisor: Name
    pool: Name
    network: Name


class Source(Document):
    """An old server that moves in. ``pages`` are compared before and after; ``quiesce`` names the
    services that stop for the last pass, in this order."""

    name: Name
    address: IPv4Address
    user: str = "root"
    port: int = Field(default=22, ge=1, le=65535)
    key: str = ""
    known_hosts: str = ""
    pages: tuple[Url, ...] = ()
    quiesce: tuple[str, ...] = ()
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
    rehearsal_probe: IPv4Interface | None = None
    sources: tuple[Source, ...] = ()
    vars: dict[str, str | int | bool] = {}
