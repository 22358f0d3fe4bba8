"""Kickstart files for CentOS 6.3's own installer (anaconda 13.21.176), and the rules they pass.

pykickstart knows RHEL 6 as a whole; what came after 6.3 is refused here.
"""

import re
import warnings
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv4Address

from jinja2 import Environment, StrictUndefined
from pykickstart.errors import KickstartError
from pykickstart.parser import KickstartParser
from pykickstart.version import RHEL6, makeVersion

from core.errors import BadDocument
from deploy.provision import Machine, install_of, network_for
from deploy.site import Node, Site

HASH = re.compile(r"\$(5|6)\$[A-Za-z0-9./=$-]{20,200}")
KEY = re.compile(r"(ssh-rsa|ssh-dss) [A-Za-z0-9+/=]{60,4000}( [A-Za-z0-9@._+-]{0,100})?")
# What anaconda learned after 13.21.176: 6.3 stops with "unknown option", pykickstart does not.
LATER = re.compile(r"^\s*network\b.*--(vlanid|bondslaves|bondopts|bridgeslaves|teamslaves)\b", re.M)
EVERYTHING = re.compile(r"^\s*clearpart\b(?!.*--drives=)", re.M)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What goes into every kickstart: the root password's hash and the key that may log in."""

    root_hash: str
    public_key: str

    def __post_init__(self) -> None:
        if not HASH.fullmatch(self.root_hash):
            raise BadDocument(
                "the root password's file holds no SHA-512 or SHA-256 hash",
                hint="`openssl passwd -6 > FILE`; the password itself never stands anywhere",
                where="install.root_password",
            )
        if not KEY.fullmatch(self.public_key):
            raise BadDocument(
                "the public key is none that OpenSSH 5.3 takes",
                hint="`ssh-keygen -t rsa -b 4096`; EL6 knows no Ed25519",
                where="install.authorized_key",
            )


def installing(site: Site, node: Node, machine: Machine, secrets: Secrets, base: str) -> str:
    """The kickstart that wipes ``node``'s disk. ``base`` is the address that takes reports."""
    install, network = install_of(site), network_for(site, node.address)
    controller = base.split("/")[2].rsplit(":", 1)[0]
    text = _render(
        "install.ks.j2", site=site, node=node, network=network, install=install, secrets=secrets,
        nameserver=install.nameserver or network.gateway or IPv4Address(controller),
        sectors=(node.disk_gib or 0) * 2 * 1024 * 1024, block=node.disk.replace("/", "!"),
        report=f"{base}done/{machine.name}?token={machine.token}",
    )  # fmt: skip
    judge(text, f"kickstart of {node.name}")
    return text


def rescuing(site: Site, machine: Machine, secrets: Secrets) -> str:
    """The kickstart of the installer's rescue system with sshd: it mounts and wipes nothing."""
    text = _render("rescue.ks.j2", site=site, secrets=secrets, machine=machine)
    judge(text, f"rescue kickstart of {machine.name}")
    return text


def judge(text: str, name: str) -> None:
    """Raises BadDocument with every fault that pykickstart or 6.3's own installer has with it."""
    faults = []
    for found in LATER.finditer(text):
        line = text[: found.start()].count("\n") + 1
        faults.append(f"{name}:{line}:1: --{found[1]} is unknown to the installer of 6.3")
    for found in EVERYTHING.finditer(text):
        line = text[: found.start()].count("\n") + 1
        faults.append(f"{name}:{line}:1: clearpart without --drives= would wipe every disk it sees")
    parser = KickstartParser(makeVersion(RHEL6), errorsAreFatal=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parser.readKickstartFromString(text)
    except (KickstartError, Warning, ValueError) as fault:
        line = getattr(fault, "lineno", 0) or 1
        said = " ".join(str(fault).split())
        faults.append(f"{name}:{line}:1: {said}")
    if faults:
        raise BadDocument(
            "the kickstart would not install", errors=faults, where=name,
            hint="correct what cloud.yml says of this node",
        )  # fmt: skip


def _render(name: str, **values: object) -> str:
    source = files("deploy").joinpath(name).read_text(encoding="utf-8")
    template = Environment(  # a kickstart is no page: nothing is escaped, every value is checked
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True,  # noqa: S701
        keep_trailing_newline=True,
    ).from_string(source)  # fmt: skip
    return template.render(**values)
