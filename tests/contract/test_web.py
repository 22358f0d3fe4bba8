"""What the Web port promises, asked of a real server on 127.0.0.1."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.web import HttpWeb
from core.errors import OutsideFailed
from core.ports import Fetched


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
        self.send_response({"/gone": 404, "/fails": 500, "/moved": 302}.get(self.path, 200))
        if self.path == "/moved":
            self.send_header("Location", "/elsewhere")
        self.end_headers()
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


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/gone", 404), ("/fails", 500), ("/moved", 302)]
)
def test_every_status_is_an_answer(root: str, path: str, status: int) -> None:
    assert HttpWeb().fetch(root + path) == Fetched(status, path.encode())


def test_a_long_page_is_cut_at_the_limit(root: str) -> None:
    assert HttpWeb().fetch(f"{root}/long", limit=10).body == b"x" * 10


@pytest.mark.parametrize("path", ["/broken", "/slow", "/half"])
def test_no_proper_answer_is_a_failure(root: str, path: str) -> None:
    with pytest.raises(OutsideFailed, match="does not answer"):
        HttpWeb().fetch(root + path, timeout=0.5)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "/etc/passwd"])
def test_only_the_web_is_asked(url: str) -> None:
    with pytest.raises(OutsideFailed, match="no web address"):
        HttpWeb().fetch(url)


def test_a_dead_port_is_a_failure() -> None:
    with pytest.raises(OutsideFailed):
        HttpWeb().fetch("http://127.0.0.1:1/", timeout=2)


def test_no_proxy_of_the_environment_is_used(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert HttpWeb().fetch(f"{root}/").status == 200
