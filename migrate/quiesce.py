"""Bring a source to rest for the last pass, and wake it again.

Services stop, then file systems become read-only. What was done is written down before it is done:
whoever dies in between, ``release`` finds the way back.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.documents import Document, load
from core.errors import OutsideFailed, Problem
from core.facts.storage import unescaped
from core.ports import Completed, Host
from core.progress import Meter, Report, Unit, track
from core.state import publish_model, sync_directory
from migrate.moment import Moment
from migrate.plan import Plan
from migrate.snapshots import drop
from migrate.transfer_wire import Kind, session

VERSION = 1
STOP_SECONDS = 180.0
EMERGENCY = 60.0
# The loggers of old systems keep their files open for writing, and come after everything else:
# process, as the kernel shortens its name -> service.
LOGGERS = {
    "rsyslogd": "rsyslog", "syslogd": "syslog", "syslog-ng": "syslog-ng", "auditd": "auditd",
    "systemd-journal": "systemd-journald",
}  # fmt: skip


class Quiesced(Document):
    """quiesce.json: since when, in which boot, which services ran and what was writable. Of a
    moment: what stays writable, and the snapshots."""

    version: int = VERSION
    host: str
    boot: str
    started: datetime
    services: tuple[str, ...]
    mountpoints: tuple[str, ...]
    spared: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    rescue: bool = False

    @property
    def working(self) -> bool:
        """Whether a moment is held of a server that works on: no good for a cutover."""
        return bool(self.spared)


def record(folder: Path) -> Quiesced | None:
    """What was held and not yet released."""
    path = folder / "quiesce.json"
    return load(path, Quiesced) if path.exists() else None


def hold(
    source: Host, plan: Plan, folder: Path, report: Report, moment: Moment | None = None,
    *, rescue: bool = False,
) -> Quiesced:  # fmt: skip
    """Bring the source to rest. On any failure it is woken again. Runs twice without harm. With a
    ``moment`` the rest is as short as it takes to hold that; in its rescue system the source is at
    rest, which is seen to."""
    held = _record(source, plan, folder, moment, rescue=rescue)
    try:
        mounted = writable(source)
        still_to_do = [path for path in held.mountpoints if path in mounted]
        steps = len(plan.quiesce.services) + len(still_to_do) + 1
        with track(report, f"quiesce {plan.host}", steps, Unit.STEPS) as meter:
            for service in plan.quiesce.services:
                _stop(source, service)
                meter.advance(text=f"stopped {service}")
            _must(source, ("sync",), "can't sync", 600)
            for mountpoint in still_to_do:
                # a moment is of a server that works on: nobody there is cut off
                last_resort = plan.quiesce.last_resort if moment is None else ""
                held, how = _still(source, mountpoint, held, folder, last_resort)
                meter.advance(text=f"{mountpoint} is read-only{how}")
            _check_rest(source, held)
            if moment is not None:
                moment.take(meter)
                held = _resume(source, held, folder)
            meter.advance()
    except BaseException:
        if moment is not None:
            moment.close()
        with contextlib.suppress(OutsideFailed):  # what failed first is the thing to tell
            release(source, folder, report)
        raise
    return held


def release(source: Host, folder: Path, report: Report) -> bool:
    """The way back: file systems writable, services started, in reverse order. False when there
    is nothing to release."""
    held = record(folder)
    if held is None:
        return False
    steps = len(held.mountpoints) + len(held.services) + bool(held.snapshots)
    failed: list[str] = []
    with track(report, f"wake {held.host}", steps) as meter:
        source.run(("true",), timeout=60)  # one that does not answer is not asked for each

        if held.snapshots:
            what = "; ".join(f"lvremove -f {name}" for name in held.snapshots)
            with _noted(failed, meter, what, "removed its snapshots"):
                failed += drop(source, held.snapshots)
        for mountpoint in reversed(held.mountpoints):
            what = f"mount -o remount,rw {mountpoint}"
            with _noted(failed, meter, what, f"{mountpoint} is writable"):
                _writable_again(source, mountpoint)
        for service in reversed(held.services):
            with _noted(failed, meter, f"start {service}", f"started {service}"):
                _must(source, _service(source, service, "start"), "", STOP_SECONDS)
    if failed:
        raise OutsideFailed(
            f"not everything could be woken: {'; '.join(failed)}",
            hint="do these by hand on the server, then `groundlift migrate unquiesce` again",
            where=source.name,
        )
    (folder / "quiesce.json").unlink()
    sync_directory(folder)
    return True


@contextlib.contextmanager
def _noted(failed: list[str], meter: Meter, what: str, done: str) -> Iterator[None]:
    """A step of the way back that fails, or takes too long, keeps nobody from the others."""
    before = len(failed)
    try:
        yield
    except OutsideFailed as fault:
        failed.append(f"{what} ({fault.message})")
    if len(failed) > before:
        meter.note(f"failed: {what}")
    meter.advance(text=done if len(failed) == before else "")


def _writable_again(source: Host, mountpoint: str) -> None:
    """What somebody has unmounted meanwhile, or made writable in another way, is nobody's worry."""
    done = source.run(("mount", "-o", "remount,rw", mountpoint), timeout=120)
    if done.code and dict(_mounts(source)).get(mountpoint) is False:
        raise OutsideFailed(_said(done), where=source.name)


