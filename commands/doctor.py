"""`groundlift doctor`: what this machine lacks, and what each lack costs."""

import json

import click

from adapters.machine import Machine, look
from commands.console import show_findings
from core.errors import Blocked
from core.quantities import GIB, size
from core.rules import Outcome, Rule, Severity, blockers, failed, judge, passed
from core.state import State

Check = Rule[Machine]


def _programs(rule: str, title: str, severity: Severity, cost: str, *names: str) -> Check:
    def present(machine: Machine) -> Outcome:
        missing = [name for name in names if not machine.has(name)]
        return failed(f"missing: {', '.join(missing)}") if missing else passed(", ".join(names))

    return Rule(rule, title, severity, f"./setup installs them; without: {cost}", present)


def _says(holds: bool, evidence: str) -> Outcome:
    return passed(evidence) if holds else failed(evidence)


BLOCKER, WARNING, INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO
CHECKS: tuple[Check, ...] = (
    Rule(
        "machine.python_version",
        "Python 3.11 runs this",
        BLOCKER,
        "install python3.11 and run ./setup: the Ansible that manages EL6 starts on no later one",
        lambda m: _says(m.python == (3, 11), ".".join(map(str, m.python))),
    ),
    _programs(
        "machine.deploy_programs",
        "Programs for deploy",
        BLOCKER,
        "no deploy, no migrate",
        "ssh",
        "ip",
        "ansible-playbook",
    ),
    _programs(
        "machine.convert_programs",
        "Programs for migrate convert",
        WARNING,
        "no conversion of migrated servers",
        "sshfs",
        "qemu-img",
        "virt-v2v-in-place",
        "setpriv",
        "unshare",
    ),
    _programs(
        "machine.device_programs",
        "Programs for replicas on block devices",
        WARNING,
        "no conversion of replicas that a plan puts on a `device:`",
        "nbdkit",
    ),
    _programs(
        "machine.provision_programs",
        "Programs for provision",
        WARNING,
        "no installation of bare machines",
        "dnsmasq",
        "setpriv",
    ),
    _programs(
        "machine.lab_programs",
        "Programs for the lab",
        WARNING,
        "no demo and no lab tests",
        "qemu-system-x86_64",
        "guestfish",
        "virsh",
        "xorriso",
        "genisoimage",
        "implantisomd5",
        "rpmbuild",
        "rpmsign",
        "createrepo_c",
        "dnf",
        "gpg",
        "gpg1",
        "mmdebstrap",
        "systemd-nspawn",
        "bindfs",
    ),
    Rule(
        "machine.root_user",
        "Running as root",
        WARNING,
        "become root for the lab (namespaces, bridges); mirror, deploy and migrate work without",
        lambda m: _says(m.root, "root" if m.root else "an ordinary user"),
    ),
    Rule(
        "machine.kvm_usable",
        "KVM works",
        INFO,
        "turn virtualisation on in the firmware; without: conversion and lab guests are emulated, "
        "about ten times slower",
        lambda m: _says(m.kvm, "hardware virtualisation" if m.kvm else "emulation (TCG)"),
    ),
    Rule(
        "machine.fuse_device",
        "FUSE is there",
        WARNING,
        "load the fuse module; without: convert can't read replicas over ssh",
        lambda m: _says("fuse" in m.devices, "/dev/fuse"),
    ),
    Rule(
        "machine.tun_device",
        "TUN/TAP is there",
        WARNING,
        "load the tun module; without: no lab source server",
        lambda m: _says("net/tun" in m.devices, "/dev/net/tun"),
    ),
    Rule(
        "machine.overlay_filesystem",
        "overlayfs is there",
        WARNING,
        "load the overlay module; without: no lab nodes",
        lambda m: _says("overlay" in m.filesystems, "/proc/filesystems"),
    ),
    Rule(
        "machine.guest_kernel",
        "A kernel that libguestfs can boot",
        WARNING,
        "install linux-image-cloud-amd64 (and let root read /boot); without: no conversion",
        lambda m: _says(m.guest_kernel, "/boot"),
    ),
    Rule(
        "machine.memory_size",
        "4 GiB of memory",
        WARNING,
        "close other programs; the lab needs about 4 GiB",
        lambda m: _says(m.memory >= 3.5 * GIB, size(m.memory)),
    ),
    Rule(
        "machine.disk_space",
        "20 GiB free for the state directory",
        WARNING,
        "choose another directory with --state; the lab needs about 12 GiB",
        lambda m: _says(m.free >= 20 * GIB, f"{size(m.free)} at {m.state}"),
    ),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def doctor(state: State, as_json: bool) -> None:
    """Say what this machine lacks, and what that costs."""
    findings = judge(CHECKS, look(state.root))
    if as_json:
        click.echo(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2))
    else:
        show_findings(findings, passes=True)
    if blockers(findings):
        raise Blocked("this machine can't run Groundlift yet", hint="see the blockers above")
