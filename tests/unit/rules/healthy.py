"""A server that no rule has anything against, and where it is to go."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.documents import load
from core.facts.machine import (
    Boot,
    Cpu,
    Disk,
    Filesystem,
    Interface,
    Os,
    Process,
    Service,
    VolumeGroup,
)
from deploy.site import Site
from migrate.rules.subject import Subject
from migrate.source import Page, SourceHost
from migrate.target import Target

HOST = SourceHost(
    ssh_banner="SSH-2.0-OpenSSH_9.2",
    name="web1",
    address="10.77.0.50",
    taken=datetime(2026, 1, 2, tzinfo=UTC),
    hostname="web1",
    os=Os(id="centos", version="6.3", name="CentOS 6.3", kernel="2.6.32-279.el6", arch="x86_64"),
    cpu=Cpu(count=4, model="Xeon"),
    memory=8 * 1024**3 - 150 * 1024**2,
    firmware="bios",
    product="HP ProLiant DL380 G5",
    disks=(Disk(name="sda", path="/dev/sda", size=40 * 1024**3),),
    volume_groups=(VolumeGroup(name="vg", size=40 * 1024**3, free=10 * 1024**3),),
    filesystems=(
        Filesystem(
            device="/dev/mapper/vg-root",
            mountpoint="/",
            kind="ext4",
            options=("rw",),
            size=20 * 1024**3,
            used=4 * 1024**3,
            available=15 * 1024**3,
            inodes_free=100_000,
        ),
    ),
    interfaces=(
        Interface(
            name="eth0",
            mac="00:1b:78:31:0a:50",
            up=True,
            driver="bnx2",
            kind="hardware",
            addresses=("10.77.0.50/24", "fe80::1/64"),
        ),
    ),
    processes=(Process(pid=9, user="ntp", command="ntpd -u ntp:ntp"),),
    services=(Service(name="sshd", running=True, enabled=True),),
    tools=("python",),
    boot=Boot(loader="grub", kernel="/boot/vmlinuz", initrd="/boot/initramfs.img", cmdline="ro"),
    kernel_drivers=("virtio_blk", "virtio_net", "virtio_pci"),
    clock_skew=0.5,
    pages=(Page(url="http://10.77.0.50/", status=200),),
)
TARGET = Target(
    node="hv1",
    pool="shared",
    pool_path="/var/lib/libvirt/shared",
    network="management",
    arch="x86_64",
    cpu=Cpu(count=16),
    memory=64 * 1024**3,
    pool_free=1024**4,
)


def subject(
    host: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    site: dict[str, Any] | None = None,
    others: tuple[SourceHost, ...] = (),
) -> Subject:
    """The healthy one with some fields replaced, as plain data."""
    described = load(Path("inventories/lab/cloud.yml"), Site)
    source = described.sources[0]
    return Subject(
        host=SourceHost.model_validate({**HOST.model_dump(), **(host or {})}),
        site=described,
        described=type(source).model_validate({**source.model_dump(), **(site or {})}),
        target=Target.model_validate({**TARGET.model_dump(), **(target or {})}),
        others=others,
    )
