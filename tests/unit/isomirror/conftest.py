"""Small real discs: RPMs by rpmbuild, keys by gpg, images by genisoimage, sums by implantisomd5."""

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.progress import silent
from isomirror.build import build
from isomirror.serve import Server
from isomirror.served import Catalogue

SPEC = """Name: {name}
Version: 1.0
Release: 1.el6
Summary: Test package
License: none
{extra}
%description
Test.
%install
mkdir -p %{{buildroot}}/usr/share/{name}
head -c 20000 /dev/urandom > %{{buildroot}}/usr/share/{name}/data
%files
/usr/share/{name}/data
"""
COMPS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//CentOS//DTD Comps info//EN" "comps.dtd">
<comps><group><id>core</id><name>Core</name><description>x</description><default>true</default>
<uservisible>true</uservisible><packagelist>
<packagereq type="mandatory">alpha</packagereq><packagereq type="default">beta</packagereq>
</packagelist></group></comps>
"""
TREEINFO = (
    "[general]\nfamily = CentOS\nversion = 6.3\narch = x86_64\ndiscnum = {disc}\n"
    "[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n"
)
DISC_ID = "1341569670.539525"


def sh(*argv: str, **more: object) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return str(done.stdout)


@dataclass(frozen=True)
class Key:
    home: Path
    name: str
    fingerprint: str
    public: Path


@dataclass(frozen=True)
class Discs:
    one: Path
    two: Path
    key: Key
    tree: Path
    make: Callable[..., Path]


def _key(home: Path, name: str) -> Key:
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "-q")
    sh(*gpg, "--passphrase", "", "--quick-generate-key", name, "rsa2048", "sign", "0")
    listed = sh(*gpg, "--with-colons", "--list-keys")
    fingerprint = next(line.split(":")[9] for line in listed.split("\n") if line[:3] == "fpr")
    public = home / "public.asc"
    public.write_text(sh(*gpg, "--armor", "--export", name))
    return Key(home, name, fingerprint, public)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return _key(tmp_path_factory.mktemp("gpg") / "h", "Lab One <one@example.invalid>")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return _key(tmp_path_factory.mktemp("gpg") / "h", "Stranger <two@example.invalid>")


def sign(package: Path, key: Key, digest: str, *more: str) -> None:
    sh(
        "rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_name {key.name}",
        "--define", f"_gpg_path {key.home}", "--define", f"_gpg_digest_algo {digest}",
        *more, "--resign", str(package),
    )  # fmt: skip


def rpm(top: Path, name: str, extra: str) -> Path:
    """A new package, unsigned."""
    (top / name).mkdir(parents=True)
    spec = top / f"{name}.spec"
    spec.write_text(SPEC.format(name=name, extra=extra))
    sh(
        "rpmbuild", "-bb", "--quiet", "--target", "noarch", "-D", f"_topdir {top}/{name}",
        "-D", "_binary_payload w2.xzdio", "-D", "_build_id_links none",
        "-D", "_binary_filedigest_algorithm 8", str(spec),
    )  # fmt: skip
    (built,) = (top / name).rglob("*.rpm")
    return built


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, key: Key) -> dict[str, Path]:
    """alpha and beta need each other across the discs; the signatures are of every usual kind."""
    top = tmp_path_factory.mktemp("rpm")
    kinds = {
        "alpha": ("sha1", "--rpmv3"),
        "beta": ("sha256", "--rpmv3"),
        "gamma": ("sha256",),
        "delta": ("sha512",),
    }
    needs = {"alpha": "Requires: beta", "beta": "Provides: virtual(beta)"}
    found = {}
    for name, how in kinds.items():
        built = rpm(top, name, needs.get(name, ""))
        sign(built, key, *how)
        found[name] = built
    return found


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory, packages: dict[str, Path], key: Key) -> Discs:
    """A pair in CentOS 6.3's shape: two packages each, metadata on disc 1 for both."""
    top = tmp_path_factory.mktemp("discs")
    for disc, names in ((1, ("alpha", "gamma")), (2, ("beta", "delta"))):
        tree = top / f"d{disc}"
        (tree / "Packages").mkdir(parents=True)
        (tree / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{disc}\n")
        (tree / ".treeinfo").write_text(TREEINFO.format(disc=disc))
        (tree / "TRANS.TBL").write_text("F X;1\tx\n")
        shutil.copy(key.public, tree / "RPM-GPG-KEY-CentOS-6")
        for name in names:
            shutil.copy(packages[name], tree / "Packages")
    (top / "d1" / "images" / "pxeboot").mkdir(parents=True)
    (top / "d1" / "images" / "pxeboot" / "vmlinuz").write_bytes(os.urandom(70_000))
    # checkisomd5 misjudges images of less than about a megabyte
    (top / "d1" / "images" / "pxeboot" / "initrd.img").write_bytes(os.urandom(4_000_000))
    (top / "d1" / "repodata").mkdir()
    (top / "d1" / "repodata" / "repomd.xml").write_text("<repomd/>")
    (top / "d1" / "repodata" / "0dae-c6-x86_64-comps.xml").write_text(COMPS)

    def make(
        tree: Path, image: Path, *, volume: str = "CentOS_6.3_Final", implant: bool = True
    ) -> Path:
        marks = ("-V", volume, "-A", volume, "-publisher", "CentOS Project", "-p", "CentOS")
        sh("genisoimage", "-quiet", "-R", "-J", "-T", *marks, "-o", str(image), str(tree))
        if implant:
            sh("implantisomd5", "-f", str(image))
        return image

    one = make(top / "d1", top / "CentOS-6.3-x86_64-bin-DVD1.iso")
    two = make(top / "d2", top / "CentOS-6.3-x86_64-bin-DVD2.iso")
    return Discs(one, two, key, top, make)


@pytest.fixture(scope="session")
def extras(tmp_path_factory: pytest.TempPathFactory, stranger: Key, key: Key,
           packages: dict[str, Path]) -> Path:  # fmt: skip
    """A directory of add-on RPMs, signed by another key: epsilon needs alpha of the discs."""
    top = tmp_path_factory.mktemp("extras")
    (top / "media" / "sub").mkdir(parents=True)
    for name, needs in (("epsilon", "Requires: alpha"), ("zeta", "")):
        built = rpm(top / "rpm", name, needs)
        sign(built, stranger, "sha256", "--rpmv3")
        shutil.move(built, top / "media" / ("sub" if name == "zeta" else "") / built.name)
    (top / "media" / "comps.xml").write_text(
        COMPS.replace("alpha", "epsilon").replace("<name>Core", "<name>Other")
    )
    return top / "media"


@pytest.fixture
def publish(discs: Discs) -> Callable[..., Path]:
    def run(mirror: Path, *images: Path) -> Path:
        build(images or (discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
        return mirror

    return run


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    with contextlib.ExitStack() as stack:

        def start(mirror: Path) -> str:
            catalogue = Catalogue(mirror)
            server = stack.enter_context(Server(("127.0.0.1", 0), catalogue, lambda _: None))
            threading.Thread(target=server.serve_forever, args=(0.05,)).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}{catalogue.prefix}"

        yield start


@pytest.fixture
def served(tmp_path: Path, publish: Callable[..., Path], serve: Callable[[Path], str]) -> str:
    return serve(publish(tmp_path / "mirror"))


def client(url: str, place: Path) -> tuple[str, ...]:
    """dnf with nothing but the repository at ``url``, keeping everything below ``place``."""
    conf = place / "dnf.conf"
    conf.write_text(
        f"[main]\ncachedir={place}/c\npersistdir={place}/p\nreposdir=/nonexistent\n"
        f"logdir={place}\n[m]\nname=m\nbaseurl={url}\ngpgcheck=1\n"
        f"gpgkey={url}RPM-GPG-KEY-CentOS-6\n"
    )
    root = ("--releasever=6", "--installroot", str(place / "r"))
    return ("dnf", "-q", "-c", str(conf), *root)


def query(url: str, place: Path) -> list[str]:
    """The names of all packages that dnf sees."""
    return sorted(sh(*client(url, place), "repoquery", "--qf", "%{name}").split())
