"""Every way Groundlift can fail on purpose: a sentence, a place, a remedy and an exit code.

docs/errors.md is generated from the classes here and their subclasses. Raise the class whose
docstring fits; subclass it in the module that owns the case.
"""

from collections.abc import Sequence

from core.quantities import plain


class Problem(Exception):
    """Something Groundlift can explain. Never raised itself."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        """``where`` is file:line:column, disc, package or host; ``hint`` says what to do next."""
        self.message, self.hint, self.where = plain(message), plain(hint), plain(where)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageProblem(Problem):
    """The command was called in a way that can't work."""

    exit_code = 2


class BadDocument(Problem):
    """A file written by a person or by an earlier stage does not say what it must."""

    exit_code = 2

    def __init__(
        self, message: str, *, errors: Sequence[str] = (), hint: str = "", where: str = ""
    ):
        """``errors`` are all the faults at once, each as ``file:line:column: what``."""
        super().__init__(message, hint=hint, where=where)
        self.errors = tuple(map(plain, errors))


class Blocked(Problem):
    """Findings of severity blocker stand in the way; nothing was changed."""

    exit_code = 3


class OutsideFailed(Problem):
    """A host, a program, a disc or the network did not do its part."""

    exit_code = 4


class NoAnswer(OutsideFailed):
    """Nothing is under a host's address: it is off, or the way to it is cut. What shows a wrong
    key, turns a login away or refuses a connection is something."""


class TurnedAway(OutsideFailed):
    """A machine answers and does not let us in, or shows another host key than the pinned one."""


class Locked(Problem):
    """Another run holds the lock of this state directory."""

    exit_code = 5


class PastReturn(Problem):
    """The migration is past the point of no return and this can't be undone by the tool."""

    exit_code = 6


class Interrupted(Problem):
    """The engineer stopped the run; calling it again continues."""

    exit_code = 130
