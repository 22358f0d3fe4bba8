"""How fast and when disks are copied live: budgets that all migrations of this controller share,
and the hours in which they may run.

A budget is a file with the moment from which it is free again. Whoever sends takes the next piece
of time from it, under a lock, and waits for it: so any number of processes keep to the sum.
"""

import fcntl
import math
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

from core.errors import Blocked
from core.progress import Report, Unit, track

HORIZON = 600.0  # seconds ahead that a budget can be spent; more is from before a reboot
STEP = 0.2


class OutsideHours(Blocked):
    """Live copies may not run now."""


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``begin`` to ``end`` on every day, by the controller's clock; past midnight, too."""

    begin: clock_time
    end: clock_time

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """``22:00-06:00``. Raises ValueError."""
        begin, _, end = text.partition("-")
        hours = cls(clock_time.fromisoformat(begin), clock_time.fromisoformat(end))
        if hours.begin == hours.end:
            raise ValueError(f"{text} is no time at all")
        return hours

    def holds(self, now: datetime) -> bool:
        """Whether ``now`` lies in them."""
        at = now.time()
        if self.begin < self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end

    def next(self, now: datetime) -> datetime:
        """When they begin next."""
        today = datetime.combine(now.date(), self.begin)
        return today if today > now else today + timedelta(days=1)

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True, slots=True)
class Budget:
    """``rate`` bytes per second for all who name this file."""

    path: Path
    rate: float

    def take(self, count: int, now: float) -> float:
        """Spend ``count`` bytes; seconds to wait before they may be sent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            raw = file.read(8)
            free = struct.unpack("<d", raw)[0] if len(raw) == 8 else now
            if not now <= free <= now + HORIZON:
                free = now
            file.truncate(0)
            file.write(struct.pack("<d", free + count / self.rate))
        return float(free - now)


@dataclass(frozen=True, slots=True)
class Limits:
    """All that binds one server's live copies; nothing binds by default."""

    budgets: tuple[Budget, ...] = ()
    hours: tuple[Hours, ...] = ()
    now: Callable[[], datetime] = field(default=datetime.now)

    def check(self) -> None:
        """Raises OutsideHours."""
        if not self.hours or any(hours.holds(self.now()) for hours in self.hours):
            return
        raise OutsideHours(
            f"live copies run {', '.join(map(str, self.hours))} only",
            hint="the same command goes on by then; `traffic: hours` in cloud.yml has them",
        )

    def spend(self, count: int, over: Callable[[], bool]) -> None:
        """Wait until ``count`` bytes may go, or ``over`` says that nobody wants them any more."""
        if not self.budgets:
            return
        now = time.monotonic()
        end = now + max(budget.take(count, now) for budget in self.budgets)
        while (left := end - time.monotonic()) > 0 and not over():
            time.sleep(min(left, STEP))

    def wait(self, report: Report) -> None:
        """Until the hours begin, shown."""
        begin = min(hours.next(self.now()) for hours in self.hours)
        total = int((begin - self.now()).total_seconds()) + 1
        name = f"wait until {begin:%H:%M}"
        with track(report, name, total, Unit.STEPS) as meter:
            while not any(hours.holds(self.now()) for hours in self.hours):
                time.sleep(min(STEP, total))
                left = max(0, int((begin - self.now()).total_seconds()))
                if total - left > meter.done:
                    meter.advance(total - left - meter.done)


UNLIMITED = Limits()


class Pace:
    """``rate`` bytes per second, 0: any. What was not used is not saved up."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free = rate, 0.0
        self._lock = threading.Lock()

    def spend(self, count: int, over: Callable[[], bool]) -> None:
        """Wait until ``count`` bytes may go, or ``over`` says that nobody wants them any more."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            end = max(self._free, now)
            self._free = end + count / self._rate
        while (left := end - time.monotonic()) > 0 and not over():
            time.sleep(min(left, STEP))


class Toll:
    """What binds all that crosses one line: a ``rate`` of its own, 0: none, and the limits of all.
    ``most`` bytes per second come of it."""

    def __init__(self, rate: float, limits: Limits, over: Callable[[], bool]) -> None:
        rates = [rate, *(budget.rate for budget in limits.budgets)]
        self.most = min((one for one in rates if one), default=math.inf)
        self._pace, self._limits, self._over = Pace(rate), limits, over

    def spend(self, count: int) -> None:
        """Wait until so many bytes may go."""
        self._limits.spend(count, self._over)
        self._pace.spend(count, self._over)


FREE = Toll(0, UNLIMITED, lambda: False)
