"""The fallback for a source without Python: dd there, the reader's program here. It must bring what
the reader brings, and survive what a reader survives."""

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from core.errors import OutsideFailed
from core.ports import Channel
from core.progress import Event
from migrate import transfer
from migrate.limits import Budget, Limits
from migrate.transfer import Options, Rounds
from migrate.transfer_manifest import Journal
from migrate.transfer_wire import START, Kind, Session
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate, Source

# The named range of the disk can't be read: what dd says of a bad sector, where it would.
BAD_SECTORS = """
nice() { false; }
ionice() { false; }
dd() {
    bs=512 skip=0 count=1
    for word in "$@"; do case $word in bs=*|skip=*|count=*) eval "$word" ;; esac; done
    if test $((skip * bs)) -lt %(end)d && test $(((skip + count) * bs)) -gt %(start)d; then
        good=$((%(start)d / bs - skip))
        test $good -gt 0 && command dd if="$disk" bs=$bs skip=$skip count=$good 2>/dev/null
        echo "dd: error reading '$disk': %(words)s" >&2
        return 1
    fi
    command dd "$@"
}
"""
NOT_FRESH = """
dd() { case "$*" in *iflag=direct*) return 1 ;; esac; command dd "$@"; }
blockdev() { case $1 in --flushbufs) return 1 ;; esac; command blockdev "$@"; }
"""


class Bare(Source):
    """A source without Python; ``prelude`` goes before what its shell is told to do."""

    prelude = ""
    on_stream: Callable[[Channel], None] = staticmethod(lambda _: None)

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        if START in argv:
            return super().stream((*argv[:5], "no-such-python"))
        assert "python" not in argv[0]
        return super().stream((*argv[:2], self.prelude + argv[2], *argv[3:]))


@pytest.fixture
def bare(tmp_path: Path) -> Estate:
    made = estate.make(tmp_path, estate.disk(tmp_path))
    made.source = Bare(tmp_path)
    return made


def test_dd_brings_what_the_reader_brings(bare: Estate, tmp_path: Path) -> None:
    notes: list[Event] = []
    transfer.copy(bare.source, bare.target, bare.plan, bare.folder, report=notes.append)
    estate.change(bare.disk, seed=3)
    (delta,) = transfer.copy(bare.source, bare.target, bare.plan, bare.folder, kind="delta")
    estate.change(bare.disk, seed=4)
    proof = transfer.finish(bare.source, bare.target, bare.plan, bare.folder).disks[0]
    assert bare.replica.read_bytes() == bare.expected()
    assert any("no Python there: dd" in event.text for event in notes)
    assert all("read by dd" in area for area in proof.areas)
    assert 0 < delta.sent < delta.used
    assert proof.used <= delta.wire < 1.03 * proof.used + 65536  # all in use, and nothing else

    (tmp_path / "other" / "pool").mkdir(parents=True)
    plan = bare.plan.model_copy(update={"pool_path": str(tmp_path / "other" / "pool")})
    folder = tmp_path / "other" / "state"
    (tmp_path / "resting").unlink()
    other = transfer.finish(Source(tmp_path), bare.target, plan, folder).disks[0]
    assert other.manifest_sha256 == proof.manifest_sha256


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ENODATA, errno.EILSEQ, errno.EBADMSG, errno.EREMOTEIO]
)
def test_sectors_that_dd_can_not_read_are_narrowed_down_told_and_zeros(
    bare: Estate, number: int
) -> None:
    spans = images.extents(bare.disk)
    start, end = [span for span in spans if span[1] - span[0] > 8192][-1]  # no map lies there
    assert isinstance(bare.source, Bare)
    bare.source.prelude = BAD_SECTORS % {
        "start": start + 1024, "end": start + 2560, "words": os.strerror(number)
    }  # fmt: skip
    transfer.copy(bare.source, bare.target, bare.plan, bare.folder)
    proof = transfer.finish(bare.source, bare.target, bare.plan, bare.folder).disks[0]
    assert proof.unreadable == 3
    expected = bytearray(bare.expected())
    expected[start + 1024 : start + 2560] = bytes(1536)
    assert bare.replica.read_bytes() == expected
    assert end > start + 2560


def test_dd_goes_on_where_it_was_cut_off(bare: Estate) -> None:
    """The connection dies once something is safe on the target."""
    journal = bare.folder / "disks" / "old-sda.journal"
    real = bare.source.stream

    class Cut:
        def __init__(self, inner: AbstractContextManager[Channel]) -> None:
            self.inner = inner

        def __enter__(self) -> Channel:
            channel = self.inner.__enter__()

            def kill() -> None:
                deadline = time.monotonic() + 20
                while time.monotonic() < deadline:
                    if journal.exists() and '"upto"' in journal.read_text():
                        break
                    time.sleep(0.01)
                channel.kill()

            threading.Thread(target=kill, daemon=True).start()
            return channel

        def __exit__(self, *rest: object) -> bool | None:
            return self.inner.__exit__(*rest)  # type: ignore[arg-type]

    bare.source.stream = lambda argv: Cut(real(argv))  # type: ignore[method-assign,assignment]
    with pytest.raises(OutsideFailed):
        transfer.copy(
            bare.source, bare.target, bare.plan, bare.folder, options=Options(rate=4 * images.MIB)
        )
    begun = Journal(journal)
    place = begun.resume("full")
    begun.close()
    assert place > 0
    bare.source.stream = real  # type: ignore[method-assign]
    (rest,) = transfer.copy(bare.source, bare.target, bare.plan, bare.folder)
    whole = sum(end - start for start, end in images.extents(bare.disk))
    assert rest.used < whole
    assert bare.replica.with_name(bare.replica.name + ".part").read_bytes() == bare.expected()


