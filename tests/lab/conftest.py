"""The lab for all lab tests of one run: what is up is used, what was off is off at the end."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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
    """A running lab. The old server of a lab that is up is left alone: it may be moving."""
    here = lab_estate.of(lab_state)
    was_up = claim.alive(here)
    moved = (lab_state.migrate("web1") / "fenced.json").exists()
    if moved:  # an earlier run moved the server into the cloud: begin again with both as new
        source.down(here)
        nodes.down(here)
        for part in ("migrate", "deploy", "workflows"):
            shutil.rmtree(lab_state.root / part, ignore_errors=True)
    wanted = ("media", "nodes") if was_up and not moved else PARTS
    bring_up(here, wanted, silent, fresh=moved)
    yield here
    if not was_up:
        source.down(here)
        nodes.down(here)
        claim.drop(here)


@pytest.fixture(scope="session")
def groundlift(lab_state: State) -> Callable[..., str]:
    """Call a verb as an engineer would; its standard output."""

    def call(*arguments: str) -> str:
        done = subprocess.run(
            (sys.executable, "-m", "cli", *arguments),
            env={**os.environ, "GROUNDLIFT_STATE": str(lab_state.root)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-4000:]}{done.stdout[-2000:]}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def mirror(estate: Estate, groundlift: Callable[..., str]) -> Iterator[str]:
    """The lab's discs, verified, published and served on the lab bridge."""
    discs = [str(disc) for disc in estate.discs]
    groundlift("mirror", "build", *discs, "--fingerprint", f"@{estate.media / 'fingerprint'}")
    yield groundlift("mirror", "serve", "--background", "--bind", "10.77.0.1", "--port", "8077")
    groundlift("mirror", "stop")


@pytest.fixture(scope="session")
def cloud(lab_state: State, mirror: str, groundlift: Callable[..., str]) -> Path:
    """The installed cloud; its state directory."""
    groundlift("deploy", "run", "inventories/lab/cloud.yml")
    return lab_state.root
