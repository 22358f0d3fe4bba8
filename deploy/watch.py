"""What is seen of machines: lines of dnsmasq's log, and requests for kickstarts and reports.

Everything here comes from a network that may hold anything: names and addresses count only when
they are the site's.
"""

import hmac
import re
import threading
import urllib.parse
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from core.errors import OutsideFailed
from deploy.provision import TRIES, Floor, Machine, Stage

ASKS = re.compile(
    r"DHCP(?:DISCOVER|REQUEST)\([^)]+\) (?:[0-9.]+ )?((?:[0-9a-f]{2}:){5}[0-9a-f]{2})"
)
SENT = re.compile(r"sent \S*/(vmlinuz|initrd\.img) to ([0-9.]+)")
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
Render = Callable[[Machine], str]


class Desk:
    """The book of all machines; threads of the two servers write into it. ``changed`` is called,
    in the thread that saw it, with the machine and what it came to."""

    def __init__(
        self, floor: Floor, now: Callable[[], datetime], render: Render,
        changed: Callable[[Floor, Machine, str], None],
    ) -> None:  # fmt: skip
        self._floor, self._now, self._render, self._changed = floor, now, render, changed
        self._guard = threading.RLock()
        self._macs: dict[str, str] = {}  # address that was given → machine, in proxy mode

    @property
    def floor(self) -> Floor:
        """As it stands."""
        with self._guard:
            return self._floor

    def heard(self, line: str) -> None:
        """A line of dnsmasq's log."""
        if match := ASKS.search(line):
            with self._guard:
                machine = self._floor.by_mac(match[1])
                if machine and machine.asked is None:
                    self._note(machine, Stage.ASKED)
        elif match := SENT.search(line):
            with self._guard:
                machine = self._floor.by_address(match[2])
                if machine and match[1] == "vmlinuz" and machine.kernel is None:
                    self._note(machine, Stage.KERNEL)

    def kickstart(self, name: str, address: str, macs: tuple[str, ...]) -> tuple[HTTPStatus, str]:
        """The kickstart for whoever asks: only the machine itself, as its address or the card that
        the installer names says, and only when it may have it."""
        with self._guard:
            machine = self._floor.by_name(name)
            if machine is None:
                return HTTPStatus.NOT_FOUND, "no such machine"
            if address != machine.address and machine.mac not in macs:
                return HTTPStatus.FORBIDDEN, "this is another machine's"
            if not machine.boots_installer:
                why = "it has reported done" if machine.done else "nobody consented to wipe it"
                if machine.consent and not machine.done:
                    why = f"it was given out {TRIES} times and never reported done"
                machine = machine.model_copy(update={"refused": why})
                self._keep(machine, f"asked for its kickstart: refused, {why}")
                return HTTPStatus.FORBIDDEN, why
            text = self._render(machine)
            machine = machine.model_copy(update={"fetched": machine.fetched + 1})
            self._note(machine, Stage.KICKSTART)
            return HTTPStatus.OK, text

    def done(self, name: str, token: str) -> HTTPStatus:
        """A report, believed when it has what only that machine's kickstart held."""
        with self._guard:
            machine = self._floor.by_name(name)
            if machine is None or not machine.token or machine.rescue:
                return HTTPStatus.NOT_FOUND
            if not hmac.compare_digest(token.encode(), machine.token.encode()):
                return HTTPStatus.FORBIDDEN
            if machine.done is None:
                self._note(machine, Stage.DONE)
            return HTTPStatus.OK

    def _note(self, machine: Machine, stage: Stage) -> None:
        self._keep(machine.model_copy(update={stage.value: self._now()}), stage.value)

    def _keep(self, machine: Machine, said: str) -> None:
        self._floor = self._floor.changed(machine)
        self._changed(self._floor, machine, said)


class Reception(ThreadingHTTPServer):
    """HTTP for kickstarts (/ks/NAME) and reports (/done/NAME?token=…)."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], desk: Desk) -> None:
        self.desk = desk
        try:
            super().__init__(address, _Visitor)
        except OSError as fault:
            raise OutsideFailed(
                f"can't listen on {address[0]} port {address[1]}: {fault.strerror}",
                hint="choose another --port, or end what listens there",
            ) from fault


class _Visitor(BaseHTTPRequestHandler):
    timeout = 20
    server: Reception

    def do_GET(self) -> None:
        """Answer a kickstart or take a report."""
        place = urllib.parse.urlsplit(self.path)
        kind, _, name = place.path.lstrip("/").partition("/")
        if kind == "ks":
            status, text = self.server.desk.kickstart(name, self.client_address[0], self._macs())
        elif kind == "done":
            token = urllib.parse.parse_qs(place.query).get("token", [""])[0]
            status, text = self.server.desk.done(name, token), ""
        else:
            status, text = HTTPStatus.NOT_FOUND, ""
        raw = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _macs(self) -> tuple[str, ...]:
        """The cards that the installer says it has (kssendmac)."""
        told = [
            v for k, v in self.headers.items() if k.lower().startswith("x-rhn-provisioning-mac")
        ]
        return tuple(MAC.findall(" ".join(told)[:2000].lower()))

    def log_message(self, format: str, *args: object) -> None:
        """What counts goes into the book."""

    def version_string(self) -> str:
        return "Groundlift"
