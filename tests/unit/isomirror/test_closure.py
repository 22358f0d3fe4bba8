"""Closure proofs over repositories of real packages, and dnf as the second opinion."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Blocked, OutsideFailed
from core.progress import silent
from core.rules import Answer, blockers
from isomirror import closure, metadata
from isomirror.closure import Proof
from tests.unit.isomirror.conftest import Discs, Key

ROOT = Path(__file__).parents[3]

SPEC = """Name: {name}
Version: {version}
Release: 1
Summary: Test
License: none
BuildArch: noarch
{tags}
%description
Test.
%install
mkdir -p %{{buildroot}}/opt/{name} %{{buildroot}}/usr/bin
touch %{{buildroot}}/opt/{name}/file %{{buildroot}}/usr/bin/{name}
%files
/opt/{name}/file
/usr/bin/{name}
"""
COMPS = """<?xml version="1.0" encoding="UTF-8"?>
<comps>
<group><id>core</id><packagelist>
<packagereq type="mandatory">base</packagereq><packagereq type="default">shell</packagereq>
<packagereq type="default">gone</packagereq></packagelist></group>
<group><id>web</id><packagelist><packagereq type="mandatory">site</packagereq>
<packagereq type="conditional" requires="site">site-zh</packagereq>
<packagereq type="optional">absent</packagereq></packagelist></group>
<group><id>broken</id><packagelist><packagereq type="mandatory">never</packagereq></packagelist>
</group></comps>
"""
# name → (version, tags)
PACKAGES = {
    "base": ("1", "Requires: shell"),
    "shell": ("4", "Provides: /bin/shell"),
    "site": ("2", "Requires: lib >= 2\nRequires: /bin/shell"),
    "lib": ("2", "Requires: deep"),
    "deep": ("1", "Requires: base"),
    "by-file": ("1", "Requires: /opt/deep/file"),
    "wants-newer": ("1", "Requires: lib >= 3"),
    "two-faults": ("1", "Requires: nowhere\nRequires: broken-below"),
    "broken-below": ("1", "Requires: libnowhere.so.1()(64bit)\nRequires: deep"),
    "foe": ("1", "Conflicts: site"),
    "successor": ("3", "Obsoletes: old\nProvides: old = 3"),
    "wants-old": ("1", "Requires: old"),
}


@dataclass
class Repository:
    root: Path
    media: dict[str, str] = field(default_factory=dict)

    def prove(self, *roots: str) -> Proof:
        found = metadata.from_folder(self.root)
        return closure.prove(found, roots, lambda path: path.split("/")[0], silent)

    def dnf(self, *roots: str) -> set[str] | None:
        """Names of what dnf would install beside the minimal install; None when it can't."""
        done = subprocess.run(
            (
                *("dnf", "--assumeno", f"--installroot={self.root}/root", "--releasever=6"),
                *("--repofrompath", f"r,file://{self.root}", "--repo=r", "--nogpgcheck"),
                *("--setopt=install_weak_deps=0", "--setopt=reposdir=/nonexistent"),
                *("--setopt=cachedir=" + f"{self.root}/cache", "install", "base", *roots),
            ),
            capture_output=True,
            text=True,
        )
        if "Operation aborted" not in done.stdout + done.stderr:
            return None
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" ")]
        return {row[0] for row in rows if len(row) > 4 and row[1] == "noarch"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root = tmp_path_factory.mktemp("repo")
    for number, (name, (version, tags)) in enumerate(PACKAGES.items()):
        spec = root / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, tags=tags))
        place = root / ("one" if number % 2 else "two")
        place.mkdir(exist_ok=True)
        _run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {root}/build", "--define",
             f"_rpmdir {place}", "--define", "_build_name_fmt %{NAME}.rpm", str(spec))  # fmt: skip
    (root / "comps.xml").write_text(COMPS)
    _run("createrepo_c", "-q", "--compatibility", "--no-database", "-g", "comps.xml", str(root))
    return Repository(root)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def names(proof: Proof) -> set[str]:
    return {package.nevra.rsplit("-", 2)[0] for package in proof.packages}


def blocking(proof: Proof) -> list[tuple[str, str, str]]:
    return [(f.rule, f.where, f.evidence) for f in blockers(proof.findings)]


def test_what_is_needed_is_named_with_its_medium_and_what_wants_it(repository: Repository) -> None:
    proof = repository.prove("site")
    assert blocking(proof) == []
    assert proof.minimal == 2
    rows = {p.nevra: (p.medium, p.wanted_by) for p in proof.packages}
    assert rows == {
        "site-2-1.noarch": ("two", ""),
        "lib-2-1.noarch": ("one", "site-2-1.noarch"),
        "deep-1-1.noarch": ("two", "lib-2-1.noarch"),
    }


@pytest.mark.parametrize(
    "roots",
    [["site"], ["by-file"], ["lib", "deep"], ["wants-newer"], ["two-faults"], ["foe", "site"],
     ["wants-old"], ["foe"], ["/usr/bin/lib"]],
)  # fmt: skip
def test_dnf_comes_to_the_same(repository: Repository, roots: list[str]) -> None:
    proof, theirs = repository.prove(*roots), repository.dnf(*roots)
    if theirs is None:
        assert blocking(proof)
    else:
        assert not blocking(proof)
        assert names(proof) == theirs - {"base", "shell"}


