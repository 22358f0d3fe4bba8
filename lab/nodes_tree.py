"""The files of a freshly installed minimal EL6-shaped host, as a directory that all nodes share."""

import hashlib
import shutil
from pathlib import Path

from core.progress import Report, track
from lab import debs
from lab.catalogue import BASE
from lab.source_run import run

FILES = Path(__file__).parent / "node"
SUITE = "bookworm"
RELEASE = "CentOS release 6.3 (Final)\n"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
# Units of Debian's that an EL6 host has nothing of, and that cost time at every start.
MASKED = (
    *("dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "systemd-udevd.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "systemd-logind.service"),
    *("console-getty.service", "systemd-resolved.service", "systemd-timesyncd.service"),
    *("systemd-networkd.service", "networking.service", "systemd-sysctl.service"),
)


def key() -> str:
    """What the tree is made of."""
    digest = hashlib.sha256(repr((BASE, LEFT_OUT, MASKED, RELEASE)).encode())
    digest.update(Path(__file__).read_bytes())
    for file in sorted(FILES.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(FILES)} {file.stat().st_mode:o}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def build(store: Path, report: Report) -> Path:
    """The tree below ``store``, built now unless it is there."""
    tree = store / f"tree-{key()}"
    if tree.exists():
        return tree
    half = tree.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    store.mkdir(parents=True, exist_ok=True)
    with track(report, "nodes: base tree"):
        run(_mmdebstrap(half), timeout=1200, contained=True)
        _reshape(half)
    half.rename(tree)
    return tree


def _mmdebstrap(target: Path) -> list[str]:
    return [
        *("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory"),
        f"--include={','.join(BASE)}",
        '--aptopt=Acquire::Languages "none"',
        *debs.host_options(),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        "--dpkgopt=force-unsafe-io",
        SUITE,
        str(target),
        *debs.host_sources(SUITE),
    ]


def _reshape(tree: Path) -> None:
    """From a Debian directory to one that looks like CentOS 6.3 where a role looks."""
    for name in ("etc/os-release", "usr/lib/os-release", "etc/debian_version", "etc/hostname"):
        (tree / name).unlink(missing_ok=True)
    for name in ("redhat-release", "centos-release", "system-release"):
        (tree / "etc" / name).write_text(RELEASE)
    for name in ("machine-id", "resolv.conf"):
        (tree / "etc" / name).unlink(missing_ok=True)
        (tree / "etc" / name).write_text("")
    for stale in (tree / "etc/ssh").glob("ssh_host_*"):
        stale.unlink()
    _sysv(tree)
    shutil.copytree(FILES, tree, dirs_exist_ok=True)
    (tree / "usr/libexec/openssh").mkdir(parents=True)
    links = {
        "usr/libexec/openssh/sftp-server": "/usr/lib/openssh/sftp-server",
        "usr/bin/python": "python3",
        "usr/bin/yum": "dnf",
        "etc/rc.d/rc3.d/S10network": "../init.d/network",
        "etc/localtime": "/usr/share/zoneinfo/UTC",
    }
    for name, target in links.items():
        (tree / name).unlink(missing_ok=True)
        (tree / name).symlink_to(target)
    for unit in MASKED:
        mask = tree / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    default = tree / "etc/systemd/system/default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/usr/lib/systemd/system/multi-user.target")


def _sysv(tree: Path) -> None:
    """Init scripts lie in /etc/rc.d, their old places are links, and Debian's own are gone."""
    shutil.rmtree(tree / "etc/init.d")
    (tree / "etc/rc.d/init.d").mkdir(parents=True)
    (tree / "etc/init.d").symlink_to("rc.d/init.d")
    for level in range(7):
        shutil.rmtree(tree / f"etc/rc{level}.d", ignore_errors=True)
        (tree / f"etc/rc.d/rc{level}.d").mkdir()
        (tree / f"etc/rc{level}.d").symlink_to(f"rc.d/rc{level}.d")
