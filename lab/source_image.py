"""The disk of the lab's source server: MBR, a /boot partition, LVM with root and swap, GRUB, and
the remains of deleted files in free blocks. Made once per tree and keys; never booted itself."""

import hashlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from core.progress import Report, Unit, track
from core.quantities import GIB, MIB
from lab.source_run import run

SIZE = 4 * GIB
BOOT_FIRST, LVM_FIRST = 2048, 524288  # sectors
ROOT = 3400 * MIB
SWAP = 256 * MIB
JUNK = 300 * MIB
BLOCK = 4096
# ext4 as EL6 made it: no 64-bit block numbers, no metadata checksums, bitmaps left unwritten in
# groups that were never used.
FEATURES = "^64bit,^metadata_csum,^metadata_csum_seed,^orphan_file,uninit_bg"
DIRECT = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
VERSION = 1  # of this recipe; part of the image's key


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes the server known: the key that may log in, and its own host key."""

    authorized: Path
    host_key: Path

    @property
    def files(self) -> dict[str, Path]:
        """Path on the server → local file."""
        public = self.host_key.with_name(self.host_key.name + ".pub")
        return {
            "/root/.ssh/authorized_keys": self.authorized,
            "/etc/ssh/ssh_host_rsa_key": self.host_key,
            "/etc/ssh/ssh_host_rsa_key.pub": public,
        }


def key(tree: str, identity: Identity) -> str:
    """What the image of this tree (by its key) for these keys is made of, as a short digest."""
    recipe = repr((VERSION, tree, SIZE, ROOT, SWAP, JUNK, FEATURES))
    digest = hashlib.sha256(recipe.encode())
    for path, file in sorted(identity.files.items()):
        digest.update(path.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def build(tree: Path, identity: Identity, target: Path, report: Report) -> None:
    """Write the disk image ``target``; it has its name only when it is whole."""
    work = target.with_name(f"{target.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with track(report, "source server: disk", 3, Unit.STEPS) as meter:
        _root(tree / "root", work / "root.img")
        meter.advance(text="root file system")
        _litter(work / "root.img")
        meter.advance(text="deleted files in free blocks")
        # numeric owners and no /boot prefix: it becomes the root of its own file system
        run(
            ["tar", "-C", str(tree / "boot"), "--numeric-owner", "-cf", str(work / "boot.tar"), "."]
        )
        disk = work / "disk.raw"
        with disk.open("wb") as file:
            file.truncate(SIZE)
        script = _script(work, identity)
        run(["guestfish"], stdin=script, environment=DIRECT, timeout=900, contained=True)
        meter.advance(text="partitions, LVM and GRUB")
    disk.rename(target)
    shutil.rmtree(work)


def _root(tree: Path, image: Path) -> None:
    """The root file system as a file of its own."""
    # A lazily written inode table would go on changing the disk of the running server.
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    options = ("-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-O", FEATURES, "-E", eager)
    run(["mke2fs", *options, "-d", str(tree), str(image), f"{ROOT // MIB}m"], timeout=300)


def _litter(image: Path) -> None:
    """Fill free blocks with noise, as files leave behind when they are deleted: pieces of up to
    4 MiB with gaps, until there is enough of it."""
    left = JUNK
    listing = run(["dumpe2fs", str(image)])
    groups = re.findall(r"^  Free blocks: (\d.*)$", listing, re.MULTILINE)
    with image.open("r+b") as file:
        for first, last in (span for group in groups for span in _spans(group)):
            for start in range(first, last + 1, 2048):
                count = min(1024, last + 1 - start)
                if left <= 0:
                    return
                file.seek(start * BLOCK)
                file.write(os.urandom(count * BLOCK))
                left -= count * BLOCK


def _spans(text: str) -> list[tuple[int, int]]:
    """``5-9, 12`` → ``[(5, 9), (12, 12)]``."""
    pairs = (part.split("-") for part in text.replace(" ", "").split(","))
    return [(int(pair[0]), int(pair[-1])) for pair in pairs]


def _splice(work: Path) -> str:
    """The local command that puts the root file system where its logical volume lies: the first
    extents of the partition, behind 1 MiB of LVM's own. Inside the appliance the same copy takes
    50 s under emulation. Were the place ever another, the mount that follows would fail."""
    place = LVM_FIRST * 512 // MIB + 1
    source, target = (
        f"{key}={work / name}" for key, name in (("if", "root.img"), ("of", "disk.raw"))
    )
    options = ("bs=1M", f"seek={place}", "conv=sparse,notrunc", "status=none")
    return shlex.join(("dd", source, target, *options))


def _script(work: Path, identity: Identity) -> str:
    """Guestfish's commands from an empty disk to one that boots."""
    quoted = {path: shlex.quote(str(file)) for path, file in identity.files.items()}
    lines = [
        f"add-drive {shlex.quote(str(work / 'disk.raw'))} format:raw cachemode:unsafe label:disk",
        "run",
        "part-init /dev/sda mbr",
        f"part-add /dev/sda p {BOOT_FIRST} {LVM_FIRST - 1}",
        f"part-add /dev/sda p {LVM_FIRST} -1",
        "part-set-bootable /dev/sda 1 true",
        "part-set-mbr-id /dev/sda 2 0x8e",
        "pvcreate /dev/sda2",
        "vgcreate vg_web1 /dev/sda2",
        f"lvcreate lv_root vg_web1 {ROOT // MIB}",
        f"lvcreate lv_swap vg_web1 {SWAP // MIB}",
        f"!{_splice(work)}",
        "blockdev-flushbufs /dev/vg_web1/lv_root",
        f"mkfs ext4 /dev/sda1 features:{FEATURES} label:boot",
        "mkswap /dev/vg_web1/lv_swap",
        "mount /dev/vg_web1/lv_root /",
        "mount /dev/sda1 /boot",
        f"tar-in {shlex.quote(str(work / 'boot.tar'))} /boot",
        "mkdir-p /root/.ssh",
        "chmod 0700 /root/.ssh",
        *(f"upload {file} {path}" for path, file in quoted.items()),
        "chmod 0600 /etc/ssh/ssh_host_rsa_key",
        "chmod 0600 /root/.ssh/authorized_keys",
        # guestfish's sda is the first drive; the kernel's may be the appliance's own, as both are
        # found at once. Only in commands is the kernel's meant, so they go by the drive's label.
        'command "grub-install --target=i386-pc --recheck /dev/disk/guestfs/disk"',
        'command "update-grub"',
        "umount-all",
        "shutdown",
    ]
    return "\n".join(lines) + "\n"
