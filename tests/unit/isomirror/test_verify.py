"""Package verification: rpmkeys says the same in every case; damage never raises."""

import hashlib
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isomirror.openpgp import BadKey, KeyRing, Malformed, packets, read_key, read_signature
from isomirror.rpmfile import SIG_MD5, SIG_PGP, SIG_RSA, BadPackage, read_package
from isomirror.verify import Verdict, verify
from tests.unit.isomirror.conftest import Key, sh, sign

GENUINE = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="session")
def ring(key: Key) -> KeyRing:
    return read_key(key.public.read_bytes(), "key")


@pytest.fixture(scope="session")
def rpmkeys(tmp_path_factory: pytest.TempPathFactory, key: Key) -> tuple[str, ...]:
    command = ("rpmkeys", "--dbpath", str(tmp_path_factory.mktemp("db")))
    sh(*command, "--import", str(key.public))
    return command


def look(path: Path, ring: KeyRing) -> Verdict:
    with path.open("rb") as file:
        return verify(iter(lambda: file.read(4096), b""), ring)


def signature_versions(path: Path) -> set[tuple[int, str]]:
    found = set()
    package = read_package(path.read_bytes())
    for tag in (SIG_RSA, SIG_PGP):
        raw = package.signature.binary(tag)
        if raw:
            signature = read_signature(raw)
            found.add((signature.version, signature.hash))
    return found


def test_every_kind_of_signature_is_accepted_as_rpmkeys_does(
    packages: dict[str, Path], ring: KeyRing, rpmkeys: tuple[str, ...]
) -> None:
    kinds = set()
    for path in packages.values():
        verdict = look(path, ring)
        assert verdict.faults == ()
        assert verdict.size == path.stat().st_size
        assert "OK" in sh(*rpmkeys, "-K", str(path))
        kinds |= signature_versions(path)
    assert kinds == {(4, "sha1"), (4, "sha256"), (4, "sha512")}


def test_a_version_3_signature_like_centos_6_s_own_is_accepted(
    tmp_path: Path, packages: dict[str, Path], ring: KeyRing, rpmkeys: tuple[str, ...], key: Key
) -> None:
    path = tmp_path / "v3.rpm"
    path.write_bytes(packages["alpha"].read_bytes())
    home = tmp_path / "gpg1"
    home.mkdir(mode=0o700)
    secret = ("gpg", "--homedir", str(key.home), "--batch", "--export-secret-keys", key.name)
    exported = subprocess.run(secret, capture_output=True).stdout
    first = ("gpg1", "--homedir", str(home), "--batch", "-q")
    subprocess.run((*first, "--import"), input=exported, capture_output=True)
    wrapper = tmp_path / "gpg-v3"
    wrapper.write_text(f'#!/bin/sh\nexec gpg1 --homedir {home} --force-v3-sigs "$@"\n')
    wrapper.chmod(0o755)
    sh(
        "rpmsign", "--define", f"__gpg {wrapper}", "--define", f"_gpg_name {key.name}",
        "--define", f"_gpg_path {home}", "--define", "_gpg_digest_algo sha1", "--rpmv3",
        "--define",
        "__gpg_sign_cmd %{__gpg} gpg1 --batch --no-armor --digest-algo sha1 --force-v3-sigs "
        '-u "%{_gpg_name}" -sbo %{__signature_filename} %{__plaintext_filename}',
        "--resign", str(path),
    )  # fmt: skip
    assert signature_versions(path) == {(3, "sha1")}
    assert look(path, ring).faults == ()
    assert "OK" in sh(*rpmkeys, "-K", str(path))


@pytest.mark.skipif(not GENUINE.exists(), reason="the genuine EL6 package is not on this machine")
def test_a_genuine_centos_6_package_verifies_though_its_key_has_expired() -> None:
    ring = read_key((GENUINE / "RPM-GPG-KEY-CentOS-6").read_bytes(), "key")
    assert ring.primary.fingerprint == "C1DAC52D1664E8A4386DBA430946FCA2C105B9DE"
    assert ring.expires is not None
    verdict = look(GENUINE / "centos-release-6-0.el6.centos.5.x86_64.rpm", ring)
    assert (verdict.faults, verdict.nevra) == ((), "centos-release-6-0.el6.centos.5.x86_64")


