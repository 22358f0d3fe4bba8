"""The lab's own two discs: real packages with crossing dependencies, through the whole mirror."""

import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.progress import silent
from core.rules import Answer
from core.state import State
from isomirror.build import build
from isomirror.openpgp import read_signature
from isomirror.release import Published, current
from isomirror.rpmfile import SIG_PGP, read_package
from isomirror.serve import Server
from isomirror.served import Catalogue
from lab import estate, media
from tests.unit.isomirror.conftest import client, query, sh

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def discs() -> Path:
    """The folder of the lab's media, made when it is not there."""
    here = estate.of(State(Path(os.environ.get("GROUNDLIFT_STATE", ".state")).absolute()))
    if not all(disc.exists() for disc in here.discs):  # a mirror may be served from those there are
        media.build(here, silent)
    return here.media


@pytest.fixture(scope="module")
def mirror(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mirror")
    pin = (discs / "fingerprint").read_text().strip()
    build(sorted(discs.glob("*.iso"), reverse=True), place, silent, fingerprint=pin)
    return place


@pytest.fixture(scope="module")
def published(mirror: Path) -> Published:
    found = current(mirror)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def url(mirror: Path) -> Iterator[str]:
    catalogue = Catalogue(mirror)
    with Server(("127.0.0.1", 0), catalogue, lambda _: None) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{catalogue.prefix}"
        server.stop()


def test_the_pair_is_published_without_a_finding(published: Published) -> None:
    assert published.url_path == "/centos/6.3/os/x86_64/"
    assert published.packages >= 40
    assert [f for f in published.findings if f.answer is not Answer.PASS] == []


def test_a_real_client_sees_every_package_and_installs_across_the_discs(
    published: Published, url: str, tmp_path: Path
) -> None:
    assert len(query(url, tmp_path)) == published.packages
    assert sh(*client(url, tmp_path), "group", "list", "--hidden").strip()
    sh(*client(url, tmp_path), "repoquery", "--requires", "--resolve", "libvirt")
    sh(
        *client(url, tmp_path), "-y", "install", "--downloadonly",
        "--downloaddir", str(tmp_path / "got"), "libvirt", "qemu-kvm", "httpd", "mysql-server",
    )  # fmt: skip
    assert list((tmp_path / "got").glob("libvirt-0*.rpm"))


def test_both_kinds_of_signature_are_on_the_discs_and_rpmkeys_agrees(
    discs: Path, url: str, mirror: Path, tmp_path: Path
) -> None:
    keys = ("rpmkeys", "--dbpath", str(tmp_path / "db"))
    sh(*keys, "--import", str(discs / "RPM-GPG-KEY-lab"))
    kinds = set()
    names = [path for path in Catalogue(mirror).files if path.endswith(".rpm")]
    root = url.split("/centos/")[0]
    for name in names:
        package = tmp_path / "one.rpm"
        with urllib.request.urlopen(root + name, timeout=10) as answer:
            package.write_bytes(answer.read())
        raw = read_package(package.read_bytes()).signature.binary(SIG_PGP)
        if raw:
            kinds.add(read_signature(raw).version)
        done = subprocess.run((*keys, "-K", str(package)), capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout}"
    assert 3 in kinds


@pytest.mark.parametrize("path", ["images/pxeboot/vmlinuz", ".treeinfo", "RPM-GPG-KEY-CentOS-6"])
def test_what_an_installer_asks_for_is_there(url: str, path: str) -> None:
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        assert answer.read()
