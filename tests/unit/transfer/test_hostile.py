"""Agents and files that say what they must not: a sentence, and nothing taken at their word."""

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from adapters.local import LocalHost
from core.errors import BadDocument, OutsideFailed, Problem
from core.ports import Channel, Completed
from migrate import moment, quiesce, snapshots, transfer
from migrate.transfer_manifest import Journal, Manifest
from migrate.transfer_wire import HEADER, MAGIC, Kind, session
from tests.fakes.host import FakeHost
from tests.unit.transfer import estate, images, working
from tests.unit.transfer.test_pace import patched

CHUNK = 65536
ZLIB = 1


class Small(LocalHost):
    """This machine, where no program gets more than 400 MiB."""

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        return super().stream(("prlimit", f"--as={400 * images.MIB}", *argv))


def data_frame(codec: int, length: int, digests: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A data frame as a reader makes it; one piece that covers all of it."""
    pieces = struct.pack("!HHH", 1, 0, min(length // 512, 65535))
    payload = digests + pieces + body
    head = HEADER.pack(MAGIC, Kind.DATA, codec, len(payload), 0, length, 0)[:-4]
    return head + struct.pack("!I", zlib.crc32(head)), payload


@pytest.mark.parametrize(
    ("length", "size", "said"),
    [
        (CHUNK, 512 * images.MIB, "a broken table"),
        (512 * images.MIB, 512 * images.MIB, "longer than any reader sends"),
    ],
)
def test_a_frame_that_would_fill_the_hypervisors_memory_is_refused(
    length: int, size: int, said: str, tmp_path: Path
) -> None:
    digests = bytes(16) * (length // CHUNK)
    squeezer = zlib.compressobj(9)
    small = b"".join(squeezer.compress(bytes(images.MIB)) for _ in range(size // images.MIB))
    small += squeezer.flush()
    with session(Small("hv1"), "writer") as agent:
        agent.say(Kind.OPEN, directory=str(tmp_path), name="x.replica.raw", size=2**30, hash="md5")
        agent.expect(Kind.OPEN)
        agent.relay(*data_frame(ZLIB, length, digests, small))
        with pytest.raises(OutsideFailed, match=said):
            agent.receive()


def test_a_whole_compressed_chunk_is_taken(tmp_path: Path) -> None:
    content = b"abc" * CHUNK
    content = content[:CHUNK]
    with session(LocalHost("hv1"), "writer") as agent:
        agent.say(Kind.OPEN, directory=str(tmp_path), name="x.replica.raw", size=CHUNK, hash="md5")
        agent.expect(Kind.OPEN)
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        agent.relay(*data_frame(ZLIB, CHUNK, digest, zlib.compress(content, 1)))
        agent.send(Kind.FLUSH)
        agent.expect(Kind.ACK)
        agent.expect(Kind.FLUSH)
        agent.bye()
    assert (tmp_path / "x.replica.raw.part").read_bytes() == content


def telling(key: str, value: str) -> str:
    """Code that puts something else into the reader's first words."""
    return (
        "honest = packed\n"
        "def packed(fields):\n"
        f"    if {key!r} in fields:\n"
        f"        fields[{key!r}] = '{value}'\n"
        "    return honest(fields)\n"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (telling("cpus", "\\u00b2"), ""),
        (telling("cpus", "9" * 5000), ""),
        (telling("hashes", "md5:\\u00b2,sha256:5"), ""),
        (
            "tell = Pass.tell\n"
            "def lying(self, position):\n"
            "    tell(self, 2 ** 60)\n"
            "Pass.tell = lying\n",
            "out of the disk",
        ),
    ],
)
def test_a_reader_that_tells_nonsense_is_no_fault_of_ours(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = estate.make(tmp_path, estate.disk(tmp_path, 24 * images.MIB))
    patched(monkeypatch, code)
    try:
        transfer.copy(old.source, old.target, old.plan, old.folder)
    except OutsideFailed as problem:
        assert said
        assert said in problem.message
    else:
        assert not said


@pytest.mark.parametrize(
    "line", ["{", "5", "[]", "null", '"start"', "{}", '{"event": 3}', "\0\0\0"]
)
def test_a_damaged_journal_is_said_with_what_to_do(line: str, tmp_path: Path) -> None:
    whole = json.dumps({"event": "start", "pass": "full", "from": 0})
    (tmp_path / "j").write_text(f"{whole}\n{line}\n{whole}\n")
    with pytest.raises(BadDocument, match="the journal is damaged") as caught:
        Journal(tmp_path / "j")
    assert "run again" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"5", b"\0" * 5000, b'{"version": 1}'])
def test_a_damaged_manifest_is_said_with_what_to_do(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(raw)
    with pytest.raises(BadDocument) as caught:
        Manifest.open(tmp_path / "m")
    assert "run again" in caught.value.hint


def test_mounts_that_nobody_understands_are_not_taken_for_read_only() -> None:
    good = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /a\\040b\\011c ext4 rw,noatime 0 0\nproc /p proc rw"
    host = FakeHost(files={"/proc/mounts": good.encode()})
    assert quiesce.writable(host) == ("/", "/a b\tc")
    for raw in (b"/dev/sda1 /\n", b"\n", b"\xff\0"):
        with pytest.raises(OutsideFailed, match="can't be understood"):
            quiesce.writable(FakeHost(files={"/proc/mounts": raw}))


@pytest.mark.parametrize("program", ["lvs", "vgs", "stat"])
@pytest.mark.parametrize("said", [b"a|b\n", b"  vg|0|x\n", b"|||||\n", b"\xff\n"])
def test_an_lvm_that_tells_nonsense_is_no_fault_of_ours(
    program: str, said: bytes, tmp_path: Path
) -> None:
    class Nonsense(working.Working):
        def run(
            self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
        ) -> Completed:
            if argv[0] == program:
                return Completed(tuple(argv), 0, said, b"")
            return super().run(argv, stdin=stdin, timeout=timeout)

    old = working.make(tmp_path, working.disk(tmp_path))
    old.source = Nonsense(tmp_path, old.disk)
    with pytest.raises(Problem) as caught:
        moment.look(old.source, old.plan, ("/",))
    assert caught.value.hint
    if program == "lvs":
        with pytest.raises(OutsideFailed, match="can't be understood"):
            snapshots.overflow(old.source, ("vg/groundlift-root",), 92.0)
