"""HTTP out of the images: whole files, ranges, listings, and nothing else."""

import hashlib
import http.client
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import ClassVar, cast

import pytest

from isomirror import serve
from isomirror.conditions import wanted_range
from isomirror.listing import page
from isomirror.repository import Disc
from isomirror.serve import Server
from isomirror.served import Catalogue, DiscReplaced, Entry
from tests.unit.isomirror.conftest import Discs

KERNEL = "images/pxeboot/vmlinuz"


def ask(
    url: str, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    host = url.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def where(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def test_a_file_comes_byte_for_byte_out_of_the_image(served: str, discs: Discs) -> None:
    status, headers, body = ask(served, where(served) + KERNEL)
    assert (status, body) == (200, (discs.tree / "d1" / KERNEL).read_bytes())
    assert headers["Content-Length"] == str(len(body))


def test_packages_of_both_discs_lie_side_by_side(served: str, discs: Discs) -> None:
    for disc in ("d1", "d2"):
        for package in (discs.tree / disc / "Packages").iterdir():
            _, _, body = ask(served, f"{where(served)}Packages/{package.name}")
            assert body == package.read_bytes()


def test_disc_one_s_marks_win_and_tables_stay_out(served: str) -> None:
    assert ask(served, where(served) + ".discinfo")[2].split()[-1] == b"1"
    assert ask(served, where(served) + "TRANS.TBL")[0] == 404


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=69990-", (69_990, 70_000)),
        ("bytes=-7", (69_993, 70_000)),
        ("bytes=5-999999", (5, 70_000)),
    ],
)
def test_a_part_is_sent_as_asked(
    served: str, discs: Discs, header: str, expected: tuple[int, int]
) -> None:
    whole = (discs.tree / "d1" / KERNEL).read_bytes()
    status, headers, body = ask(served, where(served) + KERNEL, Range=header)
    assert (status, body) == (206, whole[slice(*expected)])
    assert headers["Content-Range"] == f"bytes {expected[0]}-{expected[1] - 1}/70000"


def test_a_part_beyond_the_end_can_not_be_satisfied(served: str) -> None:
    status, headers, _ = ask(served, where(served) + KERNEL, Range="bytes=70000-")
    assert (status, headers["Content-Range"]) == (416, "bytes */70000")


def test_several_parts_or_nonsense_get_the_whole_file(served: str) -> None:
    for header in ("bytes=0-1,3-4", "bytes=9-3", "lines=1-2", "bytes=-"):
        assert ask(served, where(served) + KERNEL, Range=header)[0] == 200
    assert wanted_range("bytes=-0", 10) is None
    assert wanted_range("bytes=0-", 0) is None


def test_head_has_the_length_and_no_body(served: str) -> None:
    status, headers, body = ask(served, where(served) + KERNEL, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "70000", b"")


def test_a_client_that_has_it_already_is_told_so(served: str) -> None:
    _, headers, _ = ask(served, where(served) + KERNEL)
    assert ask(served, where(served) + KERNEL, If_None_Match=headers["ETag"])[0] == 304
    stamp = headers["Last-Modified"]
    assert ask(served, where(served) + KERNEL, If_Modified_Since=stamp)[0] == 304


def test_a_connection_serves_many_requests(served: str) -> None:
    connection = http.client.HTTPConnection(served.split("/")[2], timeout=10)
    for _ in range(3):
        connection.request("GET", where(served) + KERNEL)
        assert len(connection.getresponse().read()) == 70_000
    assert connection.sock is not None


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/centos/6.3/os/x86_64/../../../../etc/passwd",
        "/centos/6.3/os/x86_64/Packages/%00",
        "/published.json",
        "/centos/6.3/os/x86_64/tree.json",
    ],
)
def test_nothing_but_what_was_published_is_found(served: str, path: str) -> None:
    assert ask(served, path)[0] == 404


def test_directories_can_be_browsed(served: str) -> None:
    status, _, page = ask(served, where(served))
    assert status == 200
    assert {"Packages/", "repodata/", ".discinfo"} <= set(
        re.findall(r'href="([^"]+)"', page.decode())
    )
    assert ask(served, where(served).rstrip("/"))[0] == 301


def test_garbage_on_the_line_ends_that_connection_only(served: str) -> None:
    host, port = served.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(os.urandom(200) + b"\r\n\r\n")
        line.recv(100)
    assert ask(served, where(served) + KERNEL)[0] == 200


def test_a_replaced_image_is_noticed_and_not_served(
    tmp_path: Path, discs: Discs, publish: object, serve: object
) -> None:
    for image in (discs.one, discs.two):
        shutil.copy(image, tmp_path)
    one, two = tmp_path / discs.one.name, tmp_path / discs.two.name
    mirror = publish(tmp_path / "m", one, two)  # type: ignore[operator]
    url = serve(mirror)  # type: ignore[operator]
    assert ask(url, where(url) + KERNEL)[0] == 200
    shutil.copy(two, tmp_path / "other")
    (tmp_path / "other").replace(one)
    assert ask(url, where(url) + KERNEL)[0] == 503
    with pytest.raises(DiscReplaced, match="not the file"):
        Catalogue(mirror).check()


