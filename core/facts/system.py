"""Facts about the system as a whole: release, processor, memory, firmware, kernel, clock."""

import re

from core.facts.fact import Fact, Unreadable, clean, files, number, path, records, rows, word
from core.facts.machine import Boot, Cpu, Evidence, Os

# EL4's `cut` and `head` know these options too; everything below runs in any Bourne shell.
UNAME = ("uname", "-s", "-n", "-r", "-m")
RELEASES = (
    "/etc/redhat-release",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/SuSE-release",
    "/etc/lsb-release",
)
FIRMWARE = "test -d /sys/block || exit 3; test -d /sys/firmware/efi && echo uefi || echo bios"
PRODUCT = """
for k in sys_vendor product_name product_uuid; do
  test -r /sys/class/dmi/id/$k && printf 'dmi\\t%s\\t%s\\n' $k "`head -n 1 /sys/class/dmi/id/$k`"
done
test -r /sys/class/dmi/id/product_name || {
  printf 'dmi\\tproduct_name\\t%s\\n' "`dmidecode -s system-product-name | tail -n 1`"; }
"""
BOOT = """
r=`uname -r`
for f in /boot/grub2/grub.cfg /boot/grub/grub.cfg /boot/grub/grub.conf /boot/grub/menu.lst \
  /etc/lilo.conf; do test -e $f && printf 'boot\\tloader\\t%s\\n' $f && break; done
for f in /boot/vmlinuz-$r /boot/vmlinux-$r; do test -e $f && printf 'boot\\tkernel\\t%s\\n' $f; done
for f in /boot/initramfs-$r.img /boot/initrd-$r.img /boot/initrd.img-$r /boot/initrd-$r; do
  test -e $f && printf 'boot\\tinitrd\\t%s\\n' $f; done
printf 'boot\\tcmdline\\t%s\\n' "`head -n 1 /proc/cmdline`"
"""
# Built-in drivers stand in modules.builtin (2.6.33 and later), or only in the configuration.
DRIVERS = """
r=`uname -r`; test -d /lib/modules/$r || exit 3
find /lib/modules/$r -name 'virtio*.ko*' | sed 's,.*/,,; s/\\.ko.*//'
grep -h virtio /lib/modules/$r/modules.builtin 2>/dev/null | sed 's,.*/,,; s/\\.ko.*//'
grep -h '^CONFIG_VIRTIO_[A-Z]*=y' /boot/config-$r 2>/dev/null |
  sed 's/^CONFIG_//; s/=y//' | tr A-Z a-z
exit 0
"""
ERRORS = "dmesg | grep -c -i -E 'i/o error|medium error|uncorrectable'; exit 0"
CLOCK = "date -u +%s; grep -l LOCAL /etc/adjtime 2>/dev/null; exit 0"
TOOLS = """
for t in python python2 python2.4 python2.6 python2.7 python3 /usr/libexec/platform-python dd \
  sha1sum blockdev lsof fuser curl wget rsync; do command -v $t >/dev/null 2>&1 && echo $t; done
exit 0
"""


def _uname(text: str) -> tuple[str, str, str]:
    words = text.split()
    if len(words) != 4:
        raise Unreadable("four words are expected")
    system, name, kernel, arch = (word(part) for part in words)
    if system != "Linux":
        raise Unreadable(f"{system} is not Linux")
    return name, kernel, arch


def _release(text: str) -> Os:
    found = files(text)
    settings = dict(
        part for line in found.get("/etc/os-release", []) if len(part := line.split("=", 1)) == 2
    )
    settings = {key: clean(value.strip().strip("\"'")) for key, value in settings.items()}
    first = {name: clean(" ".join(lines[:1])) for name, lines in found.items()}
    redhat = re.match(r"(.*?) release (\d+(?:\.\d+)*)", first.get("/etc/redhat-release", ""))
    if redhat:
        return Os(id=_family(redhat[1]), version=redhat[2], name=redhat[0])
    if settings.get("ID"):
        return Os(
            id=word(settings["ID"]),
            version=first.get("/etc/debian_version") or settings.get("VERSION_ID", ""),
            name=settings.get("PRETTY_NAME", settings["ID"]),
        )
    suse = re.match(r"(.*?) (\d+)\b", first.get("/etc/SuSE-release", ""))
    if suse:
        return Os(id="sles", version=suse[2], name=suse[0])
    if first.get("/etc/debian_version"):
        version = first["/etc/debian_version"]
        return Os(id="debian", version=version, name=f"Debian {version}")
    raise Unreadable("none of the known release files says what this is")


