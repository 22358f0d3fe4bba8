"""The lab's 'physical' source server: build its disk, bring it up, tell how it is, take it down.

`up` goes on with the disk as it is, as a server does that was switched on again; a fresh one starts
from the pristine image. Building is skipped when nothing it depends on has changed.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.progress import Report, track
from core.state import lock, publish
from lab import source_image, source_machine, source_tree
from lab.estate import Estate
from lab.source_run import run

ANSWER_WITHIN = 240  # seconds; 35 on an idle machine


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How the server is. ``answers`` means SSH and the web page."""

    name: str
    address: str
    built: bool
    pid: int | None
    answers: bool


def machine(estate: Estate) -> source_machine.Machine:
    """The server as a process."""
    described = source_tree.Machine()
    return source_machine.Machine(_home(estate), described.address, described.mac)


def build(estate: Estate, report: Report) -> Path:
    """The pristine image, made now unless it is there."""
    home = _home(estate)
    with lock(home / "lock", "the source server's image"):
        identity = _identity(estate)
        described = source_tree.Machine()
        image = _image(home, described, identity)
        if not image.exists():
            tree = source_tree.build(described, home, report)
            source_image.build(tree, identity, image, report)
            shutil.rmtree(tree)
        _tidy(home, keep=image)
    return image


def up(estate: Estate, report: Report, *, fresh: bool = False) -> SourceStatus:
    """Build if needed, start, and wait until it serves. ``fresh`` throws its disk away first."""
    here = machine(estate)
    if source_machine.pid(here) is not None and not fresh:
        _await(here, report)
        return status(estate)
    if fresh:
        down(estate)
        here.disk.unlink(missing_ok=True)
    if not here.disk.exists():
        image = build(estate, report)
        half = here.disk.with_name("disk.new")
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.name, "-F", "raw", str(half)])
        half.rename(here.disk)
    _pin(estate)
    source_machine.start(here)
    _await(here, report)
    return status(estate)


def status(estate: Estate) -> SourceStatus:
    """What is there and whether it answers now."""
    here = machine(estate)
    number = source_machine.pid(here)
    described = source_tree.Machine()
    return SourceStatus(
        name=described.name,
        address=described.address,
        built=here.disk.exists() or any(_home(estate).glob("pristine-*.raw")),
        pid=number,
        answers=number is not None
        and source_machine.speaks_ssh(here.address)
        and source_machine.page(here.address, "/rows") is not None,
    )


def down(estate: Estate) -> None:
    """Switch it off; its disk stays. Harmless when it is off."""
    source_machine.stop(machine(estate))


def _await(here: source_machine.Machine, report: Report) -> None:
    with track(report, "source server: start"):
        source_machine.wait_until_served(here, ANSWER_WITHIN)


def _home(estate: Estate) -> Path:
    return (estate.directory / "source").absolute()


def _image(home: Path, described: source_tree.Machine, identity: source_image.Identity) -> Path:
    made_of = source_image.key(source_tree.key(described), identity)
    return home / f"pristine-{made_of}.raw"


def _tidy(home: Path, keep: Path) -> None:
    """Drop images of former recipes that the present disk does not stand on."""
    disk = home / "disk.qcow2"
    used = run(["qemu-img", "info", "-U", str(disk)]) if disk.exists() else ""
    for image in home.glob("pristine-*.raw"):
        if image != keep and image.name not in used:
            image.unlink()


def _identity(estate: Estate) -> source_image.Identity:
    """The engineer's key of the lab and the server's host key; made once, then kept."""
    engineer, host = estate.key, _home(estate) / "ssh_host_rsa_key"
    for private, comment in ((engineer, "groundlift-lab"), (host, "web1")):
        private.parent.mkdir(parents=True, exist_ok=True)
        with _alone(private):
            if not private.exists():
                half = private.with_name(f"{private.name}.new")
                half.unlink(missing_ok=True)
                kind = ("-q", "-t", "rsa", "-b", "2048", "-m", "PEM")
                run(["ssh-keygen", *kind, "-N", "", "-C", comment, "-f", str(half)])
                half.with_name(f"{half.name}.pub").rename(f"{private}.pub")
                half.rename(private)
    return source_image.Identity(Path(f"{engineer}.pub"), host)


def _pin(estate: Estate) -> None:
    """Write the server's host key into the lab's known_hosts, in place of a former one."""
    address = source_tree.Machine().address
    kind, key = Path(f"{_home(estate) / 'ssh_host_rsa_key'}.pub").read_text().split()[:2]
    known = estate.known_hosts
    line = f"{address} {kind} {key}"
    with _alone(known):
        lines = known.read_text().splitlines() if known.exists() else []
        kept = [other for other in lines if other.split(" ")[0] != address]
        if lines != [*kept, line]:
            publish(known, "".join(f"{entry}\n" for entry in (*kept, line)))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Be the only one to change ``file``: nodes and source may come up at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