@pytest.fixture
def large(
    tmp_path: Path, discs: Discs, publish: Callable[..., Path], serve: Callable[[Path], str]
) -> tuple[str, Path]:
    """A disc with 60 MB in one file: far more than any socket buffers."""
    tree = shutil.copytree(discs.tree / "d1", tmp_path / "d1")
    (tree / "images" / "install.img").write_bytes(os.urandom(60_000_000))
    one = discs.make(tree, tmp_path / "one.iso")
    return serve(publish(tmp_path / "m", one, discs.two)), tree / "images" / "install.img"


def test_a_slow_client_gets_a_large_file_whole(large: tuple[str, Path]) -> None:
    url, original = large
    host, port = url.split("/")[2].split(":")
    taken = hashlib.sha256()
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        request = f"GET {where(url)}images/install.img HTTP/1.1\r\nHost: x\r\n"
        line.sendall(request.encode() + b"Connection: close\r\n\r\n")
        time.sleep(0.5)  # by now the server has filled every buffer
        file = line.makefile("rb")
        while file.readline().strip():
            pass
        while piece := file.read(1 << 20):
            taken.update(piece)
    assert taken.hexdigest() == hashlib.sha256(original.read_bytes()).hexdigest()


def test_a_part_of_another_file_than_the_client_has_comes_as_a_whole(served: str) -> None:
    path = where(served) + KERNEL
    tag = ask(served, path)[1]["ETag"]
    assert ask(served, path, Range="bytes=0-9", If_Range=tag)[0] == 206
    assert ask(served, path, Range="bytes=0-9", If_Range='"of-yesterday"')[0] == 200


def test_a_body_sent_with_a_request_never_passes_for_the_next_request(served: str) -> None:
    host, port = served.split("/")[2].split(":")
    hidden = f"GET {where(served)}.discinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=10) as line:
        head = f"HEAD {where(served)}{KERNEL} HTTP/1.1\r\nHost: x\r\n"
        line.sendall(head.encode() + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden)
        answers = line.makefile("rb").read()
    assert answers.count(b"HTTP/1.1") == 1


def test_a_file_over_4_gib_is_served_across_its_parts(tmp_path: Path) -> None:
    """Two extents in a sparse file, as the index of such a disc has them."""
    image, full = tmp_path / "big.iso", 0xFFFFF800
    with image.open("wb") as file:
        file.truncate(full + 10_000)
        file.seek(full - 3)
        file.write(b"abcdef")
    facts = image.stat()
    disc = Disc(path=str(image), size=facts.st_size, inode=facts.st_ino, modified=facts.st_mtime_ns)
    entry = Entry(str(image), ((0, full), (full, 10_000)), disc, 0.0, "tag")
    catalogue = Catalogue.__new__(Catalogue)
    catalogue.files, catalogue.directories, catalogue.discs = {"/big": entry}, {"/": {"big"}}, ()
    with Server(("127.0.0.1", 0), catalogue, lambda _: None) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        assert ask(url, "/big", "HEAD")[1]["Content-Length"] == str(full + 10_000)
        status, headers, body = ask(url, "/big", Range=f"bytes={full - 3}-{full + 2}")
        server.stop()
    assert (status, body) == (206, b"abcdef")
    assert headers["Content-Range"] == f"bytes {full - 3}-{full + 2}/{full + 10_000}"