def at_rest(source: Host, held: Quiesced) -> bool:
    """Whether the source still is in the boot and the rest that ``held`` tells of."""
    return _boot(source) == held.boot and not set(writable(source)) - set(held.spared)


def left_behind(source: Host, folder: Path) -> bool:
    """Whether the source went on working since its last pass, so that a proof of then is void."""
    held = record(folder)
    return held is None or held.working or not at_rest(source, held)


def _resume(source: Host, held: Quiesced, folder: Path) -> Quiesced:
    """The moment is held: the services go on."""
    for service in reversed(held.services):
        _must(source, _service(source, service, "start"), f"can't start {service}", STOP_SECONDS)
    held = held.model_copy(update={"services": ()})
    publish_model(folder / "quiesce.json", held)
    return held


def _record(
    source: Host, plan: Plan, folder: Path, moment: Moment | None, *, rescue: bool
) -> Quiesced:
    """Write down what will be undone; an earlier record of the same boot keeps its beginning."""
    boot, mounted = _boot(source), writable(source)
    spared = moment.mountpoints if moment else ()
    running = tuple(name for name in plan.quiesce.services if _running(source, name))
    mountpoints = tuple(
        path for path in plan.quiesce.mountpoints if path in mounted and path not in spared
    )
    old = record(folder)
    if old is not None and old.boot == boot:  # what it tells of is undone, whatever the plan says
        new = (name for name in running if name not in old.services)
        more = (path for path in mountpoints if path not in old.mountpoints)
        held = old.model_copy(
            update={
                "services": (*old.services, *new),
                "mountpoints": (*old.mountpoints, *more),
            }
        )
    else:
        held = Quiesced(
            host=plan.host,
            boot=boot,
            started=datetime.now(UTC),
            services=running,
            mountpoints=mountpoints,
            spared=spared,
            snapshots=moment.snapshots if moment else (),
            rescue=rescue,
        )
    publish_model(folder / "quiesce.json", held)
    return held


def _boot(source: Host) -> str:
    return source.read("/proc/sys/kernel/random/boot_id", 100).decode("ascii", "replace").strip()


def _service(source: Host, name: str, verb: str) -> Sequence[str]:
    """systemd's way where systemd runs, System V's elsewhere."""
    if source.run(("test", "-d", "/run/systemd/system")).code == 0:
        return ("systemctl", verb, f"{name}.service" if "." not in name else name)
    return ("service", name, verb)


def _running(source: Host, name: str) -> bool:
    return source.run(_service(source, name, "status")).code == 0


def _stop(source: Host, name: str) -> None:
    if _running(source, name):
        _must(source, _service(source, name, "stop"), f"{name} does not stop", STOP_SECONDS)
    if _running(source, name):
        raise OutsideFailed(
            f"{name} still runs after its stop",
            hint="stop it by hand, or correct `quiesce` in plan.yml",
            where=source.name,
        )


