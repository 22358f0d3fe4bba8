"""Bits that flip and lines that break between controller and agents, at any byte, either way: the
pass ends with a sentence or was not touched, and the next one makes the replica what it is to be.
"""

import hashlib
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from core.errors import Problem
from core.ports import Channel
from migrate import transfer
from migrate.transfer_manifest import Journal, Manifest
from migrate.transfer_wire import program
from tests.unit.transfer import estate, images

PASSES = ("full", "delta", "final")
FLOWS = [(party, end) for party in ("reader", "writer") for end in ("stdin", "stdout")]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("wire"), 24 * images.MIB)


class Bad:
    """One end of a pipe. At byte ``at`` it flips a bit, or the line is dead from there on."""

    def __init__(self, real: BinaryIO, at: int, what: str, dice: random.Random) -> None:
        self.real, self.at, self.what = real, at, what
        self.bit = 1 << dice.randrange(8)
        self.seen, self.hit = 0, False

    def spoil(self, data: bytes) -> bytes:
        place = self.at - self.seen
        self.seen += len(data)
        if place >= len(data) or (place < 0 and self.what == "flip"):
            return data
        self.hit = True
        if self.what == "cut":
            return data[: max(place, 0)]
        return data[:place] + bytes([data[place] ^ self.bit]) + data[place + 1 :]

    def read(self, count: int = -1) -> bytes:
        return self.spoil(self.real.read(count))

    def write(self, data: Any) -> int:
        raw = bytes(data)
        kept = self.spoil(raw)
        self.real.write(kept)
        if self.what == "cut" and self.hit:
            self.real.flush()
            raise BrokenPipeError(32, "Broken pipe")
        return len(raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Line:
    """A channel with one bad end."""

    def __init__(self, real: Channel, end: str, bad: Bad) -> None:
        self.real = real
        self.stdin = bad if end == "stdin" else real.stdin
        self.stdout = bad if end == "stdout" else real.stdout

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def spoilt(host: Any, end: str, at: int, what: str, dice: random.Random) -> list[Bad]:
    """Make every agent of ``host`` talk over a bad line."""
    lines: list[Bad] = []
    whole = host.stream

    @contextmanager
    def stream(argv: Sequence[str]) -> Iterator[Any]:
        with whole(argv) as channel:
            lines.append(Bad(getattr(channel, end), at, what, dice))
            yield Line(channel, end, lines[-1])

    host.stream = stream
    return lines


def go(old: estate.Estate, kind: str, *, again: bool = False) -> transfer.Transfer | None:
    if kind == "final":
        options = transfer.Options(again=again)
        return transfer.finish(old.source, old.target, old.plan, old.folder, options)
    transfer.copy(old.source, old.target, old.plan, old.folder, kind)
    return None


@pytest.fixture(scope="session")
def reach(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], int]:
    """(pass, party, end) → bytes that go that way after the program, at least."""
    root, dice, found = tmp_path_factory.mktemp("reach"), random.Random(0), {}
    subprocess.run(["cp", template, root / "disk"], check=True)
    old = estate.make(root, root / "disk")
    hosts = {"reader": old.source, "writer": old.target}
    for kind in PASSES:
        lines = {flow: spoilt(hosts[flow[0]], flow[1], 2**62, "flip", dice) for flow in FLOWS}
        go(old, kind)
        for host in hosts.values():
            del host.stream
        for (party, end), seen in lines.items():
            sizes = [bad.seen - head(party, end) for bad in seen]
            found[kind, party, end] = max(sizes) * 7 // 10
        estate.change(old.disk, dice.randrange(100))
    return found


def head(party: str, end: str) -> int:
    """The agent itself goes first, that way."""
    return len(program(party)) if end == "stdin" else 0


@pytest.mark.parametrize("what", ["flip", "cut"])
@pytest.mark.parametrize(("party", "end"), FLOWS)
def test_a_bad_line_costs_time_and_nothing_else(
    template: Path,
    reach: dict[tuple[str, ...], int],
    seed: int,
    what: str,
    party: str,
    end: str,
    tmp_path: Path,
    tally: Counter[str],
) -> None:
    dice = random.Random(f"{seed} {what} {party} {end}")
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    victim = dice.choice(PASSES)
    for kind in PASSES[: PASSES.index(victim)]:
        go(old, kind)
        estate.change(old.disk, dice.randrange(100))
    at = head(party, end) + dice.randrange(reach[victim, party, end])
    host = old.source if party == "reader" else old.target
    lines = spoilt(host, end, at, what, dice)
    failed = None
    try:
        go(old, victim)
    except Problem as problem:
        failed = problem
    del host.stream
    assert any(line.hit for line in lines)
    assert failed or what == "flip", "nobody noticed"
    tally[f"{what}s"] += 1
    honest(old)
    if victim == "final" and failed is None:  # a bit that nobody needed
        assert old.replica.read_bytes() == old.expected()
    estate.change(old.disk, dice.randrange(100))
    result = go(old, "final", again=failed is None)
    assert result is not None
    assert result.disks[0].differing == 0
    assert old.replica.read_bytes() == old.expected()


def honest(old: estate.Estate) -> None:
    """What the manifest says of a chunk is what lies on the target, or was never claimed."""
    folder = old.folder / "disks"
    files = [file for file in (old.replica, Path(f"{old.replica}.part")) if file.exists()]
    if not files or not (folder / "old-sda.manifest").exists():
        return
    Journal(folder / "old-sda.journal").close()
    manifest = Manifest.open(folder / "old-sda.manifest")
    raw = files[0].read_bytes()
    for offset, length, digests in manifest.runs(0, manifest.size):
        for number in range(length // 65536):
            chunk = raw[offset + number * 65536 :][:65536]
            claimed = digests[number * manifest.width :][: manifest.width]
            found = hashlib.new(manifest.algorithm, chunk, usedforsecurity=False).digest()
            assert found == claimed, offset + number * 65536
    manifest.close()
