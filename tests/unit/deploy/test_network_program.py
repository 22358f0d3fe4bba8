"""The program that changes a node's network: kept when confirmed, taken back when not."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.deploy.test_roles import rendered

OLD, NEW = "IPADDR=192.0.2.11\n", "BRIDGE=br0\n"


@dataclass(frozen=True)
class Node:
    """Directories that stand for a node's, and a `service` that writes down what it is told."""

    folder: Path

    @property
    def card(self) -> Path:
        return self.folder / "scripts" / "ifcfg-eth0"

    @property
    def result(self) -> Path:
        return self.folder / "state" / "result"

    def start(self, verb: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", str(self.folder / "program"), verb],
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, verb: str) -> tuple[int, str]:
        process = self.start(verb)
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors.strip()

    def restarts(self) -> int:
        log = self.folder / "restarts"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    for name in ("scripts", "state", "bin", "devices"):
        (tmp_path / name).mkdir()
    program = rendered(
        "network",
        "groundlift-network.j2",
        __network_scripts=tmp_path / "scripts",
        __network_state=tmp_path / "state",
        __network_devices=tmp_path / "devices",
        network_patience=2,
    )
    (tmp_path / "program").write_text(program)
    service = tmp_path / "bin" / "service"
    service.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/restarts\n')
    service.chmod(0o755)
    node = Node(tmp_path)
    node.card.write_text(OLD)
    assert node.call("keep") == (0, "")
    node.card.write_text(NEW)
    (node.folder / "scripts" / "ifcfg-br0").write_text("TYPE=Bridge\n")
    return node


def started(node: Node) -> subprocess.Popen[str]:
    change = node.start("change")
    deadline = time.monotonic() + 10
    while not node.restarts() and time.monotonic() < deadline:
        time.sleep(0.02)
    return change


def test_confirmed_settings_stay_and_are_the_new_way_back(node: Node) -> None:
    change = started(node)
    assert node.call("confirm") == (0, "")
    assert change.wait(10) == 0
    assert (node.card.read_text(), node.restarts()) == (NEW, 1)
    assert (node.folder / "state/good/ifcfg-eth0").read_text() == NEW


def test_settings_that_nobody_confirms_are_taken_back(node: Node) -> None:
    started(node).wait(10)
    assert (node.card.read_text(), node.restarts()) == (OLD, 2)
    assert not (node.folder / "scripts" / "ifcfg-br0").exists()
    code, told = node.call("confirm")
    assert code == 1
    assert "the old settings are back" in told


def test_nothing_is_changed_while_domains_have_cards(node: Node) -> None:
    (node.folder / "devices" / "vnet0").mkdir()
    assert node.call("change")[0] == 1
    assert (node.card.read_text(), node.restarts()) == (OLD, 0)
    code, told = node.call("confirm")
    assert (code, told) == (1, "domains are running here: move them away first")


def test_an_unknown_verb_is_refused(node: Node) -> None:
    assert node.call("apply")[0] == 2