def test_more_clients_than_places_wait_for_one_and_a_full_server_still_stops(
    tmp_path: Path, publish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isomirror.serve.CONNECTIONS", 2)
    catalogue = Catalogue(publish(tmp_path / "m"))
    with Server(("127.0.0.1", 0), catalogue, lambda _: None) as server:
        running = threading.Thread(target=server.serve_forever, args=(0.05,))
        running.start()
        address = ("127.0.0.1", server.server_address[1])
        url = f"http://127.0.0.1:{address[1]}{catalogue.prefix}"
        idle = [socket.create_connection(address) for _ in range(2)]
        time.sleep(0.2)
        threading.Timer(0.5, idle[0].close).start()
        begun = time.monotonic()
        assert ask(url, where(url) + ".discinfo")[0] == 200
        assert time.monotonic() - begun > 0.3  # it had to wait
        waiting = [socket.create_connection(address) for _ in range(3)]
        begun = time.monotonic()
        server.stop()
        running.join(5)
        assert not running.is_alive()
        assert time.monotonic() - begun < 5
        for line in (*idle, *waiting):
            line.close()


def test_an_answer_under_way_is_finished_when_the_server_stops(
    tmp_path: Path, discs: Discs, publish: Callable[..., Path]
) -> None:
    tree = shutil.copytree(discs.tree / "d1", tmp_path / "d1")
    (tree / "images" / "install.img").write_bytes(os.urandom(30_000_000))
    catalogue = Catalogue(publish(tmp_path / "m", discs.make(tree, tmp_path / "1.iso"), discs.two))
    with Server(("127.0.0.1", 0), catalogue, lambda _: None) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        connection.request("GET", f"{catalogue.prefix}images/install.img")
        answer = connection.getresponse()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert len(answer.read()) == 30_000_000
        stopping.join(10)
        assert not stopping.is_alive()


def test_a_listing_shows_sizes_and_dates_and_escapes_names(served: str, discs: Discs) -> None:
    _, _, raw = ask(served, where(served) + "Packages/")
    rows = re.findall(r'<a href="([^"]+)">[^<]+</a><td>([^<]*)<td class=n>([^<\n]*)', raw.decode())
    assert rows[0] == ("../", "", "")
    assert [name for name, _, _ in rows[1:]] == sorted(name for name, _, _ in rows[1:])
    for _, when, size in rows[1:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", when)
        assert size.endswith("KiB")


def test_names_with_signs_of_html_stay_names() -> None:
    class Odd:
        directories: ClassVar = {"/a&b/": {'<b>"x"&amp;.rpm', "a:b.rpm", "100%/"}}
        files: ClassVar = {}

    raw = page(cast(Catalogue, Odd()), "/a&b/")
    assert "<b>" not in raw
    assert re.findall('href="([^"]+)"', raw) == [
        "../", "100%25/", "%3Cb%3E%22x%22%26amp%3B.rpm", "a%3Ab.rpm",
    ]  # fmt: skip


def test_dates_before_the_file_s_ask_again_and_later_ones_do_not(served: str) -> None:
    path = where(served) + KERNEL
    _, headers, _ = ask(served, path)
    changed = parsedate_to_datetime(headers["Last-Modified"])
    for seconds, status in ((-1, 200), (0, 304), (3600, 304)):
        since = format_datetime(changed + timedelta(seconds=seconds), usegmt=True)
        assert ask(served, path, If_Modified_Since=since)[0] == status
    assert ask(served, path, If_Modified_Since="yesterday")[0] == 200
    assert ask(served, path, If_None_Match=f'W/{headers["ETag"]}, "x"')[0] == 304
    assert ask(served, path, If_None_Match='"x", "y"')[0] == 200


def test_a_connection_ends_after_its_share_of_requests(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "REQUESTS", 3)
    line = http.client.HTTPConnection(served.split("/")[2], timeout=10)
    said = []
    for _ in range(3):
        line.request("HEAD", where(served) + KERNEL)
        answer = line.getresponse()
        answer.read()
        said.append(answer.headers.get("Connection"))
    assert said == [None, None, "close"]


def test_a_request_that_never_ends_loses_its_connection_and_no_other_does(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ASKING", 0.5)
    host, port = served.split("/")[2].split(":")
    idle = http.client.HTTPConnection(host, int(port), timeout=10)
    idle.request("HEAD", where(served) + KERNEL)
    idle.getresponse().read()
    begun = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"GET / HTTP/1.1\r\nX: ")
        line.settimeout(0.05)
        while time.monotonic() - begun < 8:
            try:
                line.sendall(b"y")
                assert line.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                pass
            break
    assert 0.4 < time.monotonic() - begun < 5
    idle.request("HEAD", where(served) + KERNEL)
    assert idle.getresponse().status == 200


def test_one_address_can_not_take_every_place(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "EACH", 2)
    host, port = served.split("/")[2].split(":")
    held = []
    for _ in range(2):
        line = http.client.HTTPConnection(host, int(port), timeout=10)
        line.request("HEAD", where(served) + KERNEL)
        line.getresponse().read()
        held.append(line)
    assert ask(served, where(served) + KERNEL)[0] == 503
    other = http.client.HTTPConnection(host, int(port), timeout=10, source_address=("127.0.0.2", 0))
    other.request("HEAD", where(served) + KERNEL)
    assert other.getresponse().status == 200
    held.pop().close()
    for _ in range(50):
        if ask(served, where(served) + KERNEL)[0] == 200:
            return
        time.sleep(0.05)
    raise AssertionError("the place was not given back")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET {} HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET {} HTTP/1.1\nHost: x\n\n", b"200"),
        (b"GET {} HTTP/1.0\r\n\r\n", b"200"),
        (b"GET {} HTTP/1.1\r\nX: y\r\n folded\r\n\r\n", b"400"),
        (b"GET {} HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET {} HTTP/1.1\r\nX : y\r\n\r\n", b"400"),
        (b"GET {} HTTP/1.1\r\n" + b"X: y\r\n" * 9000 + b"\r\n", b"400"),
        (b"GET {} HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b"400"),
        (b"POST {} HTTP/1.1\r\n\r\n", b"501"),
        (b"GET http://x{} HTTP/1.1\r\n\r\n", b"404"),
    ],
)
def test_requests_that_are_odd_get_an_answer_and_wrong_ones_end_the_connection(
    served: str, raw: bytes, status: bytes
) -> None:
    host, port = served.split("/")[2].split(":")
    path = (where(served) + KERNEL).encode()
    with socket.create_connection((host, int(port)), timeout=10) as line:
        with suppress(OSError):
            line.sendall(raw.replace(b"{}", path))
        first = line.recv(12)
        assert first.split()[1] == status
        if status == b"400":
            with suppress(ConnectionResetError):
                while line.recv(65536):
                    pass
