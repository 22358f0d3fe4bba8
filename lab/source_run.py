"""Programs that build and run the lab's source server, run to their end with what they said."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.errors import OutsideFailed

CONTAINER = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout: float = 60,
    environment: Mapping[str, str] | None = None,
    contained: bool = False,
    directory: Path | None = None,
) -> str:
    """Standard output of a program that ended well. Raises OutsideFailed with its last words.

    A ``contained`` program ends with this process, however that ends, with all its children and
    all its mounts: a killed build must not leave /dev mounted in a tree that the next one deletes.
    """
    try:
        done = subprocess.run(
            [*(CONTAINER if contained else ()), *argv],
            check=False,
            input=stdin,
            text=True,
            errors="backslashreplace",
            capture_output=True,
            timeout=timeout,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
        )
    except FileNotFoundError as fault:
        raise OutsideFailed(
            f"{argv[0]} is not installed", hint="run ./setup, then groundlift doctor"
        ) from fault
    except subprocess.TimeoutExpired as fault:
        raise OutsideFailed(f"{argv[0]} did not end within {timeout:.0f} s") from fault
    if done.returncode:
        said = "; ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise OutsideFailed(f"{argv[0]} ended with code {done.returncode}: {said}")
    return done.stdout