def test_a_rate_is_kept_by_dd_too(bare: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, str | int]] = []
    real = Session.say

    def say(self: Session, kind: Kind, **fields: str | int) -> None:
        told.extend([fields] * (kind is Kind.PASS))
        real(self, kind, **fields)

    monkeypatch.setattr(Session, "say", say)
    began = time.monotonic()
    (result,) = transfer.copy(
        bare.source, bare.target, bare.plan, bare.folder, options=Options(rate=8 * images.MIB)
    )
    assert time.monotonic() - began > 0.8 * result.sent / (8 * images.MIB)
    assert [fields["rate"] for fields in told] == [0]  # kept while it reads, and not once more


def test_a_rate_and_a_budget_bind_all_that_dd_brings_not_only_what_is_sent(
    bare: Estate, tmp_path: Path
) -> None:
    transfer.copy(bare.source, bare.target, bare.plan, bare.folder)
    budget = Limits(budgets=(Budget(tmp_path / "budget", 12 * images.MIB),))
    for options in (Options(rate=12 * images.MIB), Options(limits=budget)):
        began = time.monotonic()
        (delta,) = transfer.copy(
            bare.source, bare.target, bare.plan, bare.folder, "delta", options=options
        )
        assert delta.sent == 0
        assert delta.wire > 4 * images.MIB
        assert time.monotonic() - began > 0.8 * delta.wire / (12 * images.MIB)


@pytest.mark.skipif(os.getuid() != 0, reason="a loop device needs root")
def test_a_block_device_is_read_past_the_cache_or_not_at_all(bare: Estate) -> None:
    loop = images.run("losetup", "-r", "-f", "--show", bare.disk).decode().strip()
    try:
        disk = bare.plan.disks[0].model_copy(update={"source": loop})
        plan = bare.plan.model_copy(update={"disks": (disk,)})
        assert isinstance(bare.source, Bare)
        bare.source.prelude = NOT_FRESH
        with pytest.raises(OutsideFailed, match="could be older than what the server wrote"):
            transfer.copy(bare.source, bare.target, plan, bare.folder)
        bare.source.prelude = ""
        transfer.copy(bare.source, bare.target, plan, bare.folder)
        estate.change(bare.disk, seed=5)  # behind the loop device's back
        transfer.finish(bare.source, bare.target, plan, bare.folder)
        assert bare.replica.read_bytes() == bare.expected()
    finally:
        images.run("losetup", "-d", loop)


@pytest.mark.skipif(os.getuid() != 0, reason="a loop device needs root")
def test_a_device_of_any_name_is_measured_by_its_number(bare: Estate, tmp_path: Path) -> None:
    """As /dev/mapper/mpatha, which /sys calls dm-0, on a server without blockdev."""
    loop = images.run("losetup", "-r", "-f", "--show", bare.disk).decode().strip()
    try:
        (tmp_path / "mapper").mkdir()
        name = tmp_path / "mapper" / "mpatha"
        name.symlink_to(loop)
        disk = bare.plan.disks[0].model_copy(update={"source": str(name)})
        plan = bare.plan.model_copy(update={"disks": (disk,)})
        assert isinstance(bare.source, Bare)
        bare.source.prelude = "blockdev() { return 127; }; "
        transfer.finish(bare.source, bare.target, plan, bare.folder)
        assert bare.replica.read_bytes() == bare.expected()
    finally:
        images.run("losetup", "-d", loop)


def test_a_disk_that_is_not_there_is_said(bare: Estate) -> None:
    disk = bare.plan.disks[0].model_copy(update={"source": "/dev/no-such-disk"})
    plan = bare.plan.model_copy(update={"disks": (disk,)})
    with pytest.raises(OutsideFailed, match="can't tell the size of /dev/no-such-disk"):
        transfer.copy(bare.source, bare.target, plan, bare.folder)


def children() -> int:
    """Processes that this one started and that still run."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return sum(len(path.read_text().split()) for path in found)


def test_of_repeated_passes_by_dd_only_the_writer_stays(bare: Estate) -> None:
    transfer.copy(bare.source, bare.target, bare.plan, bare.folder)
    before, running = children(), []
    with Rounds(bare.source, bare.target, bare.plan, bare.folder) as rounds:
        for seed in range(3):
            estate.change(bare.disk, seed)
            rounds.go("delta")
            running.append(children() - before)
    part = bare.replica.with_name(bare.replica.name + ".part")
    assert part.read_bytes() == bare.expected()
    assert running == [1, 1, 1]
