"""What a verb needs to get into a server beyond its description: a password, a machine on the way.

A password comes from a file that only its owner can read, from a descriptor such as /dev/fd/3, or
from a prompt; never from an argument, the environment or a document.
"""

import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import click

from core.errors import UsageProblem
from deploy.site import Jump, Source

Command = TypeVar("Command", bound=Callable[..., Any])
KEY = "groundlift.access"
LIMIT = 1024
# These verbs read what is there and talk to no server: nobody is asked for a password.
QUIET = ("assess", "plan", "convert", "define", "pin", "prove")


@dataclass(frozen=True, slots=True)
class Access:
    """What was given on the command line."""

    password_file: Path | None = None
    jump: Jump | None = None
    rescue: Path | None = None


def access_options(command: Command) -> Command:
    """--password-file and --jump; their values are kept in the context."""
    for option in (_jump_option(), _password_option()):
        command = option(command)
    return command


def rescue_option(command: Command) -> Command:
    """--rescue, for the verbs that can work on a server's rescue system."""
    return click.option(
        "--rescue",
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_keep_rescue,
        help="HOST runs the rescue system of `groundlift provision`, and FILE holds "
        "root's password there; - asks for it.",
    )(command)


def given() -> Access:
    """What the running verb was given."""
    context = click.get_current_context(silent=True)
    return given_in(context) if context else Access()


def password_of(source: Source, root: Path) -> str | None:
    """The account's password, if its login or its sudo takes one and this verb can need it."""
    if "password" not in (source.login, source.sudo):
        return None
    path = given().password_file
    if path is None and source.password_file:
        path = root / source.password_file
    if path is not None:
        return read(path)
    context = click.get_current_context(silent=True)
    if context is None or context.info_name in QUIET:
        return None
    if not sys.stdin.isatty():
        raise UsageProblem(
            f"{source.name} needs the password of {source.user}, and there is nobody to ask",
            hint="say --password-file FILE, or `password_file:` in cloud.yml",
        )
    return _asked(f"{source.user}@{source.address}")


def rescue_password(source: Source) -> str | None:
    """The password of root in the server's rescue system, if it runs that."""
    path = given().rescue
    if path is None:
        return None
    if path != Path("-"):
        return read(path)
    context = click.get_current_context(silent=True)
    if context is None or context.info_name in QUIET:
        return ""
    return _asked(f"root in {source.name}'s rescue system")


def _asked(who: str) -> str:
    asked: str = click.prompt(f"Password of {who}", hide_input=True, err=True)
    return asked


def read(path: Path) -> str:
    """The first line of a file that is its owner's alone, or of a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as fault:
        raise UsageProblem(
            f"can't read the password file: {fault.strerror}",
            hint="check the path",
            where=str(path),
        ) from fault
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        foreign = found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o077
        if stat.S_ISREG(found.st_mode) and foreign:
            raise UsageProblem(
                "others can read the password file",
                hint=f"chmod 600 {path}, and let it belong to you",
                where=str(path),
            )
        if stat.S_ISDIR(found.st_mode):
            raise UsageProblem("the password file is a directory", where=str(path))
        line = file.readline(LIMIT + 1).rstrip(b"\r\n")
    if not line or len(line) > LIMIT or b"\0" in line:
        raise UsageProblem(
            f"the password file must begin with a line of 1 to {LIMIT} bytes", where=str(path)
        )
    try:
        return line.decode()
    except UnicodeDecodeError as fault:
        raise UsageProblem("the password file is not UTF-8", where=str(path)) from fault


def jump_of(text: str) -> Jump:
    """user@address:port, of which user and port may be left out."""
    found = re.fullmatch(r"(?:([A-Za-z0-9._-]+)@)?([0-9.]+)(?::(\d{1,5}))?", text)
    try:
        if not found:
            raise ValueError("user@address:port is needed, with a numeric address")
        return Jump(
            address=IPv4Address(found[2]), user=found[1] or "root", port=int(found[3] or 22)
        )
    except ValueError as fault:
        raise click.BadParameter(str(fault).splitlines()[0]) from fault


def _password_option() -> Callable[[Command], Command]:
    return click.option(
        "--password-file",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_keep_password,
        help="A file of mode 600, or /dev/fd/N, that holds the server account's password.",
    )


def _jump_option() -> Callable[[Command], Command]:
    return click.option(
        "--jump",
        metavar="USER@ADDRESS:PORT",
        expose_value=False,
        callback=_keep_jump,
        help="A machine on the way to the server; its host key must be pinned, too.",
    )


def _keep_password(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    context.meta[KEY] = replace(given_in(context), password_file=value)


def _keep_jump(context: click.Context, _: click.Parameter, value: str | None) -> None:
    jump = jump_of(value) if value else None
    context.meta[KEY] = replace(given_in(context), jump=jump)


def _keep_rescue(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    context.meta[KEY] = replace(given_in(context), rescue=value)


def given_in(context: click.Context) -> Access:
    """What was kept in ``context`` so far."""
    found = context.meta.get(KEY)
    return found if isinstance(found, Access) else Access()
