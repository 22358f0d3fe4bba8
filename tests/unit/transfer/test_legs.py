"""A leg of a mirror that is read alone must be in step, at the end of the last pass at latest."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from core.errors import Blocked
from core.facts import sets
from core.ports import Completed
from migrate import legs, quiesce, transfer
from migrate.transfer import Options
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

UP = "{0}1[0] sdz1[1]\n      40000 blocks super 1.0 [2/2] [UU]\n"
FAILED = "{0}1[0](F) sdz1[1]\n      40000 blocks super 1.0 [2/1] [_U]\n"
SHARED = Path("/dev/shm")  # members of arrays are named below /dev
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="there is no /dev/shm")


class Mirrored(estate.Source):
    """A source whose /proc/mdstat is ``mdstat``; how often it was asked."""

    mdstat, asked = "", 0

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        if tuple(argv) == sets.md.argv:
            self.asked += 1
            return Completed(tuple(argv), 0, self.mdstat.encode(), b"")
        return super().run(argv, stdin=stdin, timeout=timeout)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"))


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Iterator[Estate]:
    with TemporaryDirectory(dir=SHARED) as folder:
        made = estate.make(tmp_path, Path(shutil.copy(template, Path(folder) / "disk")))
        made.source = Mirrored(tmp_path)
        disk = made.plan.disks[0].model_copy(update={"leg": True})
        made.plan = made.plan.model_copy(update={"disks": (disk,)})
        tell(made, UP)
        yield made


def tell(old: Estate, state: str) -> None:
    name = str(old.disk).removeprefix("/dev/")
    assert isinstance(old.source, Mirrored)
    old.source.mdstat = "md0 : active raid1 " + state.format(name)


def test_a_leg_in_step_is_copied_and_proved(old: Estate) -> None:
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


def test_a_leg_out_of_step_is_told_before_anything_stops(old: Estate) -> None:
    tell(old, FAILED)
    with pytest.raises(Blocked, match=r"no leg in step: md0 is faulty there") as caught:
        transfer.finish(old.source, old.target, old.plan, old.folder)
    assert "discover" in caught.value.hint
    assert old.source.done == []


def test_a_leg_that_falls_out_during_the_last_pass_gives_no_replica(old: Estate) -> None:
    old.source.on_mount = lambda: tell(old, FAILED)
    with pytest.raises(Blocked, match="no leg in step"):
        transfer.finish(old.source, old.target, old.plan, old.folder)
    assert not old.replica.exists()
    assert not old.source.resting
    assert quiesce.record(old.folder) is None


@pytest.mark.parametrize(
    "mdstat", ["", "md0 : inactive {0}1[0](S)\n", "md0 : active raid1 sdz1[0]"]
)
def test_an_array_that_is_not_there_leaves_it_open_and_that_never_passes(
    old: Estate, mdstat: str
) -> None:
    assert isinstance(old.source, Mirrored)
    old.source.mdstat = mdstat.format(str(old.disk).removeprefix("/dev/"))
    with pytest.raises(Blocked) as caught:
        legs.check(old.source, old.plan, rescue=True)
    assert "--readonly" in caught.value.hint


def test_arrays_are_asked_only_when_a_leg_travels_alone(old: Estate) -> None:
    disk = old.plan.disks[0].model_copy(update={"leg": False})
    plan = old.plan.model_copy(update={"disks": (disk,)})
    transfer.finish(old.source, old.target, plan, old.folder, Options())
    assert isinstance(old.source, Mirrored)
    assert old.source.asked == 0


@pytest.mark.skipif(os.getuid() != 0, reason="a loop device needs root")
def test_a_block_device_is_read_by_its_mapped_name(old: Estate, tmp_path: Path) -> None:
    """As /dev/mapper/mpatha on EL6, where it is a link to ../dm-0."""
    loop = images.run("losetup", "-r", "-f", "--show", old.disk).decode().strip()
    try:
        (tmp_path / "mapper").mkdir()
        name = tmp_path / "mapper" / "mpatha"
        name.symlink_to(loop)
        disk = old.plan.disks[0].model_copy(update={"source": str(name), "leg": False})
        plan = old.plan.model_copy(update={"disks": (disk,)})
        transfer.copy(old.source, old.target, plan, old.folder)
        estate.change(old.disk, seed=5)  # behind the loop device's back
        transfer.finish(old.source, old.target, plan, old.folder)
        assert old.replica.read_bytes() == old.expected()
    finally:
        images.run("losetup", "-d", loop)
