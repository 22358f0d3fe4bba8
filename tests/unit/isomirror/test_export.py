"""The repository as plain files: complete, right, resumable, hard to point at the wrong place."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import UsageProblem
from core.progress import silent
from isomirror.export import MARK, SUMS, SourceChanged, export
from isomirror.extend import Given, add, remove
from isomirror.filesystem import check_names, kind_of
from tests.unit.isomirror.conftest import Discs, Key, client, sh

TREE = "centos/6.3/os/x86_64"


@pytest.fixture
def mirror(tmp_path: Path, publish: Callable[..., Path]) -> Path:
    return publish(tmp_path / "m")


def contents(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_an_exported_tree_is_the_discs_files_with_sums_and_a_client_installs_from_it(
    tmp_path: Path, mirror: Path, discs: Discs, extras: Path, stranger: Key
) -> None:
    add(Given(extras, "more", stranger.public, stranger.fingerprint), mirror, silent)
    target = tmp_path / "disk"
    found = export(mirror, target, silent)
    tree = target / TREE
    assert (found.written, found.kept) == (found.files, 0)
    for name in ("Packages/alpha-1.0-1.el6.noarch.rpm", "images/pxeboot/initrd.img"):
        assert (tree / name).read_bytes() == (discs.tree / "d1" / name).read_bytes()
    sh("sha256sum", "--quiet", "--check", SUMS, cwd=target)
    listed = {line[66:] for line in (target / SUMS).read_text().splitlines()}
    assert listed | {SUMS, MARK} == set(contents(target))
    assert not [path for path in target.rglob("*") if path.is_symlink()]
    text = (tree / "groundlift.repo").read_text()
    keys = f"file://{tree}/RPM-GPG-KEY-CentOS-6 file://{tree}/RPM-GPG-KEY-more"
    assert f"gpgcheck=1\ngpgkey={keys}\n" in text
    dnf = client("unused", tmp_path)
    (tmp_path / "dnf.conf").write_text(
        f"[main]\ncachedir={tmp_path}/c\npersistdir={tmp_path}/p\nreposdir={tree}\n"
        f"logdir={tmp_path}\n"
    )
    sh(*dnf, "-y", "install", "--downloadonly", "--downloaddir", str(tmp_path), "epsilon")
    assert (tmp_path / "epsilon-1.0-1.el6.noarch.rpm").exists()


def test_a_second_run_writes_only_what_is_missing_or_wrong(tmp_path: Path, mirror: Path) -> None:
    target = tmp_path / "disk"
    export(mirror, target, silent)
    before = contents(target)
    one, two, *_ = sorted(target.rglob("*.rpm"))
    one.unlink()
    raw = bytearray(two.read_bytes())
    raw[500] ^= 1
    two.write_bytes(raw)
    kernel = target / TREE / "images/pxeboot/vmlinuz"  # no package: compared with the disc
    kernel.write_bytes(bytes(kernel.stat().st_size))
    found = export(mirror, target, silent)
    assert (found.written, found.kept) == (3, found.files - 3)
    assert contents(target) == before


def test_what_the_repository_no_longer_holds_is_removed_and_nothing_else(
    tmp_path: Path, mirror: Path, extras: Path, stranger: Key
) -> None:
    target = tmp_path / "disk"
    add(Given(extras, "more", stranger.public, stranger.fingerprint), mirror, silent)
    export(mirror, target, silent)
    (target / "notes.txt").write_text("the engineer's own")
    remove("more", mirror, silent)
    found = export(mirror, target, silent)
    assert found.removed > 0
    assert not [p for p in target.rglob("*") if "more" in p.name or "epsilon" in p.name]
    assert (target / "notes.txt").exists()
    listed = {line[66:] for line in (target / SUMS).read_text().splitlines()}
    assert listed | {SUMS, MARK, "notes.txt"} == set(contents(target))


def test_a_dry_run_writes_nothing_and_tells_what_it_would(tmp_path: Path, mirror: Path) -> None:
    found = export(mirror, tmp_path / "disk", silent, dry_run=True)
    assert not (tmp_path / "disk").exists()
    assert found.written == found.files > 10


def test_other_places_are_refused(tmp_path: Path, mirror: Path) -> None:
    full = tmp_path / "home"
    full.mkdir()
    (full / "letter").write_text("x")
    with pytest.raises(UsageProblem, match="holds other things"):
        export(mirror, full, silent)
    with pytest.raises(UsageProblem, match="inside the mirror"):
        export(mirror, mirror / "out", silent)
    with pytest.raises(UsageProblem, match="no directory"):
        export(mirror, full / "letter", silent)
    with pytest.raises(UsageProblem, match="nothing is published"):
        export(tmp_path / "nowhere", tmp_path / "disk", silent)
    assert contents(full) == {"letter": b"x"}


def test_a_new_disk_with_what_a_file_system_puts_there_is_taken(
    tmp_path: Path, mirror: Path
) -> None:
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    assert export(mirror, tmp_path / "disk", silent).written > 10


def test_links_in_the_target_are_not_followed(tmp_path: Path, mirror: Path) -> None:
    target, away = tmp_path / "disk", tmp_path / "away"
    export(mirror, target, silent)
    away.write_bytes(b"precious")
    package = next(target.rglob("alpha*.rpm"))
    package.unlink()
    package.symlink_to(away)
    export(mirror, target, silent)
    assert away.read_bytes() == b"precious"
    assert not package.is_symlink()
    shutil.move(target / "centos", tmp_path / "elsewhere")
    (target / "centos").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageProblem, match="stands where a directory belongs"):
        export(mirror, target, silent)


def test_an_image_that_was_exchanged_is_not_exported(
    tmp_path: Path, discs: Discs, publish: Callable[..., Path]
) -> None:
    one = Path(shutil.copy(discs.one, tmp_path / "one.iso"))
    mirror = publish(tmp_path / "m", one, discs.two)
    os.utime(one, ns=(1, 1))
    with pytest.raises(SourceChanged) as caught:
        export(mirror, tmp_path / "disk", silent)
    assert caught.value.where == str(one)
    assert not (tmp_path / "disk" / SUMS).exists()


def test_holes_of_an_image_are_written_out(
    tmp_path: Path, discs: Discs, publish: Callable[..., Path]
) -> None:
    tree = shutil.copytree(discs.tree / "d1", tmp_path / "d1")
    (tree / "images" / "zeros.img").write_bytes(bytes(3_000_000))
    dense = discs.make(tree, tmp_path / "dense.iso")
    sparse = tmp_path / "sparse.iso"
    sh("cp", "--sparse=always", str(dense), str(sparse))
    assert sparse.stat().st_blocks < dense.stat().st_blocks
    export(publish(tmp_path / "m", sparse, discs.two), tmp_path / "disk", silent)
    written = tmp_path / "disk" / TREE / "images" / "zeros.img"
    assert written.read_bytes() == bytes(3_000_000)
    assert written.stat().st_blocks * 512 >= 3_000_000


def test_what_fat_can_t_hold_is_refused_before_anything_is_written() -> None:
    check_names("ext4", {"a/B": 5 << 30, "a/b": 1})
    check_names(
        "vfat", {"Packages/libstdc++-4.4.6-4.el6.x86_64.rpm": (4 << 30) - 1, ".discinfo": 1}
    )
    for sizes, words in (
        ({"big.img": 4 << 30}, "no file of 4 GiB"),
        ({"a/what?.rpm": 1}, "does not allow"),
        ({"a/b.": 1}, "does not allow"),
        ({"a/B": 1, "a/b": 1}, "one name"),
    ):
        with pytest.raises(UsageProblem, match=words):
            check_names("vfat", sizes)
    check_names("exfat", {"big.img": 5 << 30})
    assert kind_of(Path("/proc")) == "proc"
