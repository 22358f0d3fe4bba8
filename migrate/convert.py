"""Conversion: the replica is read and never written; everything virt-v2v changes lands in a small
qcow2 overlay, made on this machine and then put beside the replica.

The replica is read over ssh: a file through sshfs, a block device through nbdkit, both read-only.
Running again starts the conversion anew unless its verified result is there: conversion has no
half-way worth keeping.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import ascii_lowercase as LETTERS
from time import monotonic
from xml.sax.saxutils import quoteattr

from core.documents import Document, load
from core.errors import OutsideFailed
from core.ports import Channel, Host
from core.progress import Meter, Report, track
from core.state import publish, publish_model
from migrate import legs, past
from migrate.plan import DiskPlan, Plan
from migrate.transfer_wire import python_of

VERSION = 1
STEPS = 14  # messages of a usual conversion; only the bar's end depends on it
MESSAGE = re.compile(r"\[ *\d+\.\d\] (.+)")
WARNING = re.compile(r"^virt-v2v[a-z-]*: warning: (.+)$", re.MULTILINE)
# A conversion must not outlive a killed controller, nor may the servers that virt-v2v starts: root
# gives them a process namespace, which ends as a whole. Others can only end virt-v2v itself.
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
LISTEN = 20.0  # seconds that nbdkit may take until it listens
BUSES = {"/dev/hd": ("h", "ide"), "/dev/vd": ("v", "virtio")}
CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


class ConversionFailed(OutsideFailed):
    """virt-v2v could not convert the server; the replica is untouched."""


class Converted(Document):
    """convert.json. ``overlays`` maps the file in the pool to its size in bytes."""

    version: int = VERSION
    plan_domain: str
    replica_sha256: str
    overlays: dict[str, int]
    seconds: float
    messages: tuple[str, ...]
    warnings: tuple[str, ...]
    when: datetime


@dataclass(frozen=True, slots=True)
class Share:
    """How this machine reads the pool: sshfs to ``login`` (user@address), by ``program``, which is
    ssh with the pinned host key. ``plugin`` is for nbdkit, which reads block devices."""

    login: str
    program: Path
    plugin: Path

    def argv(self, remote: str, mountpoint: Path) -> tuple[str, ...]:
        """Mount ``remote`` read-only."""
        program = str(self.program).replace("\\", "\\\\").replace(" ", "\\ ").replace(",", "\\,")
        options = ("ro", "reconnect", "kernel_cache", f"ssh_command={program}")
        flags = tuple(part for option in options for part in ("-o", option))
        return ("sshfs", *flags, f"{self.login}:{remote}", str(mountpoint))


def convert(
    plan: Plan,
    local: Host,
    node: Host,
    share: Share,
    folder: Path,
    report: Report,
    *,
    replica_sha256: str,
    kvm: bool,
) -> Converted:
    """Convert ``plan``'s replicas on this machine and put the overlays into the pool of ``node``.

    ``replica_sha256`` stands for the replicas' content: another one means another conversion.
    Raises ConversionFailed, or OutsideFailed when a host or a program is missing.
    """
    kept = folder / "convert.json"
    if kept.exists():
        done = load(kept, Converted)
        if done.replica_sha256 == replica_sha256 and _there(plan, node, done):
            return done
    past.refuse(plan.host, folder, f"the domain {plan.domain} writes into its overlay")
    work = folder / "convert"
    begun = monotonic()
    with track(report, f"convert {plan.host}", STEPS) as meter:
        _clean(local, work)
        work.mkdir(parents=True)
        overlays, log = _changed(local, node, share, plan, work, meter, kvm=kvm)
        publish(folder / "convert.log", log)
        sizes = {}
        for disk, overlay in zip(plan.disks, overlays, strict=True):
            sizes[disk.overlay] = _place(plan, disk, local, node, overlay)
            meter.advance(text=f"{disk.overlay} is in the pool")
        _clean(local, work)
        result = Converted(
            plan_domain=plan.domain, replica_sha256=replica_sha256, overlays=sizes,
            seconds=round(monotonic() - begun, 1), messages=tuple(MESSAGE.findall(log)),
            warnings=tuple(WARNING.findall(log)), when=datetime.now(UTC),
        )  # fmt: skip
        publish_model(kept, result)
    return result


def _changed(
    local: Host, node: Host, share: Share, plan: Plan, work: Path, meter: Meter, *, kvm: bool
) -> tuple[tuple[Path, ...], str]:
    """The overlays with all that virt-v2v changed, and what it said."""
    with ExitStack() as open_:
        backings = _backings(local, node, share, plan, work, open_)
        overlays = tuple(
            _overlay(local, work / disk.overlay, backing)
            for disk, backing in zip(plan.disks, backings, strict=True)
        )
        meter.advance(text="overlay made")
        if legs.start(local, _around(local, work, kvm=kvm), plan.disks, overlays):
            meter.advance(0, text="arrays run with one leg")
        return overlays, _run_v2v(local, work, plan, overlays, meter, kvm=kvm)


def _there(plan: Plan, node: Host, done: Converted) -> bool:
    """Whether the overlays of an earlier conversion are in the pool. They grow when the domain
    runs, so the size at conversion is only a floor."""
    for name, size in done.overlays.items():
        seen = node.run(("stat", "-c", "%s", f"{plan.pool_path}/{name}"))
        if seen.code or int(seen.text.strip() or 0) < size:
            return False
    return done.plan_domain == plan.domain


def _clean(local: Host, work: Path) -> None:
    """Remove what an interrupted conversion left, its mount first."""
    if (work / "pool").exists():
        local.run(("fusermount3", "-u", "-z", str(work / "pool")))
    if work.exists():
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _mounted(local: Host, share: Share, remote: str, mountpoint: Path) -> Iterator[Path]:
    mountpoint.mkdir()
    done = local.run(share.argv(remote, mountpoint), timeout=60)
    if done.code:
        raise OutsideFailed(
            f"the pool can't be read over ssh: {done.stderr.decode('utf-8', 'replace').strip()}",
            where=f"{share.login}:{remote}",
            hint="./setup installs sshfs; is the node reachable, and its host key pinned?",
        )
    try:
        yield mountpoint
    finally:
        local.run(("fusermount3", "-u", "-z", str(mountpoint)))


def _backings(
    local: Host, node: Host, share: Share, plan: Plan, work: Path, open_: ExitStack
) -> tuple[str, ...]:
    """The replicas as this machine's qemu can read them, until ``open_`` ends."""
    backings = []
    pool = work / "pool"
    if any(not disk.device for disk in plan.disks):
        open_.enter_context(_mounted(local, share, plan.pool_path, pool))
    for disk in plan.disks:
        if disk.device:
            socket = work / f"{disk.overlay}.socket"
            open_.enter_context(_device(local, node, share, disk.device, socket))
            backings.append(f"nbd+unix:///?socket={socket}")
        elif not (pool / disk.replica).exists():
            raise OutsideFailed(
                f"the pool has no {disk.replica}",
                hint="`groundlift migrate transfer` brings it there",
            )
        else:
            backings.append(str(pool / disk.replica))
    return tuple(backings)


