"""Checksum files: what publishers write is read, and a disc that they list is held to it."""

import hashlib
import shutil
import time
from pathlib import Path

import pytest

from core.errors import BadDocument
from core.progress import Event, silent
from core.rules import blockers
from isomirror import clearsigned
from isomirror.build import MediaBlocked, build
from isomirror.extend import Given, add
from isomirror.release import current
from isomirror.sums import Sum, read_sums
from tests.unit.isomirror.conftest import Discs, Key


def sums(algorithm: str, *images: Path) -> bytes:
    digests = ((hashlib.new(algorithm, image.read_bytes()), image) for image in images)
    return "".join(f"{digest.hexdigest()}  {image.name}\n" for digest, image in digests).encode()


def test_every_usual_form_is_read_and_the_armour_of_a_signed_list_is_not() -> None:
    text = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n\n"
        f"{'a' * 64} *one.iso\n{'B' * 40}  isos/two.iso\nMD5 (three.iso) = {'c' * 32}\n"
        "-----BEGIN PGP SIGNATURE-----\n\n" + "A" * 64 + "\n-----END PGP SIGNATURE-----\n"
    )
    assert read_sums(text.encode(), "x") == {
        "one.iso": Sum("sha256", "a" * 64),
        "two.iso": Sum("sha1", "b" * 40),
        "three.iso": Sum("md5", "c" * 32),
    }
    with pytest.raises(BadDocument, match="two different sha256 sums for a"):
        read_sums(f"{'a' * 64} a\n{'b' * 64} a\n".encode(), "x")
    with pytest.raises(BadDocument, match="no checksums"):
        read_sums(b"\xff\x00nothing", "x")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_discs_are_held_to_the_checksum_file_and_stay_so_when_a_medium_is_added(
    algorithm: str, tmp_path: Path, discs: Discs, extras: Path, stranger: Key
) -> None:
    mirror, pin = tmp_path / "m", discs.key.fingerprint
    listed = sums(algorithm, discs.one, discs.two)
    built = build((discs.one, discs.two), mirror, silent, fingerprint=pin, sums=listed)
    evidence = [f.evidence for f in built.findings if f.rule == "media.sum_right"]
    assert [text.split()[:2] for text in evidence] == [["listed", algorithm]] * 2
    tasks: list[str] = []

    def note(event: Event) -> None:
        tasks.append(event.task)

    added = add(Given(extras, "more", stranger.public, stranger.fingerprint), mirror, note)
    assert added.changed
    assert f"verify {discs.one.name}" not in tasks
    assert not build((discs.one, discs.two), mirror, silent, fingerprint=pin, sums=listed).changed


def test_a_copy_that_differs_where_no_package_lies_is_found_by_its_sum(
    tmp_path: Path, discs: Discs
) -> None:
    two = Path(shutil.copy(discs.two, tmp_path / discs.two.name))
    listed = sums("sha256", discs.one, two)
    with two.open("r+b") as file:
        file.seek(-1, 2)  # padding, which the implanted md5 leaves out
        file.write(b"x")
    pin = discs.key.fingerprint
    assert build((discs.one, two), tmp_path / "a", silent, fingerprint=pin).changed
    with pytest.raises(MediaBlocked) as caught:
        build((discs.one, two), tmp_path / "b", silent, fingerprint=pin, sums=listed)
    (found,) = blockers(caught.value.findings)
    assert (found.rule, found.where) == ("media.sum_right", two.name)
    assert "the data's sha256 is" in found.evidence
    assert current(tmp_path / "b") is None


def test_a_disc_that_was_checked_without_sums_is_read_again_for_them(
    tmp_path: Path, discs: Discs
) -> None:
    pin, mirror = discs.key.fingerprint, tmp_path / "m"
    build((discs.one, discs.two), mirror, silent, fingerprint=pin)
    wrong = sums("sha256", discs.one, discs.two).replace(b"a", b"b")
    with pytest.raises(MediaBlocked) as caught:
        build((discs.one, discs.two), mirror, silent, fingerprint=pin, sums=wrong)
    assert {finding.rule for finding in blockers(caught.value.findings)} == {"media.sum_right"}


def test_a_disc_that_the_checksum_file_does_not_name_is_refused_before_it_is_read(
    tmp_path: Path, discs: Discs
) -> None:
    tasks: list[str] = []
    with pytest.raises(MediaBlocked) as caught:
        build(
            (discs.one, discs.two),
            tmp_path / "m",
            lambda event: tasks.append(event.task),
            fingerprint=discs.key.fingerprint,
            sums=sums("sha256", discs.one),
        )
    (found,) = blockers(caught.value.findings)
    assert (found.rule, found.where) == ("media.sum_listed", discs.two.name)
    assert not [task for task in tasks if task.startswith("verify")]


def test_a_list_made_to_be_read_for_ever_is_refused_or_read_at_once() -> None:
    begun = time.monotonic()
    spaces = b"a" * 64 + b"  x" + b" " * 300_000 + b"y\n"
    assert list(read_sums(spaces, "list")) == ["x" + " " * 300_000 + "y"]
    with pytest.raises(BadDocument, match="more than 16 signed texts"):
        clearsigned.read(b"-----BEGIN PGP SIGNED MESSAGE-----\n\n" * 100_000, "list")
    assert time.monotonic() - begun < 2
