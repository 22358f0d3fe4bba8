"""Discovery: ask a machine everything, read-only, within a deadline, and keep what it said.

A fact that can't be read is missing, with the reason; nothing is ever filled in by a guess. Raw
outputs are kept beside the result as evidence, secrets masked.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from core.errors import OutsideFailed
from core.facts import hardware, network, sets, software, storage, system
from core.facts.fact import Fact, Reply, ask, clean, judged
from core.facts.machine import Boot, Cpu, Device, Disk, Filesystem, Interface, Listener, Os
from core.facts.together import ask_together
from core.ports import Clock, Completed, Host, Web
from core.progress import Meter, Report, Unit, silent, track
from core.state import publish
from migrate.source import Page, SourceHost

DEADLINE = 150.0  # seconds for one host, however slow it is
EACH = 30.0  # seconds for one fact, or for those asked together
ALONE = {system.clock.name}  # its answer counts by the moment of the question


def _facts(*modules: ModuleType) -> tuple[Fact[object], ...]:
    found = (value for module in modules for value in vars(module).values())
    return tuple(value for value in found if isinstance(value, Fact))


FACTS = _facts(system, storage, sets, network, hardware, software)

Value = TypeVar("Value")


class Survey:
    """One conversation with one host: asks, keeps the evidence, notes what is missing."""

    def __init__(self, host: Host, folder: Path, clock: Clock, meter: Meter) -> None:
        self._host, self._folder, self._clock, self._meter = host, folder, clock, meter
        self._end = clock.monotonic() + DEADLINE
        self._told: dict[str, Completed] = {}
        self._together = True
        self.missing: dict[str, str] = {}

    def prepare(self, *modules: ModuleType) -> None:
        """Ask the facts of these modules with one command. Once that did not come to an end, one
        fact hangs: the rest is asked fact by fact."""
        left = self._end - self._clock.monotonic()
        facts = [fact for fact in _facts(*modules) if fact.name not in ALONE]
        if self._together and left > 0:
            self._told = ask_together(self._host, facts, min(EACH, left))
            self._together = bool(self._told)

    def ask(self, fact: Fact[Value], otherwise: Value) -> Value:
        """The fact's value; ``otherwise`` (an empty one) when it is missing."""
        done = self._told.pop(fact.name, None)
        left = self._end - self._clock.monotonic()
        if done is None and left <= 0:
            self.missing[fact.name] = f"not asked: the host took more than {DEADLINE:.0f} s"
            return otherwise
        reply = judged(fact, done) if done else ask(self._host, fact, min(EACH, left))
        self._keep(reply)
        self._meter.advance(text=fact.question)
        if reply.value is None:
            self.missing[fact.name] = reply.missing
            return otherwise
        return reply.value

    def now(self) -> float:
        """The controller's own clock, in seconds since 1970."""
        return self._clock.now().timestamp()

    def _keep(self, reply: Reply[Value]) -> None:
        if reply.output:
            publish(self._folder / f"{reply.fact.name}.txt", reply.output, mode=0o600)


def discover(
    host: Host,
    address: str,
    *,
    pages: Iterable[str] = (),
    web: Web,
    clock: Clock,
    folder: Path,
    report: Report = silent,
) -> SourceHost:
    """Ask ``host`` all facts, and the web for ``pages``; evidence goes to ``folder``.

    Raises OutsideFailed when the host can't be reached or goes away.
    """
    urls = tuple(pages)
    with track(report, f"discover {host.name}", len(FACTS) + len(urls), Unit.ITEMS) as meter:
        survey = Survey(host, folder, clock, meter)
        found = SourceHost(name=host.name, address=address, taken=clock.now())
        for part, modules in PARTS:
            survey.prepare(*modules)
            found = found.model_copy(update=part(survey))
        answers = tuple(_page(survey, web, meter, url) for url in urls)
        return found.model_copy(
            update={
                "pages": tuple(page for page in answers if page),
                "missing": dict(sorted(survey.missing.items())),
            }
        )


def _system(survey: Survey) -> dict[str, object]:
    name, kernel, arch = survey.ask(system.uname, ("", "", ""))
    release = survey.ask(system.release, Os())
    memory, used, swap = survey.ask(system.memory, (0, 0, 0))
    asked = survey.now()
    seconds, local = survey.ask(system.clock, (-1, False))
    return {
        "hostname": name,
        "os": release.model_copy(update={"kernel": kernel, "arch": arch}),
        "memory": memory,
        "memory_used": used,
        "swap": swap,
        "cpu": survey.ask(system.cpu, Cpu()),
        "firmware": survey.ask(system.firmware, ""),
        "product": survey.ask(system.product, ""),
        "boot": survey.ask(system.boot, Boot()),
        "kernel_drivers": survey.ask(system.drivers, ()),
        "modules": survey.ask(system.modules, ()),
        "fstab": survey.ask(system.fstab, ()),
        "disk_errors": survey.ask(system.disk_errors, 0),
        "tools": survey.ask(system.tools, ()),
        "clock_skew": None if seconds < 0 else round(seconds - asked, 1),
        "clock_local": local,
    }


