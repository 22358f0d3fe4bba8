"""The rehearsal: its disk, made by a qemu-img as old as CentOS 6.3's, and its turn."""

import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.local import LocalHost
from commands import migrate_verify
from core.errors import OutsideFailed
from core.state import State
from migrate.rehearse import Rehearsal
from tests.fakes.hypervisor import FakeHypervisor
from tests.unit.transfer import estate, images

# Before 2014 qemu-img opened the backing file by the bare name, from where it was called.
OLD = """#!/bin/sh
for word in "$@"; do case $word in backing_file=*) name=${word#backing_file=};; esac; done
test -e "${name%%,*}" || { echo "qemu-img: Could not open '${name%%,*}'" >&2; exit 1; }
exec %s "$@"
"""


class Node(LocalHost):
    """This machine, with an old qemu-img."""

    def __init__(self, program: Path) -> None:
        super().__init__("hv1")
        self.program = program

    def run(self, argv, **more):
        return super().run([str(self.program) if w == "qemu-img" else w for w in argv], **more)


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    real = subprocess.run(
        ("sh", "-c", "command -v qemu-img"), capture_output=True, text=True, check=False
    ).stdout.strip()
    if not real:
        pytest.skip("qemu-img is not on this machine")
    program, pool = tmp_path / "qemu-img", tmp_path / "pool"
    program.write_text(OLD.replace("%%", "%").replace("%s", real))
    program.chmod(0o755)
    pool.mkdir()
    plan = estate.plan(tmp_path / "disk", pool, 4 * images.MIB)
    images.run("qemu-img", "create", "-q", "-f", "qcow2", pool / plan.disks[0].overlay, "4M")
    return Rehearsal(plan, Node(program), FakeHypervisor())


def test_its_disk_stands_on_the_overlay_by_a_bare_name(rehearsal: Rehearsal) -> None:
    rehearsal._disks()
    (path,) = rehearsal._files()
    told = images.run("qemu-img", "info", path).decode()
    assert f"backing file: {rehearsal.plan.disks[0].overlay}" in told


def test_a_pool_that_is_gone_is_said(rehearsal: Rehearsal) -> None:
    Path(rehearsal.plan.pool_path).rename(f"{rehearsal.plan.pool_path}.gone")
    with pytest.raises(OutsideFailed, match="qemu-img"):
        rehearsal._disks()


def test_rehearsals_on_one_hypervisor_take_turns_and_on_two_do_not(tmp_path: Path) -> None:
    case = SimpleNamespace(state=State(tmp_path))
    log: list[str] = []
    tasks: list[str] = []
    within = threading.Event()

    def rehearse(name: str, hypervisor: str) -> None:
        with migrate_verify._turn(case, hypervisor, lambda event: tasks.append(event.task)):
            within.set()
            log.append(f"{name} begins")
            time.sleep(0.5)
            log.append(f"{name} ends")

    first = threading.Thread(target=rehearse, args=("one", "hv1"))
    first.start()
    within.wait(10)
    elsewhere = threading.Thread(target=rehearse, args=("three", "hv2"))
    elsewhere.start()
    rehearse("two", "hv1")
    first.join()
    elsewhere.join()
    assert log.index("one ends") < log.index("two begins")
    assert log.index("three begins") < log.index("one ends")
    assert set(tasks) == {"wait for another rehearsal on hv1"}
