"""Which disc is which: .discinfo as it is found on real discs, and the other marks without it."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.progress import silent
from core.rules import Finding
from isomirror.build import Built, MediaBlocked, build
from isomirror.media import Medium, look
from tests.unit.isomirror.conftest import DISC_ID, Discs

Make = Callable[..., Path]
ALL = {"alpha": 1, "gamma": 1, "beta": 2, "delta": 2}


@pytest.fixture
def make(tmp_path: Path, discs: Discs) -> Make:
    """An image of disc 1 or 2 whose .discinfo ends in ``number`` (None: there is none), with the
    marks of ``treeinfo``, and a list of packages on disc 1."""

    def run(
        disc: int, number: str | None, *, listed: dict[str, int] | None = None, tree: bool = True,
        only: tuple[str, ...] = (),
    ) -> Path:  # fmt: skip
        top = tmp_path / f"{disc}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(discs.tree / f"d{disc}", top)
        (top / ".discinfo").unlink()
        if number is not None:
            (top / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{number}\n")
        if not tree:
            (top / ".treeinfo").unlink()
        for package in (top / "Packages").iterdir():
            if only and package.name.split("-")[0] not in only:
                package.unlink()
        if listed is not None:
            lines = (
                f'<location xml:base="media://{DISC_ID}#{on}" href="Packages/{name}-1.0-1.el6'
                f'.noarch.rpm"/>\n'
                for name, on in listed.items()
            )
            raw = "".join(lines).replace(f' xml:base="media://{DISC_ID}#0"', "").encode()
            (top / "repodata/0a-primary.xml.gz").write_bytes(gzip.compress(raw))
        return discs.make(top, tmp_path / f"{top.name}.iso")

    return run


def built(tmp_path: Path, discs: Discs, *images: Path) -> Built:
    return build(images, tmp_path / "m", silent, fingerprint=discs.key.fingerprint)


def refused(tmp_path: Path, discs: Discs, *images: Path) -> tuple[Finding, ...]:
    with pytest.raises(MediaBlocked) as caught:
        built(tmp_path, discs, *images)
    return tuple(finding for finding in caught.value.findings if finding.blocks)


@pytest.mark.parametrize(
    ("one", "two"),
    [("1", "2"), ("ALL", "2"), ("ALL", "ALL"), ("all", "all"), ("1,2", None), ("1, 2", None),
     (None, None), (None, "2"), ("1", None)],
)  # fmt: skip
def test_every_form_of_disc_numbers_is_understood(
    one: str | None, two: str | None, tmp_path: Path, discs: Discs, make: Make
) -> None:
    images = [make(1, one, listed=ALL)]
    if one not in ("1,2", "1, 2"):
        images.append(make(2, two))
    else:
        shutil.rmtree(tmp_path / "1-0")  # one disc that holds both halves
        images = [_joined(tmp_path, discs, one)]
    found = built(tmp_path, discs, *reversed(images))
    assert found.published
    assert (found.published.packages, found.published.url_path) == (4, "/centos/6.3/os/x86_64/")


def _joined(tmp_path: Path, discs: Discs, number: str) -> Path:
    top = shutil.copytree(discs.tree / "d1", tmp_path / "joined")
    shutil.copytree(discs.tree / "d2/Packages", top / "Packages", dirs_exist_ok=True)
    (top / ".discinfo").write_text(f"{DISC_ID}\n6.3\nx86_64\n{number}\n")
    return discs.make(top, tmp_path / "joined.iso")


def test_without_any_number_a_missing_disc_is_named_by_disc_1_s_list(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    (found,) = refused(tmp_path, discs, make(1, None, listed=ALL))
    assert found.rule == "media.set_complete"
    assert found.evidence.startswith("disc 2 is not among the images given: disc 1 lists 2 package")
    untold = make(1, None, listed=dict.fromkeys(ALL, 0))
    (found,) = refused(tmp_path, discs, untold)
    assert found.evidence.startswith("2 packages that disc 1 lists are on no image, such as Pack")


def test_without_any_number_and_without_a_list_nothing_is_taken_for_complete(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    (found,) = refused(tmp_path, discs, make(1, None), make(2, None))
    assert (found.rule, found.answer) == ("media.set_complete", "unknown")


def test_a_disc_that_says_all_does_not_hide_that_another_is_missing(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    (found,) = refused(tmp_path, discs, make(1, "ALL", listed=ALL))
    assert (found.rule, found.evidence[:6]) == ("media.set_complete", "disc 2")


def test_more_than_two_discs_are_one_set_and_the_third_is_missed(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    listed = ALL | {"delta": 3}
    one, two = make(1, "1", listed=listed), make(2, "2", only=("beta",))
    three = make(2, "3", only=("delta",))
    (found,) = refused(tmp_path, discs, one, two)
    assert found.evidence.startswith("disc 3 is not among the images given: disc 1 lists 1 package")
    whole = built(tmp_path, discs, three, one, two)
    assert whole.published
    assert [medium.discs for medium in whole.published.media] == [(1,), (2,), (3,)]
    assert whole.published.packages == 4


def test_a_disc_without_a_number_that_is_given_twice_is_named(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    one, two = make(1, None, listed=ALL), make(2, None)
    copied = Path(shutil.copy(two, tmp_path / "copied.iso"))
    bare = discs.make(tmp_path / two.stem, tmp_path / "bare.iso", implant=False)
    linked = tmp_path / "linked.iso"
    linked.symlink_to(bare)
    assert look(bare)[0].implanted == ""
    for images in ((one, two, two), (one, two, copied), (one, bare, linked)):
        found = refused(tmp_path, discs, *images)
        assert [f.rule for f in found] == ["media.disc_once"]
        assert images[1].name in found[0].evidence


def test_without_discinfo_other_releases_and_architectures_are_still_refused(
    tmp_path: Path, discs: Discs, make: Make
) -> None:
    one = make(1, "1", listed=ALL)
    bare = shutil.copytree(discs.tree / "d2", tmp_path / "bare")
    (bare / ".discinfo").unlink()
    (bare / ".treeinfo").unlink()
    (bare / "Packages/x-1-1.el6.i686.rpm").write_bytes(b"")
    other = discs.make(bare, tmp_path / "i386.iso")
    (found,) = refused(tmp_path, discs, one, other)
    assert found.rule == "media.release_same"
    assert "i386.iso: ? 6.3 i386" in found.evidence
    older = discs.make(bare, tmp_path / "older.iso", volume="CentOS_6.2_Final")
    (found,) = refused(tmp_path, discs, one, older)
    assert "older.iso: ? 6.2 i386" in found.evidence


def test_a_disc_whose_packages_are_of_another_architecture_than_it_says_is_refused(
    tmp_path: Path, discs: Discs
) -> None:
    tree = shutil.copytree(discs.tree / "d2", tmp_path / "d2")
    (tree / ".discinfo").write_text(f"{DISC_ID}\n6.3\ni386\n2\n")
    (tree / ".treeinfo").unlink()
    (tree / "Packages/x-1-1.el6.x86_64.rpm").write_bytes(b"")
    found = refused(tmp_path, discs, discs.one, discs.make(tree, tmp_path / "x.iso"))
    assert {f.rule for f in found} == {"media.arch_agreed", "media.release_same"}


def test_a_disc_s_marks_are_told_from_whatever_tells_them(tmp_path: Path, discs: Discs) -> None:
    def told(medium: Medium) -> tuple[str, str, bool]:
        return medium.told_release, medium.told_arch, medium.numbered

    tree = shutil.copytree(discs.tree / "d2", tmp_path / "d2")
    assert told(look(discs.two)[0]) == ("6.3", "x86_64", True)
    (tree / ".discinfo").write_text("not a time\n6.3\n")
    assert told(look(discs.make(tree, tmp_path / "a.iso"))[0]) == ("6.3", "x86_64", False)
    (tree / ".treeinfo").unlink()
    assert told(look(discs.make(tree, tmp_path / "b.iso"))[0]) == ("6.3", "", False)
