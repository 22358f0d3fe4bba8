"""One disc as CentOS 6.3's installation DVDs are laid out: the tree first, then the image."""

import gzip
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from core.errors import OutsideFailed
from lab import groups
from lab.catalogue import PACKAGES
from lab.source_run import run

LABEL = "CentOS_6.3_Final"
DISC_ID = "1341569670.539525"
BUILD = "201207061011"
COMPS = "c6-x86_64-comps.xml"
BOOT = Path("/boot")
ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
SYSLINUX = Path("/usr/lib/syslinux/modules/bios")
BUSYBOX = Path("/bin/busybox")  # Debian's busybox-static
INIT = Path(__file__).with_name("media_init.sh")


def trees(files: Mapping[str, Path], public_key: str, work: Path) -> tuple[Path, Path]:
    """The content of both discs below ``work``."""
    first, second = work / "disc1", work / "disc2"
    for number, disc in enumerate((first, second), 1):
        (disc / "Packages").mkdir(parents=True)
        for package in PACKAGES:
            if package.disc == number:
                file = files[package.name]
                os.link(file, disc / "Packages" / file.name)
        _notices(disc, public_key, number)
    _boot(first)
    _repodata(first, second, work)
    return first, second


def _notices(disc: Path, public_key: str, number: int) -> None:
    texts = {
        ".discinfo": f"{DISC_ID}\n6.3\nx86_64\n{number}\n",
        "CentOS_BuildTag": "20120706-lab\n",
        "EULA": _EULA,
        "GPL": _GPL,
        "RELEASE-NOTES-en-US.html": _NOTES,
        "RPM-GPG-KEY-CentOS-6": public_key,
    }
    for name, text in texts.items():
        (disc / name).write_text(text)


def _boot(disc: Path) -> None:
    """A kernel and an initrd that really boot; this machine's own, as it is Debian's."""
    kernel, initrd = _kernel()
    (disc / ".treeinfo").write_text(_TREEINFO)
    places = ((disc / "images/pxeboot", "initrd.img"), (disc / "isolinux", "initrd.img"))
    loader = _loader(disc.parent)
    for directory, name in places:
        directory.mkdir(parents=True)
        shutil.copy(kernel, directory / "vmlinuz")
        with (directory / name).open("wb") as file:
            for part in (initrd, loader):  # the kernel unpacks one behind the other
                file.write(b"\0" * (-file.tell() % 4))  # else it is not seen
                file.write(part.read_bytes())
    # The installer's second stage, as far as its stamp.
    stage = disc.parent / "stage2"
    stage.mkdir()
    (stage / ".buildstamp").write_text(f"{BUILD}.x86_64\nCentOS\n6.3\n\n")
    image = disc / "images/install.img"
    run(["mke2fs", "-q", "-t", "ext2", "-d", str(stage), str(image), "1M"])
    loader = disc / "isolinux"
    shutil.copy(ISOLINUX, loader / "isolinux.bin")
    for name in ("ldlinux.c32", "vesamenu.c32", "libcom32.c32", "libutil.c32"):
        shutil.copy(SYSLINUX / name, loader / name)
    (loader / "isolinux.cfg").write_text(_ISOLINUX)
    (loader / "boot.msg").write_text("Lab installation disc\n")


def _loader(work: Path) -> Path:
    """A second archive for the initrd: an init that asks for the kickstart, and what it needs."""
    tree = work / "loader"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox-lab")
    shutil.copy(INIT, tree / "init")
    (tree / "init").chmod(0o755)
    archive = work / "loader.cpio"
    names = "bin/busybox-lab\ninit\n"
    run(["sh", "-c", 'cd "$0" && printf "$1" | cpio -o -H newc -R 0:0 --quiet > "$2"',
         str(tree), names, str(archive)])  # fmt: skip
    return archive


def _kernel() -> tuple[Path, Path]:
    for kernel in sorted(BOOT.glob("vmlinuz-*"), reverse=True):
        initrd = BOOT / kernel.name.replace("vmlinuz", "initrd.img")
        if initrd.exists():
            return kernel, initrd
    raise OutsideFailed(
        "this machine has no kernel and initrd to put on the discs",
        hint="apt-get install linux-image-cloud-amd64",
        where=str(BOOT),
    )


def _repodata(first: Path, second: Path, work: Path) -> None:
    """Metadata of both discs, on the first alone; locations name disc and number as media:// ."""
    comps = work / COMPS
    comps.write_text(groups.comps())
    kind = ("--compatibility", "--unique-md-filenames", "-q", "-g", str(comps))
    split = ("--split", "-u", f"media://{DISC_ID}")
    run(["createrepo_c", *kind, *split, str(first), str(second)], timeout=300)
    shutil.rmtree(second / "repodata", ignore_errors=True)
    index = first / "repodata/repomd.xml"
    # createrepo of that time named the disc here too; createrepo_c does not.
    based = f'<location xml:base="media://{DISC_ID}#1" href='
    index.write_text(re.sub(r"<location href=", based, index.read_text()))
    _check(first)


def _check(first: Path) -> None:
    found = next((first / "repodata").glob("*-primary.xml.gz"))
    text = gzip.decompress(found.read_bytes()).decode()
    for number in (1, 2):
        if f'xml:base="media://{DISC_ID}#{number}"' not in text:
            raise OutsideFailed(f"createrepo_c wrote no location on disc {number}")


def burn(tree: Path, image: Path, *, bootable: bool) -> None:
    """The image of one tree, with its own md5 implanted."""
    identity = ("-V", LABEL, "-A", LABEL, "-publisher", "CentOS Project", "-p", "CentOS")
    boot = (
        *("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"),
        *("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"),
    )
    run(
        [
            *("genisoimage", "-quiet", "-R", "-J", "-T", "-sysid", "LINUX", *identity),
            *(boot if bootable else ()),
            *("-o", str(image), str(tree)),
        ],
        timeout=600,
    )
    run(["implantisomd5", str(image)], timeout=300)


_TREEINFO = """[general]
family = CentOS
timestamp = 1341569464.97
variant = 
totaldiscs = 1
version = 6.3
discnum = 1
packagedir = 
arch = x86_64

[images-x86_64]
kernel = images/pxeboot/vmlinuz
initrd = images/pxeboot/initrd.img

[images-xen]
kernel = images/pxeboot/vmlinuz
initrd = images/pxeboot/initrd.img

[stage2]
mainimage = images/install.img
"""  # noqa: W291 (as the genuine file has it)
_ISOLINUX = """default linux
prompt 1
timeout 600
display boot.msg

label linux
  kernel vmlinuz
  append initrd=initrd.img
"""
_EULA = """This disc was made on a test machine. It is shaped like an installation disc and is
none; it comes without any warranty. Each package carries the licence of the software in it.
"""
_GPL = """Much of the software on this disc is under the GNU General Public License. Its text
belongs to the sources of each package; Debian has it in /usr/share/common-licenses/GPL-2.
"""
_NOTES = """<html><head><title>Release notes</title></head><body>
<h1>Release notes</h1><p>A disc for tests, in the shape of an installation disc of release 6.3.</p>
</body></html>
"""
