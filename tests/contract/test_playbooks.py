"""What every Playbooks promises, asked of the fake and of real Ansible on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.playbooks import Access, AnsiblePlaybooks
from core.errors import OutsideFailed
from core.ports import Playbooks, PlayEvent
from tests.fakes.playbooks import FakePlaybooks

INVENTORY = (
    "all:\n  hosts:\n    localhost:\n      ansible_connection: local\n"
    "      ansible_python_interpreter: {python}\n"
)
HEAD = "- name: {name}\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
PLAYBOOKS = {
    "good": "    - name: Look\n      ansible.builtin.ping:\n",
    "changing": (
        "    - name: Look\n      ansible.builtin.ping:\n"
        "    - name: Write\n      ansible.builtin.copy:\n"
        "        content: x\n        dest: '{folder}/written'\n        mode: '0600'\n"
    ),
    "failing": (
        "    - name: Refuse\n      ansible.builtin.fail:\n        msg: the disk is full\n"
        "    - name: Never\n      ansible.builtin.ping:\n"
    ),
    "looping": (
        "    - name: Refuse some\n      ansible.builtin.assert:\n        that: item != 2\n"
        "        fail_msg: 'two is wrong'\n      loop: [1, 2, 3]\n"
    ),
}
SCRIPTS = {
    "good": (PlayEvent("ok", "good", "Look", "localhost"),),
    "changing": (
        PlayEvent("ok", "changing", "Look", "localhost"),
        PlayEvent("changed", "changing", "Write", "localhost"),
    ),
    "failing": (PlayEvent("failed", "failing", "Refuse", "localhost", "the disk is full"),),
    "looping": (PlayEvent("failed", "looping", "Refuse some", "localhost", "two is wrong"),),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Playbooks and an inventory of this machine alone, in a place with awkward letters."""
    folder = tmp_path / "a b%c"
    folder.mkdir()
    (folder / "hosts.yml").write_text(INVENTORY.format(python=sys.executable))
    for name, tasks in PLAYBOOKS.items():
        text = HEAD.format(name=name) + tasks.replace("{folder}", str(folder))
        (folder / f"{name}.yml").write_text(text)
    return folder


def real(folder: Path, strategy: str) -> AnsiblePlaybooks:
    return AnsiblePlaybooks(Path.cwd(), folder / "state", Access(), strategy)


@pytest.fixture(params=["fake", "linear", "mitogen"])
def playbooks(request: pytest.FixtureRequest, folder: Path) -> Playbooks:
    if request.param == "fake":
        return FakePlaybooks(SCRIPTS)
    return real(folder, "linear" if request.param == "linear" else "")


@pytest.fixture
def run(playbooks: Playbooks, folder: Path) -> Callable[..., tuple[object, list[PlayEvent]]]:
    def run(name: str, **more: bool) -> tuple[object, list[PlayEvent]]:
        seen: list[PlayEvent] = []
        inventory = folder / "hosts.yml"
        result = playbooks.run(folder / f"{name}.yml", inventory, on_event=seen.append, **more)  # type: ignore[arg-type]
        return result, seen

    return run


def test_a_good_run_has_code_0_and_counts(run) -> None:
    result, seen = run("good")
    assert (result.code, result.failures, result.changes) == (0, (), ())
    assert result.stats["localhost"]["ok"] == 1
    assert [event.kind for event in seen] == ["playbook", "play", "task", "ok", "stats"]
    assert (seen[0].total, seen[2].task, seen[3].host) == (1, "Look", "localhost")


def test_a_change_is_told_by_host_and_task(run) -> None:
    result, _ = run("changing")
    assert [(event.host, event.task) for event in result.changes] == [("localhost", "Write")]
    assert result.stats["localhost"]["changed"] == 1


def test_a_failure_is_an_answer_with_its_reason(run) -> None:
    result, seen = run("failing")
    assert result.code == 2
    assert [(event.task, event.message) for event in result.failures] == [
        ("Refuse", "the disk is full")
    ]
    assert "Never" not in {event.task for event in seen if event.kind == "task"}


def test_a_failure_in_a_loop_has_the_reason_of_the_item(run) -> None:
    result, _ = run("looping")
    assert [event.message for event in result.failures] == ["two is wrong"]


def test_a_playbook_that_is_not_there_is_an_error(run) -> None:
    with pytest.raises(OutsideFailed, match="could not be found"):
        run("missing")


