"""What this machine has: the facts behind `groundlift doctor`."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the controller. Sizes are bytes."""

    python: tuple[int, int]
    root: bool
    programs: frozenset[str]
    devices: frozenset[str]
    filesystems: frozenset[str]
    kvm: bool
    guest_kernel: bool
    memory: int
    free: int
    state: Path

    def has(self, *programs: str) -> bool:
        """Whether every one of the programs is on PATH."""
        return self.programs.issuperset(programs)


PROGRAMS = (
    *("ssh", "sshfs", "qemu-img", "qemu-system-x86_64", "virt-v2v-in-place", "guestfish"),
    *("virsh", "xorriso", "genisoimage", "implantisomd5", "rpmbuild", "rpmsign"),
    *("nbdkit", "dnsmasq"),
    *(
        "createrepo_c",
        "dnf",
        "gpg",
        "gpg1",
        "mmdebstrap",
        "systemd-nspawn",
        "ip",
        "ansible-playbook",
        "bindfs",
        "setpriv",
        "unshare",
    ),
)


def look(state: Path) -> Machine:
    """Take the facts; ``state`` is where results will be kept."""
    there = next(path for path in (state, *state.parents) if path.exists())
    known = Path("/proc/filesystems").read_text().split()
    return Machine(
        python=(sys.version_info.major, sys.version_info.minor),
        root=os.geteuid() == 0,
        programs=frozenset(name for name in PROGRAMS if _program(name)),
        devices=frozenset(
            name for name in ("fuse", "net/tun", "kvm") if Path("/dev", name).exists()
        ),
        filesystems=frozenset(known),
        kvm=_kvm(),
        guest_kernel=any(_readable_kernels()),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        free=shutil.disk_usage(there).free,
        state=state,
    )


def _program(name: str) -> bool:
    beside = Path(sys.executable).parent / name
    sbin = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return beside.exists() or shutil.which(name, path=sbin) is not None


def _kvm() -> bool:
    """KVM counts only where the processor has the flags: the device alone proves nothing."""
    flags = Path("/proc/cpuinfo").read_text()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx" in flags or " svm" in flags)


def _readable_kernels() -> list[Path]:
    """Kernels that libguestfs can boot: readable, and with their modules beside them."""
    return [
        kernel
        for kernel in Path("/boot").glob("vmlinuz-*")
        if os.access(kernel, os.R_OK)
        and Path("/lib/modules", kernel.name.removeprefix("vmlinuz-")).is_dir()
    ]