@pytest.mark.parametrize("name", ["alpha", "gamma"])
@pytest.mark.parametrize("where", ["header", "payload", "signature", "end"])
def test_a_changed_byte_is_found_where_rpmkeys_finds_it(
    tmp_path: Path, packages: dict[str, Path], ring: KeyRing, rpmkeys: tuple[str, ...],
    name: str, where: str,
) -> None:  # fmt: skip
    raw = bytearray(packages[name].read_bytes())
    package = read_package(bytes(raw))
    spot = {
        "header": package.payload - 100,
        "payload": package.payload + 500,
        "signature": raw.index(package.signature.binary(SIG_RSA) or b"?") + 60,
        "end": len(raw) - 1,
    }[where]
    raw[spot] ^= 1
    bad = tmp_path / "bad.rpm"
    bad.write_bytes(raw)
    assert look(bad, ring).faults
    assert subprocess.run((*rpmkeys, "-K", str(bad)), capture_output=True).returncode


def test_a_package_cut_short_is_a_fault(packages: dict[str, Path], ring: KeyRing) -> None:
    raw = packages["beta"].read_bytes()
    for end in (0, 50, 200, 2000, len(raw) - 1):
        assert verify([raw[:end]], ring).faults


def test_an_unsigned_package_and_a_stranger_s_are_faults(
    tmp_path: Path, packages: dict[str, Path], ring: KeyRing, stranger: Key
) -> None:
    bare, other = tmp_path / "bare.rpm", tmp_path / "other.rpm"
    for path in (bare, other):
        path.write_bytes(packages["beta"].read_bytes())
    sh("rpmsign", "--delsign", str(bare))
    assert look(bare, ring).faults == ("not signed",)
    sign(other, stranger, "sha256")
    assert all(stranger.fingerprint[-16:] in fault for fault in look(other, ring).faults)


