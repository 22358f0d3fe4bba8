"""Many servers at once: each arrives as if it were alone, and begins at the same small cost."""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from core.ports import Channel, Completed
from migrate import transfer
from migrate.transfer import Options
from tests.unit.transfer import estate, images
from tests.unit.transfer.estate import Estate

MANY = 8


class Counted(estate.Source):
    """How often it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.commands = self.streams = 0

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        self.commands += 1
        return super().run(argv, stdin=stdin, timeout=timeout)

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        self.streams += 1
        return super().stream(argv)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return estate.disk(tmp_path_factory.mktemp("template"), 16 * images.MIB)


def make(template: Path, root: Path) -> Estate:
    root.mkdir()
    shutil.copy(template, root / "disk")
    estate.change(root / "disk", len(root.name) + ord(root.name[0]))
    made = estate.make(root, root / "disk")
    made.source = Counted(root)
    return made


def copied(old: Estate) -> None:
    transfer.copy(old.source, old.target, old.plan, old.folder)


def test_many_servers_move_at_once_as_each_would_alone(template: Path, tmp_path: Path) -> None:
    servers = [make(template, tmp_path / str(number)) for number in range(MANY)]
    together = threading.Barrier(MANY)

    def move(old: Estate) -> None:
        together.wait(60)
        copied(old)
        estate.change(old.disk, 7)
        transfer.finish(old.source, old.target, old.plan, old.folder)

    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(move, servers))
    for old in servers:
        assert old.replica.read_bytes() == old.expected()


def test_a_copy_begins_at_the_same_cost_however_large_the_disk(
    template: Path, tmp_path: Path
) -> None:
    small, large = make(template, tmp_path / "small"), make(template, tmp_path / "large")
    with large.disk.open("r+b") as file:
        file.truncate(3 << 30)
    large.plan = estate.plan(large.disk, large.root / "pool", 3 << 30)
    for old in (small, large):
        options = Options(index=False)
        transfer.copy(old.source, old.target, old.plan, old.folder, options=options)
    assert (small.source.commands, small.source.streams) == (
        large.source.commands,
        large.source.streams,
    )
    assert small.source.commands <= 2