@contextmanager
def _device(local: Host, node: Host, share: Share, device: str, socket: Path) -> Iterator[None]:
    """nbdkit on ``socket``, which reads ``device`` of the hypervisor and keeps what it has read."""
    program = resources.files("migrate").joinpath("agent", "served.py").read_text()
    remote = shlex.join((python_of(node), "-u", "-c", program, device))
    words = tuple(f"word={word}" for word in (str(share.program), share.login, remote))
    cache = ("--filter=cache", "cache=unsafe", "cache-on-read=true")
    argv = (*DIE_WITH_US, "env", f"TMPDIR={socket.parent}", "nbdkit", "-f", "-r", "-U", str(socket),
            *cache[:1], "python", str(share.plugin), *words, *cache[1:])  # fmt: skip
    with local.stream(argv) as channel:
        _wait_for(socket, channel, f"{share.login}:{device}")
        yield


def _wait_for(socket: Path, channel: Channel, where: str) -> None:
    end = monotonic() + LISTEN
    while not socket.is_socket():
        with suppress(OutsideFailed):  # not ended yet: that is what one hopes for
            channel.wait(0.05)
            break
        if monotonic() > end:
            break
    else:
        return
    channel.kill()
    raise OutsideFailed(
        f"the device can't be read over ssh: {channel.errors().strip()[-300:]}", where=where,
        hint="./setup installs nbdkit and its Python plugin",
    )  # fmt: skip


