"""A source that is gone from one moment to the next, as by a power cut: nothing closes, nothing
answers. The pass must end by itself, and go on once the source is back."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.ssh import SshHost
from core.errors import OutsideFailed
from migrate import transfer
from migrate.transfer import Options
from migrate.transfer_manifest import Journal
from tests.contract.sshd import Server, sshd
from tests.faults.transfer_victim import Source
from tests.unit.transfer import estate, images

HERE, THERE = "10.211.78.1", "10.211.78.2"
UPTO = 4 * images.MIB

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network of its own"),
    pytest.mark.timeout(180),
]


class Line:
    """A veth pair into a network namespace; pulled, packets get lost without a word."""

    def __init__(self) -> None:
        self.name = f"gv-{os.getpid()}"
        self.within = ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        images.run("ip", "netns", "add", self.name)
        far = ("peer", "name", "gv1", "netns", self.name)
        images.run("ip", "link", "add", "gv0", "type", "veth", *far)
        images.run("ip", "address", "add", f"{HERE}/30", "dev", "gv0")
        images.run("ip", "link", "set", "gv0", "up")
        images.run(*self.within, "ip", "address", "add", f"{THERE}/30", "dev", "gv1")
        self.plug()

    def plug(self) -> None:
        images.run(*self.within, "ip", "link", "set", "gv1", "up")

    def pull(self) -> None:
        images.run(*self.within, "ip", "link", "set", "gv1", "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture
def server(line: Line, tmp_path: Path) -> Iterator[Server]:
    with sshd(tmp_path / "ssh", within=line.within, address=THERE) as running:
        yield running


def cut_at(journal: Path, line: Line) -> threading.Thread:
    """Pull the line as soon as so much is safe at the target."""

    def watch() -> None:
        for _ in range(3000):
            if journal.exists() and Journal(journal).resume("full") >= UPTO:
                line.pull()
                return
            threading.Event().wait(0.01)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    return watching


def test_a_source_that_vanishes_ends_the_pass_which_goes_on_when_it_is_back(
    line: Line, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.ssh_program.KEEPALIVE", 1)  # 15 s on site
    files = images.tree(tmp_path / "tree")
    for number in range(8):
        (files / f"big{number}").write_bytes(os.urandom(2 * images.MIB))
    old = estate.make(tmp_path, estate.disk(tmp_path, files=files))
    old.source = Source(tmp_path, SshHost("old", server.login))
    journal = old.folder / "disks" / "old-sda.journal"
    cut = cut_at(journal, line)
    with pytest.raises(OutsideFailed, match="old"):
        options = Options(rate=8 * images.MIB, connections=1)
        transfer.copy(old.source, old.target, old.plan, old.folder, "full", options)
    cut.join()
    upto = Journal(journal).resume("full")
    assert upto >= UPTO
    assert not Journal(journal).finished("full")  # it did vanish in the middle
    line.plug()
    old.source = Source(tmp_path, SshHost("old", server.login))
    (rest,) = transfer.copy(old.source, old.target, old.plan, old.folder)
    left = sum(end - max(start, upto) for start, end in images.extents(old.disk) if end > upto)
    assert rest.read <= left + 2 * images.MIB
    assert transfer.finish(old.source, old.target, old.plan, old.folder).disks[0].differing == 0
    assert old.replica.read_bytes() == old.expected()
    old.source.far.close()
