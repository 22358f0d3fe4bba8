"""Hardware that can't move into a domain. PCI devices are known by class code and vendor, which
need no list of names."""

import re
from collections.abc import Iterable

from core.rules import Outcome, Rule, Severity, failed, passed
from migrate.rules.subject import Judge, Subject, each, needs, one
from migrate.source import Device

# Vendors of licence dongles: Aladdin/SafeNet, IBM/Hitachi Rainbow, Feitian, Senselock, Utimaco.
DONGLES = ("0529", "04b9", "064f", "096e", "1bc0")
DONGLE_PROGRAMS = re.compile(r"\b(hasplmd|aksusbd|CodeMeterLin|sentinel_?lm)")
USB_IN_USE = {"07": "printer", "0b": "card reader", "02": "modem", "ff": "own protocol"}
CRYPTO_CLASSES, CRYPTO_VENDORS = ("1000", "1080", "0b40"), ("0100", "16ae", "12de", "13a3")
TELEPHONY_CLASSES = ("0402", "0204", "0703")
TELEPHONY_VENDORS = ("1133", "12c7", "12e4", "d161", "1923", "e159")
GPU_VENDORS = ("10de", "1002")
RAID_TOOLS = re.compile(
    r"\b(MegaSR|MegaCli\w*|storcli\w*|hpacucli|hpasm\w*|hp-health|dsm_sa_\w+|omsad|cmaidad|arcconf)\b"
)


def _device(device: Device) -> tuple[str, str]:
    driver = f", driver {device.driver}" if device.driver else ""
    return (
        f"{device.vendor}:{device.product}, class {device.kind}{driver}",
        f"{device.bus} {device.address}",
    )


def _pci(kinds: Iterable[str] = (), vendors: Iterable[str] = ()) -> Judge:
    known, makers = tuple(kinds), tuple(vendors)

    @needs("pci")
    def judge(subject: Subject) -> Iterable[Outcome]:
        return each(
            _device(device)
            for device in subject.host.devices
            if device.bus == "pci" and (device.kind in known or device.vendor in makers)
        )

    return judge


@needs("usb", "processes")
def _dongle(subject: Subject) -> Iterable[Outcome]:
    devices = [_device(d) for d in subject.host.devices if d.bus == "usb" and d.vendor in DONGLES]
    programs = [
        (f"runs {found[1]}", f"process {process.pid}")
        for process in subject.host.processes
        if (found := DONGLE_PROGRAMS.search(process.command))
    ]
    return each([*devices, *programs])


@needs("usb")
def _usb(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{USB_IN_USE[device.kind]}: {_device(device)[0]}", _device(device)[1])
        for device in subject.host.devices
        if device.bus == "usb" and device.kind in USB_IN_USE and device.vendor not in DONGLES
    )


@needs("serial", "boot")
def _serial(subject: Subject) -> Outcome:
    """The console's own port has traffic on any machine that boots."""
    consoles = re.findall(r"\bconsole=(ttyS\d+)", subject.host.boot.cmdline)
    return one(port for port in subject.host.serial_used if port not in consoles)


@needs("pci")
def _gpu(subject: Subject) -> Iterable[Outcome]:
    drivers = ("nvidia", "fglrx", "amdgpu", "nouveau", "radeon")
    return each(
        _device(device)
        for device in subject.host.devices
        if device.kind == "0302"
        or (device.kind == "0300" and device.vendor in GPU_VENDORS and device.driver in drivers[:2])
    )


@needs("scsi")
def _tape(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{device.kind}: {device.vendor}", device.address)
        for device in subject.host.devices
        if device.bus == "scsi" and device.kind in ("tape", "changer")
    )


@needs("processes")
def _raid_tools(subject: Subject) -> Outcome:
    found = (RAID_TOOLS.search(process.command) for process in subject.host.processes)
    return one(match[1] for match in found if match)


@needs("product")
def _virtual(subject: Subject) -> Outcome:
    words = re.search(
        r"(?i)\b(vmware|virtualbox|hvm domu|openstack|rhev|hyper-v|virtual machine)\b",
        subject.host.product,
    )
    return failed(subject.host.product) if words else passed(subject.host.product)


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "hardware.usb_dongle",
        "A licence dongle is in use",
        Severity.BLOCKER,
        "Ask the software's vendor for a licence without a dongle, or put the dongle on a "
        "USB-over-IP server and test it from a trial domain; else leave this server physical.",
        _dongle,
    ),
    Rule(
        "hardware.usb_used",
        "A USB device other than keyboard, mouse or disk is attached",
        Severity.WARNING,
        "Ask who uses it; replace it by one on the network, or take it off before cutover.",
        _usb,
    ),
    Rule(
        "hardware.crypto_card",
        "An encryption card is built in",
        Severity.BLOCKER,
        "Move the keys to a network HSM with the vendor's help, or leave this server physical.",
        _pci(CRYPTO_CLASSES, CRYPTO_VENDORS),
    ),
    Rule(
        "hardware.telephony_card",
        "A voice, fax, ISDN or modem card is built in",
        Severity.BLOCKER,
        "Put a gateway on the network in its place (SIP for voice), or leave this server physical.",
        _pci(TELEPHONY_CLASSES, TELEPHONY_VENDORS),
    ),
    Rule(
        "hardware.serial_used",
        "A serial port has carried data",
        Severity.BLOCKER,
        "Find the cable's other end; put a serial device server on the network in its place, or "
        "waive this if the traffic was a terminal's.",
        _serial,
    ),
    Rule(
        "hardware.multiport_card",
        "A multiport serial, GPIB or CAN card is built in",
        Severity.BLOCKER,
        "Replace it by a device server on the network, or leave this server physical.",
        _pci(("0702", "0704", "0c09")),
    ),
    Rule(
        "hardware.gpu",
        "A computing graphics card is in use",
        Severity.WARNING,
        "Ask whether the application computes on it; a domain here has none.",
        _gpu,
    ),
    Rule(
        "hardware.fibre_channel",
        "A Fibre Channel adapter is built in",
        Severity.WARNING,
        "List the LUNs behind it; plan each as a disk of the domain, and keep the zoning noted.",
        _pci(("0c04",)),
    ),
    Rule(
        "hardware.infiniband",
        "An InfiniBand adapter is built in",
        Severity.BLOCKER,
        "Move the application to Ethernet first, or leave this server physical.",
        _pci(("0c06", "0207")),
    ),
    Rule(
        "hardware.timing_card",
        "A clock or timing card is built in",
        Severity.WARNING,
        "Take the time from the site's NTP servers in its place; ask what precision is needed.",
        _pci(("1110", "0899")),
    ),
    Rule(
        "hardware.tape",
        "A tape drive or changer is attached",
        Severity.BLOCKER,
        "Move the backup to a server that stays physical, or to a library on the network.",
        _tape,
    ),
    Rule(
        "hardware.raid_tools",
        "The maker's hardware tools run here",
        Severity.INFO,
        "Stop and remove them after the migration; in a domain they find nothing.",
        _raid_tools,
    ),
    Rule(
        "hardware.already_virtual",
        "This is a virtual machine already",
        Severity.WARNING,
        "Check that it really is to be copied from inside; a copy of its disk image is simpler.",
        _virtual,
    ),
)
