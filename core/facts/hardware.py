"""Facts about hardware that may not move: PCI, USB, SCSI and serial, from /sys and /proc."""

import re

from core.facts.fact import Fact, clean, number, records, word
from core.facts.machine import Device

PCI = """
test -d /sys/bus/pci || exit 0
for d in /sys/bus/pci/devices/*; do
  n=${d##*/}; test -r $d/class || continue
  for k in class vendor device; do
    v=; read -r v <$d/$k; printf '%s\\t%s\\t%s\\n' "$n" $k "$v"
  done
  test -e $d/driver && printf '%s\\tdriver\\t%s\\n' "$n" "`readlink $d/driver`"
done
exit 0
"""
USB = """
test -d /sys/bus/usb || exit 0
for d in /sys/bus/usb/devices/*; do
  n=${d##*/}; test -r $d/idVendor || continue
  for k in idVendor idProduct bDeviceClass; do
    v=; read -r v <$d/$k; printf '%s\\t%s\\t%s\\n' "$n" $k "$v"
  done
  for i in $d/*:*/bInterfaceClass; do
    test -r $i && printf '%s\\tinterface\\t%s\\n' "$n" "`cat $i`"
  done
done
exit 0
"""
SCSI = "test -r /proc/scsi/scsi || exit 0; head -n 500 /proc/scsi/scsi"
SERIAL = "test -r /proc/tty/driver/serial || exit 0; cat /proc/tty/driver/serial"
HUB = "09"
HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{1,6})")


def _hex(text: str, width: int) -> str:
    found = HEX.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{clean(text)!r} is no hexadecimal number")
    return found[1].lower().rjust(width, "0")


def _pci(text: str) -> tuple[Device, ...]:
    return tuple(
        Device(
            bus="pci",
            address=name,
            kind=_hex(values["class"], 6)[:4],  # class and subclass, without the interface
            vendor=_hex(values["vendor"], 4),
            product=_hex(values["device"], 4),
            driver=clean(values.get("driver", "").rpartition("/")[2], 64),
        )
        for name, values in records(text).items()
    )


def _usb(text: str) -> tuple[Device, ...]:
    found = tuple(
        Device(
            bus="usb",
            address=name,
            kind=_hex(_usb_class(values), 2),
            vendor=_hex(values["idVendor"], 4),
            product=_hex(values["idProduct"], 4),
        )
        for name, values in records(text).items()
    )
    return tuple(device for device in found if device.kind != HUB)


def _usb_class(values: dict[str, str]) -> str:
    """Class 00 means that the interfaces tell."""
    own = values.get("bDeviceClass", "00")
    return own if own != "00" else values.get("interface", "00")


def _scsi(text: str) -> tuple[Device, ...]:
    """Tapes and changers, from lines `Host: scsi1 …`, `Vendor: …`, `Type: Sequential-Access`."""
    found = []
    vendor = address = ""
    for line in text.splitlines():
        if line.startswith("Host:"):
            address = clean(line)
        elif "Vendor:" in line:
            vendor = clean(line)
        elif kind := re.search(r"Type:\s+(Sequential-Access|Medium Changer)", line):
            tape = "tape" if kind[1].startswith("Seq") else "changer"
            found.append(Device(bus="scsi", address=address, kind=tape, vendor=vendor))
    return tuple(found)


def _serial(text: str) -> tuple[str, ...]:
    """Ports that have sent or received: `0: uart:16550A port:000003F8 irq:4 tx:512 rx:7 …`."""
    used = []
    for line in text.splitlines():
        port = re.match(r"\s*(\d{1,3}): uart:(\S+)", line)
        if port is None or port[2] == "unknown":
            continue
        counts = re.findall(r"\b[tr]x:(\d+)", line)
        if any(number(count) for count in counts):
            used.append(word(f"ttyS{int(port[1])}"))
    return tuple(used)


pci = Fact("pci", "PCI devices by class and vendor", ("sh", "-c", PCI), _pci)
usb = Fact("usb", "USB devices, hubs left out", ("sh", "-c", USB), _usb)
scsi = Fact("scsi", "tapes and changers", ("sh", "-c", SCSI), _scsi)
serial = Fact("serial", "serial ports with traffic", ("sh", "-c", SERIAL), _serial)
