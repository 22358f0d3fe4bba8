"""The lab for all lab tests of one run: what is up is used, what was off is off at the end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.progress import silent
from core.state import State
from lab import claim, nodes, source
from lab import estate as lab_estate
from lab.commands import PARTS, bring_up
from lab.estate import Estate


@pytest.fixture(scope="session")
def lab_state() -> State:
    """The state directory that `groundlift` would use here."""
    return State(Path(os.environ.get("GROUNDLIFT_STATE", ".state")).absolute())


@pytest.fixture(scope="session")
def estate(lab_state: State) -> Iterator[Estate]:
    """A running lab: media, nodes and source."""
    here = lab_estate.of(lab_state)
    was_up = claim.alive(here)
    bring_up(here, PARTS, silent)
    yield here
    if not was_up:
        source.down(here)
        nodes.down(here)
        claim.drop(here)
