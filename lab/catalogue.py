"""What lies on the lab's discs: EL6 names and versions, and the Debian packages whose software they
carry. Names and versions are CentOS 6.3's where they are known; the content is what Debian ships.
"""

from dataclasses import dataclass
from enum import StrEnum


class Signature(StrEnum):
    """How a package is signed. CentOS 6's own packages have the old form over a SHA-1 digest."""

    V3 = "V3 RSA/SHA1"
    V4 = "V4 RSA/SHA256"


@dataclass(frozen=True, slots=True)
class Package:
    """One RPM: ``debs`` are unpacked, files of lab/el6/<name> laid over them."""

    name: str
    version: str
    release: str
    summary: str
    debs: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    epoch: int = 0
    disc: int = 1
    arch: str = "x86_64"
    signature: Signature = Signature.V3

    @property
    def nevra(self) -> str:
        """As in the file's name, which leaves the epoch out."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}"


# What a kickstarted minimal host has before anything of ours is installed on it; the nodes' base
# tree holds it as Debian packages.
BASE = (
    *("systemd", "systemd-sysv", "dbus", "udev", "init-system-helpers", "kmod", "procps", "psmisc"),
    *("openssh-server", "openssh-client", "openssh-sftp-server", "passwd", "login", "mount"),
    *("python3", "dnf", "python3-dnf", "rpm", "gpgv", "iproute2", "iptables", "iputils-ping"),
    *("e2fsprogs", "netbase", "tzdata", "gawk", "xz-utils"),
)
# Debian's ways of doing what an EL6 host does otherwise, and data that nothing here reads.
LEFT_OUT = frozenset(
    {
        *("apache2", "apache2-data", "debianutils", "galera-4", "gettext-base", "iso-codes"),
        *("libvirt-daemon-config-network", "libvirt-daemon-config-nwfilter"),
        *("libvirt-daemon-system-systemd", "libpam-systemd", "systemd-container", "polkitd"),
        *("sed", "sgml-base", "socat", "xml-core", "cron-daemon-common", "inetutils-telnet"),
        *("libpolkit-agent-1-0", "libpolkit-gobject-1-0", "lsb-base", "sensible-utils", "ucf"),
    }
)
# Libraries that EL6 did not have under any name.
RUNTIME = Package(
    "lab-runtime-libs",
    "6.3",
    "1.el6",
    "Libraries of today that the lab's EL6-named software needs",
    disc=2,
    signature=Signature.V4,
)


def _service(
    name: str, version: str, release: str, summary: str, *debs: str, **more: object
) -> Package:
    return Package(name, version, release, summary, debs, **more)  # type: ignore[arg-type]


def _library(name: str, version: str, release: str, *debs: str, epoch: int = 0) -> Package:
    """Libraries lie on the second disc, so that installing from one disc alone can't work."""
    summary = f"{name}: shared libraries and data"
    return Package(
        name, version, release, summary, debs, epoch=epoch, disc=2, signature=Signature.V4
    )


