"""Discs that are known, and checksum files that are signed, beside the discs, or weak."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadDocument
from core.progress import silent
from core.rules import Answer, Finding, Severity
from isomirror import catalogue, clearsigned
from isomirror.build import CENTOS_6, MediaBlocked, build
from isomirror.expected import expected
from isomirror.media import Medium
from isomirror.openpgp import KeyRing, read_key
from isomirror.sums import STRENGTH, Sum, beside
from tests.unit.isomirror.conftest import Discs, Key, sh

ROOT = Path(__file__).parents[3]
DVD1 = Medium(
    path="/x/CentOS-6.3-x86_64-bin-DVD1.iso", name="CentOS-6.3-x86_64-bin-DVD1.iso",
    size=4289386496, inode=1, modified=1, volume="CentOS_6.3_Final",
    application="CentOS_6.3_Final", volume_size=4289386496, disc_id="1341569670.539525",
    release="6.3", arch="x86_64", discs=(1,),
)  # fmt: skip


def wrong(*media: Medium, key: str = CENTOS_6) -> list[tuple[str, Severity, str]]:
    found = catalogue.findings(media, key)
    return [(f.rule, f.severity, f.evidence) for f in found if f.answer is not Answer.PASS]


def changed(**values: object) -> Medium:
    return DVD1.model_copy(update=values)


def test_every_entry_is_well_formed_and_stands_once() -> None:
    book = catalogue.catalogue()
    assert book.key == CENTOS_6
    assert len({entry.file for entry in book.media}) == len(book.media)
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    for entry in book.media:
        assert all(len(s.value) == lengths[s.algorithm] for s in entry.sums), entry.file
        assert all(set(s.value) <= set("0123456789abcdef") and s.source for s in entry.sums)
        told = bool(entry.size or entry.volume or entry.volume_size)
        assert told == bool(entry.facts and entry.facts.source), entry.file
        assert not entry.size or not entry.volume_size or entry.size >= entry.volume_size
        assert (entry.kind == "dvd") == (entry.disc > 0) == ("-bin-DVD" in entry.file), entry
    ids = [release.disc_id for release in book.releases]
    assert len(set(ids)) == len(ids)


def test_the_publisher_s_disc_is_known_with_the_sum_that_two_sources_confirm() -> None:
    assert wrong(DVD1) == []
    assert catalogue.known_sum(DVD1, CENTOS_6) == Sum("md5", "a991defc0a602d04f064c43290df0131")


def test_a_sum_that_one_source_alone_tells_is_not_held_against_a_disc() -> None:
    disc = changed(release="6.10", discs=(1,), name="x.iso")
    entry = catalogue.known(disc)
    assert entry
    assert entry.sums
    assert catalogue.known_sum(disc, CENTOS_6) is None


@pytest.mark.parametrize(
    ("disc", "rule", "severity", "said"),
    [
        (changed(disc_id="1362445555.957609"), "media.disc_id_known", Severity.BLOCKER, "6.4's"),
        (changed(disc_id="1.5"), "media.disc_id_known", Severity.BLOCKER, "not 6.3's"),
        (changed(disc_id=""), "media.disc_id_known", Severity.BLOCKER, "none"),
        (changed(volume_size=4289386495), "media.size_known", Severity.WARNING, "by osinfo-db"),
        (changed(volume="CentOS_6.3"), "media.size_known", Severity.WARNING, "volume id"),
        (changed(release="5.8", disc_id="9.9", name="y"), "media.catalogued", Severity.INFO, "5.8"),
        (
            changed(name="CentOS-6.3-x86_64-minimal.iso", discs=(), disc_id="1341569670.539525"),
            "media.catalogued", Severity.INFO, "minimal medium",
        ),
    ],
)  # fmt: skip
def test_a_disc_that_is_not_what_it_calls_itself_is_named(
    disc: Medium, rule: str, severity: Severity, said: str
) -> None:
    ((found, weight, evidence),) = wrong(disc)
    assert (found, weight) == (rule, severity)
    assert said in evidence


def test_of_discs_of_another_key_the_catalogue_says_nothing() -> None:
    assert catalogue.findings((changed(disc_id="1.5"),), "0" * 40) == ()
    assert catalogue.known_sum(DVD1, "0" * 40) is None


def test_a_known_disc_is_held_to_the_known_sum_and_a_file_that_differs_is_named(key: Key) -> None:
    ring = pretended(key)
    (found,), said = expected((DVD1,), b"", ring)
    assert (found, said) == (Sum("md5", "a991defc0a602d04f064c43290df0131"), ())
    same = f"{found.value}  {DVD1.name}\n".encode()
    assert {f.rule for f in expected((DVD1,), same, ring)[1]} == {
        "media.sums_signed", "media.sum_strong",
    }  # fmt: skip
    other = f"{'b' * 32}  {DVD1.name}\n".encode()
    assert blocking(expected((DVD1,), other, ring)[1]) == ["media.sum_agreed"]
    stronger = f"{'c' * 64}  {DVD1.name}\n".encode() + other  # nothing is known of its SHA-256
    (chosen,), said = expected((DVD1,), stronger, ring)
    assert chosen
    assert (chosen.algorithm, blocking(said)) == ("sha256", [])


def pretended(key: Key) -> KeyRing:
    """The lab's key under the publisher's fingerprint: nobody here has the publisher's."""
    ring = read_key(key.public.read_bytes(), "x")
    primary = ring.primary
    fake = type(primary)(CENTOS_6, primary.numbers, primary.made)
    return KeyRing(fake, ring.keys, None, ring.user)


