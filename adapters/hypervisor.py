"""core.ports.Hypervisor by libvirt-python. Over ssh the connection is made by a generated program
that pins the host key: libvirt's own options can only switch the check off.

The libvirtd at the other end may be of 2012 (0.9.10, CentOS 6.3): only what it knows is called.
listAllDomains came with 0.9.13 and listAllStoragePools with 0.10.2.
"""

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import libvirt

from core.errors import OutsideFailed
from core.ports import Hypervisor
from core.state import publish

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
}
KEEPALIVE = (5, 6)  # seconds between, and how many may be lost


def ssh_program(address: str, ssh: tuple[str, ...], folder: Path) -> Path:
    """A program that is ``ssh`` (program and options) for tools that take one word for it; whoever
    calls it appends options, the address and the command."""
    program = folder / f"ssh-{address}"
    text = f'#!/bin/sh\nexec {shlex.join(ssh)} "$@"\n'
    if not program.exists() or program.read_text() != text:
        publish(program, text, mode=0o700)
    return program


def ssh_uri(address: str, user: str, program: Path) -> str:
    """The address of libvirt on a node, reached by ``program``."""
    return f"qemu+ssh://{user}@{address}/system?command={quote(str(program))}&no_tty=1"


class LibvirtHypervisor:
    """One connection, opened at first use."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._open: libvirt.virConnect | None = None
        libvirt.registerErrorHandler(lambda *_: None, None)  # it prints to stderr otherwise

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def connection(self) -> "libvirt.virConnect":
        """The live connection. Raises OutsideFailed."""
        if self._open is None or not self._open.isAlive():
            try:
                self._open = libvirt.open(self._uri)
            except libvirt.libvirtError as fault:
                raise OutsideFailed(
                    f"libvirt does not answer: {fault}",
                    where=self._where,
                    hint="is libvirtd running there? `groundlift deploy run` installs it",
                ) from fault
        return self._open

    @property
    def _where(self) -> str:
        return self._uri.split("?")[0]

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as fault:
            raise OutsideFailed(f"{what}: {fault}", where=self._where) from fault

    def _domain(self, name: str) -> "libvirt.virDomain | None":
        with self._told(f"looking for domain {name}"):
            try:
                return self.connection.lookupByName(name)
            except libvirt.libvirtError as fault:
                if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        return None

    def _known(self, name: str) -> "libvirt.virDomain":
        domain = self._domain(name)
        if domain is None:
            raise OutsideFailed(f"there is no domain {name}", where=self._where)
        return domain

    def capabilities(self) -> str:
        """The capabilities XML."""
        with self._told("asking for capabilities"):
            return str(self.connection.getCapabilities())

    def domains(self) -> Mapping[str, str]:
        """Name → state of every domain."""
        with self._told("listing domains"):
            # those that are on last: what starts in between is told as on
            found = dict.fromkeys(self.connection.listDefinedDomains(), "shut off")
            for number in self.connection.listDomainsID():
                with contextlib.suppress(libvirt.libvirtError):  # it ended meanwhile
                    domain = self.connection.lookupByID(number)
                    found[domain.name()] = STATES.get(domain.state()[0], "other")
            return found

    def define(self, xml: str) -> None:
        """Define or redefine a persistent domain."""
        with self._told("defining the domain"):
            self.connection.defineXML(xml)

    def xml(self, name: str) -> str:
        """The domain's present XML."""
        domain = self._known(name)
        with self._told(f"reading domain {name}"):
            return str(domain.XMLDesc(0))

    def start(self, name: str) -> None:
        """Start it; harmless when it runs."""
        domain = self._known(name)
        with self._told(f"starting domain {name}"):
            if not domain.isActive():
                domain.create()

    def destroy(self, name: str) -> None:
        """Power off; harmless when it is off or absent."""
        domain = self._domain(name)
        if domain is not None:
            with self._told(f"stopping domain {name}"):
                if domain.isActive():
                    domain.destroy()

    def undefine(self, name: str) -> None:
        """Remove the definition; harmless when absent. Disks stay."""
        domain = self._domain(name)
        if domain is not None:
            with self._told(f"removing domain {name}"):
                domain.undefine()

    def autostart(self, name: str) -> None:
        """Have it started with the host."""
        domain = self._known(name)
        with self._told(f"setting autostart of {name}"):
            domain.setAutostart(1)

    def migrate(self, name: str, target: Hypervisor) -> None:
        """Live-migrate a running domain over shared storage."""
        if not isinstance(target, LibvirtHypervisor):
            raise OutsideFailed("both ends of a live migration must be libvirt", where=self._where)
        domain = self._known(name)
        flags = (
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        )
        with self._told(f"migrating {name} to {target.uri.split('?')[0]}"):
            domain.migrate(target.connection, flags, None, None, 0)

    def pools(self) -> Mapping[str, str]:
        """Name → target path of every active directory pool."""
        with self._told("listing pools"):
            found = {}
            for name in self.connection.listStoragePools():
                pool = self.connection.storagePoolLookupByName(name)
                tree = ElementTree.fromstring(pool.XMLDesc(0))  # noqa: S314 (our own libvirtd)
                path = tree.findtext("target/path")
                if tree.get("type") == "dir" and path:
                    found[name] = path
            return found

    def close(self) -> None:
        """Give up the connection; harmless when repeated."""
        if self._open is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._open.close()
            self._open = None