def test_check_mode_tells_changes_and_makes_none(folder: Path) -> None:
    playbook, inventory = folder / "changing.yml", folder / "hosts.yml"
    result = real(folder, "").run(playbook, inventory, check=True)
    assert [event.task for event in result.changes] == ["Write"]
    assert not (folder / "written").exists()


def test_a_playbook_that_cannot_be_read_is_an_error_with_ansibles_words(folder: Path) -> None:
    (folder / "broken.yml").write_text("- hosts: localhost\n  tasks: [{ping:\n")
    with pytest.raises(OutsideFailed, match="Syntax Error") as caught:
        real(folder, "").run(folder / "broken.yml", folder / "hosts.yml")
    assert caught.value.where.endswith("broken.log")


def test_the_engineers_environment_is_no_part_of_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_CHECK_MODE_MARKERS", "1")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    (folder / "printing.yml").write_text(
        HEAD.format(name="printing") + "    - name: Print\n      ansible.builtin.copy:\n"
        f"        content: \"{{{{ query('pipe', 'env') | join }}}}\"\n"
        f"        dest: '{folder}/env'\n        mode: '0600'\n"
    )
    assert real(folder, "").run(folder / "printing.yml", folder / "hosts.yml").code == 0
    text = (folder / "env").read_text()
    assert "SECRET_OF_THE_SHELL" not in text
    assert "ANSIBLE_STRATEGY" not in text


def test_the_configuration_pins_host_keys_and_speaks_to_old_sshd(folder: Path) -> None:
    access = Access("root", folder / "key", folder / "known")
    AnsiblePlaybooks(Path.cwd(), folder / "state", access).run(
        folder / "good.yml", folder / "hosts.yml"
    )
    text = (folder / "state" / "ansible.cfg").read_text()
    for part in (
        "StrictHostKeyChecking=yes",
        "HostKeyAlgorithms=+ssh-rsa",
        "PubkeyAcceptedAlgorithms=+ssh-rsa",
        f'UserKnownHostsFile="{folder}/known"'.replace("%", "%%"),
        "[connection]\npipelining = True",
        "strategy = mitogen_linear",
    ):
        assert part in text


SLEEPING = (
    "    - name: Sleep\n      ansible.builtin.command: sleep {seconds}\n      changed_when: false\n"
)
# A program that was started in the background ignores Ctrl-C unless it says otherwise.
DRIVER = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from adapters.playbooks import Access, AnsiblePlaybooks
folder = Path(sys.argv[1])
AnsiblePlaybooks(Path.cwd(), folder / "state", Access(), sys.argv[2]).run(
    folder / "sleeping.yml",
    folder / "hosts.yml",
    on_event=lambda event: print(event.kind, flush=True),
)
"""


def sleepers(seconds: str) -> list[str]:
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if f"sleep {seconds}" in line]


def ansibles(folder: Path) -> list[str]:
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    return [line for line in lines if "ansible-playbook" in line and str(folder) in line]


@pytest.mark.parametrize("strategy", ["linear", ""])
def test_ctrl_c_ends_ansible_and_all_it_started(folder: Path, strategy: str) -> None:
    seconds = f"{os.getpid()}.25"
    text = HEAD.format(name="sleeping") + SLEEPING.replace("{seconds}", seconds)
    (folder / "sleeping.yml").write_text(text)
    argv = [sys.executable, "-c", DRIVER, str(folder), strategy]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 60
        while not sleepers(seconds) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert sleepers(seconds)
        driver.send_signal(signal.SIGINT)
        try:
            driver.wait(30)
        finally:
            driver.kill()
    deadline = time.monotonic() + 10
    while (sleepers(seconds) or ansibles(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sleepers(seconds) == []
    assert ansibles(folder) == []


def test_a_controller_that_is_killed_takes_ansible_with_it_at_the_next_event(folder: Path) -> None:
    tasks = "".join(SLEEPING.replace("{seconds}", "1") for _ in range(60))
    (folder / "sleeping.yml").write_text(HEAD.format(name="sleeping") + tasks)
    argv = [sys.executable, "-c", DRIVER, str(folder), ""]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout is not None
        while driver.stdout.readline() != b"task\n":
            pass
        driver.kill()
    deadline = time.monotonic() + 20
    while ansibles(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ansibles(folder) == []
