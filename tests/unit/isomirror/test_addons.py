"""Add-on media beside the discs: a directory, a tar or an ISO, each with its own key and sums."""

import hashlib
import os
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import BadDocument, UsageProblem
from core.progress import silent
from core.rules import Answer, Finding, blockers
from isomirror.build import Built, MediaBlocked, build
from isomirror.extend import Given, add, remove
from isomirror.openpgp import dearmoured
from isomirror.release import current
from tests.unit.isomirror.conftest import Discs, Key, client, sh, sign

ALL = ["alpha", "beta", "delta", "epsilon", "gamma", "zeta"]
EPSILON = "epsilon-1.0-1.el6.noarch.rpm"


@pytest.fixture
def mirror(tmp_path: Path, publish: Callable[..., Path]) -> Path:
    return publish(tmp_path / "mirror")


def archive(extras: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        file.add(extras, ".")
    return path


def added(mirror: Path, medium: Path, key: Key, **more: Path | str) -> Built:
    given = Given(medium, key=key.public, fingerprint=key.fingerprint, **more)  # type: ignore[arg-type]
    return add(given, mirror, silent)


def refused(mirror: Path, medium: Path, key: Key, **more: Path | str) -> tuple[Finding, ...]:
    before = current(mirror)
    with pytest.raises(MediaBlocked) as caught:
        added(mirror, medium, key, **more)
    assert current(mirror) == before
    return blockers(caught.value.findings)


@pytest.mark.parametrize("kind", ["directory", "tar", "iso"])
def test_a_medium_of_any_kind_is_published_beside_the_discs_and_installed_from(
    kind: str, tmp_path: Path, mirror: Path, discs: Discs, extras: Path, stranger: Key,
    serve: Callable[[Path], str],
) -> None:  # fmt: skip
    medium = {
        "directory": lambda: Path(shutil.copytree(extras, tmp_path / "more")),
        "tar": lambda: archive(extras, tmp_path / "more.tar"),
        "iso": lambda: discs.make(extras, tmp_path / "more.iso", volume="MORE", implant=False),
    }[kind]()
    built = added(mirror, medium, stranger)
    assert built.published is not None
    (addon,) = built.published.addons
    assert (addon.name, addon.kind, addon.packages) == ("more", kind, 2)
    assert addon.unchanged()
    url = serve(mirror)
    dnf = client(url, tmp_path)
    conf = tmp_path / "dnf.conf"
    conf.write_text(conf.read_text().strip() + f" {url}RPM-GPG-KEY-more\n")
    assert query_as(dnf) == ALL
    sh(*dnf, "-y", "install", "--downloadonly", "--downloaddir", str(tmp_path), "epsilon")
    assert (tmp_path / EPSILON).read_bytes() == (extras / EPSILON).read_bytes()
    assert (tmp_path / "beta-1.0-1.el6.noarch.rpm").exists()
    with urllib.request.urlopen(url + "RPM-GPG-KEY-more", timeout=10) as answer:
        assert answer.read() == stranger.public.read_bytes()


def query_as(dnf: tuple[str, ...]) -> list[str]:
    return sorted(sh(*dnf, "repoquery", "--qf", "%{name}").split())


def test_groups_of_both_are_united_with_each_package_once(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key, serve: Callable[[Path], str]
) -> None:
    added(mirror, extras, stranger)
    members = sh(*client(serve(mirror), tmp_path), "group", "info", "core").split()
    assert [members.count(name) for name in ("alpha", "beta", "epsilon")] == [1, 1, 1]
    assert "Other" not in members  # the discs' name of the group counts


def test_adding_twice_changes_nothing_and_removing_brings_back_what_was_before(
    mirror: Path, extras: Path, stranger: Key
) -> None:
    before = current(mirror)
    assert added(mirror, extras, stranger, name="more").changed
    assert not added(mirror, extras, stranger, name="more").changed
    assert remove("more", mirror, silent).changed
    after = current(mirror)
    assert before is not None
    assert after is not None
    assert (after.identity, after.addons) == (before.identity, ())


def test_a_build_keeps_the_media_that_were_added(
    tmp_path: Path, mirror: Path, discs: Discs, extras: Path, stranger: Key
) -> None:
    added(mirror, extras, stranger, name="more")
    tree = shutil.copytree(discs.tree / "d2", tmp_path / "d2")
    (tree / "note").write_text("x")
    two = discs.make(tree, tmp_path / "two.iso")
    built = build((discs.one, two), mirror, silent, fingerprint=discs.key.fingerprint)
    assert built.changed
    assert built.published is not None
    assert [addon.name for addon in built.published.addons] == ["more"]
    assert built.published.packages == 6


def test_a_bad_package_is_named_and_hides_no_other(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key, key: Key
) -> None:
    medium = Path(shutil.copytree(extras, tmp_path / "more"))
    raw = bytearray((medium / EPSILON).read_bytes())
    raw[-100] ^= 1
    (medium / EPSILON).write_bytes(raw)
    sign(next(medium.glob("sub/*.rpm")), key, "sha256", "--rpmv3")
    found = refused(mirror, medium, stranger)
    assert [finding.where for finding in found] == [
        f"more (more):/{EPSILON} at byte 0",
        "more (more):/sub/zeta-1.0-1.el6.noarch.rpm at byte 0",
    ]
    assert key.fingerprint[-16:] in found[1].evidence


def test_a_key_must_be_the_pinned_one(mirror: Path, extras: Path, stranger: Key, key: Key) -> None:
    with pytest.raises(MediaBlocked) as caught:
        add(Given(extras, key=key.public, fingerprint=stranger.fingerprint), mirror, silent)
    assert [f.rule for f in caught.value.findings] == ["addon.key_pinned"]
    with pytest.raises(UsageProblem, match=stranger.fingerprint):
        add(Given(extras, key=stranger.public), mirror, silent)
    assert {f.rule for f in refused(mirror, extras, key)} == {"media.package_signed"}


def test_a_key_on_the_medium_counts_when_its_fingerprint_is_given(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    medium = Path(shutil.copytree(extras, tmp_path / "more"))
    with pytest.raises(UsageProblem, match="carries no key"):
        add(Given(medium, fingerprint=stranger.fingerprint), mirror, silent)
    shutil.copy(stranger.public, medium / "RPM-GPG-KEY-other")
    assert add(Given(medium, fingerprint=stranger.fingerprint), mirror, silent).changed


def test_the_same_package_again_is_published_once_and_another_of_its_name_is_a_finding(
    tmp_path: Path, mirror: Path, extras: Path, packages: dict[str, Path], stranger: Key
) -> None:
    medium = tmp_path / "more"
    medium.mkdir()
    shutil.copy(packages["alpha"], medium)
    built = add(Given(medium), mirror, silent)  # signed by the discs' own key
    assert built.published is not None
    assert built.published.packages == 4
    assert not [f for f in built.findings if f.rule == "addon.package_once"]
    other = Path(shutil.copytree(extras, tmp_path / "other"))
    sign(shutil.copy(packages["beta"], other / "b.rpm"), stranger, "sha256", "--rpmv3")
    built = added(mirror, other, stranger)
    (found,) = (f for f in built.findings if f.rule == "addon.package_once")
    assert (found.where, found.answer, found.blocks) == ("other:/b.rpm", Answer.FAIL, False)
    assert built.published is not None
    assert built.published.packages == 6


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_sums_are_compared_file_by_file_or_of_the_archive(
    algorithm: str, tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    def listed(*files: Path) -> str:
        return "".join(
            f"{hashlib.new(algorithm, file.read_bytes()).hexdigest()}  {file.name}\n"
            for file in files
        )

    sums = tmp_path / "sums.txt"
    files = sorted(extras.rglob("*.rpm"))
    sums.write_text(listed(*files))
    assert added(mirror, extras, stranger, name="good", sums=sums).changed
    lines = sums.read_text().splitlines()
    value, name = lines[0].split()
    sums.write_text(f"{value[1:]}{value[0]}  {name}\n{lines[1]}\n")
    found = refused(mirror, extras, stranger, name="bad", sums=sums)
    assert [f.rule for f in found] == ["addon.sum_right"]
    tar = archive(extras, tmp_path / "a.tar")
    sums.write_text(listed(tar))
    assert added(mirror, tar, stranger, sums=sums).changed
    sums.write_text(listed(*files))
    found = refused(mirror, archive(extras, tmp_path / "b.tar"), stranger, sums=sums)
    assert [f.rule for f in found] == ["addon.sum_listed"]


def test_a_medium_that_is_gone_blocks_the_next_build_until_it_is_removed(
    tmp_path: Path, mirror: Path, discs: Discs, extras: Path, stranger: Key
) -> None:
    medium = Path(shutil.copytree(extras, tmp_path / "more"))
    added(mirror, medium, stranger)
    shutil.rmtree(medium)
    with pytest.raises(MediaBlocked) as caught:
        build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
    (found,) = blockers(caught.value.findings)
    assert (found.rule, "mirror remove more" in found.remediation) == (
        "addon.medium_readable",
        True,
    )
    published = current(mirror)
    assert published is not None
    assert not published.addons[0].unchanged()
    assert remove("more", mirror, silent).changed


def test_what_is_no_medium_is_refused_with_a_remedy(tmp_path: Path, mirror: Path) -> None:
    packed = tmp_path / "more.tar.gz"
    packed.write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(UsageProblem) as caught:
        add(Given(packed, fingerprint="A" * 40), mirror, silent)
    assert "gunzip --keep more.tar.gz" in caught.value.hint
    for name in ("../up", "CentOS-6", ""):
        with pytest.raises(UsageProblem, match="no name for a medium"):
            add(Given(tmp_path, name=name or "-"), mirror, silent)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MediaBlocked) as blocked:
        add(Given(empty), mirror, silent)
    assert [f.rule for f in blockers(blocked.value.findings)] == ["addon.medium_readable"]
    with pytest.raises(UsageProblem, match="no add-on medium"):
        remove("nothing", mirror, silent)
    with pytest.raises(UsageProblem, match="nothing is published"):
        remove("nothing", tmp_path / "elsewhere", silent)


def test_a_tar_that_climbs_out_is_refused(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    path = tmp_path / "more.tar"
    with tarfile.open(path, "w") as file:
        file.add(extras / EPSILON, "../../etc/x.rpm")
    assert [f.rule for f in refused(mirror, path, stranger)] == ["addon.medium_readable"]
    os.truncate(archive(extras, path), 30_000)
    assert [f.rule for f in refused(mirror, path, stranger)] == ["addon.medium_readable"]


def test_a_checksum_file_without_sums_is_a_bad_document(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    (tmp_path / "sums").write_text("nothing here\n")
    with pytest.raises(BadDocument, match="no checksums"):
        added(mirror, extras, stranger, sums=tmp_path / "sums")


def test_the_served_repo_file_names_every_key_and_the_address_it_was_asked_at(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key, serve: Callable[[Path], str]
) -> None:
    added(mirror, extras, stranger, name="more")
    url = serve(mirror)
    for host, base in (
        ("mirror.example:80", "http://mirror.example:80/" + url.split("/", 3)[3]),
        ("x/../\\evil", url),
    ):
        asked = urllib.request.Request(url + "groundlift.repo", headers={"Host": host})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            text = answer.read().decode()
        assert f"baseurl={base}\n" in text
        keys = f"{base}RPM-GPG-KEY-CentOS-6 {base}RPM-GPG-KEY-more"
        assert f"gpgcheck=1\ngpgkey={keys}\n" in text
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b'href="groundlift.repo"' in answer.read()
    conf = tmp_path / "yum.repos.d"
    conf.mkdir()
    (conf / "groundlift.repo").write_text(text)  # a client has no more than that
    (tmp_path / "dnf.conf").write_text(
        f"[main]\ncachedir={tmp_path}/c\npersistdir={tmp_path}/p\nreposdir={conf}\n"
        f"logdir={tmp_path}\n"
    )
    root = ("--releasever=6", "--installroot", str(tmp_path / "r"))
    listed = sh(
        "dnf", "-q", "-c", str(tmp_path / "dnf.conf"), *root, "repoquery", "--qf", "%{name}"
    )
    assert sorted(listed.split()) == ALL


@pytest.mark.parametrize("form", ["binary", "two keys", "two blocks"])
def test_clients_get_the_pinned_key_alone_and_armoured(
    form: str, tmp_path: Path, mirror: Path, extras: Path, stranger: Key, key: Key
) -> None:
    raw = {
        "binary": dearmoured(stranger.public.read_bytes()),
        "two keys": dearmoured(stranger.public.read_bytes()) + dearmoured(key.public.read_bytes()),
        "two blocks": stranger.public.read_bytes() + key.public.read_bytes(),
    }[form]
    file = tmp_path / "key"
    file.write_bytes(raw)
    given = Given(extras, "more", file, stranger.fingerprint)
    assert add(given, mirror, silent).changed
    shown = sh("gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons",
               str(mirror / "current" / "RPM-GPG-KEY-more"))  # fmt: skip
    found = [line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr")]
    assert found == [stranger.fingerprint]
    sh("rpmkeys", "--dbpath", str(tmp_path / "db"), "--import",
       str(mirror / "current" / "RPM-GPG-KEY-more"))  # fmt: skip


@pytest.mark.parametrize("dry_run", [True, False])
def test_groups_that_can_t_be_read_are_found_before_anything_is_written(
    dry_run: bool, tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    shutil.copytree(extras, tmp_path / "torn")
    (tmp_path / "torn" / "comps.xml").write_text("<comps><group>")
    given = Given(tmp_path / "torn", "torn", stranger.public, stranger.fingerprint)
    with pytest.raises(MediaBlocked) as caught:
        add(given, mirror, silent, dry_run=dry_run)
    assert [f.rule for f in caught.value.findings if f.blocks] == ["addon.groups_readable"]
