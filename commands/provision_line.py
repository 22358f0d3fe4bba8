"""The installation network from here: our own interface, dnsmasq on it, and the reception."""

import ipaddress
import json
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from adapters.local import LocalHost
from adapters.process import ENVIRONMENT, started
from core.errors import OutsideFailed, UsageProblem
from deploy import provision, pxe
from deploy.provision import Floor, Machine, Stage
from deploy.pxe import Line
from deploy.site import Site
from deploy.watch import Desk, Reception


def line_of(interface: str, mode: pxe.Mode, port: int) -> Line:
    """The line on ``interface``, with the address it has. Raises UsageProblem."""
    done = LocalHost().run(("ip", "-j", "-4", "address", "show", "dev", interface))
    found = json.loads(done.stdout or b"[]") if done.code == 0 else []
    addresses = [a["local"] for one in found for a in one.get("addr_info", ())]
    if not addresses:
        raise UsageProblem(
            f"{interface} has no IPv4 address" if found else f"there is no interface {interface}",
            hint="`ip -4 address` lists them; give it an address of the installation network",
        )
    return Line(interface, ipaddress.IPv4Address(addresses[0]), mode, port)


def attend(
    site: Site, floor: Floor, line: Line, folder: Path, config: Path,
    render: Callable[[Machine], str],
) -> None:  # fmt: skip
    """Serve until Ctrl-C, and tell each step of each machine."""

    def changed(floor: Floor, machine: Machine, said: str) -> None:
        text = f"{datetime.now():%H:%M:%S} {machine.name}: {_words(said)}"
        try:
            provision.write(folder, floor)
            pxe.menu(folder / "tftp", site, machine, line)
        except OSError as fault:
            click.echo(f"{text}; NOT NOTED, {fault.strerror}: make room in {folder}", err=True)
            raise
        click.echo(text)

    _readable(folder / "tftp")
    desk = Desk(floor, lambda: datetime.now(UTC), render, changed)
    with Reception((str(line.address), line.port), desk) as reception:
        threading.Thread(target=reception.serve_forever, daemon=True).start()
        argv = ("setpriv", "--pdeathsig", "TERM", "dnsmasq", "--keep-in-foreground",
                f"--conf-file={config}")  # fmt: skip
        shell = ("sh", "-c", 'exec "$@" 2>&1', "sh", *argv)
        with started(shell, ENVIRONMENT, line.interface) as child:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            click.echo(f"serving on {line.interface} ({line.address}); Ctrl-C ends it")
            last = ""
            for raw in child.stdout:
                last = raw.decode("utf-8", "replace").strip()
                desk.heard(last)
            code = child.wait(10)
    raise OutsideFailed(
        f"dnsmasq ended with {code}: {last}", where=line.interface,
        hint="is another DHCP or TFTP server running here? it needs root and ports 67 and 69",
    )  # fmt: skip


def _words(said: str) -> str:
    return {
        Stage.ASKED.value: "asked for an address",
        Stage.KERNEL.value: "got the kernel",
        Stage.KICKSTART.value: "got its kickstart",
        Stage.DONE.value: "reported done; from now on it starts from its own disk",
    }.get(said, said)


def _readable(tree: Path) -> None:
    """dnsmasq reads as an unprivileged user: every directory above must let it pass."""
    for place in (tree, *tree.absolute().parents):
        if not place.stat().st_mode & 0o001:
            raise UsageProblem(
                f"{place} is closed to others, and dnsmasq does not read as root",
                hint=f"chmod o+x {place}, or choose another --state",
            )
