"""A replica on a block device: opened for us alone, never over data that nobody gave up."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import BadDocument, OutsideFailed
from core.progress import silent
from migrate import proof, transfer
from migrate.plan import DiskPlan, _check_names
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

Loop = Callable[[Path], str]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 24 * images.MIB)


@pytest.fixture
def loop() -> Iterator[Loop]:
    devices: list[str] = []

    def attach(path: Path) -> str:
        devices.append(images.run("losetup", "-f", "--show", path).decode().strip())
        return devices[-1]

    yield attach
    for device in devices:
        subprocess.run(["losetup", "-d", device], check=True)


def onto(root: Path, template: Path, device: str, *, overwrite: bool = False) -> Estate:
    shutil.copy(template, root / "disk")
    old = estate.make(root, root / "disk")
    fields = {"device": device, "overwrite": device if overwrite else ""}
    disk = old.plan.disks[0].model_copy(update=fields)
    old.plan = old.plan.model_copy(update={"disks": (disk,)})
    return old


def copy(old: Estate, kind: str = "full") -> tuple[transfer.PassResult, ...]:
    return transfer.copy(old.source, old.target, old.plan, old.folder, kind)


def content(old: Estate) -> bytes:
    with Path(old.plan.disks[0].device).open("rb") as file:
        return file.read()


def test_a_disk_arrives_on_a_device_full_of_junk_with_zeros_where_nothing_is_used(
    template: Path, tmp_path: Path, loop: Loop
) -> None:
    # as a logical volume has it: a little larger than the disk
    device = loop(images.junk(tmp_path / "volume", 28 * images.MIB))
    old = onto(tmp_path, template, device, overwrite=True)
    copy(old)
    # stopped in the middle, the rest goes on
    (journal,) = old.folder.glob("disks/*.journal")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    kept = [line for line in lines if line["event"] in ("reset", "target", "start")]
    kept.append({"event": "upto", "at": 8 * images.MIB})
    journal.write_text("".join(json.dumps(line) + "\n" for line in kept))
    estate.change(old.disk, 1)
    copy(old)
    (delta,) = copy(old, "delta")
    result = transfer.finish(old.source, old.target, old.plan, old.folder)
    expected = old.expected()
    assert content(old) == expected + bytes(4 * images.MIB)
    assert result.disks[0].differing == result.disks[0].repaired == 0
    assert delta.sent < 2 * images.MIB
    assert not list((tmp_path / "pool").iterdir())


def test_a_finished_device_is_left_alone(template: Path, tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "volume").write_bytes(bytes(24 * images.MIB))  # empty: no word is needed
    old = onto(tmp_path, template, loop(tmp_path / "volume"))
    copy(old)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    before = content(old)
    estate.change(old.disk, 3)
    assert copy(old) == ()
    assert content(old) == before
    with Path(old.plan.disks[0].device).open("rb"):  # a domain lives on top of it
        found = proof.prove(old.source, old.target, old.plan, old.folder, silent)
    assert found.differing == 0
    assert found.disks[0].blocks_verified > 0


def test_what_a_device_holds_is_named_and_given_up_only_by_name(
    template: Path, tmp_path: Path, loop: Loop
) -> None:
    images.run("mkfs.ext4", "-q", images.junk(tmp_path / "volume", 24 * images.MIB))
    old = onto(tmp_path, template, loop(tmp_path / "volume"))
    before = content(old)
    with pytest.raises(OutsideFailed, match="holds an ext file system") as caught:
        copy(old)
    assert f"overwrite: {old.plan.disks[0].device}" in caught.value.hint
    assert content(old) == before


def test_a_device_that_is_mounted_or_open_elsewhere_is_refused(
    template: Path, tmp_path: Path, loop: Loop
) -> None:
    images.run("mkfs.ext4", "-q", images.junk(tmp_path / "volume", 24 * images.MIB))
    device = loop(tmp_path / "volume")
    old = onto(tmp_path, template, device, overwrite=True)
    with Path(device).open("rb"), pytest.raises(OutsideFailed, match="has it open"):
        copy(old)
    (tmp_path / "mnt").mkdir()
    images.run("mount", "-o", "ro", device, tmp_path / "mnt")
    try:
        with pytest.raises(OutsideFailed, match="it is mounted on"):
            copy(old)
    finally:
        images.run("umount", tmp_path / "mnt")


@pytest.mark.parametrize(("size", "what"), [(20, "needs"), (24 + 80, "at most")])
def test_a_device_of_another_size_is_refused(
    template: Path, tmp_path: Path, loop: Loop, size: int, what: str
) -> None:
    (tmp_path / "volume").write_bytes(bytes(size * images.MIB))
    old = onto(tmp_path, template, loop(tmp_path / "volume"))
    with pytest.raises(OutsideFailed, match=what):
        copy(old)


def test_a_file_is_no_device(template: Path, tmp_path: Path) -> None:
    old = onto(tmp_path, template, "/dev/../etc/hostname")
    with pytest.raises(OutsideFailed, match="is no device"):
        copy(old)


def test_another_device_under_the_same_name_is_begun_anew(
    template: Path, tmp_path: Path, loop: Loop
) -> None:
    device = loop(images.junk(tmp_path / "volume", 24 * images.MIB))
    old = onto(tmp_path, template, device, overwrite=True)
    copy(old)
    (journal,) = old.folder.glob("disks/*.journal")
    with journal.open("a") as file:
        file.write(json.dumps({"event": "target", "identity": "LVM-another"}) + "\n")
    images.junk(tmp_path / "volume", 24 * images.MIB, seed=9)
    copy(old)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert content(old) == old.expected()


def test_the_plan_gives_up_only_the_device_it_names(tmp_path: Path) -> None:
    old = estate.make(tmp_path, images.junk(tmp_path / "disk", images.MIB))
    disk = old.plan.disks[0]
    assert "device" not in DiskPlan.model_dump(disk)  # most plans do without
    fields = {"device": "/dev/vg/a", "overwrite": "/dev/vg/b", "replica": "old-a.replica.raw"}
    (tmp_path / "plan.yml").write_text("disks:\n")
    plan = old.plan.model_copy(update={"disks": (disk.model_copy(update=fields),)})
    with pytest.raises(BadDocument) as caught:
        _check_names(plan, tmp_path / "plan.yml")
    assert "overwrite must repeat" in str(caught.value.errors)
