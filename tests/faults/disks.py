"""A file that lies on a failing disk."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PREAD = """at=$4; count=$3
if [ -e {trigger} ] && [ $at -le {bad} ] && [ $((at + count)) -gt {bad} ]; then
    echo EIO a bad sector >&2; exit 1
fi
dd if={image} skip=$at count=$count iflag=skip_bytes,count_bytes bs=128k status=none"""


@contextlib.contextmanager
def failing(image: Path, bad: int, place: Path) -> Iterator[tuple[Path, Path]]:
    """``image`` as a file on a disk whose byte ``bad`` can't be read while the second path
    exists."""
    folder, trigger = place / "failing", place / "bad-sector"
    folder.mkdir()
    view = folder / image.name
    pread = PREAD.format(trigger=trigger, bad=bad, image=image)
    plugin = ("nbdkit", "-s", "--exit-with-parent", "--read-only", "eval",
              f"get_size=echo {image.stat().st_size}", f"pread={pread}")  # fmt: skip
    process = subprocess.Popen(("nbdfuse", str(view), "--command", *plugin),
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not (view.exists() and view.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield view, trigger
    finally:
        subprocess.run(("fusermount3", "-u", str(folder)), check=True)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # nobody reads there any more; how it ends is not ours
            process.kill()
            process.wait()
