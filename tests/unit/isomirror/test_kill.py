"""kill -9 of a build at any moment: nothing half-published, and the next run finishes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from core.progress import silent
from isomirror.build import build
from isomirror.release import current
from isomirror.serve import Catalogue
from tests.unit.isomirror.conftest import Discs

ROOT = Path(__file__).parents[3]
KILLS = 12


def start(state: Path, discs: Discs) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        (sys.executable, "-m", "cli", "--state", str(state), "mirror", "build", str(discs.one),
         str(discs.two), "--fingerprint", discs.key.fingerprint),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def whole(mirror: Path) -> bool:
    """Either nothing is published, or all of it and readable."""
    if not (mirror / "current").exists():
        return current(mirror) is None
    catalogue = Catalogue(mirror)
    catalogue.check()
    metadata = [path for path in catalogue.files if "/repodata/" in path]
    return catalogue.published.packages == 4 and len(metadata) == 5


def test_a_build_killed_at_any_point_publishes_all_or_nothing(tmp_path: Path, discs: Discs) -> None:
    begun = time.monotonic()
    assert start(tmp_path / "probe", discs).wait(60) == 0
    usual = time.monotonic() - begun
    dice = random.Random(6302012)
    killed = 0
    for turn in range(KILLS * 3):
        state = tmp_path / f"s{turn % 3}"  # some go on where an earlier one was killed
        process = start(state, discs)
        time.sleep(dice.uniform(0.3, 0.95) * usual)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait(60)
        assert whole(state / "mirror")
        if killed >= KILLS:
            break
    assert killed >= 10
    for number in range(3):
        mirror = tmp_path / f"s{number}" / "mirror"
        build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
        assert whole(mirror)
        left = [path.name for path in (mirror / "releases").iterdir() if path.name[0] == "."]
        assert left == []
