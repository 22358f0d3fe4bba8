"""What machines are told before their installer runs: DHCP, TFTP and the boot menu of each."""

import ipaddress
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from jinja2 import Environment, StrictUndefined

from core.errors import OutsideFailed, UsageProblem
from core.ports import Web
from core.progress import Report, track
from core.state import publish
from deploy.addressing import network_of
from deploy.provision import Floor, Machine
from deploy.site import Network, Site

KERNEL, INITRD = "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"
LIMIT = 256 * 1024 * 1024
LOADERS = (  # the file that a card's ROM starts, and what that one needs beside it
    (Path("/usr/lib/PXELINUX/pxelinux.0"), (Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"),)),
    (Path("/usr/share/syslinux/pxelinux.0"), ()),  # syslinux 4, as CentOS 6 has it
)
INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}")
Mode = Literal["full", "proxy"]


@dataclass(frozen=True, slots=True)
class Line:
    """Where the installation network is: our interface and address, and who gives addresses."""

    interface: str
    address: ipaddress.IPv4Address
    mode: Mode
    port: int

    def __post_init__(self) -> None:
        if not INTERFACE.fullmatch(self.interface):
            raise UsageProblem(f"{self.interface!r} is no interface's name")

    @property
    def base(self) -> str:
        """The address of kickstarts and reports."""
        return f"http://{self.address}:{self.port}/"


def network_of_line(site: Site, line: Line) -> Network:
    """The site's network that our address is in. Raises UsageProblem."""
    network = network_of(site, line.address)
    if network is None:
        raise UsageProblem(
            f"{line.address} on {line.interface} is in none of the site's networks",
            hint="name the interface that is plugged into the installation network",
        )
    return network


def write(site: Site, floor: Floor, line: Line, folder: Path, web: Web, report: Report) -> Path:
    """Write dnsmasq.conf and the TFTP tree below ``folder``; the configuration's path. The kernel
    and the initrd come from the mirror. Raises OutsideFailed or UsageProblem."""
    tree = folder / "tftp"
    (tree / "pxelinux.cfg").mkdir(parents=True, exist_ok=True)
    for place in (tree, tree / "pxelinux.cfg"):
        place.chmod(0o755)  # dnsmasq reads as nobody, whatever root's umask is
    _loader(tree)
    for path in (KERNEL, INITRD):
        with track(report, f"fetch {path}"):
            answer = web.fetch(site.mirror.url + path, timeout=120, limit=LIMIT)
        if len(answer.body) >= LIMIT:
            raise OutsideFailed(f"{path} is larger than any installer's", where=site.mirror.url,
                                hint="publish the original disc 1")  # fmt: skip
        if answer.status != 200:
            raise OutsideFailed(
                f"the mirror has no {path} (status {answer.status})", where=site.mirror.url,
                hint="publish a disc 1 with its installer; `mirror status` says what is published",
            )  # fmt: skip
        publish(tree / path.rsplit("/", 1)[1], answer.body, exact=True)
    publish(tree / "pxelinux.cfg" / "default", LOCAL, exact=True)
    for machine in floor.machines:
        menu(tree, site, machine, line)
    config = folder / "dnsmasq.conf"
    publish(config, dnsmasq(site, floor, line, tree))
    return config


def _loader(tree: Path) -> None:
    for loader, parts in LOADERS:
        if loader.exists() and all(part.exists() for part in parts):
            for part in (loader, *parts):
                publish(tree / part.name, part.read_bytes(), exact=True)
            return
    raise OutsideFailed(
        "pxelinux is not on this machine", hint="./setup installs it (Debian: pxelinux)"
    )


LOCAL = "default local\nprompt 0\nlabel local\n  localboot 0\n"


def menu(tree: Path, site: Site, machine: Machine, line: Line) -> None:
    """What pxelinux tells this machine: its own disk, the installer, or the rescue system."""
    text = LOCAL
    if machine.boots_installer:
        more = "rescue sshd=1 " if machine.rescue else ""
        arguments = (
            f"initrd=initrd.img {more}ks={line.base}ks/{machine.name} ksdevice=bootif kssendmac "
            f"method={site.mirror.url} noipv6"
        )
        text = (
            "default install\nprompt 0\nlabel install\n  kernel vmlinuz\n"
            f"  append {arguments}\n  ipappend 2\n"
        )
    publish(tree / "pxelinux.cfg" / f"01-{machine.mac.replace(':', '-')}", text, exact=True)


def dnsmasq(site: Site, floor: Floor, line: Line, tree: Path) -> str:
    """The configuration: one interface, only the machines of this site."""
    place = tree.absolute()
    if set(str(place)) & set(" ,\t\n\"'#"):
        raise UsageProblem(
            "dnsmasq reads spaces, commas and quotes in its own way",
            hint="keep the state directory under a plain name", where=str(place),
        )  # fmt: skip
    source = files("deploy").joinpath("dnsmasq.conf.j2").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701
    return template.from_string(source).render(
        line=line, network=network_of_line(site, line), machines=floor.machines, tree=place
    )  # fmt: skip
