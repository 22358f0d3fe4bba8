"""A moment that breaks at any time is no copy: full or vanished snapshots, reboots."""

import contextlib
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from migrate import moment, quiesce, transfer
from migrate.transfer import Options
from tests.unit.transfer import images, working
from tests.unit.transfer.estate import Estate

BREAKS = ("full", "truncated", "rebooted")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid():
        pytest.skip("making a logical volume needs root")
    return working.disk(tmp_path_factory.mktemp("moments"))


def make(template: Path, root: Path) -> Estate:
    root.mkdir(exist_ok=True)
    shutil.copy(template, root / "disk")
    return working.make(root, root / "disk")


def finish(old: Estate) -> None:
    chosen = Options(rehearsal=True, rate=32 * images.MIB)
    transfer.finish(old.source, old.target, old.plan, old.folder, chosen)


@pytest.fixture(scope="session")
def usual(template: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that nothing disturbs."""
    root = tmp_path_factory.mktemp("usual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moment, "DEVICES", str(root / "dev"))
        begun = time.monotonic()
        finish(make(template, root))
    return time.monotonic() - begun


def broken(old: Estate, how: str, part: float) -> None:
    """Break the moment, if there is one by now."""
    source = old.source
    if not source.snapshots:
        return
    if how == "full":
        source.used = "100.00"
    elif how == "truncated":
        path = source.device / "vg" / "groundlift-root"
        with contextlib.suppress(FileNotFoundError):  # just taken away: the pass is over
            os.truncate(path, int(path.stat().st_size * part))
    else:
        source.boot = "boot-2"


def test_a_moment_that_breaks_anywhere_is_no_copy(
    template: Path, tmp_path: Path, seed: int, usual: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(moment, "DEVICES", str(tmp_path / "dev"))
    monkeypatch.setattr(moment, "EVERY", 0.2)
    old, how = make(template, tmp_path), BREAKS[seed % len(BREAKS)]
    after = threading.Timer(dice.uniform(0, usual), broken, (old, how, dice.random()))
    after.start()
    try:
        finish(old)
    except OutsideFailed:
        assert not old.replica.exists()
        assert quiesce.record(old.folder) is None
        assert not old.source.snapshots
    else:
        assert old.replica.read_bytes() == working.expected(old)
        assert quiesce.record(old.folder).working
    finally:
        after.cancel()
        after.join()
    assert not list(old.root.glob("stopped-*"))
