"""The agents on every Python that is here, in old syntax only, and no byte may change unseen."""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from adapters.local import LocalHost
from adapters.process import ENVIRONMENT
from core.errors import OutsideFailed
from core.ports import Channel
from migrate import transfer, transfer_wire
from migrate.transfer_wire import Kind, lively, program, python_of, session
from tests.contract.pythons import PYTHONS
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

AGENT = Path(__file__).parents[3] / "migrate" / "agent"
FILES = sorted(AGENT.glob("*.py"))


# Words that Python 2.4 does not know; vermin does not see all of them.
MODERN = (
    r"^\s*with\s|\bexcept .* as \b|(?<!['\"])\b[bf]['\"]|\bbytearray\b|\bnonlocal\b|\bprint\(|"
    r"^import hashlib|\.format\(|\bany\(|\ball\(|\bnext\(|\byield from\b|\bunpack_from\b|"
    r"\.partition\(|\bos\.SEEK_|\b0o[0-7]|\bset\{|\basync\b|->"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    return estate.disk(root, 24 * images.MIB)


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Estate:
    shutil.copy(template, tmp_path / "disk")
    return estate.make(tmp_path, tmp_path / "disk")


def test_the_agents_need_no_python_newer_than_2_4() -> None:
    for path in FILES:
        done = subprocess.run(
            (
                Path(sys.executable).with_name("vermin"),
                "-q",
                "-t=2.4-",
                "-t=3.0-",
                "--no-tips",
                "--violations",
                str(path),
            ),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_agents_keep_to_old_syntax(path: Path) -> None:
    code = re.sub(r"#.*", "", re.sub(r'""".*?"""', "", path.read_text(), flags=re.S))
    found = [line for line in code.splitlines() if re.search(MODERN, line)]
    assert found == []
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.IfExp), f"line {node.lineno}: a conditional expression"
        both = isinstance(node, ast.Try) and node.handlers and node.finalbody
        assert not both, "except and finally in one try"


@pytest.mark.parametrize("version", sorted(PYTHONS))
def test_both_agents_work_on(version: str, old: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_wire, "PYTHONS", (PYTHONS[version],))
    source, target = LocalHost("old"), LocalHost("hv1")
    with session(source, "reader") as agent:
        assert agent.hello.python.startswith(version)
        assert {"md5", "sha1", "sha256"} >= set(agent.hello.hashes) > set()
        agent.bye()
    transfer.copy(source, target, old.plan, old.folder)
    estate.change(old.disk, 5)
    transfer.copy(source, target, old.plan, old.folder, "delta")
    part = old.replica.with_name(old.replica.name + ".part")
    assert part.read_bytes() == old.expected()


class Flipped:
    """A stream in which one bit of one byte is another."""

    def __init__(self, stream: BinaryIO, place: int) -> None:
        self.stream, self.place = stream, place

    def _flip(self, data: bytes) -> bytes:
        if 0 <= self.place < len(data):
            data = data[: self.place] + bytes([data[self.place] ^ 4]) + data[self.place + 1 :]
        self.place -= len(data)
        return data

    def read(self, count: int) -> bytes:
        return self._flip(self.stream.read(count))

    def write(self, data: bytes) -> int:
        return self.stream.write(self._flip(data))

    def flush(self) -> None:
        self.stream.flush()


class Noisy(LocalHost):
    """A host whose connection damages one byte, on the way in or out of the agent."""

    def __init__(self, way: str, place: int) -> None:
        super().__init__("noisy")
        self.way, self.place = way, place

    @contextmanager
    def stream(self, argv: Sequence[str]) -> Iterator[Channel]:
        with super().stream(argv) as channel:

            class Line:
                stdin, stdout = channel.stdin, channel.stdout
                wait, errors, kill = channel.wait, channel.errors, channel.kill

            line = Line()
            setattr(line, self.way, Flipped(getattr(channel, self.way), self.place))
            yield line  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_byte_is_noticed_wherever_it_was(old: Estate, seed: int) -> None:
    dice = random.Random(seed)
    way = ("stdout", "stdin")[seed % 2]
    # Out of the reader, or into the writer; behind the program itself, whose damage Python tells.
    if way == "stdout":
        noisy = Noisy(way, dice.randrange(2000, 6 * images.MIB))
        parties = (noisy, old.target)
    else:
        size = len(program("writer"))
        parties = (old.source, Noisy(way, size + dice.randrange(2000, 6 * images.MIB)))
    with pytest.raises(OutsideFailed, match="damaged"):
        transfer.copy(*parties, old.plan, old.folder)
    # What was kept is right, and the rest follows.
    transfer.copy(old.source, old.target, old.plan, old.folder)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert old.replica.read_bytes() == old.expected()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "../evil"},
        {"name": "a/b"},
        {"name": ".hidden"},
        {"name": ""},
        {"directory": "relative"},
        {"directory": "/nowhere/at/all"},
    ],
)
def test_the_writer_stays_in_its_directory(fields: dict[str, str], tmp_path: Path) -> None:
    asked = {"directory": str(tmp_path), "name": "x.replica.raw", "size": 65536, "hash": "md5"}
    with session(LocalHost(), "writer") as agent:
        agent.say(Kind.OPEN, **{**asked, **fields})
        with pytest.raises(OutsideFailed, match=r"no plain file name|no directory"):
            agent.expect(Kind.OPEN)
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_frames_that_lead_out_of_the_disk(tmp_path: Path) -> None:
    for offset, length in ((65536, 65536), (0, 131072), (512, 65536), (2**63, 65536)):
        with session(LocalHost(), "writer") as agent:
            agent.say(
                Kind.OPEN, directory=str(tmp_path), name="x.replica.raw", size=65536, hash="md5"
            )
            agent.expect(Kind.OPEN)
            agent.send(Kind.ZERO, offset=offset, length=length)
            with pytest.raises(OutsideFailed, match="out of the disk"):
                agent.receive()


