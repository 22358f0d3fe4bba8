"""The lab's cloud, installed on its nodes: resumed, repeated, repaired, looked at from outside."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.progress import silent
from core.state import State
from lab import nodes
from lab.estate import HYPERVISORS, MANAGEMENT, Estate, Node, named
from lab.nodes_container import ssh

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
SITE = "inventories/lab/cloud.yml"
PHASES = ("precheck", "base", "network", "hypervisor", "storage", "management", "postcheck")


@dataclass(frozen=True)
class Groundlift:
    """The command, with the lab's state directory."""

    state: State

    def argv(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "cli", "--state", str(self.state.root), *words)

    def call(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words), cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True
        )

    def told(self, *words: str, **more: str) -> Any:
        done = self.call(*words, "--json", **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def results(self) -> dict[str, bytes]:
        found = sorted(self.state.deploy("lab").glob("*.json"))
        return {path.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def command(lab_state: State, cloud: Path) -> Groundlift:
    """With the mirror served and the cloud installed."""
    return Groundlift(lab_state)


def on(estate: Estate, node: Node, *argv: str) -> str:
    words = [*ssh(estate, node), shlex.join(argv)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_site_can_be_installed(command: Groundlift) -> None:
    findings = command.told("deploy", "check", SITE)["findings"]
    assert [finding for finding in findings if finding["answer"] != "pass"] == []
    assert {"mirror.reachable", "node.reachable"} <= {finding["rule"] for finding in findings}


def test_a_node_that_does_not_answer_is_a_finding_by_its_name(
    command: Groundlift, tmp_path: Path
) -> None:
    text = (ROOT / SITE).read_text()
    (tmp_path / "cloud.yml").write_text(text.replace("10.77.0.22", "10.77.0.99"))
    done = command.call("deploy", "check", str(tmp_path / "cloud.yml"), "--json")
    assert done.returncode == 3
    failing = [f for f in json.loads(done.stdout)["findings"] if f["answer"] == "fail"]
    assert [(f["rule"], f["where"]) for f in failing] == [("node.reachable", "hv2")]


def test_every_phase_is_done(command: Groundlift) -> None:
    rows = command.told("deploy", "status", SITE)["phases"]
    assert [(row["phase"], row["state"]) for row in rows] == [(name, "done") for name in PHASES]


def test_a_second_run_has_nothing_to_do(command: Groundlift) -> None:
    before = command.results()
    done = command.call("deploy", "run", SITE)
    assert (done.returncode, done.stdout) == (0, "nothing changed: every phase was done before\n")
    assert command.results() == before


def test_every_phase_again_changes_nothing(command: Groundlift) -> None:
    before = command.results()
    told = command.told("deploy", "run", SITE, "--again")
    assert told["phases"] == [{"phase": name, "ran": True, "changes": []} for name in PHASES]
    assert command.results() == before


def test_without_mitogen_it_comes_to_the_same(command: Groundlift) -> None:
    told = command.told("deploy", "run", SITE, "--only", "management", GROUNDLIFT_STRATEGY="linear")
    assert told["changed"] == 0
    configuration = (command.state.deploy("lab") / "ansible" / "ansible.cfg").read_text()
    assert "strategy = linear" in configuration


def test_drift_is_told_by_check_mode_and_repaired_by_a_run(
    command: Groundlift, estate: Estate
) -> None:
    file, only = "/etc/libvirt/libvirt.conf", ("deploy", "run", SITE, "--only", "management")
    good = on(estate, MANAGEMENT, "cat", file)
    on(estate, MANAGEMENT, "sh", "-c", f"echo 'uri_default = \"test:///default\"' >> {file}")
    change = {"host": "mgmt1", "task": "management : Give hypervisors short names"}
    assert command.told(*only, "--check")["phases"][5]["changes"] == [change]
    assert on(estate, MANAGEMENT, "cat", file) != good
    assert command.told(*only)["phases"][5]["changes"] == [change]
    assert on(estate, MANAGEMENT, "cat", file) == good


def test_a_run_that_is_killed_is_continued_by_the_next(command: Groundlift) -> None:
    argv = command.argv("deploy", "run", SITE, "--from", "management")
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("management: …"):
            pass
        time.sleep(0.5)  # well inside the phase: it takes a few seconds
        process.send_signal(signal.SIGKILL)
    done = command.call("deploy", "run", SITE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0 changes made in 2 of 7 phases\n")


def test_libvirtd_of_each_hypervisor_answers_the_controller_over_ssh(
    command: Groundlift, estate: Estate
) -> None:
    script = "import sys, libvirt; print(libvirt.open(sys.argv[1]).listStoragePools())"
    shell = f"-o UserKnownHostsFile={estate.known_hosts} -o StrictHostKeyChecking=yes"
    wrapper = estate.directory / "ssh-pinned"
    wrapper.write_text(f'#!/bin/sh\nexec ssh -F none {shell} "$@"\n')
    wrapper.chmod(0o755)
    try:
        for node in HYPERVISORS:
            query = f"keyfile={estate.key}&no_tty=1&command={wrapper}"
            uri = f"qemu+ssh://root@{node.address}/system?{query}"
            done = subprocess.run(
                (sys.executable, "-c", script, uri), capture_output=True, text=True, timeout=60
            )
            assert done.stdout == "['shared']\n", done.stderr
    finally:
        wrapper.unlink()


def test_management_reaches_every_hypervisor_by_its_short_name(
    command: Groundlift, estate: Estate
) -> None:
    for node in HYPERVISORS:
        said = on(estate, MANAGEMENT, "virsh", "-c", node.name, "pool-info", "shared")
        assert "running" in said


def test_a_hypervisors_key_opens_the_other_from_its_own_address_alone(
    command: Groundlift, estate: Estate
) -> None:
    first, second = HYPERVISORS
    keys = on(estate, first, "cat", "/root/.ssh/authorized_keys").splitlines()
    (line,) = [line for line in keys if line.endswith(f" groundlift-{second.name}")]
    assert line.startswith(f'from="{second.address}" ssh-rsa ')


def test_packages_come_signed_and_from_the_mirror_alone(
    command: Groundlift, estate: Estate
) -> None:
    golden = (ROOT / "tests/golden/inventory/groundlift.repo").read_text()
    text = on(estate, MANAGEMENT, "cat", "/etc/yum.repos.d/groundlift.repo")
    assert text == golden.replace("192.0.2.5", "10.77.0.1")


def test_the_rehearsal_bridge_has_no_uplink(command: Groundlift, estate: Estate) -> None:
    for node in HYPERVISORS:
        ports = on(estate, node, "ls", "/sys/class/net/br-rehearse/brif").split()
        assert [port for port in ports if not port.startswith("vnet")] == []
        assert "eth0" in on(estate, node, "ls", "/sys/class/net/br0/brif").split()


def test_a_domain_moved_live_there_and_back(command: Groundlift) -> None:
    log = (command.state.deploy("lab") / "ansible" / "postcheck.log").read_text()
    for task in ("Move it to the next hypervisor while it runs", "Move it back", "See it run"):
        part = log.split(f"TASK [{task}]")[1].split("TASK [")[0]
        assert "ok: [hv1" in part


def test_check_mode_on_a_bare_node_tells_what_would_change_and_changes_nothing(
    command: Groundlift, estate: Estate, tmp_path: Path
) -> None:
    spare = named("mol4")
    nodes.up(estate, silent, [spare])
    try:
        (tmp_path / "cloud.yml").write_text(_bare(spare))
        before = on(estate, spare, "sh", "-c", "rpm -qa; ls -R /etc | cksum")
        told = command.told("deploy", "run", str(tmp_path / "cloud.yml"), "--check")
        tasks = {change["task"] for phase in told["phases"] for change in phase["changes"]}
        assert {
            "mirror_client : Name the mirror as a repository",
            "base : Install packages",
            "hypervisor : Install packages",
            "management : Install packages",
        } <= tasks
        assert on(estate, spare, "sh", "-c", "rpm -qa; ls -R /etc | cksum") == before
    finally:
        nodes.destroy(estate, [spare])
        shutil.rmtree(command.state.deploy("bare"), ignore_errors=True)


def _bare(node: Node) -> str:
    whole = (ROOT / SITE).read_text()
    head, _, rest = whole.partition("nodes:\n")
    _, _, tail = rest.partition("pools:\n")
    tail = tail.partition("sources:\n")[0]
    text = (
        f"{head}nodes:\n  - name: {node.name}\n    address: {node.address}\n"
        f"    roles: [management, hypervisor]\npools:\n{tail}"
    )
    return text.replace("site: lab", "site: bare").replace("[10.77.0.11]", f"[{node.address}]")
