"""How long each part of a migration took here, for the next time.

A part that was interrupted and continued looks short: of all that was seen, the longest counts.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.documents import Document, load
from core.state import publish_model

FILE = "times.json"


class Times(Document):
    """times.json: part → seconds."""

    version: int = 1
    seconds: dict[str, float] = {}


def read(folder: Path) -> dict[str, float]:
    """What is known; empty before anything ran."""
    path = folder / FILE
    return load(path, Times).seconds if path.exists() else {}


@contextmanager
def timed(folder: Path, part: str) -> Iterator[None]:
    """Note how long the body takes, if it succeeds."""
    begun = time.monotonic()
    yield
    known = read(folder)
    taken = round(time.monotonic() - begun, 1)
    publish_model(folder / FILE, Times(seconds={**known, part: max(taken, known.get(part, 0.0))}))