PACKAGES: tuple[Package, ...] = (
    Package(
        "centos-release",
        "6",
        "3.el6.centos.9",
        "Release files and keys of this distribution",
        provides=("system-release = 6-3.el6.centos.9", "redhat-release = 6-3.el6.centos.9"),
    ),
    Package(
        "lab-minimal-host",
        "6.3",
        "1.el6",
        "Stands for what a minimal installation has: its files belong to the node's base tree",
        arch="noarch",
    ),
    _service(
        "libvirt",
        "0.9.10",
        "21.el6",
        "Virtualization daemon",
        "libvirt-daemon",
        "libvirt-daemon-driver-qemu",
        "libvirt-daemon-system",
        requires=("libvirt-client", "qemu-img", "bridge-utils", "dnsmasq"),
    ),
    _service(
        "libvirt-client",
        "0.9.10",
        "21.el6",
        "Client side of the virtualization library",
        "libvirt0",
        "libvirt-clients",
    ),
    _service(
        "qemu-kvm",
        "0.12.1.2",
        "2.295.el6",
        "Machine emulator",
        "qemu-system-x86",
        "qemu-system-common",
        "qemu-system-data",
        requires=("qemu-img", "seabios", "gpxe-roms-qemu"),
        epoch=2,
    ),
    _service(
        "qemu-img",
        "0.12.1.2",
        "2.295.el6",
        "Tool for disk images",
        "qemu-utils",
        epoch=2,
        signature=Signature.V4,
    ),
    _service("bridge-utils", "1.2", "9.el6", "Tools for bridges", "bridge-utils"),
    _service(
        "httpd", "2.2.15", "15.el6.centos.1", "Web server", "apache2-bin", requires=("httpd-tools",)
    ),
    _service(
        "httpd-tools", "2.2.15", "15.el6.centos.1", "Tools of the web server", "apache2-utils"
    ),
    _service(
        "ntp",
        "4.2.4p8",
        "2.el6.centos",
        "Time service",
        "ntpsec",
        "python3-ntp",
        "ntpsec-ntpdig",
        requires=("ntpdate",),
    ),
    _service(
        "ntpdate",
        "4.2.4p8",
        "2.el6.centos",
        "Sets the clock once",
        "ntpsec-ntpdate",
        requires=("ntp",),
        signature=Signature.V4,
    ),
    _service(
        "nfs-utils",
        "1.2.3",
        "26.el6",
        "NFS server and client tools",
        "nfs-common",
        "nfs-kernel-server",
        requires=("rpcbind", "nfs-utils-lib"),
        epoch=1,
    ),
    _service("rpcbind", "0.2.0", "9.el6", "Maps RPC programs to ports", "rpcbind"),
    _service("scsi-target-utils", "1.0.24", "2.el6", "iSCSI target daemon", "tgt"),
    _service(
        "mysql-server",
        "5.1.61",
        "4.el6",
        "Database server",
        "mariadb-server",
        "mariadb-server-core",
        requires=("mysql",),
    ),
    _service(
        "mysql",
        "5.1.61",
        "4.el6",
        "Database client",
        "mariadb-client",
        "mariadb-client-core",
        requires=("mysql-libs",),
    ),
    _library("mysql-libs", "5.1.61", "4.el6", "libmariadb3", "mysql-common", "mariadb-common"),
    _service("dnsmasq", "2.48", "6.el6", "DNS and DHCP for small networks", "dnsmasq-base", disc=2),
    _service("rsync", "3.0.6", "9.el6", "Copies files over a network", "rsync"),
    _service("lsof", "4.82", "2.el6", "Lists open files", "lsof"),
    _service("tcpdump", "4.0.0", "3.20090921gitdf3cb4.2.el6", "Shows packets", "tcpdump", epoch=14),
    _service("screen", "4.0.3", "16.el6", "Several terminals in one", "screen"),
    _service("strace", "4.5.19", "1.11.el6", "Shows system calls", "strace"),
    _service("nc", "1.84", "22.el6", "Reads and writes over connections", "netcat-openbsd"),
    _service("traceroute", "2.0.14", "2.el6", "Shows the way of packets", "traceroute", epoch=3),
    _service("sudo", "1.7.4p5", "11.el6", "Runs commands as somebody else", "sudo"),
    _service("bc", "1.06.95", "1.el6", "Calculator", "bc"),
    _service("zip", "3.0", "1.el6", "Packs files", "zip"),
    _service("unzip", "6.0", "1.el6", "Unpacks files", "unzip"),
    _service("wget", "1.12", "1.4.el6", "Fetches files", "wget"),
    _service("ethtool", "2.6.33", "0.3.el6", "Settings of network cards", "ethtool"),
    _service("logrotate", "3.7.8", "15.el6", "Rotates logs", "logrotate"),
    _service("cronie", "1.4.4", "7.el6", "Runs commands at times", "cron"),
    _service("dmidecode", "2.11", "2.el6", "Shows what the firmware tells", "dmidecode", epoch=1),
    _service("smartmontools", "5.42", "2.el6", "Watches disks", "smartmontools", epoch=1),
    _service("xfsprogs", "3.1.1", "7.el6", "Tools for XFS", "xfsprogs", disc=2),
    _service("memcached", "1.4.4", "3.el6", "Keeps objects in memory", "memcached", disc=2),
    _service("sg3_utils", "1.28", "4.el6", "SCSI commands", "sg3-utils", disc=2),
    _service("keyutils", "1.4", "4.el6", "Kernel key tools", "keyutils", disc=2),
    _service("seabios", "0.6.1.2", "19.el6", "Firmware of virtual machines", "seabios", disc=2),
    _service("gpxe-roms-qemu", "0.9.7", "6.9.el6", "Network boot ROMs", "ipxe-qemu", disc=2),
    _library("alsa-lib", "1.0.22", "3.el6", "libasound2", "libasound2-data"),
    _library("apr", "1.3.9", "3.el6_1.2", "libapr1"),
    _library("apr-util", "1.3.9", "3.el6_0.1", "libaprutil1"),
    _library("apr-util-ldap", "1.3.9", "3.el6_0.1", "libaprutil1-ldap"),
    _library("apr-util-sqlite", "1.3.9", "3.el6_0.1", "libaprutil1-dbd-sqlite3"),
    _library("brlapi", "0.5.4", "7.el6", "libbrlapi0.8"),
    _library("gstreamer", "0.10.29", "1.el6", "libgstreamer1.0-0"),
    _library("gstreamer-plugins-base", "0.10.29", "1.el6", "libgstreamer-plugins-base1.0-0"),
    _library("libaio", "0.3.107", "10.el6", "libaio1"),
    _library("libcurl", "7.19.7", "26.el6_2.4", "libcurl4"),
    _library("libdrm", "2.4.25", "2.el6", "libdrm2", "libdrm-common"),
    _library("libevent", "1.4.13", "4.el6", "libevent-core-2.1-7", "libevent-2.1-7"),
    _library("libibverbs", "1.1.6", "5.el6", "libibverbs1"),
    _library("libjpeg", "6b", "46.el6", "libjpeg62-turbo"),
    _library("libnl", "1.1", "14.el6", "libnl-3-200", "libnl-route-3-200"),
    _library("libpcap", "1.0.0", "6.20091201git117cb5.el6", "libpcap0.8", epoch=14),
    _library("libpciaccess", "0.12.1", "1.el6", "libpciaccess0"),
    _library("libpng", "1.2.49", "1.el6_2", "libpng16-16", epoch=2),
    _library("librdmacm", "1.0.15", "2.el6", "librdmacm1"),
    _library("libssh2", "1.2.2", "7.el6", "libssh-4"),
    _library("libusb1", "1.0.3", "1.el6", "libusb-1.0-0"),
    _library("mesa-libgbm", "7.11", "5.el6", "libgbm1", "libwayland-server0"),
    _library("ncurses-libs", "5.7", "3.20090208.el6", "libncurses6"),
    _library("nfs-utils-lib", "1.1.5", "4.el6", "libnfsidmap1"),
    _library("nspr", "4.9", "1.el6", "libnspr4"),
    _library("nss", "3.13.3", "6.el6", "libnss3"),
    _library("numactl", "2.0.7", "3.el6", "libnuma1"),
    _library("parted", "2.1", "18.el6", "libparted2"),
    _library("pcsc-lite-libs", "1.5.2", "6.el6", "libpcsclite1"),
    _library("perl-Config-General", "2.52", "1.el6", "libconfig-general-perl"),
    _library("perl-Config-IniFiles", "2.72", "2.el6", "libconfig-inifiles-perl"),
    _library("perl-DBI", "1.609", "4.el6", "libdbi-perl"),
    _library("pixman", "0.18.4", "1.el6_0.1", "libpixman-1-0"),
    _library("sg3_utils-libs", "1.28", "4.el6", "libsgutils2-1.46-2"),
    _library("spice-server", "0.10.1", "10.el6", "libspice-server1"),
    _library("usbredir", "0.4.3", "1.el6", "libusbredirparser1"),
    _library("yajl", "1.0.7", "3.el6", "libyajl2"),
    RUNTIME,
)


def carried() -> tuple[str, ...]:
    """Every Debian package named here."""
    return tuple(deb for package in PACKAGES for deb in package.debs)
