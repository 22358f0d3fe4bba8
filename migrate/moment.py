"""The disks of a server as they were at one moment, while it works on: for rehearsals.

File systems on plain logical volumes get an LVM snapshot. What else is writable becomes read-only
where nobody writes anyway, or takes no writes for a while when the plan says ``frozen``. A moment
is never good for a cutover: what is written after it would be lost.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from core.errors import Blocked, OutsideFailed
from core.ports import Host
from core.progress import Meter
from core.quantities import duration
from migrate.plan import Plan
from migrate.snapshots import (
    PREFIX,
    Entry,
    Volume,
    last_word,
    overflow,
    room,
    understood,
    volume_of,
)
from migrate.transfer_wire import Kind, Session, session

DEVICES = "/dev"
FULL = 90.0  # per cent from which on it is given up before the kernel does
EVERY = 5.0
QUIET = ("/boot", "/boot/efi")  # nobody writes there while nobody updates a kernel
# Whoever logs in, logs or starts a program may want to write there.
NEVER_FROZEN = ("/", "/tmp", "/etc", "/usr", "/var", "/var/log", "/var/run", "/run", "/root")  # noqa: S108 - names


@dataclass(slots=True)
class Tables:
    """What the reader told of one disk before anything changed: LVM's metadata as (offset,
    bytes), and (offset, length, place in the volume, its UUID) of the plain volumes' pieces."""

    kept: list[tuple[int, bytes]] = field(default_factory=list)
    pieces: list[tuple[int, int, int, str]] = field(default_factory=list)


