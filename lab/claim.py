"""One lab per machine: its bridge and addresses exist once. Says whose they are."""

from pathlib import Path

from core.errors import Locked
from core.state import lock, publish
from lab import nodes_container, source
from lab.estate import NODES, SPARE, Estate

CLAIM = Path("/run/groundlift-lab")


def take(estate: Estate) -> None:
    """Claim the machine. Raises Locked while another directory's lab has something running."""
    with lock(CLAIM.with_suffix(".lock"), "this machine's lab"):
        other = holder()
        if other is not None and other.directory != estate.directory and alive(other):
            raise Locked(
                f"another lab runs on this machine: {other.directory}",
                hint=f"`groundlift --state {other.directory.parent} lab down` ends it",
                where=str(CLAIM),
            )
        publish(CLAIM, f"{estate.directory}\n")


def ours(estate: Estate) -> bool:
    """Whether this lab may touch the machine's network: nobody else has claimed it."""
    other = holder()
    return other is None or other.directory == estate.directory


def drop(estate: Estate) -> None:
    """Give the machine back; harmless when it is somebody else's."""
    other = holder()
    if other is not None and other.directory == estate.directory:
        CLAIM.unlink(missing_ok=True)


def holder() -> Estate | None:
    """The lab that claimed the machine last."""
    try:
        return Estate(Path(CLAIM.read_text().strip()))
    except FileNotFoundError:
        return None


def alive(estate: Estate) -> bool:
    """Whether any of its machines runs."""
    nodes = any(nodes_container.pid(estate, node) for node in (*NODES, *SPARE))
    return nodes or source.status(estate).pid is not None
