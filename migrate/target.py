"""Where a server goes: the chosen hypervisor as it is, and the limits of its platform."""

from core.documents import Document
from core.facts import system
from core.facts.fact import Fact, ask
from core.facts.machine import Cpu
from core.facts.storage import Space, room
from core.ports import Host


class Limits(Document):
    """What CentOS 6.3's KVM (libvirt 0.9.10, qemu-kvm 0.12) can give one domain."""

    vcpus: int = 160
    ide_disks: int = 4
    pci_slots: int = 28
    uefi: bool = False
    sector: int = 512
    disk: int = 2 * 1024**4  # what a BIOS can boot from with an MBR


class Target(Document):
    """One hypervisor and one pool. ``missing`` maps a fact's name to why it is not known."""

    node: str
    pool: str
    pool_path: str
    network: str
    arch: str = ""
    cpu: Cpu = Cpu()
    memory: int = 0
    pool_free: int = 0
    limits: Limits = Limits()
    missing: dict[str, str] = {}


def look(host: Host, target: Target) -> Target:
    """``target`` with the facts of its hypervisor. Raises OutsideFailed when it is gone."""
    pool_room: Fact[Space] = Fact(
        "pool_free", "room in the pool", ("df", "-P", "-k", "--", target.pool_path), room
    )
    name = ask(host, system.uname, 30)
    cpu = ask(host, system.cpu, 30)
    memory = ask(host, system.memory, 30)
    pool = ask(host, pool_room, 30)
    replies = (("arch", name), ("cpu", cpu), ("memory", memory), ("pool_free", pool))
    return target.model_copy(
        update={
            "arch": name.value[2] if name.value else "",
            "cpu": cpu.value or Cpu(),
            "memory": memory.value[0] if memory.value else 0,
            "pool_free": pool.value.available if pool.value else 0,
            "missing": {key: reply.missing for key, reply in replies if reply.missing},
        }
    )


def unseen(target: Target, why: str) -> Target:
    """``target`` of a hypervisor that can't be asked."""
    return target.model_copy(
        update={"missing": dict.fromkeys(("arch", "cpu", "memory", "pool_free"), why)}
    )
