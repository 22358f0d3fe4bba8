"""The rehearsal: the converted server boots isolated, and nothing of it is left afterwards.

It boots a throw-away overlay on a bridge without uplink. The hypervisor takes the probe address
there and a policy rule sends what it says to the guest's address onto that bridge, so that nobody
mistakes the real server for the clone; the clone proves itself by the domain's UUID. Policy rules
work on EL6's iproute, which has no network namespaces.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface

from core.errors import Blocked, OutsideFailed
from core.ports import Host, Hypervisor
from migrate.define import domain_xml, offered
from migrate.plan import Plan

TABLE = "177"
SUFFIX = ".rehearsal"
WITHIN = 'cd "$1" && shift && exec "$@"'


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One isolated boot of a plan's domain."""

    plan: Plan
    node: Host
    hypervisor: Hypervisor

    @property
    def name(self) -> str:
        return f"{self.plan.domain}-rehearsal"

    @property
    def uuid(self) -> str:
        """Its own, for two domains of one libvirt can't share one."""
        return str(uuid.uuid5(uuid.UUID(self.plan.uuid), "rehearsal"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The clone is on within; nothing of it is left after."""
        self.remove()
        try:
            self._disks()
            self._network()
            guest = offered(self.hypervisor.capabilities())
            bridge = self.plan.rehearsal.bridge
            xml = domain_xml(
                self.plan, guest, name=self.name, uuid=self.uuid, bridge=bridge, suffix=SUFFIX
            )
            self.hypervisor.define(xml)
            self.hypervisor.start(self.name)
            yield
        finally:
            self.remove()

    def remove(self) -> None:
        """Take everything down, also what a killed run left; harmless when there is nothing."""
        self.hypervisor.destroy(self.name)
        self.hypervisor.undefine(self.name)
        for path in self._files():
            self.node.run(("rm", "-f", "--", path))
        rule = ("to", self.plan.address, "table", TABLE)
        while self.node.run(("ip", "rule", "del", *rule)).code == 0:
            pass
        self.node.run(("ip", "route", "flush", "table", TABLE))
        probe = f"{ip_interface(self.plan.rehearsal.probe).ip}/32"
        self.node.run(("ip", "addr", "del", probe, "dev", self.plan.rehearsal.bridge))

    def _files(self) -> tuple[str, ...]:
        return tuple(f"{self.plan.pool_path}/{disk.overlay}{SUFFIX}" for disk in self.plan.disks)

    def _disks(self) -> None:
        for disk, path in zip(self.plan.disks, self._files(), strict=True):
            backing = f"backing_file={disk.overlay},backing_fmt=qcow2"
            create = ("qemu-img", "create", "-f", "qcow2", "-o", backing, path)
            # EL6's qemu-img looks for the bare name where it stands, newer ones beside the file
            self._must("sh", "-c", WITHIN, "sh", self.plan.pool_path, *create)

    def _network(self) -> None:
        bridge = self.plan.rehearsal.bridge
        if self.node.run(("test", "-d", f"/sys/class/net/{bridge}/bridge")).code:
            raise OutsideFailed(
                f"there is no bridge {bridge}",
                where=self.node.name,
                hint="`groundlift deploy run` makes it",
            )
        uplinks = self.node.run(("ls", f"/sys/class/net/{bridge}/brif")).text.split()
        real = [port for port in uplinks if not port.startswith(("vnet", "tap"))]
        if real:
            raise Blocked(
                f"the rehearsal bridge {bridge} has an uplink: {', '.join(real)}",
                where=self.node.name, hint="a rehearsal must be isolated: take it out",
            )  # fmt: skip
        probe = ip_interface(self.plan.rehearsal.probe).ip
        self._must("ip", "link", "set", bridge, "up")
        self._must("ip", "addr", "add", f"{probe}/32", "dev", bridge)
        self._must("ip", "route", "add", f"{self.plan.address}/32", "dev", bridge, "src",
                   str(probe), "table", TABLE)  # fmt: skip
        self._must("ip", "rule", "add", "to", self.plan.address, "table", TABLE, "pref", "1770")

    def _must(self, *argv: str) -> None:
        done = self.node.run(argv)
        if done.code:
            shown = argv[5:] if WITHIN in argv else argv
            raise OutsideFailed(
                f"`{' '.join(shown)}` failed: {done.stderr.decode('utf-8', 'replace').strip()}",
                hint="`groundlift deploy run` makes pool and bridge; is there room in the pool?",
                where=self.node.name,
            )