def _overlay(local: Host, overlay: Path, backing: str) -> Path:
    """An empty overlay in the old format, which qemu-kvm 0.12 reads, on the replica."""
    _must(local, ("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-F", "raw",
                  "-b", backing, str(overlay)))  # fmt: skip
    return overlay


def _around(local: Host, work: Path, *, kvm: bool) -> tuple[str, ...]:
    """What a program that uses libguestfs is called with."""
    environment = [
        "LIBGUESTFS_BACKEND=direct", f"TMPDIR={work}", f"HOME={work}",
        *([] if kvm else ["LIBGUESTFS_BACKEND_SETTINGS=force_tcg"]),
    ]  # fmt: skip
    root = local.run(("id", "-u")).text.strip() == "0"
    return (*DIE_WITH_US, *(CONTAINER if root else ()), "env", *environment)


def _run_v2v(
    local: Host, work: Path, plan: Plan, overlays: tuple[Path, ...], meter: Meter, *, kvm: bool
) -> str:
    publish(work / "source.xml", _source_xml(plan, overlays))
    source = ("-i", "libvirtxml", str(work / "source.xml"))
    argv = (*_around(local, work, kvm=kvm), "virt-v2v-in-place", *source)
    with local.stream(argv) as channel:
        log = _follow(channel, meter)
        code = channel.wait(60)
        log += channel.errors()
    if code:
        publish(work.parent / "convert.log", log)
        errors = [line for line in log.splitlines() if "error:" in line]
        last = errors or log.strip().splitlines()[-1:] or ["without a word"]
        raise ConversionFailed(
            f"virt-v2v ended with code {code}: {last[0][:300]}", where=plan.host,
            hint=f"the whole log is {work.parent / 'convert.log'}; the replica is untouched, "
            "so run again after the cause is gone",
        )  # fmt: skip
    return log


def _follow(channel: Channel, meter: Meter) -> str:
    """Read the messages as they come; each is a step."""
    lines: list[str] = []
    for raw in channel.stdout:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line[:1000])
        found = MESSAGE.match(line)
        if found:
            meter.advance(text=found[1])
    return "\n".join(lines) + "\n"


def _source_xml(plan: Plan, overlays: tuple[Path, ...]) -> str:
    """All disks for virt-v2v's libvirtxml input. By the bus it knows how the server names them in
    fstab and boot loader: for a disk without one it would take CentOS 5's sda for an hda."""
    disks = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file={quoteattr(str(overlay))}/><target dev='{prefix}d{letter}' bus='{bus}'/>"
        "</disk>"
        for disk, overlay, letter in zip(
            plan.disks, overlays, LETTERS[: len(overlays)], strict=True
        )
        for prefix, bus in [BUSES.get(disk.source[:7], ("s", "scsi"))]
    )
    return (
        f"<domain type='kvm'><name>{plan.domain}</name><memory>1048576</memory>"
        f"<os><type>hvm</type></os><devices>{disks}</devices></domain>\n"
    )


def _place(plan: Plan, disk: DiskPlan, local: Host, node: Host, overlay: Path) -> int:
    """Point the overlay at the replica as the hypervisor has it, and bring it into the pool."""
    replica = disk.device or disk.replica  # a bare name stays right when the pool moves
    _must(local, ("qemu-img", "rebase", "-u", "-F", "raw", "-b", replica, str(overlay)))
    node.upload(overlay, f"{plan.pool_path}/{disk.overlay}")
    return overlay.stat().st_size


def _must(host: Host, argv: tuple[str, ...]) -> None:
    done = host.run(argv, timeout=120)
    if done.code:
        raise OutsideFailed(
            f"{argv[0]} {argv[1]} failed: {done.stderr.decode('utf-8', 'replace').strip()[:300]}",
            where=host.name,
        )
