"""The server against clients, and a disk, that mean it no good."""

import dataclasses
import errno
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.progress import silent
from isomirror import release, serve
from isomirror.extend import Given, add
from isomirror.serve import Server
from isomirror.served import Catalogue
from tests.unit.isomirror.conftest import Key
from tests.unit.isomirror.test_serve import KERNEL, ask, where


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def running(
    tmp_path: Path, publish: Callable[..., Path], log: list[str], discs: object
) -> Iterator[tuple[Server, str]]:
    catalogue = Catalogue(publish(tmp_path / "m"))
    with Server(("127.0.0.1", 0), catalogue, log.append) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server, f"http://127.0.0.1:{server.server_address[1]}{catalogue.prefix}"
        server.stop()
        thread.join(5)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 0\r\nContent-Length: {}\r\n",
        "Content-Length: {}\r\nContent-Length: 0\r\n",
        "Content-Length: 0, {}\r\n",
        "Content-Length: +{}\r\n",
        "Content-Length:\r\n",
        "transfer-encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n",
        "Connection: keep-alive, Close\r\n",
    ],
)
def test_no_way_to_write_a_length_makes_a_body_the_next_request(
    headers: str, running: tuple[Server, str]
) -> None:
    server, url = running
    hidden = f"GET {where(url)}.discinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.create_connection(server.server_address, timeout=10) as line:  # type: ignore[arg-type]
        head = f"HEAD {where(url)}{KERNEL} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        line.sendall(head.replace("{}", str(len(hidden))).encode() + hidden)
        answers = line.makefile("rb").read()
    assert answers.count(b"HTTP/1.1 ") == 1


def test_who_holds_every_place_with_half_a_request_loses_them(
    tmp_path: Path, publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS", 2)
    monkeypatch.setattr(serve, "ASKING", 0.5)
    catalogue = Catalogue(publish(tmp_path / "m"))
    with Server(("127.0.0.1", 0), catalogue, lambda _: None) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        address = ("127.0.0.1", server.server_address[1])
        held = [socket.create_connection(address) for _ in range(2)]
        for line in held:
            line.sendall(b"GET / HTTP/1.1\r\nX: ")

        def drip() -> None:
            for _ in range(100):
                for line in held:
                    try:
                        line.sendall(b"y")
                    except OSError:
                        return
                time.sleep(0.05)

        dripping = threading.Thread(target=drip)
        dripping.start()
        url = f"http://127.0.0.1:{address[1]}{catalogue.prefix}"
        begun = time.monotonic()
        assert ask(url, where(url) + KERNEL)[0] == 200
        assert time.monotonic() - begun < 4
        dripping.join()
        server.stop()
        for line in held:
            line.close()


def test_a_pipe_in_the_place_of_an_image_holds_nobody_up(
    tmp_path: Path, running: tuple[Server, str], log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = running
    os.mkfifo(tmp_path / "pipe")
    entry = server.catalogue.files[where(url) + KERNEL]
    piped = dataclasses.replace(entry, path=str(tmp_path / "pipe"))
    monkeypatch.setitem(server.catalogue.files, where(url) + KERNEL, piped)
    begun = time.monotonic()
    assert ask(url, where(url) + KERNEL)[0] == 503
    assert time.monotonic() - begun < 2
    assert any(line.startswith("refused ") and "not the file" in line for line in log)


def test_metadata_of_a_former_build_is_served_until_the_server_ends(
    tmp_path: Path, running: tuple[Server, str], extras: Path, stranger: Key
) -> None:
    """A client that has read the list of it comes for the rest, though two builds followed."""
    _, url = running
    listed = ask(url, where(url) + "repodata/repomd.xml")[2]
    former = (tmp_path / "m/current").resolve()
    for name in ("more", "again"):
        add(Given(extras, name, stranger.public, stranger.fingerprint), tmp_path / "m", silent)
    assert not former.exists()
    assert ask(url, where(url) + "repodata/repomd.xml")[2] == listed
    for path in set(re.findall(r'href="(repodata/[^"]+)"', listed.decode())):
        assert path[9:73] == hashlib.sha256(ask(url, where(url) + path)[2]).hexdigest()


def test_an_image_that_is_gone_is_told_in_the_log(
    running: tuple[Server, str], log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = running
    entry = dataclasses.replace(server.catalogue.files[where(url) + KERNEL], path="/gone.iso")
    monkeypatch.setitem(server.catalogue.files, where(url) + KERNEL, entry)
    assert ask(url, where(url) + KERNEL)[0] == 503
    assert any("/gone.iso: No such file" in line for line in log)


def test_a_disk_that_fails_while_it_is_served_breaks_off_and_is_told(
    running: tuple[Server, str], log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = running

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "sendfile", fails)
    monkeypatch.setattr(os, "pread", fails)
    for path in (KERNEL, ".discinfo"):
        with pytest.raises(Exception, match="IncompleteRead"):
            ask(url, where(url) + path)
        assert any(f"broke off {where(url)}{path}: can't read" in line for line in log)
    monkeypatch.undo()
    assert ask(url, where(url) + KERNEL)[0] == 200


def test_a_place_is_free_again_when_no_thread_is_to_be_had(
    running: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = running
    places = server.places._value

    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(3):
            with socket.create_connection(server.server_address, timeout=5) as line:  # type: ignore[arg-type]
                assert line.recv(1) == b""
    assert server.places._value == places
    assert not server.clients
    assert ask(url, where(url) + KERNEL)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/%2E%2E/etc/passwd", "/..%2f..%2fetc/passwd", "/%252e%252e/etc/passwd", "/%", "/%zz", "/\x00",
     "/centos/6.3/os/x86_64//.discinfo", "/centos/6.3/os/x86_64/./.discinfo", "/CENTOS/6.3/",
     "/centos/6.3/os/x86_64/.discinfo/", "/centos/6.3/os/x86_64/Packages/..%5c", "/\xff\xfe"],
)  # fmt: skip
def test_a_path_is_the_published_one_or_none(path: str, running: tuple[Server, str]) -> None:
    server, _ = running
    with socket.create_connection(server.server_address, timeout=10) as line:  # type: ignore[arg-type]
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        assert line.recv(12).split()[1] in (b"404", b"400")


def test_a_server_that_starts_while_a_build_publishes_serves_one_release(
    tmp_path: Path, publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, extras: Path,
    stranger: Key,
) -> None:  # fmt: skip
    mirror = publish(tmp_path / "m")
    read = release.whole

    def switched(place: Path) -> object:
        found = read(place)
        monkeypatch.undo()
        add(Given(extras, "more", stranger.public, stranger.fingerprint), mirror, silent)
        return found

    monkeypatch.setattr(release, "whole", switched)
    catalogue = Catalogue(mirror)
    assert catalogue.published.addons == ()
    assert not any("addons/" in path for path in catalogue.files)
    assert {Path(e.path).parent.parent.name for p, e in catalogue.files.items() if "repodata" in p
            and e.disc is None} == {catalogue.published.identity}  # fmt: skip
    assert Catalogue(mirror).published.addons
