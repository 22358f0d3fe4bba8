"""The lab's source server as a machine that runs: one QEMU process with an IDE disk and an e1000
card on the lab's bridge, ended through its control socket or by its checked process id."""

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutsideFailed
from lab.estate import BRIDGE
from lab.network import bridge
from lab.source_run import run

TAP = "gl-web1"
MEMORY = "1024"


@dataclass(frozen=True, slots=True)
class Machine:
    """One server: the directory of its disk, process id, control socket and console log."""

    directory: Path
    address: str
    mac: str

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def console(self) -> Path:
        return self.directory / "serial.log"

    @property
    def argv(self) -> tuple[str, ...]:
        """QEMU's command line. Sockets are named relative: their paths may be 107 bytes at most."""
        return (
            "qemu-system-x86_64",
            *("-name", "web1", "-machine", "pc", "-accel", "tcg,thread=multi"),
            *("-m", MEMORY, "-smp", "1", "-nodefaults", "-vga", "std"),
            "-smbios",
            "type=1,manufacturer=HP,product=ProLiant DL380 G5,serial=CZC7281GLB"
            ",uuid=31393735-3436-5a43-4337-323831474c42",
            *("-smbios", "type=3,manufacturer=HP,serial=CZC7281GLB"),
            *("-drive", f"id=disk0,if=none,file={self.disk},format=qcow2,cache=writeback"),
            *("-device", "ide-hd,drive=disk0,bus=ide.0,serial=P61620D9SUK0A1"),
            *("-netdev", f"tap,id=net0,ifname={TAP},script=no,downscript=no"),
            *("-device", f"e1000,netdev=net0,mac={self.mac}"),
            *("-display", "none", "-serial", "file:serial.log"),
            *("-qmp", "unix:control,server=on,wait=off"),
            *("-pidfile", "pid", "-daemonize"),
        )


def pid(machine: Machine) -> int | None:
    """The running process, if it really is this machine's."""
    try:
        number = int(machine.pid_file.read_text())
        argv = Path(f"/proc/{number}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return number if str(machine.disk).encode() in argv else None


def start(machine: Machine) -> None:
    """Start the process on its bridge; harmless when it runs."""
    if pid(machine) is not None:
        return
    _plug()
    run(machine.argv, directory=machine.directory)


def _plug() -> None:
    """A tap device on the lab's bridge."""
    bridge()
    if not Path("/sys/class/net", TAP).exists():
        run(["ip", "tuntap", "add", TAP, "mode", "tap"])
    run(["ip", "link", "set", TAP, "master", BRIDGE, "up"])


def wait_until_served(machine: Machine, seconds: float) -> None:
    """Return when SSH and the web page answer. Raises OutsideFailed with the console's end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if pid(machine) is None:
            raise OutsideFailed(
                f"the source server's QEMU has ended: {_last_words(machine)}",
                where=str(machine.console),
            )
        if speaks_ssh(machine.address) and page(machine.address, "/rows") is not None:
            return
        time.sleep(1)
    raise OutsideFailed(
        f"the source server did not answer within {seconds:.0f} s: {_last_words(machine)}",
        hint="read its console log; `groundlift lab up --fresh` starts it from a new disk",
        where=str(machine.console),
    )


def speaks_ssh(address: str) -> bool:
    """Whether something introduces itself as SSH on port 22."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def page(address: str, path: str) -> bytes | None:
    """What the web application says on ``path``, or None."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _last_words(machine: Machine) -> str:
    try:
        text = machine.console.read_bytes()[-300:].decode("ascii", "replace")
    except OSError:
        return "no console log"
    return " / ".join(text.split("\n")[-4:]).strip()


def stop(machine: Machine, patience: float = 60) -> None:
    """Press the power button and wait; pull the plug when that is not enough. Harmless when off."""
    if pid(machine) is not None:
        with contextlib.suppress(OSError, ValueError):
            command(machine, "system_powerdown")
        if not _gone(machine, patience):
            with contextlib.suppress(OSError, ValueError):
                command(machine, "quit")
        if not _gone(machine, 5) and (number := pid(machine)) is not None:
            os.kill(number, signal.SIGKILL)
            _gone(machine, 5)
    if Path("/sys/class/net", TAP).exists():
        run(["ip", "link", "delete", TAP])


def _gone(machine: Machine, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while pid(machine) is not None:
        if time.monotonic() >= end:
            return False
        time.sleep(0.2)
    return True


def command(machine: Machine, name: str) -> None:
    """One command on QEMU's control socket."""
    with _control(machine) as connection, connection.makefile("rw") as stream:
        json.loads(stream.readline())  # the greeting
        for word in ("qmp_capabilities", name):
            stream.write(json.dumps({"execute": word}) + "\n")
            stream.flush()
            while "event" in (said := json.loads(stream.readline())):
                pass
            if "error" in said:
                raise ValueError(said["error"])


@contextlib.contextmanager
def _control(machine: Machine) -> Iterator[socket.socket]:
    directory = os.open(machine.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(f"/proc/self/fd/{directory}/control")
            yield connection
    finally:
        os.close(directory)