def blocking(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.rule for finding in findings if finding.blocks]


def clearsign(text: str, key: Key, folder: Path, *more: str) -> bytes:
    path = folder / "sums.txt"
    path.write_text(text)
    sh("gpg", "--homedir", str(key.home), "--batch", "-q", "--yes", *more, "--clearsign", str(path))
    return (folder / "sums.txt.asc").read_bytes()


def listing(*images: Path) -> str:
    return "".join(f"{hashlib.sha256(i.read_bytes()).hexdigest()}  {i.name}\n" for i in images)


@pytest.mark.parametrize("digest", ["SHA1", "SHA256", "SHA512"])
def test_a_signed_list_is_believed_when_the_discs_key_signed_it(
    digest: str, discs: Discs, key: Key, stranger: Key, tmp_path: Path
) -> None:
    text = listing(discs.one, discs.two) + "- a line that is escaped  \n\t\nand white space \t\n"
    raw = clearsign(text, key, tmp_path, "--digest-algo", digest, "--allow-weak-digest-algos")
    (clear,) = clearsigned.read(raw, "x")
    ring = read_key(key.public.read_bytes(), "x")
    assert clear.good(ring)
    assert not clear.good(read_key(stranger.public.read_bytes(), "x"))
    (windows,) = clearsigned.read(raw.replace(b"\n", b"\r\n"), "x")
    assert windows.good(ring)
    (forged,) = clearsigned.read(raw.replace(b"a line", b"a lime"), "x")
    assert not forged.good(ring)


def test_a_build_takes_the_signed_text_alone_and_refuses_a_changed_one(
    discs: Discs, key: Key, stranger: Key, tmp_path: Path
) -> None:
    images, pin = (discs.one, discs.two), discs.key.fingerprint
    signed = clearsign(listing(*images), key, tmp_path)
    smuggled = b"0" * 128 + f"  {discs.one.name}\n".encode() + signed
    built = build(images, tmp_path / "a", silent, fingerprint=pin, sums=smuggled)
    (finding,) = [f for f in built.findings if f.rule == "media.sums_signed"]
    assert (finding.answer, finding.severity) == (Answer.PASS, Severity.BLOCKER)
    changed_text = signed.replace(discs.one.name.encode(), b"Centos" + discs.one.name[6:].encode())
    with pytest.raises(MediaBlocked) as caught:
        build(images, tmp_path / "b", silent, fingerprint=pin, sums=changed_text)
    assert "media.sums_signed" in blocking(caught.value.findings)
    foreign = clearsign(listing(*images), stranger, tmp_path)
    built = build(images, tmp_path / "c", silent, fingerprint=pin, sums=foreign)
    (finding,) = [f for f in built.findings if f.rule == "media.sums_signed"]
    assert (finding.answer, finding.severity) == (Answer.FAIL, Severity.WARNING)
    assert stranger.fingerprint[-16:] in finding.evidence


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_where_a_signature_should_be_are_a_fault_with_a_sentence(
    text: bytes, armour: bytes
) -> None:
    raw = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n\n" + text
        + b"\n-----BEGIN PGP SIGNATURE-----\n\n" + armour + b"\n-----END PGP SIGNATURE-----\n"
    )  # fmt: skip
    with pytest.raises(BadDocument):
        clearsigned.read(raw, "x")


def test_the_strongest_list_beside_the_images_that_names_all_of_them_is_found(
    tmp_path: Path,
) -> None:
    images = [tmp_path / "a.iso", tmp_path / "b.iso"]
    assert beside(images) is None
    for name, digits, named in (("md5", 32, 2), ("sha1", 40, 2), ("sha256", 64, 1)):
        lines = [f"{'a' * digits}  {image.name}\n" for image in images[:named]]
        (tmp_path / f"{name}sum.txt").write_text("".join(lines))
    assert beside(images) == tmp_path / "sha1sum.txt"
    assert beside(images[:1]) == tmp_path / "sha256sum.txt"
    assert beside([*images, tmp_path / "c.iso"]) is None
    assert beside([tmp_path / "a.iso", tmp_path / "other" / "b.iso"]) is None
    assert STRENGTH[-1] == "sha512"


def test_a_directory_of_images_with_its_checksum_file_is_enough(
    discs: Discs, tmp_path: Path
) -> None:
    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = (sys.executable, "-m", "cli", "--state", str(tmp_path / "s"), "mirror", "build")
        pin = ("--fingerprint", discs.key.fingerprint)
        return subprocess.run((*argv, *words, *pin), cwd=ROOT, capture_output=True, text=True)

    folder = tmp_path / "in"
    folder.mkdir()
    assert call(str(folder)).returncode == 2
    for image in (discs.two, discs.one):
        shutil.copy(image, folder)
    (folder / "sha256sum.txt").write_text(listing(discs.one, discs.two))
    done = call(str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert "held to" in done.stderr
    rules = {f["rule"]: f["evidence"] for f in json.loads(done.stdout)["findings"]}
    assert rules["media.sum_right"].startswith("listed sha256")
    (folder / "sha256sum.txt").write_text(listing(discs.one, discs.two).replace("a", "b"))
    assert call(str(folder)).returncode == 3
    assert call(str(folder), "--no-sums").returncode == 0
    (folder / "third.iso").symlink_to(folder / discs.two.name)
    done = call(str(folder), "--no-sums")
    assert (done.returncode, "media.disc_once" in done.stdout) == (3, True)
    assert "third.iso" in done.stdout
