"""The groups of the lab's discs: CentOS 6.3's group ids with the packages the lab has of them."""

from dataclasses import dataclass
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True)
class Group:
    """One group as a comps file has it. ``packages`` are pairs of name and kind."""

    id: str
    name: str
    description: str
    mandatory: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    user_visible: bool = True


GROUPS = (
    Group(
        "core",
        "Core",
        "Smallest possible installation",
        ("centos-release", "lab-minimal-host", "sudo"),
        ("cronie", "logrotate"),
        user_visible=False,
    ),
    Group(
        "base",
        "Base",
        "What an administrator expects on every host",
        ("ntpdate", "bc", "ethtool", "lsof", "rsync", "traceroute", "wget"),
        ("nc", "smartmontools", "strace", "tcpdump", "unzip", "zip", "dmidecode"),
        ("screen",),
    ),
    Group("virtualization", "Virtualization", "Runs virtual machines", ("qemu-kvm",)),
    Group(
        "virtualization-client",
        "Virtualization Client",
        "Manages virtual machines",
        ("libvirt-client",),
    ),
    # Genuine comps files name a package twice here and there.
    Group(
        "virtualization-platform",
        "Virtualization Platform",
        "Interface to virtual machines",
        ("libvirt", "libvirt", "libvirt-client"),
    ),
    Group("nfs-file-server", "NFS file server", "Exports directories", ("nfs-utils",)),
    Group(
        "network-file-system-client",
        "Network file system client",
        "Mounts exports",
        (),
        ("nfs-utils",),
    ),
    Group("storage-server", "iSCSI target", "Exports block devices", (), ("scsi-target-utils",)),
    Group("mysql", "MySQL Database server", "A database", ("mysql-server",), ("mysql",)),
    Group("mysql-client", "MySQL Database client", "Talks to a database", ("mysql",)),
    Group("web-server", "Web Server", "Serves pages", ("httpd",), (), ("memcached",)),
    Group(
        "network-server",
        "Network Infrastructure Server",
        "DNS and DHCP",
        (),
        (),
        ("dnsmasq", "rsync"),
    ),
    Group("scalable-file-systems", "Scalable Filesystems", "XFS", ("xfsprogs",)),
)
CATEGORIES = (
    ("base-system", "Base System", ("base", "network-file-system-client")),
    ("servers", "Servers", ("nfs-file-server", "storage-server", "network-server")),
    ("databases", "Databases", ("mysql", "mysql-client")),
    ("web-services", "Web Services", ("web-server",)),
    (
        "virtualization",
        "Virtualization",
        ("virtualization", "virtualization-client", "virtualization-platform"),
    ),
)


def comps() -> str:
    """The groups as a comps file."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<!DOCTYPE comps PUBLIC "-//CentOS//DTD Comps info//EN" "comps.dtd">',
        "<comps>",
    ]
    for group in GROUPS:
        lines += [
            "  <group>",
            f"    <id>{group.id}</id>",
            f"    <name>{escape(group.name)}</name>",
            f"    <description>{escape(group.description)}</description>",
            "    <default>false</default>",
            f"    <uservisible>{str(group.user_visible).lower()}</uservisible>",
            "    <packagelist>",
        ]
        for kind in ("mandatory", "default", "optional"):
            names = getattr(group, kind)
            lines += [f'      <packagereq type="{kind}">{name}</packagereq>' for name in names]
        lines += ["    </packagelist>", "  </group>"]
    for ident, name, groups in CATEGORIES:
        lines += ["  <category>", f"    <id>{ident}</id>", f"    <name>{name}</name>"]
        lines += ["    <description></description>", "    <display_order>10</display_order>"]
        lines += ["    <grouplist>"]
        lines += [f"      <groupid>{group}</groupid>" for group in groups]
        lines += ["    </grouplist>", "  </category>"]
    return "\n".join([*lines, "</comps>", ""])
