"""Subkeys: a key's own sign as it does, and anybody else's that were put behind it sign nothing."""

import struct
import subprocess
from pathlib import Path

import pytest

from core.progress import silent
from isomirror import openpgp
from isomirror.build import MediaBlocked, build
from isomirror.keyfile import _armoured, alone
from isomirror.openpgp import BadKey, dearmoured, packets, read_key
from isomirror.rpmfile import SIG_DSA, read_package
from isomirror.verify import verify
from tests.unit.isomirror.conftest import Discs, Key, _key, rpm, sh, sign


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0x80 | tag << 2 | 2]) + struct.pack(">I", len(body)) + body


def with_subkey(owner: Key, other: Key) -> bytes:
    """The owner's key with the other's behind it, and no signature, or one that binds nothing."""
    own = dearmoured(owner.public.read_bytes())
    theirs = list(packets(dearmoured(other.public.read_bytes())))
    body = next(body for tag, body in theirs if tag == 6)
    signature = next(body for tag, body in theirs if tag == 2)
    return own + packet(14, body) + packet(2, signature)


def test_a_stranger_s_key_behind_the_pinned_one_signs_nothing(
    tmp_path: Path, key: Key, stranger: Key, packages: dict[str, Path]
) -> None:
    raw = with_subkey(key, stranger)
    ring = read_key(raw, "key")
    assert [one.fingerprint for one in ring.keys] == [key.fingerprint]
    forged = tmp_path / "forged.rpm"
    forged.write_bytes(packages["gamma"].read_bytes())
    sign(forged, stranger, "sha256")
    assert verify([forged.read_bytes()], ring).faults
    assert verify([packages["gamma"].read_bytes()], ring).faults == ()
    assert alone(raw) == alone(dearmoured(key.public.read_bytes()))  # nor do clients get it


def test_a_disc_that_brings_a_subkey_of_its_own_maker_is_refused(
    tmp_path: Path, discs: Discs, key: Key, stranger: Key
) -> None:
    """The pinned fingerprint is right, and yet its owner signed nothing of this disc."""
    tree = tmp_path / "d1"
    sh("cp", "-r", str(discs.tree / "d1"), str(tree))
    for package in (tree / "Packages").iterdir():
        sign(package, stranger, "sha256")
    (tree / "RPM-GPG-KEY-CentOS-6").write_bytes(_armoured(with_subkey(key, stranger)))
    images = (discs.make(tree, tmp_path / "1.iso"), discs.two)
    with pytest.raises(MediaBlocked) as caught:
        build(images, tmp_path / "m", silent, fingerprint=key.fingerprint)
    assert {f.rule for f in caught.value.findings if f.blocks} == {"media.package_signed"}


def test_a_key_that_a_disc_carries_behind_its_own_reaches_no_client(
    tmp_path: Path, discs: Discs, key: Key, stranger: Key
) -> None:
    tree = tmp_path / "d1"
    sh("cp", "-r", str(discs.tree / "d1"), str(tree))
    both = key.public.read_bytes() + stranger.public.read_bytes()
    (tree / "RPM-GPG-KEY-CentOS-6").write_bytes(both)
    images = (discs.make(tree, tmp_path / "1.iso"), discs.two)
    build(images, tmp_path / "m", silent, fingerprint=key.fingerprint)
    shown = sh("gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons",
               str(tmp_path / "m/current/RPM-GPG-KEY-CentOS-6"))  # fmt: skip
    found = [line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr")]
    assert found == [key.fingerprint]


@pytest.fixture
def parted(tmp_path: Path) -> tuple[Key, str]:
    """A key with a signing subkey of its own, and the subkey's fingerprint."""
    made = _key(tmp_path / "h", "Parted <parted@example.invalid>")
    gpg = ("gpg", "--homedir", str(made.home), "--batch", "-q", "--passphrase", "")
    sh(*gpg, "--quick-add-key", made.fingerprint, "rsa2048", "sign", "0")
    listed = sh(*gpg, "--with-colons", "--list-keys")
    found = [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")]
    made.public.write_text(sh(*gpg, "--armor", "--export", made.fingerprint))
    return made, found[1]


def test_a_subkey_that_its_key_vouches_for_signs_as_rpmkeys_says(
    tmp_path: Path, parted: tuple[Key, str]
) -> None:
    owner, subkey = parted
    ring = read_key(owner.public.read_bytes(), "key")
    assert [one.fingerprint for one in ring.keys] == [owner.fingerprint, subkey]
    assert alone(owner.public.read_bytes()) == owner.public.read_bytes()
    package = rpm(tmp_path / "rpm", "eta", "")
    sign(package, Key(owner.home, f"{subkey}!", subkey, owner.public), "sha256")
    assert verify([package.read_bytes()], ring).faults == ()
    keys = ("rpmkeys", "--dbpath", str(tmp_path / "db"))
    sh(*keys, "--import", str(owner.public))
    assert "OK" in sh(*keys, "-K", str(package))


def test_a_subkey_that_its_key_revoked_signs_nothing(parted: tuple[Key, str]) -> None:
    owner, _ = parted
    gpg = ("gpg", "--homedir", str(owner.home), "--batch", "--yes", "-q")
    edit = (*gpg, "--command-fd", "0", "--passphrase", "", "--pinentry-mode", "loopback",
            "--edit-key", owner.fingerprint)  # fmt: skip
    words = "key 1\nrevkey\ny\n0\n\ny\nsave\n"
    subprocess.run(edit, input=words, capture_output=True, text=True)
    raw = sh(*gpg, "--armor", "--export", owner.fingerprint).encode()
    assert any(tag == 2 and openpgp._signature(body).kind == openpgp.REVOKES
               for tag, body in packets(dearmoured(raw)))  # fmt: skip
    assert [k.fingerprint for k in read_key(raw, "key").keys] == [owner.fingerprint]


def test_a_file_that_begins_with_a_subkey_is_no_key(key: Key) -> None:
    body = next(body for tag, body in packets(dearmoured(key.public.read_bytes())) if tag == 6)
    with pytest.raises(BadKey, match="no public key"):
        read_key(packet(14, body), "key")


def test_a_signature_of_a_kind_that_is_not_checked_is_a_fault(
    key: Key, packages: dict[str, Path]
) -> None:
    """Beside a good one: rpm looks at both."""
    raw = packages["gamma"].read_bytes()
    package = read_package(raw)
    index = package.signature.raw
    tag = next(t for t in package.signature.entries if t not in (62, 268, 269, 273))
    place = 96 + index.index(struct.pack(">I", tag), 16)
    changed = raw[:place] + struct.pack(">I", SIG_DSA) + raw[place + 4 :]
    faults = verify([changed], read_key(key.public.read_bytes(), "key")).faults
    assert any("DSA" in fault for fault in faults)


def test_rpmkeys_does_not_take_a_stranger_s_subkey_either(
    tmp_path: Path, key: Key, stranger: Key, packages: dict[str, Path]
) -> None:
    (tmp_path / "key.asc").write_bytes(_armoured(with_subkey(key, stranger)))
    keys = ("rpmkeys", "--dbpath", str(tmp_path / "db"))
    subprocess.run((*keys, "--import", str(tmp_path / "key.asc")), capture_output=True)
    forged = tmp_path / "forged.rpm"
    forged.write_bytes(packages["gamma"].read_bytes())
    sign(forged, stranger, "sha256")
    asked = (*keys, "-D", "_pkgverify_level all", "-K", str(forged))
    assert subprocess.run(asked, capture_output=True).returncode != 0