def test_every_missing_requirement_is_named_with_the_way_to_it(repository: Repository) -> None:
    proof = repository.prove("two-faults", "wants-newer", "site")
    assert {lost.requirement: lost.wanted_by for lost in proof.missing} == {
        "nowhere": ("two-faults-1-1.noarch",),
        "libnowhere.so.1()(64bit)": ("two-faults-1-1.noarch", "broken-below-1-1.noarch"),
        "lib >= 3": ("wants-newer-1-1.noarch",),
    }
    assert proof.packages == ()
    rules = {rule for rule, _, _ in blocking(proof)}
    assert rules == {"closure.requirement_met", "closure.installable"}


def test_what_is_named_and_not_there_blocks(repository: Repository) -> None:
    proof = repository.prove("site", "nope", "@nogroup", "/opt/nope", "@broken", "lib.i686")
    assert [where for rule, where, _ in blocking(proof) if rule == "closure.root_exists"] == [
        "nope", "@nogroup", "/opt/nope", "never (of @broken)", "lib.i686",
    ]  # fmt: skip


def test_two_that_exclude_each_other_block(repository: Repository) -> None:
    ((rule, _, evidence),) = blocking(repository.prove("foe", "site"))
    assert rule == "closure.installable"
    assert "conflicts with site" in evidence


def test_a_group_brings_its_members_and_lacks_only_what_counts(repository: Repository) -> None:
    proof = repository.prove("@web")
    assert names(proof) == {"site", "lib", "deep"}
    lacking = [f.where for f in proof.findings if f.answer is Answer.FAIL]
    assert lacking == ["gone (of @core)", "site-zh (of @web, with site)"]
    assert blocking(proof) == []


def test_without_a_minimal_install_nothing_is_proven(
    repository: Repository, tmp_path: Path
) -> None:
    found = metadata.from_folder(repository.root)
    bare = metadata.Metadata(found.primary, found.filelists, b"", found.names)
    proof = closure.prove(bare, ("site",), str, silent)
    assert [where for _, where, _ in blocking(proof)] == ["@core"]


def fetch_from(root: Path, change: Callable[[str, bytes], bytes]) -> Callable[[str], bytes]:
    return lambda path: change(path, (root / path).read_bytes())


def test_metadata_that_is_not_what_its_list_says_proves_nothing(repository: Repository) -> None:
    for kind in ("primary", "filelists", "comps"):

        def spoil(path: str, raw: bytes, kind: str = kind) -> bytes:
            return bytes([raw[0] ^ 1]) + raw[1:] if kind in path else raw

        with pytest.raises(metadata.BadMetadata) as caught:
            metadata.read(fetch_from(repository.root, spoil), "here")
        assert kind in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"repodata/", b"../../etc/", "leads to"),
        (b'type="sha256"', b'type="md5"', "the checksum 'md5'"),
        (b"<repomd ", b"<!DOCTYPE x><repomd ", "entities"),
        (b"</repomd>", b"", "no XML"),
    ],
)
def test_a_list_that_misleads_is_refused(
    repository: Repository, old: bytes, new: bytes, said: str
) -> None:
    raw = (repository.root / "repodata/repomd.xml").read_bytes()
    assert old in raw
    with pytest.raises(metadata.BadMetadata) as caught:
        metadata.read(lambda _: raw.replace(old, new), "here")
    assert said in caught.value.message
    assert caught.value.hint


def test_a_list_without_packages_is_refused() -> None:
    with pytest.raises(metadata.BadMetadata) as caught:
        metadata.read(lambda _: b"<repomd/>", "here")
    assert "no primary and no filelists" in caught.value.message


@given(st.binary(max_size=300))
def test_damaged_package_lists_are_an_answer_not_a_crash(raw: bytes) -> None:
    names = {"primary": "x-primary.xml", "filelists": "x-filelists.xml"}
    try:
        proof = closure.prove(metadata.Metadata(raw, raw, b"", names), ("site",), str, silent)
    except (OutsideFailed, Blocked):
        return
    assert blockers(proof.findings)


def test_the_verb_names_each_medium_and_ends_with_3_when_something_is_missing(
    discs: Discs, extras: Path, stranger: Key, tmp_path: Path
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        argv = (sys.executable, "-m", "cli", "--state", str(tmp_path), "mirror", *words)
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    code, _, said = call("closure", "gamma")
    assert (code, "nothing is published" in said) == (2, True)
    call("build", str(discs.one), str(discs.two), "--fingerprint", discs.key.fingerprint)
    code, shown, _ = call("closure", "delta", "gamma", "--json")
    assert code == 0
    found = {p["nevra"]: p["medium"] for p in json.loads(shown)["packages"]}
    assert found == {
        "delta-1.0-1.el6.noarch": discs.two.name,
        "gamma-1.0-1.el6.noarch": discs.one.name,
    }
    code, shown, said = call("closure", "zeta")
    assert (code, "[zeta]" in shown, "mirror add" in said) == (3, True, True)
    key = ("--key", str(stranger.public), "--fingerprint", stranger.fingerprint)
    assert call("add", str(extras), "--name", "site", *key)[0] == 0
    code, shown, _ = call("closure", "zeta", "--all")
    assert code == 0
    assert "zeta-1.0-1.el6.noarch" in shown
    assert "from site" in shown
