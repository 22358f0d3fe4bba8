"""HTTP straight out of the ISO images: GET, HEAD, Range and keep-alive, and never a byte that was
not published. Paths are looked up in the published tree, so no path of a client touches a disk.
"""

import html
import os
import re
import select
import socket
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from core.errors import Blocked, OutsideFailed, UsageProblem
from isomirror.release import Published, current, plain_files
from isomirror.repofile import NAME as REPO_FILE
from isomirror.repofile import repo_file
from isomirror.repository import Disc, Tree

CONNECTIONS = 128
IDLE = 30.0  # seconds a connection may say nothing, or take nothing of an answer
GRACE = 5.0  # seconds that answers under way get when the server stops
HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:\d{1,5})?")
TYPES = {".xml": "text/xml", ".html": "text/html", ".rpm": "application/x-rpm"}


class DiscReplaced(Blocked):
    """An image is not the file that was verified and published; its bytes are not served."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: which image (or None for a plain file) and where in it."""

    path: str
    extents: tuple[tuple[int, int], ...]
    disc: Disc | None
    modified: float
    tag: str

    @property
    def size(self) -> int:
        return sum(length for _, length in self.extents)


class Catalogue:
    """Every path that is served, and every directory with what is in it."""

    def __init__(self, mirror: Path) -> None:
        published = current(mirror)
        if published is None:
            raise UsageProblem(
                "nothing is published",
                hint="run `groundlift mirror build` first",
                where=str(mirror),
            )
        self.published: Published = published
        self.prefix = published.url_path
        self.files: dict[str, Entry] = {}
        self.directories: dict[str, set[str]] = {"/": set()}
        release = (mirror / "current").resolve()
        tree = load_tree(release / "tree.json")
        for path, (number, extents) in tree.files.items():
            disc = tree.discs[number]
            tag = f"{published.identity}-{extents[0][0]:x}-{extents[0][1]:x}"
            self._add(path, Entry(disc.path, extents, disc, disc.modified / 1e9, tag))
        for file in plain_files(release):
            facts = file.stat()
            tag = f"{published.identity}-{file.name}"
            entry = Entry(str(file), ((0, facts.st_size),), None, facts.st_mtime, tag)
            self._add(str(file.relative_to(release)), entry)
        self.directories[self.prefix].add(REPO_FILE)
        self.discs = tree.discs

    def _add(self, path: str, entry: Entry) -> None:
        full = self.prefix + path
        self.files[full] = entry
        while full != "/":
            parent, _, name = full.rstrip("/").rpartition("/")
            slash = "/" if full.endswith("/") else ""
            parent += "/"
            known = parent in self.directories
            self.directories.setdefault(parent, set()).add(name + slash)
            if known:
                return
            full = parent

    def check(self) -> None:
        """Raises DiscReplaced when an image is not the one that was published."""
        for disc in self.discs:
            if not is_published(disc):
                raise _replaced(disc)


def load_tree(path: Path) -> Tree:
    """tree.json; JSON read directly, because it may list many thousand files."""
    try:
        return Tree.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise OutsideFailed(
            f"the published tree can't be read: {type(fault).__name__}", where=str(path),
            hint="build the mirror again",
        ) from fault  # fmt: skip


def is_published(disc: Disc, facts: os.stat_result | None = None) -> bool:
    """Whether the file is still the one that was verified: size, inode and time."""
    try:
        now = facts or Path(disc.path).stat()
    except OSError:
        return False
    return (now.st_size, now.st_ino, now.st_mtime_ns) == (disc.size, disc.inode, disc.modified)


def _replaced(disc: Disc) -> DiscReplaced:
    return DiscReplaced(
        "the image is not the file that was published", where=disc.path,
        hint="put the original back, or run `groundlift mirror build` with the new one",
    )  # fmt: skip


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
            if self.stopping.is_set():
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

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
            self.places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    server: Server

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
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body is never read: it must not pass for a request
        if self.server.stopping.is_set():
            self.close_connection = True
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
        names = sorted(self.server.catalogue.directories[path])
        rows = "".join(
            f'<li><a href="{urllib.parse.quote(name)}">{html.escape(name)}</a></li>'
            for name in names
        )
        title = html.escape(path)
        page = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
        self._page(f"{page}<ul>{rows}</ul>\n".encode(), "text/html; charset=utf-8", body=body)

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
            descriptor = os.open(entry.path, os.O_RDONLY)
        except OSError:
            self._empty(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            if entry.disc and not is_published(entry.disc, os.fstat(descriptor)):
                self.server.log(f"refused {path}: {_replaced(entry.disc)}")
                self._empty(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            start, stop, partial = part
            self._head(entry, path, start, stop, partial=partial)
            if body:
                self._send(descriptor, entry, start, stop)
        finally:
            os.close(descriptor)

    def _fresh(self, entry: Entry) -> bool:
        match = self.headers.get("If-None-Match")
        if match is not None:
            return f'"{entry.tag}"' in match
        return self.headers.get("If-Modified-Since") == formatdate(entry.modified, usegmt=True)

    def _range(self, entry: Entry) -> str | None:
        """The Range header, unless If-Range says that the client's part is of another file."""
        same = self.headers.get("If-Range")
        if same in (None, f'"{entry.tag}"', formatdate(entry.modified, usegmt=True)):
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
        self.send_header("Last-Modified", formatdate(entry.modified, usegmt=True))
        self.end_headers()

    def _send(self, descriptor: int, entry: Entry, start: int, stop: int) -> None:
        """From the image to the socket inside the kernel."""
        self.wfile.flush()
        line = self.connection.fileno()
        ready = select.poll()
        ready.register(line, select.POLLOUT)
        passed = 0
        for offset, length in entry.extents:
            first, last = max(start - passed, 0), min(stop - passed, length)
            while first < last:
                try:
                    sent = os.sendfile(line, descriptor, offset + first, last - first)
                except BlockingIOError:  # the line has a timeout, so it does not block by itself
                    if not ready.poll(IDLE * 1000):
                        raise TimeoutError("the client takes nothing") from None
                    continue
                if sent == 0:
                    self.close_connection = True  # the image became shorter: break the answer off
                    return
                first += sent
            passed += length

    def log_message(self, format: str, *args: object) -> None:
        """One line in the access log; control characters of a client stay out."""
        text = "".join(c if c.isprintable() else "?" for c in format % args)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.server.log(f"{stamp} {self.client_address[0]} {text}")


def wanted_range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """The bytes a Range header asks for: start, stop, and whether they are a part. The whole file
    when there is no header, or one that is not understood or names several parts; None when it
    can't be satisfied (RFC 7233)."""
    whole = (0, size, False)
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header or "")
    if match is None or not (match[1] or match[2]):
        return whole
    if not match[1]:
        suffix = min(int(match[2]), size)
        return (size - suffix, size, True) if suffix else None
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if last < start and match[2]:
        return whole
    return (start, min(last + 1, size), True) if start < size else None
