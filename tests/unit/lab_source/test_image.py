"""The disk's recipe, and the noise in its free blocks."""

import subprocess
from pathlib import Path

import pytest

from core.quantities import MIB
from lab import source_image
from lab.source_image import Identity, key


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    for name in ("id.pub", "host", "host.pub"):
        (tmp_path / name).write_text(name)
    return Identity(tmp_path / "id.pub", tmp_path / "host")


def test_another_key_needs_another_image(identity):
    before = key("tree", identity)
    assert key("tree", identity) == before
    identity.authorized.write_text("another")
    assert key("tree", identity) != before
    assert key("another tree", identity) != key("tree", identity)


def test_a_blank_in_a_path_does_not_split_a_command(identity, tmp_path):
    script = source_image._script(tmp_path / "a b", identity)
    assert f"add-drive '{tmp_path}/a b/disk.raw' format:raw" in script
    assert f"'if={tmp_path}/a b/root.img'" in script


@pytest.mark.parametrize(
    ("text", "spans"),
    [("5-9, 12", [(5, 9), (12, 12)]), ("7", [(7, 7)]), ("1-2,4-6", [(1, 2), (4, 6)])],
)
def test_free_blocks_are_read_as_spans(text, spans):
    assert source_image._spans(text) == spans


def test_noise_lies_in_free_blocks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(source_image, "ROOT", 64 * MIB)
    monkeypatch.setattr(source_image, "JUNK", 9 * MIB)
    tree, image = tmp_path / "tree", tmp_path / "root.img"
    tree.mkdir()
    content = bytes(range(256)) * 40_000
    (tree / "file").write_bytes(content)

    source_image._root(tree, image)
    clean = image.read_bytes()
    source_image._litter(image)

    check = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    subprocess.run(["debugfs", "-R", f"dump /file {tmp_path}/out", image], check=True)
    assert (tmp_path / "out").read_bytes() == content
    noisy = image.read_bytes()
    changed = sum(
        clean[at : at + 4096] != noisy[at : at + 4096] for at in range(0, len(clean), 4096)
    )
    assert abs(changed * 4096 - 9 * MIB) <= 4 * MIB


def test_the_file_system_has_no_features_that_el6_does_not_know(tmp_path, monkeypatch):
    monkeypatch.setattr(source_image, "ROOT", 64 * MIB)
    (tmp_path / "tree").mkdir()
    source_image._root(tmp_path / "tree", tmp_path / "root.img")
    shown = subprocess.run(
        ["dumpe2fs", "-h", tmp_path / "root.img"], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("Filesystem features")]
    features = set(line.partition(":")[2].split())
    assert "uninit_bg" in features
    assert not features & {"64bit", "metadata_csum", "metadata_csum_seed", "orphan_file"}
