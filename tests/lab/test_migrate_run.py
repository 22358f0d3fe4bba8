"""The whole migration of the lab's server, its controller killed again and again on the way.

Needs the deployed cloud; moves web1 for good, so it comes after every test that asks web1.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import source
from lab.estate import Estate

ROOT = Path(__file__).parents[2]
PAGE = "http://10.77.0.50/"

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]

# The task after whose start the controller is killed, and up to how many seconds after. The order
# is the run's; each kill is followed by a run that continues.
KILLS = (
    ("discover", 8),
    ("assess", 0.5),
    ("full pass", 2),
    ("full pass", 12),
    ("full pass", 20),
    ("quiesce", 2),
    ("final pass", 5),
    ("final pass", 15),
    ("convert", 4),
    ("convert", 25),
    ("boot", 10),
    ("switch web1 off", 4),
    ("compare", 3),
)


@dataclass(frozen=True)
class Ended:
    code: int | None
    lines: tuple[str, ...]


def migrate(state: Path, task: str = "", seconds: float = 0.0, *more: str) -> Ended:
    """Run the migration; kill it ``seconds`` after ``task`` starts, if it does."""
    process = subprocess.Popen(
        (sys.executable, "-m", "cli", "--state", str(state), "migrate", "run", "web1",
         "--consent", "web1", *more),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if task and re.match(rf"{re.escape(task)}.*: …", line):
            time.sleep(seconds)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return Ended(None, tuple(lines))
    return Ended(process.wait(), tuple(lines))


def goes_off(estate: Estate) -> bool:
    """Whether the old machine's power goes within half a minute."""
    end = time.monotonic() + 30
    while source.status(estate).pid is not None and time.monotonic() < end:
        time.sleep(1)
    return source.status(estate).pid is None


def answer(path: str) -> bytes:
    with urllib.request.urlopen(PAGE + path, timeout=60) as page:
        return bytes(page.read())


def test_a_server_moves_into_the_cloud_though_its_controller_dies_at_every_stage(
    cloud: Path, estate: Estate
) -> None:
    before = answer("")
    committed = json.loads(answer("rows"))["last"]
    dice = random.Random(20120709)
    killed = 0
    for task, most in KILLS:
        ended = migrate(cloud, task, dice.uniform(0, most))
        killed += ended.code is None
        if ended.code == 3 and "never heard that it is to be off" in "\n".join(ended.lines):
            # killed between the order and its answer: an engineer looks, and says so
            assert goes_off(estate)
            ended = migrate(cloud, "compare", 1.0, "--off")
        assert ended.code in (None, 0), "\n".join(ended.lines[-20:])
        if ended.code == 0:
            break
    if killed < len(KILLS) or ended.code is None:
        ended = migrate(cloud)
        assert ended.code == 0, "\n".join(ended.lines[-20:])
    assert killed >= 10

    folder = cloud / "migrate" / "web1"
    proof = json.loads((folder / "transfer.json").read_text())
    assert [disk["differing"] for disk in proof["disks"]] == [0]
    # What the last passes sent went straight from the server to the hypervisor. The one after a
    # kill may find nothing to send.
    passes = proof["disks"][0]["passes"]
    last = [done for done in passes if done["kind"] == "final" and done["sent"]]
    assert last
    assert all(0 < done["direct"] <= done["wire"] for done in last)
    rehearsal = json.loads((folder / "verify.json").read_text())
    assert {item["answer"] for item in rehearsal["findings"]} == {"pass"}
    end = json.loads((folder / "cutover.json").read_text())
    assert {item["answer"] for item in end["findings"]} == {"pass"}
    assert 0 < end["downtime"] < 3600

    assert answer("") == before
    rows = json.loads(answer("rows"))
    assert rows["last"] >= committed
    assert rows["rows"] == rows["last"]  # none of the committed numbers is missing


def test_a_finished_migration_changes_nothing_when_called_again(cloud: Path) -> None:
    stamps = {
        path: path.stat().st_mtime_ns for path in (cloud / "migrate" / "web1").rglob("*.json")
    }
    assert stamps
    begun = time.monotonic()
    assert migrate(cloud).code == 0
    assert time.monotonic() - begun < 30
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_report_shows_the_whole_run_in_both_languages(cloud: Path, tmp_path: Path) -> None:
    for language, word in (("en", "web1"), ("zh_CN", "web1")):
        page = tmp_path / f"{language}.html"
        done = subprocess.run(
            (sys.executable, "-m", "cli", "--state", str(cloud), "report", "--lang", language,
             "--output", str(page)),
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        text = page.read_text()
        assert word in text
        assert "verify.page_same" in text
        assert not re.search(r"(src|href)=[\"']https?://", text)