def _still(
    source: Host, mountpoint: str, held: Quiesced, folder: Path, last_resort: str
) -> tuple[Quiesced, str]:
    """Make one file system read-only; how, when it was not the usual way."""
    done = source.run(("mount", "-o", "remount,ro", mountpoint), timeout=300)
    if done.code == 0:
        return held, ""
    holders = _holders(source, mountpoint)
    if last_resort == "sysrq":
        how = f" by sysrq, though open for writing: {'; '.join(holders[:8])}"
        return _cut(source, held, folder), how
    named = "; ".join(holders[:8]) or done.stderr.decode("utf-8", "replace").strip()[:300]
    loggers = [name for comm, name in LOGGERS.items() if any(f" {comm} " in h for h in holders)]
    extra = f" ({', '.join(loggers)})" if loggers else ""
    raise OutsideFailed(
        f"{mountpoint} can't become read-only, files are open for writing: {named}",
        hint=f"add their services{extra} to `quiesce: services:` in plan.yml and run again. When "
        "nobody can be stopped: `last_resort: sysrq` there, which cuts writers off",
        where=source.name,
    )


def _cut(source: Host, held: Quiesced, folder: Path) -> Quiesced:
    """Have the kernel make every file system read-only, open files or not: also those that the plan
    does not name, so they are written down before. It does so some time after it was told. The way
    back is the usual one; who wrote meanwhile saw errors."""
    others = tuple(path for path in writable(source) if path not in held.mountpoints)
    held = held.model_copy(update={"mountpoints": held.mountpoints + others})
    publish_model(folder / "quiesce.json", held)
    _must(source, ("sh", "-c", "echo u > /proc/sysrq-trigger"), "the kernel takes no sysrq", 60)
    end = time.monotonic() + EMERGENCY
    while left := writable(source):  # one after another
        if time.monotonic() > end:
            raise OutsideFailed(
                f"{', '.join(left)} writable {EMERGENCY:.0f} s after sysrq u",
                hint="switch the services off by hand, or copy from a rescue system",
                where=source.name,
            )
        time.sleep(0.2)
    return held


def _holders(source: Host, mountpoint: str) -> list[str]:
    """``pid program file`` of who writes there; nothing when that can't be asked."""
    try:
        with session(source, "reader") as agent:
            agent.say(Kind.HOLDERS, path=mountpoint)
            lines = agent.expect(Kind.HOLDERS).fields.get("lines", "")
            agent.bye()
    except Problem:
        return []
    return [line for line in lines.split(" | ") if line]


def writable(source: Host) -> tuple[str, ...]:
    """Mountpoints of writable file systems on devices."""
    return tuple(path for path, free in _mounts(source) if free)


def _mounts(source: Host) -> list[tuple[str, bool]]:
    """Mountpoints of file systems on devices, and whether they are writable."""
    found = []
    for line in source.read("/proc/mounts").decode("utf-8", "surrogateescape").splitlines():
        words = line.split(" ")
        if len(words) < 4:
            raise OutsideFailed(
                "its /proc/mounts can't be understood, so nobody knows what is writable there",
                hint="look at that file on the server",
                where=source.name,
            )
        if words[0].startswith("/dev/"):
            found.append((unescaped(words[1]), "rw" in words[3].split(",")))
    return found


def _check_rest(source: Host, held: Quiesced) -> None:
    left = [path for path in writable(source) if path not in held.spared]
    if left:
        hint = "add them to `quiesce: mountpoints:` in plan.yml, the deepest first"
        raise OutsideFailed(
            f"still writable: {', '.join(left)}",
            hint="unmount them in the rescue system" if held.rescue else hint,
            where=source.name,
        )


def _must(source: Host, argv: Sequence[str], sentence: str, timeout: float) -> None:
    done = source.run(argv, timeout=timeout)
    if done.code:
        raise OutsideFailed(
            f"{sentence}: {_said(done)}" if sentence else _said(done),
            hint="look into the server's log, or correct `quiesce` in plan.yml",
            where=source.name,
        )


def _said(done: Completed) -> str:
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"exit code {done.code}"
