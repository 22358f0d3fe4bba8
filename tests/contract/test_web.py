"""What the Web port promises, asked of a real server on 127.0.0.1: by this machine itself, and by
another one with each Python that is here."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.local import LocalHost
from adapters.web import HttpWeb
from adapters.web_through import HostWeb
from core.errors import OutsideFailed
from core.ports import Completed, Fetched, Web
from tests.contract.pythons import PYTHONS


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/broken":
            self.wfile.write(b"not http at all\r\n\r\n")
            return
        if self.path == "/half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 400)
            return
        if self.path == "/slow":
            threading.Event().wait(3)
        self.send_response(
            {"/gone": 404, "/fails": 500, "/moved": 302, "/made": 201}.get(self.path, 200)
        )
        if self.path == "/moved":
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        if self.path == "/who":
            self.wfile.write(self.headers["User-Agent"].encode())
            return
        self.wfile.write(b"x" * 1000 if self.path == "/long" else self.path.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Old(LocalHost):
    """Another machine, whose only Python is this one."""

    def __init__(self, python: str) -> None:
        super().__init__("hv1")
        self.python = python

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        assert argv[:2] == ("sh", "-c")
        return super().run((self.python, "-", *argv[4:]), stdin=stdin, timeout=timeout)


@pytest.fixture(params=["here", *sorted(PYTHONS), "shell"])
def web(request: pytest.FixtureRequest) -> Web:
    if request.param == "here":
        return HttpWeb()
    if request.param == "shell":
        return HostWeb(LocalHost("hv1"))
    return HostWeb(Old(PYTHONS[request.param]))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/gone", 404), ("/fails", 500), ("/moved", 302), ("/made", 201)],
)
def test_every_status_is_an_answer(web: Web, root: str, path: str, status: int) -> None:
    assert web.fetch(root + path) == Fetched(status, path.encode())


def test_all_ask_as_the_same_visitor(web: Web, root: str) -> None:
    assert web.fetch(f"{root}/who").body == b"groundlift"


def test_a_long_page_is_cut_at_the_limit(web: Web, root: str) -> None:
    assert web.fetch(f"{root}/long", limit=10).body == b"x" * 10


@pytest.mark.parametrize("path", ["/broken", "/slow", "/half"])
def test_no_proper_answer_is_a_failure(web: Web, root: str, path: str) -> None:
    with pytest.raises(OutsideFailed, match="does not answer"):
        web.fetch(root + path, timeout=0.5)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "/etc/passwd"])
def test_only_the_web_is_asked(web: Web, url: str) -> None:
    with pytest.raises(OutsideFailed, match="no web address"):
        web.fetch(url)


def test_a_dead_port_is_a_failure(web: Web) -> None:
    with pytest.raises(OutsideFailed):
        web.fetch("http://127.0.0.1:1/", timeout=2)


def test_no_proxy_of_the_environment_is_used(
    web: Web, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert web.fetch(f"{root}/").status == 200
