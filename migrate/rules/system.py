"""Firmware, processor, memory, operating system, kernel, boot and clock."""

import re
from collections.abc import Iterable

from core.quantities import duration, size
from core.rules import Outcome, Rule, Severity, failed, passed, unknown
from migrate.rules.subject import Subject, needs, needs_target, one

X86 = ("i386", "i486", "i586", "i686", "x86_64")
# Families whose disks virt-v2v knows how to convert, with the oldest release it does.
CONVERTIBLE = {"centos": 4, "rhel": 4, "ol": 4, "redhat": 4, "fedora": 12, "sles": 10,
               "opensuse": 11, "debian": 6, "ubuntu": 10}  # fmt: skip
VIRTIO = ("virtio_blk", "virtio_net", "virtio_pci")
PHYSICAL = re.compile(
    r"\b(console=ttyS\S*|noapic|nolapic|acpi=\S+|pci=\S+|crashkernel=\S+|isolcpus=\S+|nosmp|divider=\S+)"
)
TIME_PROGRAMS = re.compile(r"\b(ntpd|chronyd|systemd-timesyncd|openntpd)\b")
SKEW = 60.0


@needs("firmware")
def _uefi(subject: Subject) -> Outcome:
    if subject.host.firmware == "uefi" and not subject.target.limits.uefi:
        return failed("started by UEFI; this platform's domains start by BIOS")
    return passed(subject.host.firmware)


@needs("uname")
def _architecture(subject: Subject) -> Outcome:
    arch = subject.host.os.arch
    return passed(arch) if arch in X86 else failed(arch or "unknown")


@needs("cpu")
@needs_target("cpu")
def _cpus(subject: Subject) -> Outcome:
    count, target = subject.host.cpu.count, subject.target
    most = min(target.cpu.count, target.limits.vcpus)
    seen = f"{count} here, {target.cpu.count} on {target.node}, at most {most} for one domain"
    return passed(seen) if count <= most else failed(seen)


@needs("memory")
@needs_target("memory")
def _memory(subject: Subject) -> Outcome:
    need, have = subject.host.memory, subject.target.memory
    seen = f"{size(need)} here, {size(have)} on {subject.target.node}"
    return passed(seen) if need <= have * 0.8 else failed(seen)


@needs("release")
def _release(subject: Subject) -> Outcome:
    system = subject.host.os
    major = re.match(r"\d+", system.version)
    oldest = CONVERTIBLE.get(system.id)
    if oldest is None or (major and int(major[0]) < oldest):
        return failed(system.name)
    return passed(system.name)


@needs("drivers")
def _virtio(subject: Subject) -> Outcome:
    absent = [name for name in VIRTIO if name not in subject.host.kernel_drivers]
    return (
        failed(f"kernel {subject.host.os.kernel} lacks {', '.join(absent)}") if absent else passed()
    )


@needs("boot")
def _loader(subject: Subject) -> Outcome:
    loader = subject.host.boot.loader
    return (
        passed(loader) if loader in ("grub", "grub2") else failed(loader or "none found in /boot")
    )


@needs("boot")
def _kernel_files(subject: Subject) -> Outcome:
    boot = subject.host.boot
    return one(
        name for name, found in (("kernel", boot.kernel), ("initrd", boot.initrd)) if not found
    )


@needs("boot")
def _arguments(subject: Subject) -> Outcome:
    return one(found[0] for found in PHYSICAL.finditer(subject.host.boot.cmdline))


@needs("clock")
def _skew(subject: Subject) -> Outcome:
    skew = subject.host.clock_skew or 0.0
    seen = f"{duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the controller"
    return failed(seen) if abs(skew) > SKEW else passed(seen)


@needs("clock")
def _local(subject: Subject) -> Outcome:
    return failed("/etc/adjtime says LOCAL") if subject.host.clock_local else passed()


@needs("processes")
def _ntp(subject: Subject) -> Outcome:
    found: Iterable[str] = (
        match[1]
        for process in subject.host.processes
        if (match := TIME_PROGRAMS.search(process.command))
    )
    program = next(iter(found), "")
    return passed(program) if program else failed("no time service runs")


def _weak_ssh(subject: Subject) -> Outcome:
    host = subject.host
    if not host.ssh_banner:
        return unknown("discovered before its SSH version was kept: discover again")
    return failed(f"{host.ssh_banner}: {host.ssh_weak}") if host.ssh_weak else passed()


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "access.ssh_weak",
        "Its SSH is old: only this server is offered what it needs",
        Severity.WARNING,
        "Reach it by a network that nobody else is in, or by a jump host beside it: SHA-1 does not "
        "keep out somebody who can change what passes. The data's own digests do not depend on it.",
        _weak_ssh,
    ),
    Rule(
        "firmware.uefi",
        "The server starts by UEFI",
        Severity.BLOCKER,
        "Change its boot to BIOS while it is still physical and assess again, or reinstall it in "
        "a new domain, or choose a platform whose hypervisors offer UEFI.",
        _uefi,
    ),
    Rule(
        "cpu.architecture",
        "The processor is not an x86",
        Severity.BLOCKER,
        "Install the application anew in a domain; disks of this machine can't start there.",
        _architecture,
    ),
    Rule(
        "cpu.count_over_host",
        "It has more processors than the hypervisor can give",
        Severity.BLOCKER,
        "Choose a bigger hypervisor, or lower `vcpus` in plan.yml after looking at the real load "
        "and waive this.",
        _cpus,
    ),
    Rule(
        "memory.over_host",
        "Its memory does not fit the hypervisor",
        Severity.BLOCKER,
        "Choose a hypervisor with more memory (a fifth stays its own), or lower `memory` in "
        "plan.yml to what is really used and waive this.",
        _memory,
    ),
    Rule(
        "os.unsupported",
        "The operating system is not among those the conversion knows",
        Severity.WARNING,
        "Rehearse it before promising anything; plan for IDE disks and an e1000 card.",
        _release,
    ),
    Rule(
        "kernel.no_virtio",
        "The running kernel lacks virtio drivers",
        Severity.WARNING,
        "Nothing must be done: plan.yml will use IDE and e1000, which are slower. For virtio, "
        "install the distribution's newer kernel and discover again.",
        _virtio,
    ),
    Rule(
        "boot.loader_unsupported",
        "The boot loader is not GRUB",
        Severity.BLOCKER,
        "Install GRUB on the server and reboot it once, then discover again.",
        _loader,
    ),
    Rule(
        "boot.kernel_files_missing",
        "The running kernel's files are not in /boot",
        Severity.BLOCKER,
        "Reboot the server into an installed kernel (after mounting /boot, if it is not), then "
        "discover again.",
        _kernel_files,
    ),
    Rule(
        "kernel.physical_arguments",
        "The kernel is started with arguments made for this hardware",
        Severity.INFO,
        "Look at each and remove what a domain does not need after the rehearsal.",
        _arguments,
    ),
    Rule(
        "clock.skew",
        "The clock is wrong by more than a minute",
        Severity.WARNING,
        "Set the clock on the server (by NTP if you can) before the migration: logs and sessions "
        "would jump at cutover.",
        _skew,
    ),
    Rule(
        "clock.local_time",
        "The hardware clock runs in local time",
        Severity.WARNING,
        "Set it to UTC (`hwclock --systohc --utc`), or use `<clock offset='localtime'/>`.",
        _local,
    ),
    Rule(
        "clock.no_time_service",
        "No time service runs",
        Severity.WARNING,
        "Configure NTP against the site's servers before cutover; a domain's clock drifts.",
        _ntp,
    ),
)
