"""What is in use is told as a stream: a large disk takes no more memory than a small one."""

import contextlib
import random
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate import transfer
from migrate.transfer import Options
from tests.unit.transfer import estate, images

GIB = 1024 * images.MIB
MOST = 8 * images.MIB  # a byte per block of the large disk would be eight times that


def peak(path: Path, size: int) -> int:
    """Bytes that it takes to go over an ext4 of this size."""
    with path.open("wb") as file:
        file.truncate(size)
    options = ("-q", "-F", "-E", "nodiscard,lazy_itable_init=1", "-O", "^has_journal")
    images.run("mkfs.ext4", *options, "-i", str(4 * images.MIB), path)
    names = images.agent()
    device = names["Device"](str(path))  # type: ignore[operator]
    tracemalloc.start()
    try:
        found = names["areas"](device.read, device.size, False)  # type: ignore[operator]
        total = sum(end - start for start, end in names["used"](found, 0, device.size))  # type: ignore[operator]
        assert 0 < total < size // 100
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        device.close()
        path.unlink()


def test_memory_does_not_grow_with_the_disk(tmp_path: Path) -> None:
    small, large = peak(tmp_path / "small", 4 * GIB), peak(tmp_path / "large", 256 * GIB)
    assert small < MOST
    assert large < MOST


class Watch:
    """The most memory that one agent and its workers took, shared pages by their parts."""

    def __init__(self) -> None:
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            families: dict[int, int] = {}
            agents = dict(self._agents())
            for pid, (parent, size) in agents.items():
                head = parent if parent in agents else pid
                families[head] = families.get(head, 0) + size
            self.most = max(self.most, *families.values(), 0)

    def _agents(self) -> Iterator[tuple[int, tuple[int, int]]]:
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                words = (place / "cmdline").read_bytes()
                if b"'agent','exec'" in words and words.split(b"\0")[1] == b"-ESu":
                    parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    sizes = (place / "smaps_rollup").read_text().splitlines()
                    (size,) = (int(row.split()[1]) for row in sizes if row.startswith("Pss:"))
                    yield int(place.name), (parent, size * 1024)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        yield
        self._over.set()
        self._thread.join()


def scramble(path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with path.open("r+b") as file:
        for at in range(0, path.stat().st_size, images.MIB):
            file.seek(at)
            file.write(dice.randbytes(images.MIB))


@pytest.mark.parametrize("kind", ["full", "delta"])
def test_an_agent_of_four_workers_takes_64_mib_at_most(tmp_path: Path, kind: str) -> None:
    scramble(images.junk(tmp_path / "disk", 96 * images.MIB), 1)
    old = estate.make(tmp_path, tmp_path / "disk")
    options = Options(workers=4, compress=True)
    if kind == "delta":
        transfer.copy(old.source, old.target, old.plan, old.folder)
        scramble(old.disk, 2)  # the worst there is: nothing is as it was
    watch = Watch()
    with watch.watching():
        (done,) = transfer.copy(old.source, old.target, old.plan, old.folder, kind, options)
    assert done.sent == 96 * images.MIB
    assert 8 * images.MIB < watch.most <= 64 * images.MIB