class Moment:
    """One moment of one server. ``take`` it, read through ``tell``, and ``end`` it."""

    def __init__(
        self, source: Host, volumes: Sequence[Volume], frozen: Sequence[str], seconds: int,
        tables: Mapping[str, Tables],
    ) -> None:  # fmt: skip
        self._source, self._tables = source, tables
        self.volumes, self.frozen, self._seconds = tuple(volumes), tuple(frozen), seconds
        self._stack = ExitStack()
        self._freezer: Session | None = None
        self._until = 0.0
        self._fault: OutsideFailed | None = None

    @property
    def mountpoints(self) -> tuple[str, ...]:
        """What stays writable in the eyes of the server."""
        return (*(volume.mountpoint for volume in self.volumes), *self.frozen)

    @property
    def snapshots(self) -> tuple[str, ...]:
        """The names that its snapshots have or will have."""
        return tuple(volume.snapshot for volume in self.volumes)

    def take(self, meter: Meter) -> None:
        """Freeze, then have LVM make the snapshots. Whatever fails, ``drop`` finds the way back."""
        if self.frozen:
            self._freezer = self._stack.enter_context(session(self._source, "reader"))
            self._freezer.say(Kind.FREEZE, paths="|".join(self.frozen), seconds=self._seconds)
            self._freezer.expect(Kind.FROZEN)
            self._until = time.monotonic() + self._seconds
            meter.note(f"{', '.join(self.frozen)} frozen for at most {duration(self._seconds)}")
        for volume in self.volumes:
            argv = ("lvcreate", "-s", "-l", str(volume.extents), "-n", PREFIX + volume.name)
            done = self._source.run((*argv, f"{volume.group}/{volume.name}"), timeout=300)
            if done.code:
                raise OutsideFailed(
                    f"no snapshot of {volume.group}/{volume.name}: {last_word(done.stderr)}",
                    hint="`rehearse: stopped` in plan.yml needs none",
                    where=self._source.name,
                )
            meter.note(f"snapshot of {volume.group}/{volume.name}")

    def tell(self, reader: Session, device: str) -> str:
        """Send what the reader must use instead of parts of the disk, ahead of a pass; the PASS's
        ``views``."""
        tables = self._tables[device]
        for offset, data in tables.kept:
            reader.send(Kind.KEEP, data, offset, len(data))
        paths = {volume.uuid: f"{DEVICES}/{volume.snapshot}" for volume in self.volumes}
        return "|".join(
            f"{offset} {length} {place} {paths[uuid]}"
            for offset, length, place, uuid in tables.pieces
            if uuid in paths
        )

    def check(self) -> None:
        """Raises what the watch found."""
        if self._fault is not None:
            raise self._fault
        if self._freezer is not None and time.monotonic() > self._until:
            raise OutsideFailed(
                f"{', '.join(self.frozen)} could not stay frozen longer than "
                f"{duration(self._seconds)}",
                hint="more `freeze_seconds` in plan.yml, or `rehearse: stopped`",
                where=self._source.name,
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the snapshots all the time; ``check`` tells."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(EVERY) and self._fault is None:
                # what can't be asked now is asked at the end
                with contextlib.suppress(OutsideFailed):
                    self._fault = overflow(self._source, self.snapshots, FULL)

        watch = threading.Thread(target=look, daemon=True)
        if self.volumes:
            watch.start()
        try:
            yield
        finally:
            over.set()
            if self.volumes:
                watch.join()

    def end(self) -> None:
        """Thaw. Raises OutsideFailed when the moment did not last until now."""
        self.check()
        fault = overflow(self._source, self.snapshots, 100.0)
        if fault is not None:
            raise fault
        if self._freezer is not None:
            self._freezer.send(Kind.THAW)
            status = self._freezer.expect(Kind.FROZEN).number("status")
            self._freezer = None
            if status:
                raise OutsideFailed(
                    f"{', '.join(self.frozen)} did not stay frozen",
                    hint="something on the server thawed it; `rehearse: stopped` needs no freeze",
                    where=self._source.name,
                )
        self._stack.close()

    def close(self) -> None:
        """Thaw at once, whatever there was; harmless when repeated."""
        self._freezer = None
        self._stack.close()


def look(source: Host, plan: Plan, writable: Sequence[str], change: float | None = None) -> Moment:
    """See that a moment of ``source`` can be held, before anything on it changes. Raises Blocked
    with what stands against it. ``change`` are the bytes that will change while it lasts, if that
    was measured."""
    frozen_too = plan.quiesce.rehearse == "frozen"
    with understood(source):
        on_volumes = {path: entry for path in writable if (entry := volume_of(source, path))}
        tables = _ask_tables(source, plan)
    whole = {uuid for uuid, missing in _missing(on_volumes, tables).items() if not missing}
    volumes = {path: entry for path, entry in on_volumes.items() if entry[2] in whole}
    others = [path for path in writable if path not in volumes]
    bad = [path for path in others if (path in NEVER_FROZEN if frozen_too else path not in QUIET)]
    if bad:
        how = "must not be frozen" if frozen_too else "would have to be read-only"
        raise Blocked(
            f"{', '.join(bad)}: not on a plain logical volume of the disks to be copied, and {how}",
            hint="`rehearse: stopped` in plan.yml"
            + ("" if frozen_too else ", or `frozen` if writers may wait as long as a pass takes"),
            where=source.name,
        )
    with understood(source):
        snapshots = room(source, volumes, change)
    return Moment(
        source,
        snapshots,
        others if frozen_too else (),
        plan.quiesce.freeze_seconds,
        tables,
    )


def _ask_tables(source: Host, plan: Plan) -> dict[str, Tables]:
    found = {}
    with session(source, "reader") as reader:
        for disk in plan.disks:
            tables = found[disk.source] = Tables()
            reader.say(Kind.TABLES, device=disk.source)
            while (frame := reader.receive()).kind is Kind.KEEP:
                tables.kept.append((frame.offset, frame.payload))
            for line in filter(None, frame.fields.get("volumes", "").split("|")):
                offset, length, place, uuid = line.split(" ")
                tables.pieces.append((int(offset), int(length), int(place), uuid))
        reader.bye()
    return found


def _missing(volumes: Mapping[str, Entry], tables: Mapping[str, Tables]) -> dict[str, int]:
    """UUID → bytes of the volume that no disk of the plan holds in a plain way."""
    left = {entry[2]: entry[3] for entry in volumes.values()}
    for entry in tables.values():
        for _, length, _, uuid in entry.pieces:
            if uuid in left:
                left[uuid] -= length
    return left
