"""Ctrl-C ends a durable run at once, with the documented code, and says how it goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import cli
from commands import migrate_run
def slow(*_):
    print("begun", flush=True)
    time.sleep(60)
migrate_run.workflow.WAYS["prepare"] = lambda _: (migrate_run.workflow.Step("slow", slow),)
sys.argv = ["groundlift", "--state", sys.argv[1], "migrate", "run", "web1"]
cli.main()
"""


def test_ctrl_c_does_not_wait_for_the_step_that_runs(tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", RUN, str(tmp_path)),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == "begun\n"
        begun = time.monotonic()
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130
        assert time.monotonic() - begun < 10
        assert "run the same command again to continue" in run.stderr.read()
