"""HTTP out of the images: whole files, ranges, listings, and nothing else."""

import http.client
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from isomirror.serve import Catalogue, DiscReplaced, wanted_range
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
