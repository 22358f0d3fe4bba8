"""The roles on a bare node of the lab, as Molecule runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.state import State

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("scenario", ["default", "mirror"])
def test_a_scenario_converges_is_idempotent_and_holds_what_it_promises(
    scenario: str, estate, lab_state: State
):
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [str(programs / "molecule"), "test", "-s", scenario],
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GROUNDLIFT_STATE": str(lab_state.root),
            "NO_COLOR": "1",
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Idempotence completed successfully" in done.stdout