def test_no_key_is_a_problem(tmp_path: Path) -> None:
    for raw in (b"", b"hello", b"\x99\x01", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n"):
        with pytest.raises(BadKey):
            read_key(raw, "key")


@settings(max_examples=400, deadline=1000)
@given(data=st.data())
def test_any_damage_to_a_package_gives_a_verdict_in_bounded_time(
    packages: dict[str, Path], ring: KeyRing, data: st.DataObject
) -> None:
    raw = bytearray(packages["alpha"].read_bytes()[:6000])
    for _ in range(data.draw(st.integers(1, 10))):
        offset = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        raw[offset : offset + len(piece)] = piece
    start = time.monotonic()
    assert verify([bytes(raw)], ring).faults
    assert time.monotonic() - start < 1


@settings(max_examples=300, deadline=1000)
@given(st.binary(max_size=400))
def test_any_bytes_as_headers_or_packets_give_their_own_errors(raw: bytes) -> None:
    for read, error in (
        (lambda: read_package(b"\xed\xab\xee\xdb" + bytes(92) + raw), BadPackage),
        (lambda: list(packets(raw)), Malformed),
        (lambda: read_signature(raw), Malformed),
    ):
        try:
            read()
        except error:
            continue


def with_md5(raw: bytes, md5: bytes, drop: int = 0) -> bytes:
    """The package with another MD5 in its signature header, and without the tag ``drop``."""
    package = read_package(raw)
    entries, store = b"", b""
    kept = [entry for entry in package.signature.entries.items() if entry[0] != drop]
    for tag, (kind, count, _) in kept:
        if tag == 62:  # the region, a trailer over all entries
            continue
        data = package.signature.binary(tag)
        if data is None:
            data = (package.signature.text(tag) or "").encode() + b"\0"
        if kind == 4:
            store += b"\0" * (-len(store) % 4)
        entries += struct.pack(">IIII", tag, kind, len(store), count)
        store += md5 if tag == SIG_MD5 else data
    head = raw[96:104] + struct.pack(">II", len(entries) // 16, len(store)) + entries + store
    body = raw[96 + len(package.signature.raw) :]
    body = body[-len(package.signature.raw) % 8 :]
    return raw[:96] + head + bytes(-len(head) % 8) + body


def forged(raw: bytes, drop: int = 0) -> bytes:
    """Another payload, with the MD5 that fits it: what nobody signed can be made to fit."""
    package = read_package(raw)
    changed = bytearray(raw)
    changed[-20] ^= 1
    md5 = hashlib.md5(package.header.raw + changed[package.payload :]).digest()
    return with_md5(bytes(changed), md5, drop)


def test_a_forged_payload_with_a_fitting_md5_is_found(
    packages: dict[str, Path], ring: KeyRing
) -> None:
    raw = packages["gamma"].read_bytes()
    md5 = read_package(raw).signature.binary(SIG_MD5) or b""
    assert verify([with_md5(raw, md5)], ring).faults == ()  # the writer above is right
    (fault,) = verify([forged(raw)], ring).faults
    assert fault.startswith("payload SHA-256 is wrong")
    assert "signature is wrong" in verify([forged(packages["alpha"].read_bytes())], ring).faults


@pytest.mark.skipif(not GENUINE.exists(), reason="the genuine EL6 package is not on this machine")
def test_a_header_signature_alone_does_not_cover_an_el6_payload() -> None:
    raw = (GENUINE / "centos-release-6-0.el6.centos.5.x86_64.rpm").read_bytes()
    ring = read_key((GENUINE / "RPM-GPG-KEY-CentOS-6").read_bytes(), "key")
    assert verify([forged(raw)], ring).faults == ("signature is wrong",)
    assert verify([forged(raw, SIG_PGP)], ring).faults == ("no signature covers the payload",)


def cases(packages: dict[str, Path], top: Path, stranger: Key) -> dict[str, bytes]:
    """Good packages, and every way of being none that is tried above, by name."""
    found = {name: path.read_bytes() for name, path in packages.items()}
    for name in ("alpha", "gamma"):
        raw = packages[name].read_bytes()
        md5 = read_package(raw).signature.binary(SIG_MD5) or b""
        found |= {
            f"{name} forged": forged(raw),
            f"{name} other MD5": with_md5(raw, bytes(16)),
            f"{name} written anew": with_md5(raw, md5),
            f"{name} with more behind": raw + b"x",
        }
        for end in (50, 200, 2000, len(raw) - 1):
            found[f"{name} cut at {end}"] = raw[:end]
        for change in ("--delsign", "--resign"):
            path = top / f"{name}{change}.rpm"
            path.write_bytes(raw)
            if change == "--delsign":
                sh("rpmsign", "--delsign", str(path))
            else:
                sign(path, stranger, "sha256", "--rpmv3")
            found[path.name] = path.read_bytes()
    return found


def test_rpmkeys_agrees_on_every_case(
    tmp_path: Path, packages: dict[str, Path], ring: KeyRing, rpmkeys: tuple[str, ...],
    stranger: Key,
) -> None:  # fmt: skip
    demand = (*rpmkeys, "-D", "_pkgverify_level all", "-K")
    ours, theirs = {}, {}
    for name, raw in cases(packages, tmp_path, stranger).items():
        path = tmp_path / "case.rpm"
        path.write_bytes(raw)
        ours[name] = not look(path, ring).faults
        theirs[name] = subprocess.run((*demand, str(path)), capture_output=True).returncode == 0
    assert ours == theirs
    assert sorted(name for name, good in ours.items() if good) == [
        "alpha", "alpha written anew", "beta", "delta", "gamma", "gamma written anew",
    ]  # fmt: skip
