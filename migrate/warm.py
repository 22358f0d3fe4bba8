"""Rounds of copying while the server works, until another one would not shorten its standstill.

A round reads all that is in use and sends what changed since the round before. How much that is,
by how long it took to change, is the rate; what the last pass will find follows from it.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.documents import Document, load
from core.errors import UsageProblem
from core.ports import Host
from core.progress import Report, silent
from core.state import publish_model
from migrate.plan import Plan
from migrate.transfer_manifest import Journal
from migrate.transfer_reread import verify
from migrate.transfer_rounds import Rounds
from migrate.transfer_work import DEFAULTS, Options, opened

FILE = "warm.json"
MOST = 6
WORTH = 2.0  # seconds that another round must save at least
SHARE = 0.05  # of a round's time; what saves less is not worth the server's disks


class Round(Document):
    """One live pass over all disks; bytes and seconds."""

    began: datetime
    seconds: float
    read: int
    sent: int
    wire: int


class Warm(Document):
    """warm.json: the rounds since the last time somebody asked for some; ``pace`` are bytes per
    second of the first copy, ``reread`` seconds of the target's reading itself back."""

    version: int = 1
    host: str
    rounds: tuple[Round, ...]
    pace: float
    reread: float
    differing: int
    settled: bool

    @property
    def rate(self) -> float | None:
        """Bytes per second that change on the server; None after a single round."""
        return changing(self.rounds)

    @property
    def change(self) -> float | None:
        """Bytes that change while the last pass reads; None after a single round."""
        return self.rate and self.rate * (self.rounds[-1].seconds + self.reread)

    @property
    def last(self) -> float:
        """Seconds that the last pass will take, by the last round."""
        here = self.rounds[-1]
        return max(0.0, here.seconds - gain(self.rounds, self.pace))


def read(folder: Path) -> Warm | None:
    """warm.json, if there was a round."""
    path = folder / FILE
    return load(path, Warm) if path.exists() else None


def changing(rounds: Sequence[Round]) -> float | None:
    """Bytes per second that changed between the last two rounds."""
    if len(rounds) < 2:
        return None
    between = (rounds[-1].began - rounds[-2].began).total_seconds()
    return rounds[-1].sent / max(between, 0.001)


def gain(rounds: Sequence[Round], pace: float) -> float:
    """Seconds by which the next pass is shorter than the last round: it finds only what changed
    during that round. After a single round, at most all that it sent."""
    here, rate = rounds[-1], changing(rounds)
    expected = 0.0 if rate is None else min(here.sent, rate * here.seconds)
    return min(here.seconds, (here.sent - expected) / pace) if pace else 0.0


def settled(rounds: Sequence[Round], pace: float) -> bool:
    """Whether another round would shorten the last pass by too little."""
    if not rounds:
        return False
    return gain(rounds, pace) < max(WORTH, SHARE * rounds[-1].seconds)


def warm(
    source: Host,
    target: Host,
    plan: Plan,
    folder: Path,
    options: Options = DEFAULTS,
    report: Report = silent,
    most: int = MOST,
) -> Warm:
    """Rounds until it is settled, at most ``most``; then the target reads itself back. A proof that
    was given is void. Raises UsageProblem before the first copy."""
    # A replica that was finished is brought up to date. Rounds tell how long the last pass will
    # take, so they compare what that compares: digests.
    options = replace(options, again=True, quick=False)
    if not _copied(plan, folder):
        raise UsageProblem(
            f"{plan.host} is not copied yet", hint=f"`groundlift migrate transfer {plan.host}`"
        )
    pace, done = _pace(plan, folder), list[Round]()
    with Rounds(source, target, plan, folder, options) as passes:
        while len(done) < most and not settled(done, pace):
            began, start = datetime.now(UTC), time.monotonic()
            results = passes.go("delta", report)
            done.append(
                Round(
                    began=began + timedelta(seconds=passes.idle),
                    seconds=round(time.monotonic() - start - passes.idle, 2),
                    read=sum(result.read for result in results),
                    sent=sum(result.sent for result in results),
                    wire=sum(result.wire for result in results),
                )
            )
    start = time.monotonic()
    differing = _read_back(source, target, plan, folder, options, report)
    found = Warm(
        host=plan.host, rounds=tuple(done), pace=pace, differing=differing,
        reread=round(time.monotonic() - start, 2), settled=settled(done, pace),
    )  # fmt: skip
    publish_model(folder / FILE, found)
    return found


def _read_back(
    source: Host, target: Host, plan: Plan, folder: Path, options: Options, report: Report
) -> int:
    """Chunks that differ on the target; the next pass sends them again."""
    count = 0
    for disk in plan.disks:
        with opened(source, target, plan, folder, disk, options) as work:
            _, different = verify(work.writer, work.manifest, report)
            for offset in different:
                work.manifest.withdraw(offset, 1)
            work.manifest.sync()
            count += len(different)
    return count


def _journals(plan: Plan, folder: Path) -> list[Journal]:
    names = (disk.replica.removesuffix(".replica.raw") for disk in plan.disks)
    return [Journal(folder / "disks" / f"{name}.journal") for name in names]


def _copied(plan: Plan, folder: Path) -> bool:
    journals = _journals(plan, folder)
    try:
        return all(journal.finished("full") for journal in journals)
    finally:
        for journal in journals:
            journal.close()


def _pace(plan: Plan, folder: Path) -> float:
    """Bytes per second of the first copy; 0 when it is not known."""
    sent, seconds = 0.0, 0.0
    for journal in _journals(plan, folder):
        for line in journal.lines:
            if line["event"] == "end" and line.get("pass") == "full":
                sent += float(str(line["sent"]))
                seconds += float(str(line["seconds"]))
        journal.close()
    return sent / seconds if seconds else 0.0