def _storage(survey: Survey) -> dict[str, object]:
    volumes = survey.ask(storage.volumes, ())
    groups = survey.ask(storage.groups, ())
    return {
        "disks": _disks(survey),
        "partitions": survey.ask(storage.partitions, ()),
        "logical_volumes": volumes,
        "volume_groups": tuple(
            group.model_copy(
                update={"volumes": tuple(v.name for v in volumes if v.group == group.name)}
            )
            for group in groups
        ),
        "filesystems": _filesystems(survey),
        "swaps": survey.ask(storage.swaps, ()),
        "md_arrays": survey.ask(sets.md, ()),
        "multipaths": survey.ask(sets.multipath, ()),
    }


def _disks(survey: Survey) -> tuple[Disk, ...]:
    disks = survey.ask(storage.disks, ())
    wwids, booting = survey.ask(sets.wwids, {}), survey.ask(sets.boot_code, ())
    return tuple(
        disk.model_copy(update={"wwid": wwids.get(disk.name, ""), "boots": disk.name in booting})
        for disk in disks
    )


def _filesystems(survey: Survey) -> tuple[Filesystem, ...]:
    space = survey.ask(storage.space, {})
    inodes = survey.ask(storage.inodes, {})
    kinds = survey.ask(storage.blkid, {})
    found = []
    for mount in survey.ask(storage.mounts, ()):
        room, nodes = space.get(mount.mountpoint), inodes.get(mount.mountpoint)
        update = {
            "size": room.size if room else 0,
            "used": room.used if room else 0,
            "available": room.available if room else 0,
            "inodes_free": nodes.available if nodes else 0,
            "uuid": kinds.get(mount.device, ("", ""))[1],
        }
        found.append(mount.model_copy(update=update))
    return tuple(found)


def _network(survey: Survey) -> dict[str, object]:
    addresses = survey.ask(network.addresses, {})
    nothing: tuple[Interface, ...] = ()
    listeners, peers = survey.ask(network.sockets, ((), ()))
    owners = survey.ask(network.owners, {})
    return {
        "interfaces": tuple(
            card.model_copy(update={"addresses": addresses.get(card.name, ())})
            for card in survey.ask(network.interfaces, nothing)
        ),
        "gateway": survey.ask(network.gateway, ""),
        "nameservers": survey.ask(network.nameservers, ()),
        "listeners": tuple(_named(listener, owners) for listener in listeners),
        "peers": peers,
    }


def _named(listener: Listener, owners: dict[tuple[str, int], str]) -> Listener:
    owner = owners.get((listener.protocol[:3], listener.port), "")
    return listener.model_copy(update={"process": owner})


def _hardware(survey: Survey) -> dict[str, object]:
    nothing: tuple[Device, ...] = ()
    return {
        "devices": (
            *survey.ask(hardware.pci, nothing),
            *survey.ask(hardware.usb, nothing),
            *survey.ask(hardware.scsi, nothing),
        ),
        "serial_used": survey.ask(hardware.serial, ()),
    }


def _software(survey: Survey) -> dict[str, object]:
    return {
        "services": survey.ask(software.services, ()),
        "processes": survey.ask(software.processes, ()),
        "cron": survey.ask(software.cron, ()),
        "databases": survey.ask(software.data, ()),
        "sessions": survey.ask(software.sessions, ()),
        "fixed_addresses": survey.ask(software.fixed, ()),
    }


def _page(survey: Survey, web: Web, meter: Meter, url: str) -> Page | None:
    meter.advance(text=url)
    try:
        answer = web.fetch(url)
    except OutsideFailed as problem:
        survey.missing[f"page {url}"] = problem.message
        return None
    return Page(
        url=url,
        status=answer.status,
        sha256=hashlib.sha256(answer.body).hexdigest(),
        excerpt=clean(answer.body[:4096].decode("utf-8", "replace"), 300),
    )


PARTS: tuple[tuple[Callable[[Survey], dict[str, object]], tuple[ModuleType, ...]], ...] = (
    (_system, (system,)),
    (_storage, (storage, sets)),
    (_network, (network,)),
    (_hardware, (hardware,)),
    (_software, (software,)),
)
