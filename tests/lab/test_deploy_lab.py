"""The lab's cloud, installed on its nodes: resumed, repeated, repaired, looked at from outside."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.progress import silent
from core.state import State
from lab import claim, nodes
from lab.commands import bring_up
from lab.estate import HYPERVISORS, MANAGEMENT, Estate, Node, named
from lab.estate import of as estate_of
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
def estate(lab_state: State) -> Iterator[Estate]:
    """Media and nodes; the old server has no part in this, and may be in any state."""
    here = estate_of(lab_state)
    was_up = claim.alive(here)
    bring_up(here, ("media", "nodes"), silent)
    yield here
    if not was_up:
        nodes.down(here)
        claim.drop(here)


@pytest.fixture(scope="module")
def groundlift(lab_state: State, estate: Estate) -> Groundlift:
    """With the mirror of the lab's discs served where the site says."""
    command = Groundlift(lab_state)
    discs = tuple(str(disc) for disc in estate.discs)
    for words in (
        ("mirror", "build", *discs, "--fingerprint", f"@{estate.fingerprint}"),
        ("mirror", "serve", "--background", "--bind", "10.77.0.1", "--port", "8077"),
    ):
        done = command.call(*words)
        assert done.returncode == 0, done.stderr
    return command


@pytest.fixture(scope="module")
def cloud(groundlift: Groundlift) -> Groundlift:
    """With the cloud installed."""
    done = groundlift.call("deploy", "run", SITE)
    assert done.returncode == 0, done.stderr
    return groundlift


def on(estate: Estate, node: Node, *argv: str) -> str:
    words = [*ssh(estate, node), shlex.join(argv)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_site_can_be_installed(groundlift: Groundlift) -> None:
    findings = groundlift.told("deploy", "check", SITE)["findings"]
    assert [finding for finding in findings if finding["answer"] != "pass"] == []
    assert {"mirror.reachable", "node.reachable"} <= {finding["rule"] for finding in findings}


def test_a_node_that_does_not_answer_is_a_finding_by_its_name(
    groundlift: Groundlift, tmp_path: Path
) -> None:
    text = (ROOT / SITE).read_text()
    (tmp_path / "cloud.yml").write_text(text.replace("10.77.0.22", "10.77.0.99"))
    done = groundlift.call("deploy", "check", str(tmp_path / "cloud.yml"), "--json")
    assert done.returncode == 3
    failing = [f for f in json.loads(done.stdout)["findings"] if f["answer"] == "fail"]
    assert [(f["rule"], f["where"]) for f in failing] == [("node.reachable", "hv2")]


def test_every_phase_is_done(cloud: Groundlift) -> None:
    rows = cloud.told("deploy", "status", SITE)["phases"]
    assert [(row["phase"], row["state"]) for row in rows] == [(name, "done") for name in PHASES]


def test_a_second_run_has_nothing_to_do(cloud: Groundlift) -> None:
    before = cloud.results()
    done = cloud.call("deploy", "run", SITE)
    assert (done.returncode, done.stdout) == (0, "nothing changed: every phase was done before\n")
    assert cloud.results() == before


def test_every_phase_again_changes_nothing(cloud: Groundlift) -> None:
    before = cloud.results()
    told = cloud.told("deploy", "run", SITE, "--again")
    assert told["phases"] == [{"phase": name, "ran": True, "changes": []} for name in PHASES]
    assert cloud.results() == before


def test_without_mitogen_it_comes_to_the_same(cloud: Groundlift) -> None:
    told = cloud.told("deploy", "run", SITE, "--only", "base", GROUNDLIFT_STRATEGY="linear")
    assert told["changed"] == 0
    configuration = (cloud.state.deploy("lab") / "ansible" / "ansible.cfg").read_text()
    assert "strategy = linear" in configuration


def test_drift_is_told_by_check_mode_and_repaired_by_a_run(
    cloud: Groundlift, estate: Estate
) -> None:
    node, file = HYPERVISORS[1], "/etc/ntp.conf"
    good = on(estate, node, "cat", file)
    on(estate, node, "sh", "-c", f"echo 'server 192.0.2.1' >> {file}")
    told = cloud.told("deploy", "run", SITE, "--only", "base", "--check")
    changes = told["phases"][1]["changes"]
    assert {"host": "hv2", "task": "timesync : Say whom to follow"} in changes
    assert on(estate, node, "cat", file) != good
    told = cloud.told("deploy", "run", SITE, "--only", "base")
    assert {change["host"] for change in told["phases"][1]["changes"]} == {"hv2"}
    assert on(estate, node, "cat", file) == good
    assert cloud.told("deploy", "run", SITE, "--only", "base")["changed"] == 0


@pytest.mark.parametrize("seconds", [1, 6])
def test_a_run_that_is_killed_is_continued_by_the_next(cloud: Groundlift, seconds: int) -> None:
    argv = cloud.argv("deploy", "run", SITE, "--from", "storage")
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("storage: …"):
            pass
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    done = cloud.call("deploy", "run", SITE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0 changes made in 3 of 7 phases\n")


def test_libvirtd_of_each_hypervisor_answers_the_controller_over_ssh(
    cloud: Groundlift, estate: Estate
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
    cloud: Groundlift, estate: Estate
) -> None:
    for node in HYPERVISORS:
        said = on(estate, MANAGEMENT, "virsh", "-c", node.name, "pool-info", "shared")
        assert "running" in said


def test_a_hypervisors_key_opens_the_other_from_its_own_address_alone(
    cloud: Groundlift, estate: Estate
) -> None:
    first, second = HYPERVISORS
    keys = on(estate, first, "cat", "/root/.ssh/authorized_keys").splitlines()
    (line,) = [line for line in keys if line.endswith(f" groundlift-{second.name}")]
    assert line.startswith(f'from="{second.address}" ssh-rsa ')


def test_packages_come_signed_and_from_the_mirror_alone(cloud: Groundlift, estate: Estate) -> None:
    golden = (ROOT / "tests/golden/inventory/groundlift.repo").read_text()
    text = on(estate, MANAGEMENT, "cat", "/etc/yum.repos.d/groundlift.repo")
    assert text == golden.replace("192.0.2.5", "10.77.0.1")


def test_the_rehearsal_bridge_has_no_uplink(cloud: Groundlift, estate: Estate) -> None:
    for node in HYPERVISORS:
        ports = on(estate, node, "ls", "/sys/class/net/br-rehearse/brif").split()
        assert [port for port in ports if not port.startswith("vnet")] == []
        assert "eth0" in on(estate, node, "ls", "/sys/class/net/br0/brif").split()


def test_a_domain_moved_live_there_and_back(cloud: Groundlift) -> None:
    log = (cloud.state.deploy("lab") / "ansible" / "postcheck.log").read_text()
    for task in ("Move it to the next hypervisor while it runs", "Move it back", "See it run"):
        part = log.split(f"TASK [{task}]")[1].split("TASK [")[0]
        assert "ok: [hv1" in part


def test_check_mode_on_a_bare_node_tells_what_would_change_and_changes_nothing(
    groundlift: Groundlift, estate: Estate, tmp_path: Path
) -> None:
    spare = named("mol4")
    nodes.up(estate, silent, [spare])
    try:
        (tmp_path / "cloud.yml").write_text(_bare(spare))
        before = on(estate, spare, "sh", "-c", "rpm -qa; ls -R /etc | cksum")
        told = groundlift.told("deploy", "run", str(tmp_path / "cloud.yml"), "--check")
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
