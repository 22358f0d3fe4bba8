"""Disks under all the names that Linux has had for them."""

import pytest

from core.facts.storage import disks

NAMES = {
    "sda": "/dev/sda",
    "hda": "/dev/hda",
    "vda": "/dev/vda",
    "xvda": "/dev/xvda",
    "nvme0n1": "/dev/nvme0n1",
    "mmcblk0": "/dev/mmcblk0",
    "cciss!c0d0": "/dev/cciss/c0d0",
    "ida!c0d0": "/dev/ida/c0d0",
    "rd!c0d0": "/dev/rd/c0d0",  # DAC960
}


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_is_found_under_its_name(name: str) -> None:
    (disk,) = disks.parse(f"{name}\tsize\t2048\n{name}\tremovable\t0\n")
    assert (disk.name, disk.path, disk.size) == (name, NAMES[name], 1024 * 1024)


@pytest.mark.parametrize("name", ["sr0", "fd0", "loop0", "ram0", "dm-0", "md0", "nbd0", "zram0"])
def test_what_is_no_disk_is_left_out(name: str) -> None:
    text = f"{name}\tsize\t2048\nsda\tsize\t2048\n"
    assert [disk.name for disk in disks.parse(text)] == ["sda"]
