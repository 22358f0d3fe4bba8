"""Work done in a process that is killed (SIGKILL) right before its n-th effect on the disk."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EFFECTS = ("open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir")


def die_before(effect: int, below: Path, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that dies before its n-th effect ``below`` this directory; False when
    it came to its end before that (0: it is never killed)."""
    child = os.fork()
    if child == 0:
        try:
            _count_effects(below, effect)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _count_effects(below: Path, effect: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in EFFECTS:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            return
        if not any(str(below) in str(argument) for argument in arguments):
            return
        seen += 1
        if seen == effect:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
