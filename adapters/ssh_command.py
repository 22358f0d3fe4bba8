"""One line for whatever shell an account has, around the command that is meant.

The line hands over to /bin/sh at once, so csh, fish and the like never see the command. A mark on
both outputs tells where the command's own words begin: what the shell's start files print before
it is cut off. With sudo the mark comes from behind sudo, so its question, its lecture and its
refusals are before the mark, and a password is only written after the question was seen.
"""

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.process import ENVIRONMENT
from core.errors import TurnedAway

NOISE = 256 * 1024
PYTHONS = "python3 python python2 /usr/libexec/platform-python /usr/bin/python"
# requiretty asks for a terminal that controls the session, not for one at the three ends: sudo
# gets the one and keeps the pipes, so that bytes pass unchanged. For Python from 2.4 on.
TERMINAL = """
import os, pty, sys
ends = [os.dup(0), os.dup(1), os.dup(2)]
pid, master = pty.fork()
if pid == 0:
    for number in range(3):
        os.dup2(ends[number], number)
        os.close(ends[number])
    os.execvp(sys.argv[1], sys.argv[1:])
for number in ends + [0, 1]:
    os.close(number)
try:
    while os.read(master, 1024):
        pass
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
if os.WIFEXITED(status):
    sys.exit(os.WEXITSTATUS(status))
sys.exit(128 + os.WTERMSIG(status))
"""


class NeedsTerminal(Exception):
    """sudo has requiretty set for this account."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command ready to be sent. ``prompt`` is sudo's question; empty when there is no sudo."""

    line: str
    mark: bytes
    prompt: bytes
    sudo: bool

    def after(self, data: bytes) -> bytes:
        """What the command itself said; b"" while it has not begun."""
        return data.partition(self.mark + b"\n")[2]

    def cleaned(self, errors: bytes) -> bytes:
        """Standard error without what came before the command. Its beginning may be lost."""
        head, mark, rest = errors.rpartition(self.mark + b"\n")
        return rest if mark else head or errors

    def asked(self, errors: bytes) -> int:
        """How often sudo has asked for the password."""
        return errors.count(self.prompt) if self.sudo else 0

    def refused(self, name: str, output: bytes, errors: bytes) -> TurnedAway:
        """Why the command never began. Raises NeedsTerminal where that is all it takes."""
        said = errors.replace(self.prompt, b"").decode("utf-8", "backslashreplace").strip()
        if not self.sudo:
            shown = (said or output.decode("utf-8", "backslashreplace").strip())[-300:]
            return TurnedAway(
                f"the account's shell runs no commands; it answered: {shown or 'nothing'}",
                hint="the account needs a login shell such as /bin/sh; see docs/ssh.md",
                where=name,
            )
        if "must have a tty" in said:
            raise NeedsTerminal
        barred = "sudoers" in said or "not allowed" in said
        if self.asked(errors) > 1:
            return TurnedAway(
                "sudo does not accept the password",
                hint="the account's own password is needed, not root's; see docs/ssh.md",
                where=name,
            )
        if self.asked(errors) and not barred:
            return TurnedAway(
                "sudo asks for a password and none was given",
                hint="say `sudo: password` in cloud.yml and use --password-file, or allow the "
                "account NOPASSWD in /etc/sudoers",
                where=name,
            )
        return TurnedAway(
            f"sudo does not let this account become root: {_last(said) or 'no reason given'}",
            hint="see docs/ssh.md for the line that /etc/sudoers needs",
            where=name,
        )


def prepared(argv: Sequence[str], *, sudo: bool = False, terminal: bool = False) -> Prepared:
    """The line for ``argv``, in the C locale and with sbin in the PATH."""
    mark, prompt = f"ready-{secrets.token_hex(6)}", f"password-{secrets.token_hex(6)}:"
    settings = " ".join(f"{key}={shlex.quote(text)}" for key, text in ENVIRONMENT.items())
    script = f"{settings}; export {' '.join(ENVIRONMENT)}; "
    inner = f"echo {mark}; echo {mark} >&2; exec env {settings} {shlex.join(argv)}"
    if sudo:
        asking = shlex.join(("sudo", "-S", "-p", prompt, "/bin/sh", "-c", inner))
        script += _with_terminal(asking) if terminal else f"exec {asking}"
    else:
        script = inner
    return Prepared(f"exec /bin/sh -c '{_plain(script)}'", mark.encode(), prompt.encode(), sudo)


def _last(text: str) -> str:
    return text.splitlines()[-1][-300:] if text else ""


def _with_terminal(command: str) -> str:
    program = shlex.quote(TERMINAL)
    return (
        f"for p in {PYTHONS}; do if command -v $p >/dev/null 2>&1; then "
        f"exec $p -c {program} {command}; fi; done; "
        "echo 'sudo wants a terminal (requiretty), and no Python is there to make one' >&2; exit 1"
    )


def _plain(script: str) -> str:
    """``script`` for any shell's single quotes: no quote, no line break, no ! and no backslash that
    a shell could take for its own."""
    if re.fullmatch(r"[\w ./=:,;+@>&$-]*", script, re.ASCII):
        return script

    def octal(found: re.Match[str]) -> str:
        return "".join(f"\\{byte:03o}" for byte in found[0].encode("utf-8", "surrogateescape"))

    safe = re.sub(r"[^\w ./=:,;+@>-]", octal, script, flags=re.ASCII)
    return f'eval "$(printf "{safe}")"'
