"""The files of the lab's source server, as a directory: Debian's packages, an old server's habits
of configuration, and the application in lab/app. Knows nothing of disks and keys."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutsideFailed
from core.progress import Report, track
from core.quantities import MIB
from lab.estate import CONTROLLER
from lab.source_run import run

APP = Path(__file__).parent / "app"
SUITE = "bookworm"
PACKAGES = (
    "acpid",
    "cron",
    "dmidecode",
    "e2fsprogs",
    "grub-pc",
    "ifupdown",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "linux-image-amd64",
    "lvm2",
    "mariadb-server",
    "netbase",
    "openssh-server",
    "pciutils",
    "procps",
    "python3",
    "python3-pymysql",
    "systemd-sysv",
    "udev",
)
ARCHIVED = 200 * MIB
# A server of this kind has no screen, no sound and no radio; their drivers and all manuals would be
# a third of its disk. Without the RAID drivers its initramfs is rebuilt ten seconds sooner.
LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/md/dm-raid.ko",
    "/lib/modules/*/kernel/drivers/md/raid*.ko",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/drivers/staging/*",
)


@dataclass(frozen=True, slots=True)
class Machine:
    """How the server is called and reached."""

    name: str = "web1"
    address: str = "10.77.0.50"
    netmask: str = "255.255.255.0"
    gateway: str = CONTROLLER
    mac: str = "00:1b:78:31:0a:50"  # a prefix of Hewlett-Packard's


def files(machine: Machine) -> dict[str, tuple[str, int]]:
    """Path → content and mode of every file that makes this tree that server."""
    app = {
        "/opt/webapp/webapp.py": "webapp.py",
        "/opt/webapp/writer.py": "writer.py",
        "/opt/webapp/expire.py": "expire.py",
        "/opt/webapp/schema.sql": "schema.sql",
        "/etc/webapp/webapp.ini": "webapp.ini",
        "/etc/cron.d/webapp": "webapp.cron",
        "/etc/systemd/system/webapp.service": "webapp.service",
        "/etc/systemd/system/writer.service": "writer.service",
    }
    texts = {path: (APP / name).read_text() for path, name in app.items()} | {
        "/etc/hostname": f"{machine.name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n{machine.address} {machine.name}\n"
        "10.77.0.60 payments\n",
        "/etc/default/locale": "LANG=C\n",
        "/etc/network/interfaces": _INTERFACES.format(m=machine),
        # The name follows the card's address, as on every server of that age.
        "/etc/udev/rules.d/70-persistent-net.rules": _NET_RULE.format(m=machine),
        "/etc/fstab": _FSTAB,
        "/etc/default/grub": _GRUB,
        # Nothing keeps a file open on the disk once the services have stopped.
        "/etc/systemd/journald.conf.d/volatile.conf": "[Journal]\nStorage=volatile\n",
        # One RSA host key, as EL6's sshd has it.
        "/etc/ssh/sshd_config.d/lab.conf": "HostKey /etc/ssh/ssh_host_rsa_key\nUseDNS no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
        "/etc/acpi/events/powerbtn": "event=button[ /]power\naction=/sbin/poweroff\n",
        "/etc/mysql/mariadb.conf.d/99-lab.cnf": _MARIADB,
        "/etc/resolv.conf": f"nameserver {machine.gateway}\n",
    }
    return {path: (text, 0o644) for path, text in texts.items()}


_INTERFACES = """auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address {m.address}
    netmask {m.netmask}
    gateway {m.gateway}
