"""How long the server will stand still, part by part, and whether that is allowed.

Every part says what it was taken from. What was never measured here is not guessed, and without
it there is no sum.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core.documents import Document, load
from core.errors import Blocked
from core.quantities import duration
from core.state import publish_model
from migrate import times
from migrate.plan import Plan
from migrate.warm import Warm

FILE = "forecast.json"
SERVICE, MOUNT, SNAPSHOT, FENCE = 3.0, 1.0, 5.0, 35.0  # seconds, where nothing was measured

_UNKNOWN = "not known before a rehearsal"
Way = Literal["rehearse", "cutover"]


class Part(Document):
    """One part of the standstill. ``seconds`` is None where nothing tells."""

    name: str
    seconds: float | None
    basis: str


class Forecast(Document):
    """forecast.json; ``allowed`` seconds, 0: without limit."""

    version: int = 1
    host: str
    purpose: Way
    made: datetime
    parts: tuple[Part, ...]
    allowed: float

    @property
    def seconds(self) -> float | None:
        """The sum; None while a part of it is not known."""
        known = [part.seconds for part in self.parts if part.seconds is not None]
        return sum(known) if len(known) == len(self.parts) else None

    @property
    def go(self) -> bool:
        """Whether it is allowed: always without a limit, never with one and without a sum."""
        return not self.allowed or (self.seconds is not None and self.seconds <= self.allowed)


def forecast(plan: Plan, folder: Path, found: Warm, way: Way) -> Forecast:
    """From the rounds, and from what earlier runs took. Written to forecast.json."""
    known = times.read(folder)
    services, mounts = len(plan.quiesce.services), len(plan.quiesce.mountpoints)
    if way == "rehearse" and plan.quiesce.rehearse != "stopped":
        return _publish(plan, folder, way, _momentary(plan, found, known))
    parts = [
        _part(known, "quiesce", SERVICE * services + MOUNT * mounts),
        Part(
            name="last pass", seconds=round(found.last, 1),
            basis=f"round {len(found.rounds)}, {duration(found.rounds[-1].seconds)}",
        ),
        Part(name="read back", seconds=round(found.reread, 1), basis="read back after the rounds"),
    ]  # fmt: skip
    if way == "rehearse":
        parts.append(_part(known, "wake", SERVICE * services + MOUNT * mounts))
    else:
        parts += [_part(known, name) for name in ("convert", "define", "verify")]
        parts.append(_part(known, "fence", FENCE))
        tried = known.get("confirm", known.get("verify"))
        parts.append(Part(name="start and compare", seconds=tried,
                          basis="as in the rehearsal" if tried else _UNKNOWN))  # fmt: skip
    return _publish(plan, folder, way, parts)


def _momentary(plan: Plan, found: Warm, known: dict[str, float]) -> list[Part]:
    """Services stop and start again at once; what is frozen waits for the pass to end."""
    services, mounts = len(plan.quiesce.services), len(plan.quiesce.mountpoints)
    parts = [_part(known, "moment", 2 * SERVICE * services + SNAPSHOT * mounts)]
    if plan.quiesce.rehearse == "frozen":
        seconds = round(found.last + found.reread, 1)
        parts.append(Part(name="frozen files wait", seconds=seconds, basis="last pass, read back"))
    return parts


def _publish(plan: Plan, folder: Path, way: Way, parts: list[Part]) -> Forecast:
    result = Forecast(
        host=plan.host, purpose=way, made=datetime.now(UTC), parts=tuple(parts),
        allowed=plan.downtime_minutes * 60,
    )  # fmt: skip
    publish_model(folder / FILE, result)
    return result


def _part(known: dict[str, float], name: str, guess: float | None = None) -> Part:
    if name in known:
        return Part(name=name, seconds=known[name], basis="measured here before")
    return Part(name=name, seconds=guess, basis="estimated" if guess else _UNKNOWN)


def read(folder: Path) -> Forecast | None:
    """forecast.json, if there is one."""
    path = folder / FILE
    return load(path, Forecast) if path.exists() else None


def gate(found: Forecast) -> None:
    """Raises Blocked when the server would stand still longer than its owner allows."""
    if found.go:
        return
    if found.seconds is None:
        open_ = ", ".join(part.name for part in found.parts if part.seconds is None)
        raise Blocked(
            f"no-go: how long {found.host} will stand still is not known ({open_}), and "
            f"{duration(found.allowed)} are allowed",
            hint=f"`groundlift migrate run {found.host} --rehearse --consent {found.host}` "
            "measures it; or change `downtime_minutes` in plan.yml",
        )
    longest = max(found.parts, key=lambda part: part.seconds or 0)
    raise Blocked(
        f"no-go: {found.host} would stand still for {duration(found.seconds)}, "
        f"{duration(found.allowed)} are allowed",
        hint=f"the longest part is {longest.name}, {duration(longest.seconds or 0)}; agree on a "
        "longer window and change `downtime_minutes` in plan.yml",
    )


def lines(found: Forecast) -> list[str]:
    """The forecast for people."""
    told = [
        f"  {part.name:18} {'?' if part.seconds is None else duration(part.seconds):>12}  "
        f"{part.basis}"
        for part in found.parts
    ]
    total = "not known" if found.seconds is None else duration(found.seconds)
    limit = f", allowed {duration(found.allowed)}" if found.allowed else ""
    verdict = ("go" if found.go else "NO-GO") if found.allowed else "no limit set"
    return [*told, f"{found.host} will stand still: {total}{limit} ({verdict})"]
