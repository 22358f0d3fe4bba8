"""Failing disks, full disks, two at once, media that change meanwhile: a sentence, the documented
exit code, and what was published before stays."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import Locked, OutsideFailed
from core.progress import Event, Kind, silent
from core.rules import blockers
from isomirror.build import MediaBlocked, build
from isomirror.export import SUMS, export
from isomirror.extend import Given, add
from isomirror.iso9660 import read_index
from isomirror.release import current
from tests.faults.disks import failing
from tests.unit.isomirror.conftest import Discs, Key, sh

ROOT = Path(__file__).parents[3]


@pytest.fixture
def package_at(discs: Discs) -> int:
    """A byte inside a package of disc 2."""
    (extent,) = read_index(discs.two).files["Packages/beta-1.0-1.el6.noarch.rpm"]
    return extent.offset + 9000


def test_a_sector_that_can_t_be_read_names_package_and_disc_and_publishes_nothing(
    tmp_path: Path, discs: Discs, package_at: int
) -> None:
    mirror, pin = tmp_path / "m", discs.key.fingerprint
    with failing(discs.two, package_at, tmp_path) as (two, trigger):
        trigger.touch()
        with pytest.raises(MediaBlocked) as caught:
            build((discs.one, two), mirror, silent, fingerprint=pin)
        found = {finding.rule: finding for finding in blockers(caught.value.findings)}
        assert current(mirror) is None
        package = found["media.package_signed"]
        assert "beta" in package.where
        assert "Input/output error" in package.evidence
        assert "reading stopped at byte" in found["media.sum_right"].evidence
        trigger.unlink()  # read again, it is the same disc, and disc 1 is not read again
        tasks: list[str] = []
        built = build((discs.one, two), mirror, lambda event: tasks.append(event.task),
                      fingerprint=pin)  # fmt: skip
        assert built.changed
        assert f"verify {discs.one.name}" not in tasks


def test_a_disc_whose_index_can_t_be_read_is_the_outside_s_fault(
    tmp_path: Path, discs: Discs
) -> None:
    with failing(discs.one, 16 * 2048 + 100, tmp_path) as (one, trigger):
        trigger.touch()
        with pytest.raises(OutsideFailed, match="Input/output error"):
            build((one, discs.two), tmp_path / "m", silent, fingerprint=discs.key.fingerprint)
    assert current(tmp_path / "m") is None


def test_an_export_from_a_failing_disk_names_the_place_and_goes_on_when_it_can_be_read(
    tmp_path: Path, discs: Discs, package_at: int, publish: Callable[..., Path]
) -> None:
    with failing(discs.two, package_at, tmp_path) as (two, trigger):
        mirror, target = publish(tmp_path / "m", discs.one, two), tmp_path / "disk"
        trigger.touch()
        drop = os.open(two, os.O_RDONLY)
        os.posix_fadvise(drop, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(drop)
        with pytest.raises(OutsideFailed, match="Input/output error") as caught:
            export(mirror, target, silent)
        assert caught.value.where.startswith(str(two))
        assert not (target / SUMS).exists()
        assert not list(target.rglob("beta-1.0-1.el6.noarch.rpm"))
        before = len(list(target.rglob("*.rpm")))
        trigger.unlink()
        assert export(mirror, target, silent).kept >= before > 0


def test_an_add_on_on_a_failing_disk_leaves_what_is_published(
    tmp_path: Path, extras: Path, stranger: Key, publish: Callable[..., Path]
) -> None:
    mirror = publish(tmp_path / "m")
    before = current(mirror)
    tar = tmp_path / "more.tar"
    sh("tar", "-C", str(extras), "-cf", str(tar), ".")
    with failing(tar, tar.read_bytes().index(b"\xed\xab\xee\xdb") + 9000, tmp_path) as (view, bad):
        bad.touch()
        with pytest.raises(MediaBlocked) as caught:
            add(Given(view, "more", stranger.public, stranger.fingerprint), mirror, silent)
    assert any("Input/output error" in f.evidence for f in blockers(caught.value.findings))
    assert current(mirror) == before


def test_an_image_replaced_while_it_is_read_is_refused(tmp_path: Path, discs: Discs) -> None:
    two = Path(shutil.copy(discs.two, tmp_path / "two.iso"))
    other = Path(shutil.copy(discs.two, tmp_path / "other.iso"))

    def replace(event: Event) -> None:
        if event.task == "verify two.iso" and event.kind is Kind.START and other.exists():
            other.replace(two)

    with pytest.raises(MediaBlocked) as caught:
        build((discs.one, two), tmp_path / "m", replace, fingerprint=discs.key.fingerprint)
    assert {finding.rule for finding in blockers(caught.value.findings)} == {"media.image_still"}
    assert current(tmp_path / "m") is None
    again = build((discs.one, two), tmp_path / "m", silent, fingerprint=discs.key.fingerprint)
    assert again.changed


def test_two_at_once_end_with_5_and_the_first_goes_on(
    tmp_path: Path, discs: Discs, extras: Path, publish: Callable[..., Path]
) -> None:
    mirror, pin = publish(tmp_path / "m"), discs.key.fingerprint
    with (mirror / "lock").open("a+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for work in (
            lambda: build((discs.one, discs.two), mirror, silent, fingerprint=pin),
            lambda: add(Given(extras), mirror, silent),
            lambda: export(mirror, tmp_path / "disk", silent),
        ):
            with pytest.raises(Locked) as caught:
                work()
            assert caught.value.exit_code == 5
    assert not (tmp_path / "disk").exists()
    assert not build((discs.one, discs.two), mirror, silent, fingerprint=pin).changed


SMALL = 'mount -t tmpfs -o "$1" none "$0" || exit 99\nshift\n'


def small_disk(options: str, place: Path, script: str, *words: str) -> "Done":
    """Run shell lines with a file system of its own at ``place``; "$@" is the program."""
    place.mkdir(parents=True, exist_ok=True)
    cli = (sys.executable, "-m", "cli", *words)
    isolated = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL + script)
    return subprocess.run(
        (*isolated, str(place), options, *cli), capture_output=True, text=True, cwd=ROOT, timeout=60
    )


Done = subprocess.CompletedProcess[str]


@pytest.mark.parametrize("options", ["size=4k", "size=16k", "size=40k", "size=1m,nr_inodes=9"])
def test_a_build_on_a_full_disk_publishes_nothing_and_goes_on_when_there_is_room(
    options: str, tmp_path: Path, discs: Discs
) -> None:
    state = tmp_path / "state"
    script = (
        '"$@"; echo "first $?"; find "$0" -name current; find "$0" -name published.json\n'
        'mount -o remount,size=9m,nr_inodes=999 "$0"; "$@"; echo "then $?"'
    )
    done = small_disk(
        options, state, script, "--state", str(state), "mirror", "build",
        str(discs.one), str(discs.two), "--fingerprint", discs.key.fingerprint,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == "first 4", done
    assert "can't write the repository: No space left on device" in done.stderr
    assert not [line for line in lines if "current" in line]
    assert lines[-1] == "then 0", done


@pytest.mark.parametrize(
    ("options", "words"),
    [("size=3m", "are needed, "), ("size=50m,nr_inodes=14", "No space left on device")],
)
def test_an_export_to_a_full_disk_ends_with_4_and_goes_on_when_there_is_room(
    options: str, words: str, tmp_path: Path, publish: Callable[..., Path]
) -> None:
    publish(tmp_path / "mirror")
    target = tmp_path / "disk"
    script = (
        '"$@"; echo "first $?"; mount -o remount,size=50m,nr_inodes=999 "$0"\n'
        '"$@" --json; echo "then $?"; cd "$0" && sha256sum --quiet -c SHA256SUMS && echo right'
    )
    call = ("--state", str(tmp_path), "mirror", "export", str(target))
    done = small_disk(options, target, script, *call)
    assert done.stdout.startswith("first 4\n"), done
    assert words in done.stderr
    assert done.stdout.endswith("then 0\nright\n"), done
    told = json.loads(done.stdout.removeprefix("first 4\n").split("then 0")[0])
    assert told["kept"] + told["written"] == told["files"]
    assert (told["kept"] > 0) == ("inodes" in options)