"""
_NET_RULE = (
    'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{m.mac}", '
    'ATTR{{type}}=="1", KERNEL=="eth*", NAME="eth0"\n'
)
_FSTAB = """/dev/mapper/vg_web1-lv_root / ext4 defaults,errors=remount-ro 0 1
/dev/sda1 /boot ext4 defaults 0 2
/dev/mapper/vg_web1-lv_swap none swap sw 0 0
"""
_GRUB = """GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="net.ifnames=0 console=tty0 console=ttyS0,115200"
"""
_MARIADB = """[mysqld]
innodb_buffer_pool_size = 48M
innodb_log_file_size = 16M
"""


def key(machine: Machine) -> str:
    """What this tree is made of, as a short digest."""
    digest = hashlib.sha256(repr((SUITE, PACKAGES, LEFT_OUT, ARCHIVED, machine)).encode())
    for path, (text, mode) in sorted(files(machine).items()):
        digest.update(f"{path} {mode} {text}\0".encode())
    for name in ("customize.sh", "initramfs-modules"):
        digest.update((APP / name).read_bytes())
    return digest.hexdigest()[:16]


def build(machine: Machine, store: Path, report: Report) -> Path:
    """The tree below ``store``, built now unless it is there: ``root`` and ``boot``."""
    tree = store / f"tree-{key(machine)}"
    if tree.exists():
        return tree
    for stale in store.glob("tree-*"):  # halves of killed runs, and trees nobody asks for now
        shutil.rmtree(stale)
    half = store / f"{tree.name}.half"
    half.mkdir()
    with track(report, "source server: packages"):
        run(_mmdebstrap(half / "root", store, machine), timeout=1200, contained=True)
        for directory in ("early", "late"):
            shutil.rmtree(store / directory)
        _archive(half / "root/srv/archive")
        (half / "root/boot").rename(half / "boot")  # it lies on a partition of its own
        (half / "root/boot").mkdir()
    half.rename(tree)
    return tree


def _archive(directory: Path) -> None:
    """Years of scanned papers: what fills an old server, and does not compress."""
    directory.mkdir(parents=True)
    for year in range(2005, 2013):
        (directory / f"{year}.scan").write_bytes(os.urandom(ARCHIVED // 8))


def _mmdebstrap(target: Path, store: Path, machine: Machine) -> list[str]:
    early, late = store / "early", store / "late"
    for directory in (early, late):
        shutil.rmtree(directory, ignore_errors=True)
    # Debian's own way writes the initramfs while packages are configured, so this comes first.
    _place(early, "/etc/initramfs-tools/modules", (APP / "initramfs-modules").read_text())
    _place(
        early,
        "/etc/initramfs-tools/conf.d/small.conf",
        "MODULES=list\nCOMPRESS=gzip\nCOMPRESSLEVEL=1\n",
    )
    for path, (text, mode) in files(machine).items():
        _place(late, path, text, mode)
    _place(late, "/customize.sh", (APP / "customize.sh").read_text(), 0o755)
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        *_host_apt_options(),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        "--dpkgopt=force-confold",
        "--dpkgopt=force-unsafe-io",
        f'--essential-hook=cp -a {early}/. "$1"/',
        f'--customize-hook=cp -a --remove-destination {late}/. "$1"/',
        '--customize-hook=chroot "$1" /customize.sh',
        '--customize-hook=rm "$1"/customize.sh',
        SUITE,
        str(target),
        *_host_sources(),
    ]


def _place(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def _host_sources() -> list[str]:
    """This machine's own sources of Debian packages: the only ones known to answer."""
    directory = Path("/etc/apt")
    found = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]
    found += sorted((directory / "sources.list.d").glob("*.sources"))
    fitting = [str(file) for file in found if file.exists() and SUITE in file.read_text()]
    if not fitting:
        raise OutsideFailed(
            f"no source of {SUITE} packages in {directory}",
            hint="the lab needs a Debian 12 machine with its apt sources in place",
        )
    return fitting


def _host_apt_options() -> list[str]:
    """What this machine says about dates of package lists, and its proxy, hold for the tree too."""
    said = run(["apt-config", "dump"]).splitlines()
    wanted = ("Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::http::Proxy ")
    return [f"--aptopt={line.rstrip(';')}" for line in said if line.startswith(wanted)]