def _family(name: str) -> str:
    known = {"CentOS": "centos", "Red Hat": "rhel", "Fedora": "fedora", "Oracle": "ol"}
    return next((id for words, id in known.items() if name.startswith(words)), "redhat")


def _cpu(text: str) -> Cpu:
    pairs = [line.split(":", 1) for line in text.splitlines() if ":" in line]
    values = [(key.strip(), clean(value, 4000)) for key, value in pairs]
    count = sum(key == "processor" and value.isdigit() for key, value in values)
    if not 0 < count <= 4096:
        raise Unreadable(f"{count} processors")
    first = dict(reversed(values))
    return Cpu(
        count=count,
        model=clean(first.get("model name", first.get("cpu", ""))),
        flags=tuple(sorted(set(first.get("flags", "").split()))),
    )


def _memory(text: str) -> tuple[int, int, int]:
    """Total, in use without what is only cached, and swap."""
    kib = {
        key: number(value.split()[0], 2**40)
        for line in text.splitlines()
        if len(parts := line.split(":", 1)) == 2 and (key := parts[0]) and (value := parts[1])
    }
    idle = kib["MemFree"] + kib.get("Buffers", 0) + kib.get("Cached", 0) - kib.get("Shmem", 0)
    total = kib["MemTotal"]
    if not total:
        raise Unreadable("no memory")
    return total * 1024, max(0, total - idle) * 1024, kib.get("SwapTotal", 0) * 1024


def _firmware(text: str) -> str:
    if text.strip() not in ("bios", "uefi"):
        raise Unreadable(f"{clean(text)!r} is neither bios nor uefi")
    return text.strip()


def _product(text: str) -> str:
    dmi = records(text).get("dmi", {})
    return clean(f"{dmi.get('sys_vendor', '')} {dmi.get('product_name', '')}")


def _boot(text: str) -> Boot:
    found = records(text)["boot"]
    configuration = found.get("loader", "")
    loaders = {"grub.cfg": "grub2", "grub.conf": "grub", "menu.lst": "grub", "lilo.conf": "lilo"}
    return Boot(
        loader=loaders.get(configuration.rpartition("/")[2], ""),
        kernel=path(found["kernel"]) if "kernel" in found else "",
        initrd=path(found["initrd"]) if "initrd" in found else "",
        cmdline=clean(found.get("cmdline", ""), 2048),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted({word(words[0].replace("-", "_")) for words in rows(text)}))


def _programs(text: str) -> tuple[str, ...]:
    names = (words[0] for words in rows(text))
    return tuple(path(name) if name.startswith("/") else word(name) for name in names)


def _clock(text: str) -> tuple[int, bool]:
    lines = text.splitlines()
    return number(lines[0], 2**40), len(lines) > 1 and lines[1] == "/etc/adjtime"


def _fstab(text: str) -> tuple[Evidence, ...]:
    kept = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return tuple(Evidence(path="/etc/fstab", text=clean(line, 400)) for line in kept[:500])


uname = Fact("uname", "node name, kernel release and machine", UNAME, _uname)
release = Fact(
    "release", "which operating system", ("head", "-n", "30", *RELEASES), _release, codes=(0, 1)
)
cpu = Fact("cpu", "logical processors", ("cat", "/proc/cpuinfo"), _cpu, limit=8 * 1024 * 1024)
memory = Fact("memory", "memory, what is used of it, and swap", ("cat", "/proc/meminfo"), _memory)
firmware = Fact("firmware", "started by BIOS or by UEFI", ("sh", "-c", FIRMWARE), _firmware)
product = Fact("product", "make and model of the machine", ("sh", "-c", PRODUCT), _product)
boot = Fact(
    "boot", "boot loader, running kernel's files, kernel arguments", ("sh", "-c", BOOT), _boot
)
drivers = Fact("drivers", "virtio drivers the running kernel has", ("sh", "-c", DRIVERS), _names)
modules = Fact("modules", "loaded kernel modules", ("cat", "/proc/modules"), _names)
clock = Fact(
    "clock", "seconds since 1970; hardware clock in local time?", ("sh", "-c", CLOCK), _clock
)
fstab = Fact("fstab", "file systems mounted at boot", ("cat", "/etc/fstab"), _fstab)
disk_errors = Fact(
    "disk_errors",
    "I/O errors in the kernel's log",
    ("sh", "-c", ERRORS),
    lambda text: number(text.split()[0], 10**9),
)
tools = Fact("tools", "programs the transfer can use", ("sh", "-c", TOOLS), _programs)
