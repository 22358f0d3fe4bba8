"""Bringing the source server up and taking it down, as far as no machine has to run."""

import subprocess
from pathlib import Path

import pytest

from core.errors import Locked, OutsideFailed
from core.progress import silent
from core.state import lock
from lab import source, source_machine
from lab.estate import Estate
from lab.source_run import run


@pytest.fixture
def estate(tmp_path: Path, monkeypatch) -> Estate:
    monkeypatch.setattr(source_machine, "speaks_ssh", lambda _: False)
    monkeypatch.setattr(source_machine, "page", lambda *_: None)
    lab = tmp_path / "lab"
    (lab / "source").mkdir(parents=True)
    return Estate(lab)


def refuse(*_, **__):
    raise AssertionError("the machine was started")


def test_a_server_that_was_cut_over_stays_off(estate, monkeypatch):
    monkeypatch.setattr(source_machine, "start", refuse)
    record = estate.directory.parent / "migrate/web1/cutover.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    now = source.up(estate, silent)
    assert (now.moved, now.pid) == (True, None)


def test_a_server_whose_address_somebody_else_has_stays_off(estate, monkeypatch):
    monkeypatch.setattr(source_machine, "start", refuse)
    monkeypatch.setattr(source_machine, "speaks_ssh", lambda _: True)
    assert source.up(estate, silent).moved


def test_a_fresh_server_does_not_start_beside_the_one_it_became(estate, monkeypatch):
    monkeypatch.setattr(source_machine, "start", refuse)
    monkeypatch.setattr(source_machine, "stop", lambda _: None)
    monkeypatch.setattr(source_machine, "speaks_ssh", lambda _: True)
    with pytest.raises(OutsideFailed, match="taken by another machine"):
        source.up(estate, silent, fresh=True)


def test_nothing_built_is_said_so(estate):
    now = source.status(estate)
    assert (now.built, now.pid, now.answers, now.moved) == (False, None, False, False)


def test_two_runs_do_not_build_at_once(estate):
    with lock(estate.directory / "source/lock", "a test"), pytest.raises(Locked):
        source.build(estate, silent)


def test_an_old_image_is_kept_as_long_as_the_disk_stands_on_it(estate):
    home = estate.directory / "source"
    old, older, new = (home / f"pristine-{name}.raw" for name in ("old", "older", "new"))
    for image in (old, older, new):
        with image.open("wb") as file:
            file.truncate(1 << 20)
    source._new_disk(home / "disk.qcow2", old)
    source._tidy(home, keep=new)
    assert sorted(home.glob("pristine-*")) == [new, old]


def test_a_disk_survives_moving_the_state_directory(estate, tmp_path):
    home = estate.directory / "source"
    image = home / "pristine-1.raw"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    source._new_disk(home / "disk.qcow2", image)
    estate.directory.rename(tmp_path / "elsewhere")
    checked = subprocess.run(["qemu-img", "check", tmp_path / "elsewhere/source/disk.qcow2"])
    assert checked.returncode == 0


def test_a_program_that_fails_is_named_with_its_last_words():
    with pytest.raises(OutsideFailed, match="sh ended with code 3: no room"):
        run(["sh", "-c", "echo no room >&2; exit 3"])


def test_a_program_that_is_missing_is_named():
    with pytest.raises(OutsideFailed, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_a_program_that_hangs_is_ended():
    with pytest.raises(OutsideFailed, match="did not end within"):
        run(["sleep", "60"], timeout=0.1)
