"""Two discs to one repository that a real client reads; anything wrong publishes nothing."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from core.progress import silent
from core.rules import Finding, blockers
from isomirror.build import MediaBlocked, build
from isomirror.release import current
from tests.unit.isomirror.conftest import Discs, Key, client, query, sh, sign


def blocked(tmp_path: Path, discs: Discs, *images: Path) -> tuple[Finding, ...]:
    with pytest.raises(MediaBlocked) as caught:
        build(images, tmp_path / "m", silent, fingerprint=discs.key.fingerprint)
    assert caught.value.exit_code == 3
    assert current(tmp_path / "m") is None
    assert not (tmp_path / "m" / "current").exists()
    return blockers(caught.value.findings)


def rules(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in findings}


def test_a_good_pair_is_published_in_any_order_and_then_found_unchanged(
    tmp_path: Path, discs: Discs
) -> None:
    pin = discs.key.fingerprint
    built = build((discs.two, discs.one), tmp_path / "m", silent, fingerprint=pin)
    assert built.changed
    assert built.published is not None
    assert (built.published.packages, built.published.release) == (4, "6.3")
    assert built.published.url_path == "/centos/6.3/os/x86_64/"
    stamp = (tmp_path / "m" / "current" / "published.json").stat().st_mtime_ns
    again = build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin)
    assert not again.changed
    assert (tmp_path / "m" / "current" / "published.json").stat().st_mtime_ns == stamp


def test_a_dry_run_verifies_and_publishes_nothing(tmp_path: Path, discs: Discs) -> None:
    built = build((discs.one, discs.two), tmp_path / "m", silent,
                  fingerprint=discs.key.fingerprint, dry_run=True)  # fmt: skip
    assert built.published is None
    assert built.findings
    assert not (tmp_path / "m" / "current").exists()


def test_one_disc_alone_is_not_enough(tmp_path: Path, discs: Discs) -> None:
    assert rules(blocked(tmp_path, discs, discs.one)) == {"media.set_complete"}
    assert rules(blocked(tmp_path, discs, discs.two)) == {"media.set_complete", "media.first_disc"}


def test_the_same_disc_twice_is_named(tmp_path: Path, discs: Discs) -> None:
    copy = tmp_path / "copy.iso"
    shutil.copy(discs.one, copy)
    found = blocked(tmp_path, discs, discs.one, copy)
    assert {"media.disc_once", "media.set_complete"} <= rules(found)
    assert any("copy.iso" in finding.evidence for finding in found)


def test_a_disc_cut_short_is_named_with_both_sizes(tmp_path: Path, discs: Discs) -> None:
    short = tmp_path / "short.iso"
    shutil.copy(discs.two, short)
    os.truncate(short, short.stat().st_size - 4096)
    found = blocked(tmp_path, discs, discs.one, short)
    assert rules(found) == {"media.image_whole"}
    assert found[0].where == "short.iso"


def test_discs_of_two_releases_are_refused(tmp_path: Path, discs: Discs) -> None:
    tree = tmp_path / "d2"
    shutil.copytree(discs.tree / "d2", tree)
    (tree / ".discinfo").write_text("1323560292.885204\n6.2\nx86_64\n2\n")
    (tree / ".treeinfo").unlink()
    other = discs.make(tree, tmp_path / "other.iso", volume="CentOS_6.2_Final")
    assert rules(blocked(tmp_path, discs, discs.one, other)) == {"media.release_same"}


def test_a_disc_whose_marks_disagree_is_refused(tmp_path: Path, discs: Discs) -> None:
    odd = discs.make(discs.tree / "d2", tmp_path / "odd.iso", volume="CentOS_6.4_Final")
    assert "media.release_agreed" in rules(blocked(tmp_path, discs, discs.one, odd))


def test_another_system_s_disc_is_refused(tmp_path: Path, discs: Discs) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "readme").write_text("x")
    strange = discs.make(tmp_path / "t", tmp_path / "x.iso", volume="PHOTOS")
    assert "media.disc_known" in rules(blocked(tmp_path, discs, discs.one, strange))


def test_a_changed_byte_names_disc_package_and_offset_and_hides_no_other(
    tmp_path: Path, discs: Discs
) -> None:
    bad = tmp_path / "bad.iso"
    shutil.copy(discs.two, bad)
    raw = bytearray(bad.read_bytes())
    starts = [at for at in range(len(raw)) if raw.startswith(b"\xed\xab\xee\xdb", at)]
    assert len(starts) == 2
    for start in starts:
        raw[start + 15_000] ^= 1
    bad.write_bytes(raw)
    found = blocked(tmp_path, discs, discs.one, bad)
    assert rules(found) == {"media.package_signed", "media.sum_right"}
    places = sorted(finding.where for finding in found if finding.rule == "media.package_signed")
    assert [place.split(" at ")[0] for place in places] == [
        "bad.iso:/Packages/beta-1.0-1.el6.noarch.rpm",
        "bad.iso:/Packages/delta-1.0-1.el6.noarch.rpm",
    ]
    assert {int(place.split(" ")[-1]) for place in places} == set(starts)


def test_a_changed_byte_outside_packages_is_found_by_the_disc_s_own_sum(
    tmp_path: Path, discs: Discs
) -> None:
    bad = tmp_path / "bad.iso"
    raw = bytearray(discs.one.read_bytes())
    at = raw.find((discs.tree / "d1" / "images" / "pxeboot" / "vmlinuz").read_bytes()[:64])
    raw[at + 100] ^= 1
    bad.write_bytes(raw)
    assert rules(blocked(tmp_path, discs, bad, discs.two)) == {"media.sum_right"}
    verdict = subprocess.run(("checkisomd5", str(bad)), capture_output=True).returncode
    assert verdict == 1  # the tool agrees
    assert subprocess.run(("checkisomd5", str(discs.one)), capture_output=True).returncode == 0


def test_a_package_of_a_stranger_is_refused(tmp_path: Path, discs: Discs, stranger: Key) -> None:
    tree = tmp_path / "d2"
    shutil.copytree(discs.tree / "d2", tree)
    (package,) = tree.glob("Packages/beta*")
    sign(package, stranger, "sha256", "--rpmv3")
    disc = discs.make(tree, tmp_path / "x.iso")
    found = blocked(tmp_path, discs, discs.one, disc)
    assert rules(found) == {"media.package_signed"}
    assert stranger.fingerprint[-16:] in found[0].evidence


def test_a_disc_with_another_key_than_the_pinned_one_is_refused(
    tmp_path: Path, discs: Discs, stranger: Key
) -> None:
    with pytest.raises(MediaBlocked) as caught:
        build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=stranger.fingerprint)
    (found,) = blockers(caught.value.findings)
    assert found.rule == "media.key_pinned"
    assert discs.key.fingerprint in found.evidence
    assert stranger.fingerprint in found.evidence
    assert not (tmp_path / "m" / "current").exists()


def test_a_real_client_reads_the_repository_with_its_groups_and_signatures(
    tmp_path: Path, discs: Discs, served: str
) -> None:
    dnf = client(served, tmp_path)
    assert query(served, tmp_path) == ["alpha", "beta", "delta", "gamma"]
    assert "Core" in sh(*dnf, "group", "list", "--hidden")
    sh(*dnf, "-y", "install", "--downloadonly", "--downloaddir", str(tmp_path), "alpha")
    assert (tmp_path / "beta-1.0-1.el6.noarch.rpm").exists()  # needed across the discs
    db = ("rpmkeys", "--dbpath", str(tmp_path / "db"))
    sh(*db, "--import", str(discs.key.public))
    assert "NOT OK" not in sh(*db, "-K", str(tmp_path / "alpha-1.0-1.el6.noarch.rpm"))


def test_a_disc_cut_in_half_is_a_finding_and_hides_no_other_disc_s(
    tmp_path: Path, discs: Discs
) -> None:
    half, odd = tmp_path / "half.iso", tmp_path / "odd.iso"
    shutil.copy(discs.one, half)
    os.truncate(half, half.stat().st_size // 2)
    discs.make(discs.tree / "d2", odd, volume="CentOS_6.4_Final")
    found = blocked(tmp_path, discs, half, odd)
    assert {(finding.rule, finding.where) for finding in found} == {
        ("media.image_whole", "half.iso"),
        ("media.release_agreed", "odd.iso"),
    }
    assert str(half.stat().st_size) in next(f for f in found if f.where == "half.iso").evidence


def test_no_disc_image_at_all_is_a_finding(tmp_path: Path, discs: Discs) -> None:
    noise = tmp_path / "noise.iso"
    noise.write_bytes(os.urandom(100_000))
    found = blocked(tmp_path, discs, discs.one, noise)
    assert {(finding.rule, finding.where) for finding in found} == {
        ("media.image_readable", "noise.iso")
    }


def test_a_blocked_build_leaves_what_was_published_before(tmp_path: Path, discs: Discs) -> None:
    pin = discs.key.fingerprint
    before = build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin).published
    with pytest.raises(MediaBlocked):
        build((discs.one,), tmp_path / "m", silent, fingerprint=pin)
    assert current(tmp_path / "m") == before


@pytest.mark.parametrize("name", ["published.json", "tree.json", "repodata/repomd.xml"])
def test_a_repository_that_lost_a_file_is_built_again(
    tmp_path: Path, discs: Discs, name: str
) -> None:
    pin = discs.key.fingerprint
    build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin)
    (tmp_path / "m" / "current" / name).unlink()
    assert build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin).changed
    assert (tmp_path / "m" / "current" / name).exists()


@pytest.mark.parametrize("name", ["tree.json", "repodata/repomd.xml", "primary"])
def test_a_repository_with_a_damaged_file_is_built_again(
    tmp_path: Path, discs: Discs, name: str
) -> None:
    """Whoever reads it says `build the mirror again`, and that has to help."""
    pin, release = discs.key.fingerprint, tmp_path / "m" / "current"
    build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin)
    damaged = release / name
    if name == "primary":
        (damaged,) = release.glob("repodata/*primary.xml.gz")
    whole = damaged.stat().st_size
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin).changed
    (mended,) = release.glob(f"repodata/*{name}.xml.gz") if name == "primary" else [release / name]
    assert abs(mended.stat().st_size - whole) < 10


def test_marks_that_would_climb_out_of_the_address_are_not_believed(
    tmp_path: Path, discs: Discs
) -> None:
    trees = [shutil.copytree(discs.tree / name, tmp_path / name) for name in ("d1", "d2")]
    for number, tree in enumerate(trees, 1):
        (tree / ".discinfo").write_text(f"1341569670.539525\n6.3\n../../../etc\n{number}\n")
    images = [discs.make(tree, tmp_path / f"{tree.name}.iso") for tree in trees]
    pin = discs.key.fingerprint
    published = build(images, tmp_path / "m", silent, fingerprint=pin).published
    assert published is not None
    assert published.url_path == "/centos/6.3/os/x86_64/"  # from .treeinfo


def test_two_packages_of_one_path_are_refused(
    tmp_path: Path, discs: Discs, packages: dict[str, Path]
) -> None:
    tree = shutil.copytree(discs.tree / "d2", tmp_path / "d2")
    shutil.copy(packages["beta"], tree / "Packages" / packages["alpha"].name)
    found = blocked(tmp_path, discs, discs.one, discs.make(tree, tmp_path / "x.iso"))
    assert rules(found) == {"media.package_once"}


def test_a_package_that_disc_1_lists_and_no_disc_holds_is_warned_of(
    tmp_path: Path, discs: Discs
) -> None:
    tree = shutil.copytree(discs.tree / "d1", tmp_path / "d1")
    listing = "".join(
        f'<location xml:base="media://1#2" href="Packages/{name}"/>\n'
        for name in ("absent-1-1.el6.noarch.rpm", "beta-1.0-1.el6.noarch.rpm")
    )
    (tree / "repodata" / "0a-primary.xml.gz").write_bytes(gzip.compress(listing.encode()))
    one = discs.make(tree, tmp_path / "x.iso")
    built = build((one, discs.two), tmp_path / "m", silent, fingerprint=discs.key.fingerprint)
    (found,) = (finding for finding in built.findings if finding.rule == "media.listing_met")
    assert found.evidence == "1 absent: Packages/absent-1-1.el6.noarch.rpm"
    assert not found.blocks


def test_a_disc_whose_md5_was_not_implanted_is_warned_of_and_packages_still_judged(
    tmp_path: Path, discs: Discs
) -> None:
    bare = discs.make(discs.tree / "d2", tmp_path / "bare.iso", implant=False)
    pin = discs.key.fingerprint
    built = build((discs.one, bare), tmp_path / "m", silent, fingerprint=pin)
    warned = [f for f in built.findings if f.rule == "media.sum_implanted" and f.answer != "pass"]
    assert [finding.where for finding in warned] == ["bare.iso"]
    raw = bytearray(bare.read_bytes())
    raw[raw.index(b"\xed\xab\xee\xdb") + 15_000] ^= 1
    bare.write_bytes(raw)
    assert rules(blocked(tmp_path / "n", discs, discs.one, bare)) == {"media.package_signed"}