def test_two_writers_never_hold_one_replica(tmp_path: Path) -> None:
    asked = {"directory": str(tmp_path), "name": "x.replica.raw", "size": 65536, "hash": "md5"}
    with session(LocalHost(), "writer") as first:
        first.say(Kind.OPEN, **asked)
        first.expect(Kind.OPEN)
        with session(LocalHost(), "writer") as second:
            second.say(Kind.OPEN, **asked)
            first.bye()  # until then the second one waits
            assert second.expect(Kind.OPEN).number("created") == 0


def test_a_host_without_python_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_wire, "PYTHONS", ("no-such-python", "nor-this"))
    with pytest.raises(OutsideFailed, match="no Python"):
        python_of(LocalHost("old"))
    with pytest.raises(OutsideFailed, match="no Python"), session(LocalHost("old"), "reader"):
        pass


def test_who_holds_a_file_open_for_writing_is_named(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    try:
        (tmp_path / "read").touch()
        with (tmp_path / "read").open(), session(LocalHost(), "reader") as agent:
            agent.say(Kind.HOLDERS, path=str(tmp_path))
            assert agent.expect(Kind.HOLDERS).fields["lines"] == ""
            with (tmp_path / "log").open("w"):
                agent.say(Kind.HOLDERS, path=str(tmp_path))
                pid, program_, file = agent.expect(Kind.HOLDERS).fields["lines"].split(" ")
            agent.bye()
        assert (int(pid), file) == (os.getpid(), str(tmp_path / "log"))
        assert program_
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_an_agent_that_says_nothing_any_more_is_not_waited_for() -> None:
    with (
        session(LocalHost("hv1"), "writer") as agent,
        pytest.raises(OutsideFailed, match="no sign of life for"),
        lively(agent, 0.4),
    ):
        agent.expect(Kind.OPEN)  # it waits for us


def test_nothing_is_compiled_into_the_servers_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter whose library is not compiled yet would do that as it goes."""
    cache, python = tmp_path / "cache", tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -X pycache_prefix={cache} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{python.parent}:{ENVIRONMENT['PATH']}")
    subprocess.run([python, "-ES", "-c", ""], check=True)  # its own start
    before = sorted(cache.rglob("*"))
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    assert python_of(old.source) == "python3"
    transfer.copy(old.source, old.target, old.plan, old.folder)
    transfer.finish(old.source, old.target, old.plan, old.folder)
    assert sorted(cache.rglob("*")) == before
    subprocess.run([python, "-ES", "-c", "import struct"], check=True)
    assert sorted(cache.rglob("*")) != before
