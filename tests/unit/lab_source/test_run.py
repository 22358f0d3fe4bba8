"""What is left when a build is killed: nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys
from lab.source_run import run
run(
    ["sh", "-c", "mount -t tmpfs gl-test $0 && touch $0/inside $1 && sleep 300", *sys.argv[1:]],
    contained=True,
)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_killed_build_leaves_no_mounts_and_no_processes(tmp_path):
    place, ready = tmp_path / "place", tmp_path / "ready"
    place.mkdir()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(place), str(ready)])
    deadline = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ready.exists()
    assert not any(place.iterdir())  # its mount is its own

    process.send_signal(signal.SIGKILL)
    process.wait()
    while _alive(str(ready)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(str(ready))
    assert str(place) not in Path("/proc/mounts").read_text()


def _alive(word: str) -> bool:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(word in line for line in listed.stdout.splitlines())
