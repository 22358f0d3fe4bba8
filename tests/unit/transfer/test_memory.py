"""What is in use is told as a stream: a large disk takes no more memory than a small one."""

import tracemalloc
from pathlib import Path

from tests.unit.transfer import images

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
        total = sum(end - start for start, end in names["used"](found))  # type: ignore[operator]
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
