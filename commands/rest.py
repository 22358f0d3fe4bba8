"""A server whose services stand still: somebody waits for it, so nothing ends without a word."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from commands.connect import Case
from core.errors import BadDocument
from migrate import past, quiesce


@contextmanager
def told(case: Case) -> Iterator[None]:
    """When the body fails or is stopped while the server is at rest, say so on stderr."""
    try:
        yield
    except BaseException:
        tell(case)
        raise


def tell(case: Case) -> None:
    """Say it, if the server is at rest and not yet the domain."""
    name = case.source.name
    try:
        held = quiesce.record(case.folder)
    except BadDocument as fault:  # what ended the verb is the thing to tell
        click.echo(f"note: whether {name} is at rest can't be told: {fault}", err=True)
        return
    if held is None or past.returned_not(case.folder) is not None:
        return
    how = "is at rest, its services are stopped"
    if held.rescue:
        how = "runs its rescue system"
    elif held.working:
        stopped = f", and stands still in part: {', '.join((*held.services, *held.mountpoints))}"
        how = "carries snapshots" + (stopped if held.services or held.mountpoints else "")
    click.echo(
        f"note: {name} {how}. Go on, or put it back to work: groundlift migrate unquiesce {name}",
        err=True,
    )
