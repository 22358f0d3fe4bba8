"""`make bench NAME=downtime`: how long a server stands still, against what was forecast before.

On the lab, begun anew (its discs and trees are kept): the cloud is installed, web1, whose writer
never stops, is copied live and rehearsed, works for a while, and is moved. The forecast knows what
Groundlift measured on the way, and no more. Meanwhile the server's page is asked for the last
committed row several times a second; the writer stops before the pages do, so the last answer is
the end of what was committed. The last line is JSON: ``ratio`` is the measured standstill by the
forecast, ``lost`` the committed rows that the moved server does not have, ``differing`` the chunks
of a proof made afterwards. Throws away what was moved in this lab before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from commands.connect import open_case
from commands.demo import SERVER, SITE, page, stages
from core.documents import load
from core.state import State
from migrate import forecast, transfer
from migrate.cutover import CutOver
from migrate.forecast import Forecast
from migrate.proof import Proof
from migrate.verify import Verified

ROOT = Path(__file__).parents[1]
ROWS = "http://10.77.0.50/rows"
SILENT = 30.0  # seconds; no migration of the lab is that short
# On the moved server, which takes orders again: numbers that were lost would be given anew.
OLD = """import sys, pymysql
link = pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="webapp", database="webapp")
cursor = link.cursor()
cursor.execute("SELECT MAX(seq) FROM orders WHERE taken < FROM_UNIXTIME(%s)", (sys.argv[1],))
print(cursor.fetchone()[0])
"""


class Watch:
    """Asks the server for its last committed row until told to stop, or until it has been silent
    for so long that only its successor can answer."""

    def __init__(self) -> None:
        self._last, self._asked = 0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        heard = time.monotonic()
        while not self._end.wait(0.2) and time.monotonic() < heard + SILENT:
            with suppress(OSError, ValueError), urllib.request.urlopen(ROWS, timeout=5) as answer:
                self._last = max(self._last, int(json.load(answer)["last"]))
                self._asked += 1
                heard = time.monotonic()

    def stop(self) -> tuple[int, int]:
        """The highest row seen, and how many answers there were."""
        self._end.set()
        self._thread.join()
        return self._last, self._asked


def kept(state: State, rest: datetime) -> int:
    """The last row that the moved server has of the time before it stood still."""
    host = open_case(state, SERVER, None).source_host()
    try:
        before = int(rest.timestamp() + SILENT)
        told = host.run(("runuser", "-u", "webapp", "--", "python3", "-c", OLD, str(before)))
    finally:
        host.close()
    return int(told.text)


def verb(state: State, *arguments: str) -> None:
    """One verb as on site; what it says goes to stderr, and its failure ends the bench."""
    print(f"groundlift {' '.join(arguments)}", file=sys.stderr)
    environment = {**os.environ, "GROUNDLIFT_STATE": str(state.root)}
    subprocess.run(
        (sys.executable, "-m", "cli", *arguments),
        cwd=ROOT, env=environment, stdout=sys.stderr, check=True,
    )  # fmt: skip


def anew(state: State) -> None:
    """The cloud installed and the old server at work, as if nothing had been moved before."""
    verb(state, "mirror", "stop")
    verb(state, "lab", "down")
    for part in ("migrate", "deploy", "workflows"):
        shutil.rmtree(state.root / part, ignore_errors=True)
    for stage in stages(state, SITE):
        if stage.arguments[0] == "migrate":
            return
        fresh = ("--fresh",) if stage.arguments == ("lab", "up") else ()
        verb(state, *stage.arguments, *fresh)


def phases(folder: Path, told: Forecast, end: CutOver) -> dict[str, tuple[float, float]]:
    """Forecast and measured seconds of what stands in the documents with its time."""
    copied, tried = transfer.read(folder), load(folder / "verify.json", Verified)
    measured = {
        ("quiesce", "last pass", "read back"): (copied.downtime_started, copied.proved),
        ("convert", "define", "verify"): (copied.proved, tried.when),
        ("fence", "start and compare"): (tried.when, end.when),
    }
    return {
        ", ".join(names): (
            sum(part.seconds or 0.0 for part in told.parts if part.name in names),
            (last - first).total_seconds(),
        )
        for names, (first, last) in measured.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=int, default=60, help="seconds of work after the rehearsal")
    given = parser.parse_args()
    state = State(Path(os.environ.get("GROUNDLIFT_STATE", ROOT / ".state")).absolute())
    folder = state.migrate(SERVER)
    anew(state)
    verb(state, "migrate", "run", SERVER)
    verb(state, "migrate", "run", SERVER, "--rehearse", "--consent", SERVER)
    time.sleep(given.work)
    watch = Watch()
    verb(state, "migrate", "run", SERVER, "--consent", SERVER)
    committed, asked = watch.stop()
    verb(state, "migrate", "prove", SERVER)
    there = json.loads(page(ROWS))
    end, told = load(folder / "cutover.json", CutOver), forecast.read(folder)
    assert told is not None and told.seconds is not None, "a part of the forecast is not known"
    for name, (foreseen, took) in phases(folder, told, end).items():
        print(f"{name:32} forecast {foreseen:6.1f} s, measured {took:6.1f} s")
    print(f"row {committed} was the last one seen of the old server, asked {asked} times")
    lost = max(0, committed - kept(state, transfer.read(folder).downtime_started))
    lost += there["last"] - there["rows"]
    result = {
        "bench": "downtime",
        "ratio": round(end.downtime / told.seconds, 3),
        "forecast": round(told.seconds, 1),
        "measured": end.downtime,
        "committed": committed,
        "lost": lost,
        "differing": load(folder / "proof.json", Proof).differing,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
