"""A walk that begins where most changed and goes round the disk, and what waits for the line."""

import itertools
import os
import random
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from adapters.local import LocalHost
from core.errors import OutsideFailed
from core.ports import Channel
from migrate import transfer, transfer_lane, transfer_pass, transfer_work
from migrate.transfer import Options
from migrate.transfer_dd import by_dd
from migrate.transfer_lane import Lane
from migrate.transfer_manifest import Journal
from migrate.transfer_wire import Frame
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate
from tests.unit.transfer.test_pace import patched

MIB = images.MIB
STEP = 8 * MIB
ODD = 40 * MIB + 5 * 512  # of no chunk's size, as most real disks are


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so short that a small disk has many, and no more than one of them told ahead."""
    for module in (transfer_lane, transfer_pass, transfer_work):
        monkeypatch.setattr(module, "STEP", STEP)
    monkeypatch.setattr(transfer_lane, "AHEAD", STEP)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the frames of all passes lie on the disk, as they come."""
    found: list[int] = []
    plain = Lane._advance

    def advance(self: Lane, frame: Frame) -> int:
        found.append(frame.offset)
        return plain(self, frame)

    monkeypatch.setattr(Lane, "_advance", advance)
    return found


def rot(disk: Path, low: int, high: int, seed: int) -> None:
    """Overwrite much of what is in use between two places."""
    dice = random.Random(seed)
    with disk.open("r+b") as file:
        for start, end in images.extents(disk):
            for at in range(max(start, low), min(end, high) - 4096, MIB // 4):
                file.seek(at)
                if b"\xc0\x3b\x39\x98" not in file.read(4096):
                    file.seek(at)
                    file.write(dice.randbytes(4096))


def full(root: Path) -> Estate:
    """A disk that is in use to its end, nearly."""
    tree, dice = images.tree(root / "tree"), random.Random(9)
    for number in range(22):
        (tree / f"large{number}").write_bytes(dice.randbytes(MIB))
    return estate.make(root, estate.disk(root, 40 * MIB, tree))


def journal(old: Estate) -> Journal:
    return Journal(old.folder / "disks" / "old-sda.journal")


@pytest.mark.usefixtures("steps", "striped")
@pytest.mark.parametrize("count", [1, 3])
def test_what_changed_most_is_read_first_and_nothing_is_left_out(
    count: int, tmp_path: Path, places: list[int]
) -> None:
    old = full(tmp_path)
    options = Options(connections=count)
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    rot(old.disk, 2 * STEP, 3 * STEP, 1)
    estate.change(old.disk, 2, writes=2)
    transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
    told = journal(old)
    assert told.hottest() == 2 * STEP
    told.close()
    for seed, gone in ((3, "d1/f1 d1/f8"), (4, "d2/f2 d3/f3"), (5, "zeros")):
        estate.free(old.disk, *gone.split())
        estate.change(old.disk, seed, writes=2)
        rot(old.disk, 2 * STEP, 3 * STEP, seed)
        places.clear()
        transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
        assert old.replica.with_name(f"{old.replica.name}.part").read_bytes() == old.expected()
        if count == 1:
            falls = [place for last, place in itertools.pairwise(places) if place < last]
            assert places[0] >= 2 * STEP
            assert len(falls) == 1
            assert falls[0] < STEP
    result = transfer.finish(old.source, old.target, old.plan, old.folder, options)
    assert old.replica.read_bytes() == old.expected()
    assert result.disks[0].differing == 0


@pytest.mark.usefixtures("steps")
def test_a_reader_that_goes_round_twice_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = full(tmp_path)
    transfer.copy(old.source, old.target, old.plan, old.folder)
    rot(old.disk, 2 * STEP, 3 * STEP, 1)
    transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    code = (
        "plain = Pass.walk\n"
        "def walk(self, low, high):\n"
        "    plain(self, low, self.device.size)\n"
        "Pass.walk = walk\n"
    )
    patched(monkeypatch, code)
    with pytest.raises(OutsideFailed, match=r"impossible place|leads out of the disk"):
        transfer.copy(old.source, old.target, old.plan, old.folder, "delta")


def test_where_to_begin_is_what_the_last_delta_told_and_nothing_else(tmp_path: Path) -> None:
    told = Journal(tmp_path / "old-sda.journal")
    assert told.hottest() == 0
    told.add("end", **{"pass": "full", "hot": 4})
    assert told.hottest() == 0
    told.add("end", **{"pass": "delta", "hot": 8})
    told.add("end", **{"pass": "delta", "hot": None})  # nothing had changed
    assert told.hottest() == 8
    told.add("end", **{"pass": "delta", "hot": "16"})
    assert told.hottest() == 8
    told.add("reset")
    assert told.hottest() == 0
    told.close()


@pytest.mark.parametrize("hot", [7, -STEP, 2**60, 40 * MIB])
def test_a_place_that_cannot_be_is_none_to_begin_at(hot: int, tmp_path: Path) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    transfer.copy(old.source, old.target, old.plan, old.folder)
    told = journal(old)
    told.add("end", **{"pass": "delta", "hot": hot})
    told.close()
    estate.change(old.disk, 1)
    transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    assert old.replica.with_name(f"{old.replica.name}.part").read_bytes() == old.expected()


@pytest.mark.usefixtures("striped")
@pytest.mark.parametrize("count", [1, 2])
def test_a_disk_that_ends_in_the_middle_of_a_chunk(count: int, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(random.Random(3).randbytes(ODD))
    old = estate.make(tmp_path, disk)
    options = Options(connections=count)
    transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    with disk.open("r+b") as file:
        file.seek(ODD - 512)
        file.write(bytes(range(256)) * 2)
    (delta,) = transfer.copy(old.source, old.target, old.plan, old.folder, "delta", options)
    assert 0 < delta.sent <= 65536
    transfer.finish(old.source, old.target, old.plan, old.folder, options)
    assert old.replica.read_bytes() == disk.read_bytes()


# -- what waits for the line


def frames(count: int) -> list[tuple[int, bytes, int]]:
    dice = random.Random(1)
    sizes = (0, 10, 65536, 70_000, 262_144)
    return [(7, dice.randbytes(sizes[number % 5]), number) for number in range(count)]


def drained(descriptor: int, found: list[bytes]) -> None:
    while part := os.read(descriptor, 50_000):
        found.append(part)


def spoken(sent: list[tuple[int, bytes, int]], most: int) -> tuple[bytes, int]:
    """(what arrives, bytes that waited when all was said) of a link whose other end reads only
    when that is so."""
    names = images.agent()
    nothing = os.open("/dev/null", os.O_RDONLY)
    ours, theirs = os.pipe()
    link = names["Link"](nothing, theirs)  # type: ignore[operator]
    if most:
        link.lazily(most)
    found: list[bytes] = []
    reading = threading.Thread(target=drained, args=(ours, found))
    if not most:
        reading.start()
    for kind, payload, offset in sent:
        link.send(kind, payload, offset, len(payload))
    waited = link.waiting
    if most:
        reading.start()
    link.promptly()
    os.close(theirs)
    reading.join()
    os.close(ours)
    os.close(nothing)
    return b"".join(found), waited


def test_what_waits_for_the_line_holds_nobody_up_and_arrives_in_order() -> None:
    sent = frames(60)
    plain, _ = spoken(sent, 0)
    late, waited = spoken(sent, 8 * MIB)
    assert late == plain
    assert waited > 2 * MIB


def test_no_more_than_it_may_waits_for_the_line() -> None:
    names = images.agent()
    nothing = os.open("/dev/null", os.O_RDONLY)
    ours, theirs = os.pipe()
    link = names["Link"](nothing, theirs)  # type: ignore[operator]
    link.lazily(2 * MIB)
    sent = frames(200)

    def speak() -> None:
        for kind, payload, offset in sent:
            link.send(kind, payload, offset, len(payload))
        link.promptly()
        os.close(theirs)

    speaking = threading.Thread(target=speak)
    speaking.start()
    speaking.join(1)
    assert speaking.is_alive()
    assert link.waiting <= 2 * MIB + 300_000
    found: list[bytes] = []
    drained(ours, found)
    speaking.join()
    os.close(ours)
    os.close(nothing)
    assert b"".join(found) == spoken(sent, 0)[0]


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """More than select() knows of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"no process may open more than {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_open_files")
def test_a_controller_of_many_servers_has_many_files_open(tmp_path: Path) -> None:
    assert LocalHost("hv1").run(("echo", "hello")).stdout == b"hello\n"
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    with by_dd(old.source) as reader:
        assert reader.hello.python == "dd"
    transfer.copy(old.source, old.target, old.plan, old.folder)
    assert old.replica.with_name(f"{old.replica.name}.part").read_bytes() == old.expected()


def test_no_pass_leaves_a_file_open(tmp_path: Path) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * MIB))
    transfer.copy(old.source, old.target, old.plan, old.folder)
    before = len(list(Path("/proc/self/fd").iterdir()))
    transfer.copy(old.source, old.target, old.plan, old.folder, "delta")
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# An old sshd gives a command one socket for both ways.
SOCKET = """
import os, socket, subprocess, sys, threading
ours, theirs = socket.socketpair()
child = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs)
theirs.close()
def up():
    while part := os.read(0, 65536):
        ours.sendall(part)
    ours.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while part := ours.recv(16384):
    while part:
        part = part[os.write(1, part):]
"""


class OldServer(estate.Source):
    """Its commands' two ways are one socket."""

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        return LocalHost.stream(self, (sys.executable, "-c", SOCKET, *argv))


def test_one_socket_for_both_ways_is_waited_for_in_both(tmp_path: Path) -> None:
    plain = estate.make(tmp_path, estate.disk(tmp_path, 40 * MIB))
    old = OldServer(tmp_path)
    transfer.copy(old, plain.target, plain.plan, plain.folder)
    for seed in range(2):
        estate.change(plain.disk, seed)
        rot(plain.disk, 2 * STEP, 3 * STEP, seed)
        transfer.copy(old, plain.target, plain.plan, plain.folder, "delta")
    transfer.finish(old, plain.target, plain.plan, plain.folder)
    assert plain.replica.read_bytes() == plain.expected()
