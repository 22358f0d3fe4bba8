"""The doctor's rules: each fires where its thing is missing, and is silent on a whole machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.machine import PROGRAMS, Machine
from commands.doctor import CHECKS
from core.quantities import GIB
from core.rules import Answer, judge

WHOLE = Machine(
    python=(3, 11),
    root=True,
    programs=frozenset(PROGRAMS),
    devices=frozenset({"fuse", "net/tun", "kvm"}),
    filesystems=frozenset({"ext4", "overlay"}),
    kvm=True,
    guest_kernel=True,
    memory=4 * GIB,
    free=40 * GIB,
    state=Path("/state"),
)
LACKS: dict[str, dict[str, object]] = {
    "machine.python_version": {"python": (3, 12)},
    "machine.deploy_programs": {"programs": WHOLE.programs - {"ansible-playbook"}},
    "machine.convert_programs": {"programs": WHOLE.programs - {"virt-v2v-in-place"}},
    "machine.device_programs": {"programs": WHOLE.programs - {"nbdkit"}},
    "machine.provision_programs": {"programs": WHOLE.programs - {"dnsmasq"}},
    "machine.lab_programs": {"programs": WHOLE.programs - {"mmdebstrap"}},
    "machine.root_user": {"root": False},
    "machine.kvm_usable": {"kvm": False},
    "machine.fuse_device": {"devices": frozenset({"net/tun"})},
    "machine.tun_device": {"devices": frozenset({"fuse"})},
    "machine.overlay_filesystem": {"filesystems": frozenset({"ext4"})},
    "machine.guest_kernel": {"guest_kernel": False},
    "machine.memory_size": {"memory": 2 * GIB},
    "machine.disk_space": {"free": 19 * GIB},
}


def failing(machine: Machine) -> set[str]:
    return {found.rule for found in judge(CHECKS, machine) if found.answer is not Answer.PASS}


def test_every_rule_has_a_case() -> None:
    assert set(LACKS) == {rule.id for rule in CHECKS}


def test_all_are_silent_on_a_machine_that_has_everything() -> None:
    assert failing(WHOLE) == set()


@pytest.mark.parametrize("rule", LACKS)
def test_a_rule_fires_alone_where_its_thing_is_missing(rule: str) -> None:
    assert failing(replace(WHOLE, **LACKS[rule])) == {rule}  # type: ignore[arg-type]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_that_is_looked_for_is_missed_by_name(program: str) -> None:
    machine = replace(WHOLE, programs=WHOLE.programs - {program})
    said = [found.evidence for found in judge(CHECKS, machine) if found.answer is Answer.FAIL]
    assert said
    assert all(text == f"missing: {program}" for text in said)
