"""A mirror made by the real mdadm and kernel, of which one leg is read and converted."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from adapters.local import LocalHost
from migrate import legs
from migrate.convert import _around
from tests.unit.convert.test_convert import plan
from tests.unit.transfer import images

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("guestfish") is None,
    reason="making arrays needs root, and guestfish for a kernel of their own",
)
# As installers of EL5 and EL6 did it: /boot on the first array, LVM on the second.
MAKE = r"""
modprobe raid1
# the kernel names disks as it finds them, and the appliance has one of its own
set -- `grep -lx 655360 /sys/block/sd*/size `
a=${1#/sys/block/} b=${2#/sys/block/} a=/dev/${a%/size} b=/dev/${b%/size}
yes | mdadm --create /dev/md0 --metadata=FIRST --level=1 -n2 ${a}1 ${b}1
yes | mdadm --create /dev/md1 --metadata=SECOND --level=1 -n2 ${a}2 ${b}2
mdadm --wait /dev/md0; mdadm --wait /dev/md1
mke2fs -q /dev/md0
lvm pvcreate /dev/md1 && lvm vgcreate vg_a /dev/md1 && lvm lvcreate -Zn -L 64M -n root vg_a
udevadm settle
mke2fs -q /dev/vg_a/root
lvm vgchange -an; mdadm --stop /dev/md0; mdadm --stop /dev/md1
"""
SEEN = ("list-filesystems", ":", "debug", "sh", "cat /proc/mdstat")


@pytest.mark.parametrize("versions", [("0.90", "0.90"), ("1.0", "1.1"), ("1.2", "1.2")])
def test_a_lone_leg_shows_its_system_after_it_was_started_once(
    tmp_path: Path, versions: tuple[str, str]
) -> None:
    host, around = LocalHost(), _around(LocalHost(), tmp_path, kvm=False)
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(320 * images.MIB)

    def guest(*argv: str) -> str:
        done = host.run((*around, "guestfish", *argv), timeout=600)
        assert done.code == 0, done.stderr
        return done.text

    both = (f"--add={tmp_path / 'a'}", f"--add={tmp_path / 'b'}")
    tables = [word for disk in ("/dev/sda", "/dev/sdb") for word in (
        *("part-init", disk, "mbr", ":", "part-add", disk, "p", "2048", "206847", ":"),
        *("part-add", disk, "p", "206848", "600000", ":"),
    )]  # fmt: skip
    make = MAKE.replace("FIRST", versions[0]).replace("SECOND", versions[1])
    guest("--format=raw", *both, "run", ":", *tables, "debug", "sh", make)
    kinds = images.kinds(tmp_path / "a")
    assert [kind for kind, _ in kinds].count("ext") == 2  # what the reader takes for used
    overlay = tmp_path / "a.qcow2"
    form = ("-f", "qcow2", "-o", "compat=0.10", "-F", "raw", "-b", str(tmp_path / "a"))
    subprocess.run(("qemu-img", "create", "-q", *form, str(overlay)), check=True)
    before = (tmp_path / "a").read_bytes()
    look = ("--ro", "--format=qcow2", f"--add={overlay}", "run", ":", *SEEN)
    assert "ext2" not in guest(*look)
    assert legs.start(host, around, plan("/dev/sda", leg=True).disks, (overlay,))
    seen = guest(*look)
    assert "/dev/vg_a/root: ext2" in seen
    assert seen.count("[2/1]") == 2
    assert (tmp_path / "a").read_bytes() == before  # the replica stays as it was
