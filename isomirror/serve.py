"""HTTP straight out of the ISO images: GET, HEAD, Range and keep-alive, and never a byte that was
not published. Paths are looked up in the published tree, so no path of a client touches a disk.
"""

import errno
import os
import re
import select
import socket
import socketserver
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler

from core.errors import OutsideFailed
from isomirror.conditions import http_date, parsed_date, wanted_range
from isomirror.listing import page
from isomirror.repofile import NAME as REPO_FILE
from isomirror.repofile import repo_file
from isomirror.served import Catalogue, Entry, is_published, replaced

CONNECTIONS = 128
EACH = 96  # of them at most for one address, so that no single machine takes all
REQUESTS = 1000  # on one connection; then the client opens another
IDLE = 30.0  # seconds a connection may say nothing, or take nothing of an answer
ASKING = 20.0  # seconds from the first byte of a request to its end
SMALL = 32 * 1024
SLOWEST = 1024  # bytes a second that a client must take on average, once a minute has passed
GRACE = 5.0  # seconds that answers under way get when the server stops
HEADERS = 32 * 1024  # bytes of a request's headers
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:\d{1,5})?")
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)
TYPES = {".xml": "text/xml", ".html": "text/html", ".rpm": "application/x-rpm"}


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread per connection, at most CONNECTIONS of them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], catalogue: Catalogue, log: Callable[[str], None]
    ) -> None:
        self.catalogue, self.log = catalogue, log
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        self.clients: Counter[str] = Counter()
        self.asking: dict[socket.socket, float] = {}
        self.stopping = threading.Event()
        self.busy = 0
        self.quiet = threading.Condition()
        try:
            super().__init__(address, Handler)
        except OSError as fault:
            raise OutsideFailed(
                f"can't listen on {address[0]} port {address[1]}: {fault.strerror}",
                hint="choose another --port or --bind, or stop what listens there",
            ) from fault

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket],
                        client_address: object) -> None:  # fmt: skip
        """Wait for a free place: a client too many waits in the queue and loses nothing."""
        while not self.places.acquire(timeout=0.2):
            self.service_actions()  # those who hold all places must not be safe because they do
            if self.stopping.is_set():
                self.shutdown_request(request)
                return
        address = str(client_address[0]) if isinstance(client_address, tuple) else ""
        with self.quiet:
            full = self.clients[address] >= EACH
            self.clients[address] += not full
        if full:
            with suppress(OSError):
                self._line(request).sendall(FULL)
            self.shutdown_request(request)
            self.places.release()
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had: the place is free again
            self._gone(address)
            raise

    def _gone(self, address: str) -> None:
        with self.quiet:
            self.clients -= Counter({address: 1})
        self.places.release()

    @staticmethod
    def _line(request: socket.socket | tuple[bytes, socket.socket]) -> socket.socket:
        return request if isinstance(request, socket.socket) else request[1]

    def service_actions(self) -> None:
        """Now and then: end connections whose request drips in too slowly to ever end."""
        late = time.monotonic() - ASKING
        with self.quiet:
            dripping = [line for line, since in self.asking.items() if since < late]
        for line in dripping:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End serve_forever from another thread; answers under way get GRACE seconds to end."""
        self.stopping.set()
        self.shutdown()
        with self.quiet:
            self.quiet.wait_for(lambda: self.busy == 0, GRACE)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count an answer under way."""
        with self.quiet:
            self.busy += 1
        try:
            yield
        finally:
            with self.quiet:
                self.busy -= 1
                self.quiet.notify_all()

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket],
                               client_address: object) -> None:  # fmt: skip
        """As inherited; the place is given back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._gone(str(client_address[0]) if isinstance(client_address, tuple) else "")

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    disable_nagle_algorithm = True  # else each answer of two parts waits 40 ms for the client's ACK
    wbufsize = 2 * SMALL  # a small file leaves with its headers in one packet
    server: Server
    answered = 0

    def handle_one_request(self) -> None:
        """As inherited; the request must be whole in time, and be one of not too many."""
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            self.close_connection = True
            return
        with self.server.quiet:
            self.server.asking[self.connection] = time.monotonic()
        try:
            super().handle_one_request()
        finally:
            self._asked()

    def parse_request(self) -> bool:
        """As inherited, but with headers read in a tenth of the time; the request is whole now."""
        whole = self._usual() or super().parse_request()
        self._asked()
        self.answered += 1
        if self.answered >= REQUESTS:
            self.close_connection = True
        return whole

    def _usual(self) -> bool:
        """Read a request as every client of today writes it. False, with nothing read, when it is
        another; headers that make no sense end the connection."""
        first: bytes = getattr(self, "raw_requestline", b"")
        words = first.decode("latin-1").rstrip("\r\n").split(" ")
        if len(words) != 3 or words[2] != self.protocol_version or words[1][:1] != "/":
            return False
        self.requestline = " ".join(words)
        self.command, self.path, self.request_version = words
        self.headers = HTTPMessage()
        left = HEADERS
        while (line := self.rfile.readline(left)) not in (b"\r\n", b"\n"):
            name, colon, value = line.decode("latin-1").partition(":")
            left -= len(line)
            if left <= 0 or not colon or not TOKEN.fullmatch(name):
                self.headers = HTTPMessage()
                self.headers["Transfer-Encoding"] = "x"  # whatever follows is no request
                self.command, self.path = "GET", ""  # and nothing has this path
                break
            self.headers[name] = value.strip()
        said = self.headers.get("Connection", "").lower().split(",")
        self.close_connection = "close" in map(str.strip, said)
        return True

    def _asked(self) -> None:
        with self.server.quiet:
            self.server.asking.pop(self.connection, None)

    def end_headers(self) -> None:
        """As inherited; a client learns that this was the last answer here."""
        said = any(
            line[:11].lower() == b"connection:" for line in getattr(self, "_headers_buffer", ())
        )
        if self.close_connection and not said:
            self.send_header("Connection", "close")
        super().end_headers()

    def version_string(self) -> str:
        """No version: nobody outside needs to know it."""
        return "Groundlift"

    def do_GET(self) -> None:
        """Answer with a file, a part of it, or a listing."""
        with self.server.answering():
            self._answer(body=True)

    def do_HEAD(self) -> None:
        """As GET without the body."""
        with self.server.answering():
            self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        lengths = self.headers.get_all("Content-Length", ())
        if any(length != "0" for length in lengths) or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body is never read: it must not pass for a request
        if self.server.stopping.is_set():
            self.close_connection = True
        if not self.path:
            self._empty(HTTPStatus.BAD_REQUEST)
            return
        path = urllib.parse.unquote(self.path.split("?")[0].split("#")[0])
        catalogue = self.server.catalogue
        entry = catalogue.files.get(path)
        if entry is not None:
            self._file(entry, path, body=body)
        elif path == catalogue.prefix + REPO_FILE:
            text = repo_file(self._address() + catalogue.prefix, catalogue.published.keys)
            self._page(text.encode(), "text/plain; charset=utf-8", body=body)
        elif path in catalogue.directories:
            self._listing(path, body=body)
        elif path + "/" in catalogue.directories:
            self._empty(HTTPStatus.MOVED_PERMANENTLY, ("Location", urllib.parse.quote(path + "/")))
        else:
            self._empty(HTTPStatus.NOT_FOUND)

    def _empty(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, text in (*headers, ("Content-Length", "0")):
            self.send_header(name, text)
        self.end_headers()

    def _listing(self, path: str, *, body: bool) -> None:
        raw = page(self.server.catalogue, path).encode()
        self._page(raw, "text/html; charset=utf-8", body=body)

    def _address(self) -> str:
        """How the client called this server; what it says about itself is believed when it looks
        like a host and a port."""
        host = self.headers.get("Host", "")
        if not HOST.fullmatch(host):
            address, port = self.connection.getsockname()[:2]
            host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return f"http://{host}"

    def _page(self, raw: bytes, kind: str, *, body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if body:
            self.wfile.write(raw)

    def _file(self, entry: Entry, path: str, *, body: bool) -> None:
        if self._fresh(entry):
            self._empty(HTTPStatus.NOT_MODIFIED, ("ETag", f'"{entry.tag}"'))
            return
        part = wanted_range(self._range(entry), entry.size)
        if part is None:
            self._empty(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                ("Content-Range", f"bytes */{entry.size}"),
            )
            return
        try:
            descriptor = entry.open()
        except OSError as fault:
            self._refuse(path, f"can't open {entry.path}: {fault.strerror}")
            return
        try:
            if entry.disc and not is_published(entry.disc, os.fstat(descriptor)):
                self._refuse(path, str(replaced(entry.disc)))
                return
            self._part(descriptor, entry, path, part, body=body)
        finally:
            os.close(descriptor)

    def _refuse(self, path: str, why: str) -> None:
        self.server.log(f"refused {_printable(path)}: {why}")
        self._empty(HTTPStatus.SERVICE_UNAVAILABLE)

    def _part(
        self, descriptor: int, entry: Entry, path: str, part: tuple[int, int, bool], *, body: bool
    ) -> None:
        """What was asked for; a disk that fails meanwhile is told of, because only the log can."""
        start, stop, partial = part
        self._head(entry, path, start, stop, partial=partial)
        if not body:
            return
        try:
            self._send(descriptor, entry, start, stop)
        except OSError as fault:
            if fault.errno == errno.EIO:
                self.server.log(f"broke off {_printable(path)}: can't read {entry.path}")
            self.close_connection = True
            raise

    def _fresh(self, entry: Entry) -> bool:
        match = self.headers.get("If-None-Match")
        if match is not None:
            tags = {tag.strip().removeprefix("W/") for tag in match.split(",")}
            return f'"{entry.tag}"' in tags or "*" in tags
        since = parsed_date(self.headers.get("If-Modified-Since"))
        return since is not None and int(entry.modified) <= since

    def _range(self, entry: Entry) -> str | None:
        """The Range header, unless If-Range says that the client's part is of another file."""
        same = self.headers.get("If-Range")
        if same in (None, f'"{entry.tag}"', http_date(int(entry.modified))):
            return self.headers.get("Range")
        return None

    def _head(self, entry: Entry, path: str, start: int, stop: int, *, partial: bool) -> None:
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        kind = TYPES.get(os.path.splitext(path)[1], "application/octet-stream")  # noqa: PTH122
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(stop - start))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{entry.size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{entry.tag}"')
        self.send_header("Last-Modified", http_date(int(entry.modified)))
        self.end_headers()

    def _send(self, descriptor: int, entry: Entry, start: int, stop: int) -> None:
        """From the image to the socket inside the kernel; what is small goes with the headers."""
        if len(entry.extents) == 1 and stop - start <= SMALL:
            raw = os.pread(descriptor, stop - start, entry.extents[0][0] + start)
            self.wfile.write(raw)
            self.close_connection |= len(raw) < stop - start  # the image became shorter
            return
        self.wfile.flush()
        line = self.connection.fileno()
        ready = select.poll()
        ready.register(line, select.POLLOUT)
        passed, begun, taken = 0, time.monotonic(), 0
        for offset, length in entry.extents:
            first, last = max(start - passed, 0), min(stop - passed, length)
            while first < last:
                try:
                    sent = os.sendfile(line, descriptor, offset + first, last - first)
                except BlockingIOError:  # the line has a timeout, so it does not block by itself
                    spent = time.monotonic() - begun
                    slow = spent > 60 and taken < spent * SLOWEST
                    if slow or not ready.poll(IDLE * 1000):
                        raise TimeoutError("the client takes too little") from None
                    continue
                if sent == 0:
                    self.close_connection = True  # the image became shorter: break the answer off
                    return
                first += sent
                taken += sent
            passed += length

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As inherited, once a second."""
        return http_date(int(time.time() if timestamp is None else timestamp))

    def log_message(self, format: str, *args: object) -> None:
        """One line in the access log; control characters of a client stay out."""
        text = _printable(format % args)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.server.log(f"{stamp} {self.client_address[0]} {text}")


def _printable(text: str) -> str:
    """Without what would begin another line of the log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
