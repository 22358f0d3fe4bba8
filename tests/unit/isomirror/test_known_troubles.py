"""What is known to go wrong with CentOS 6 discs elsewhere, each with what happens here.

The rules that judge discs are all named here: a new one needs its row.
"""

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.progress import silent
from core.rules import Answer, Finding
from isomirror import build as building
from isomirror import catalogue, expected, findings, media
from isomirror.build import MediaBlocked, build
from isomirror.export import export
from isomirror.release import current
from tests.unit.isomirror.conftest import Discs

# what goes wrong elsewhere → the rules that say so here, or the test that shows it can't happen
TROUBLES = {
    "a disc's own metadata points at media://": "test_what_is_published_has_no_media_addresses",
    "yum and dnf read it differently": "test_a_real_client_reads_the_repository_with_its_groups",
    "a disc of the set is missing": "media.set_complete media.listing_met media.first_disc",
    "long names are lost": "test_every_file_is_found_with_its_name_and_bytes",
    "groups are lost or changed": "media.first_disc media.groups_right media.groups_readable",
    "metadata that old yum can't read": "test_what_is_published_can_be_read_by_old_yum",
    "hidden files are lost, disc 2's win": "test_disc_1_s_hidden_files_are_published",
    "only the last disc is kept": "media.disc_once media.release_same",
    "not recognised, and nobody says why": "media.disc_known media.catalogued media.arch_agreed",
    "one bad package ends it all": "media.package_signed media.package_once",
    "any key is trusted": "media.key_pinned media.key_expired media.sums_signed",
    "copies of every package": "test_nothing_of_a_disc_is_copied",
    "loop devices run out, SELinux denies the mounted disc": "test_no_disc_is_mounted_nor_unpacked",
    "what was copied from a disc is closed": "test_an_export_is_open_to_whoever_serves_it",
    "the tree lacks the installer": "media.tree_whole",
    "a new release is unknown": "media.release_agreed media.disc_id_known media.size_known",
    "a download was cut short": (
        "media.image_whole media.image_readable media.sum_implanted media.sum_right "
        "media.sum_listed media.sum_agreed media.sum_strong media.image_still"
    ),
}


def test_every_rule_about_discs_stands_in_the_table_and_the_table_names_no_other() -> None:
    sources = (media, catalogue, expected, findings, building)
    text = "".join(Path(str(module.__file__)).read_text() for module in sources)
    rules = set(re.findall(r'"(media\.[a-z0-9_]+)"', text))
    named = {word for row in TROUBLES.values() for word in row.split() if word[:6] == "media."}
    assert named == rules


def test_every_test_the_table_names_is_there() -> None:
    folder = Path(__file__).parent
    text = "".join(path.read_text() for path in folder.glob("test_*.py"))
    for row in TROUBLES.values():
        for word in row.split():
            assert word[:6] == "media." or f"def {word}" in text, word


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, discs: Discs) -> Path:
    mirror = tmp_path_factory.mktemp("m")
    build((discs.two, discs.one), mirror, silent, fingerprint=discs.key.fingerprint)
    return mirror


def test_what_is_published_has_no_media_addresses(published: Path) -> None:
    for path in (published / "current/repodata").iterdir():
        raw = path.read_bytes()
        assert b"media://" not in (gzip.decompress(raw) if path.suffix == ".gz" else raw)


def test_what_is_published_can_be_read_by_old_yum(published: Path) -> None:
    for path in (published / "current/repodata").iterdir():
        assert path.suffix in (".gz", ".xml"), path
        assert path.suffix != ".gz" or path.read_bytes()[:2] == b"\x1f\x8b"
    listed = (published / "current/repodata/repomd.xml").read_text()
    assert set(re.findall(r'<checksum type="(\w+)"', listed)) == {"sha256"}
    assert "sqlite" not in listed


def test_disc_1_s_hidden_files_are_published(published: Path, discs: Discs) -> None:
    shown = current(published)
    assert shown
    assert [medium.discs for medium in shown.media] == [(1,), (2,)]
    text = (published / "current/tree.json").read_text()
    assert '".discinfo":[0,' in text
    assert '".treeinfo":[0,' in text
    assert "TRANS.TBL" not in text


def test_nothing_of_a_disc_is_copied(published: Path, discs: Discs) -> None:
    """The lab's packages hold 20 kB each that does not compress."""
    used = sum(path.stat().st_size for path in published.rglob("*") if path.is_file())
    assert used < 40_000


def test_no_disc_is_mounted_nor_unpacked(
    tmp_path: Path, discs: Discs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program is called at all, so none that needs a loop device or root."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was called")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("system", "posix_spawn", "execve", "fork"):
        monkeypatch.setattr(os, name, refuse)
    pin = discs.key.fingerprint
    assert build((discs.one, discs.two), tmp_path / "m", silent, fingerprint=pin).changed


def test_an_export_is_open_to_whoever_serves_it(published: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        export(published, tmp_path / "new" / "out", silent)
    finally:
        os.umask(before)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        if path.name != ".groundlift-export":
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


Change = Callable[[Path], None]


def _repomd(tree: Path, *, right: bool) -> None:
    groups = tree / "repodata" / "0dae-c6-x86_64-comps.xml"
    digest = hashlib.sha256(groups.read_bytes() + (b"" if right else b" ")).hexdigest()
    (tree / "repodata/repomd.xml").write_text(
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="group">'
        f'<checksum type="sha256">{digest}</checksum>'
        f'<location href="repodata/{groups.name}"/></data></repomd>'
    )


def _tree(tree: Path, kernel: str) -> None:
    with (tree / ".treeinfo").open("a") as file:
        file.write(f"[images-x86_64]\nkernel = images/pxeboot/{kernel}\n")
        file.write("[stage2]\nmainimage = images/install.img\n")
    if kernel == "vmlinuz":
        (tree / "images/install.img").write_bytes(b"x" * 4096)


def _torn(tree: Path) -> None:
    (tree / "repodata" / "0dae-c6-x86_64-comps.xml").write_text("<comps><group>")


def _silent(tree: Path) -> None:
    text = (tree / ".treeinfo").read_text()
    (tree / ".treeinfo").write_text(text.split("[images")[0])


@pytest.mark.parametrize(
    ("change", "rule", "answer", "blocks"),
    [
        (lambda tree: _repomd(tree, right=False), "media.groups_right", Answer.FAIL, True),
        (lambda tree: _repomd(tree, right=True), "media.groups_right", None, False),
        (lambda tree: _tree(tree, "gone"), "media.tree_whole", Answer.FAIL, False),
        (lambda tree: _tree(tree, "vmlinuz"), "media.tree_whole", Answer.PASS, False),
        (_silent, "media.tree_whole", Answer.UNKNOWN, False),
        (_torn, "media.groups_readable", Answer.FAIL, True),
    ],
    ids=[
        "groups changed",
        "groups right",
        "no installer",
        "an installer",
        "nothing said",
        "groups torn",
    ],
)
def test_disc_1_s_own_lists_are_held_against_it(
    change: Change, rule: str, answer: Answer | None, blocks: bool, discs: Discs, tmp_path: Path
) -> None:
    tree = shutil.copytree(discs.tree / "d1", tmp_path / "d1")
    change(tree)
    images = (discs.make(tree, tmp_path / "one.iso"), discs.two)
    found: tuple[Finding, ...]
    try:
        found = build(images, tmp_path / "m", silent, fingerprint=discs.key.fingerprint).findings
    except MediaBlocked as blocked:
        found = blocked.findings
    said = [(f.answer, f.blocks) for f in found if f.rule == rule]
    assert said == ([(answer, blocks)] if answer else [])
