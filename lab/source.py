"""The lab's 'physical' source server: build its disk, bring it up, tell how it is, take it down.

`up` goes on with the disk as it is, as a server does that was switched on again; a fresh one starts
from the pristine image. Building is skipped when nothing it depends on has changed. A server that
has moved into the cloud stays off: its address is taken by the one that it became.
"""

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from core.errors import OutsideFailed
from core.progress import Report, track
from core.state import State, lock
from lab import source_image, source_machine, source_tree
from lab.estate import Estate
from lab.pins import key_pair, pin
from lab.source_run import run

ANSWER_WITHIN = 240  # seconds; 35 on an idle machine


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How the server is. ``answers`` means SSH and the web page at its address; ``moved`` that
    this is no longer the machine that is meant to answer there."""

    name: str
    address: str
    built: bool
    pid: int | None
    answers: bool
    moved: bool = False


def machine(estate: Estate) -> source_machine.Machine:
    """The server as a process."""
    described = source_tree.Machine()
    return source_machine.Machine(_home(estate), described.address, described.mac)


def build(estate: Estate, report: Report) -> Path:
    """The pristine image, made now unless it is there."""
    with _alone(estate):
        return _build(estate, report)


def up(estate: Estate, report: Report, *, fresh: bool = False) -> SourceStatus:
    """Build if needed, start, and wait until it serves. ``fresh`` throws its disk away first, and
    brings the server back that has moved. Raises OutsideFailed if its address is taken then."""
    here = machine(estate)
    with _alone(estate):
        if fresh:
            down(estate)
            here.disk.unlink(missing_ok=True)
            if source_machine.speaks_ssh(here.address):
                raise OutsideFailed(
                    f"{here.address} is taken by another machine",
                    hint="switch off the domain that the source server became, then try again",
                )
        elif _moved(estate):
            return status(estate)
        if not here.disk.exists():
            _new_disk(here.disk, _build(estate, report))
        pin(estate.known_hosts, here.address, _host_key(estate))
        source_machine.start(here)
        with track(report, "source server: start"):
            source_machine.wait_until_served(here, ANSWER_WITHIN)
    return status(estate)


def status(estate: Estate) -> SourceStatus:
    """What is there and whether it answers now."""
    here = machine(estate)
    return SourceStatus(
        name=source_tree.Machine().name,
        address=here.address,
        built=here.disk.exists() or any(_home(estate).glob("pristine-*.raw")),
        pid=source_machine.pid(here),
        answers=source_machine.speaks_ssh(here.address)
        and source_machine.page(here.address, "/rows") is not None,
        moved=_moved(estate),
    )


def down(estate: Estate) -> None:
    """Switch it off; its disk stays. Harmless when it is off."""
    source_machine.stop(machine(estate))


def _alone(estate: Estate) -> AbstractContextManager[None]:
    return lock(_home(estate) / "lock", "the source server")


def _home(estate: Estate) -> Path:
    return (estate.directory / "source").absolute()


def _moved(estate: Estate) -> bool:
    """Whether the server was cut over, by the record of it, or by somebody answering in its place
    while it is off."""
    here = machine(estate)
    if source_machine.pid(here) is not None:
        return False
    name = source_tree.Machine().name
    record = State(estate.directory.parent).migrate(name) / "cutover.json"
    return record.exists() or source_machine.speaks_ssh(here.address)


def _build(estate: Estate, report: Report) -> Path:
    home = _home(estate)
    identity = _identity(estate)
    described = source_tree.Machine()
    image = _image(home, described, identity)
    if not image.exists():
        tree = source_tree.build(described, home, report)
        source_image.build(tree, identity, image, report)
        shutil.rmtree(tree)
    _tidy(home, keep=image)
    return image


def _new_disk(disk: Path, image: Path) -> None:
    half = disk.with_name("disk.new")
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.name, "-F", "raw", str(half)])
    half.rename(disk)


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
    """The engineer's key of the lab and the server's host key."""
    key_pair(estate.key, "groundlift-lab")
    key_pair(_host_key(estate), source_tree.Machine().name)
    return source_image.Identity(Path(f"{estate.key}.pub"), _host_key(estate))


def _host_key(estate: Estate) -> Path:
    return _home(estate) / "ssh_host_rsa_key"
