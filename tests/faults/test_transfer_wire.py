"""Bits that flip and lines that break between controller and agents, at any byte, either way: the
pass ends with a sentence or was not touched, and the next one makes the replica what it is to be.
"""

import hashlib
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from core.errors import Problem
from core.ports import Channel
from migrate import transfer
from migrate.transfer_manifest import Journal, Manifest
from tests.unit.transfer import estate, images

PASSES = ("full", "delta", "final")
REACH = {"full": 24 * images.MIB, "delta": 300_000, "final": 300_000}


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


@pytest.mark.parametrize("what", ["flip", "cut"])
@pytest.mark.parametrize("party", ["reader", "writer"])
@pytest.mark.parametrize("end", ["stdin", "stdout"])
def test_a_bad_line_costs_time_and_nothing_else(
    template: Path, seed: int, what: str, party: str, end: str, tmp_path: Path
) -> None:
    dice = random.Random(f"{seed} {what} {party} {end}")
    subprocess.run(["cp", template, tmp_path / "disk"], check=True)
    old = estate.make(tmp_path, tmp_path / "disk")
    victim = dice.choice(PASSES)
    for kind in PASSES[: PASSES.index(victim)]:
        transfer.copy(old.source, old.target, old.plan, old.folder, kind)
        estate.change(old.disk, dice.randrange(100))
    heavy = (party, end) in (("reader", "stdout"), ("writer", "stdin"))
    program = 90_000 if end == "stdin" else 0  # the agent itself goes first, that way
    at = program + dice.randrange(REACH[victim] if heavy else 20_000)
    host = old.source if party == "reader" else old.target
    lines = spoilt(host, end, at, what, dice)
    failed = None
    try:
        if victim == "final":
            transfer.finish(old.source, old.target, old.plan, old.folder)
        else:
            transfer.copy(old.source, old.target, old.plan, old.folder, victim)
    except Problem as problem:
        failed = problem
    del host.stream
    assert failed or not (what == "cut" and any(line.hit for line in lines)), "nobody noticed"
    honest(old)
    estate.change(old.disk, dice.randrange(100))
    result = transfer.finish(
        old.source, old.target, old.plan, old.folder, transfer.Options(again=failed is None)
    )
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
