"""The ssh program for bulk data: everything on its command line, nothing from its configuration.

A password reaches it by way of a pipe in a private directory, which a two-line program reads when
ssh asks: it stands in no argument, no environment and no file.
"""

import os
import shlex
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.process import ENVIRONMENT
from adapters.ssh_algorithms import Algorithms
from adapters.ssh_login import Login
from adapters.ssh_socket import TAKES_OURS

KEEPALIVE = 15
PIPE = "GROUNDLIFT_ASKPASS"


def ssh_argv(
    login: Login,
    algorithms: Algorithms | None = None,
    pinned: Iterable[str] = (),
    via: tuple[str, ...] = (),
    *,
    ours: bool = False,
) -> tuple[str, ...]:
    """The ssh program with everything but the command. ``via`` is the jump host's own ssh; with
    ``ours`` it takes a connection that was made for it."""
    through = TAKES_OURS if ours else ()
    if via:
        forward = (*via[:1], "-W", f"{login.address}:{login.port}", *via[1:])
        through = ("-o", f"ProxyCommand={shlex.join(forward).replace('%', '%%')}")
    target = ("-p", str(login.port), "--", f"{login.user}@{login.address}")
    return ("ssh", *ssh_options(login, algorithms, pinned), *through, *target)


def ssh_options(
    login: Login, algorithms: Algorithms | None = None, pinned: Iterable[str] = ()
) -> tuple[str, ...]:
    """What every call of the ssh program needs. Without ``algorithms``, for a server whose age is
    not known, the program's own and RSA with SHA-1."""
    password = login.key is None
    settings = (
        f"BatchMode={'no' if password else 'yes'}",
        "NumberOfPasswordPrompts=1",
        f"PreferredAuthentications={'keyboard-interactive,password' if password else 'publickey'}",
        "StrictHostKeyChecking=yes",
        f'UserKnownHostsFile="{login.known_hosts}"',
        "GlobalKnownHostsFile=/dev/null",
        *_offered(algorithms, pinned),
        "IdentitiesOnly=yes",
        "ConnectTimeout=20",
        f"ServerAliveInterval={KEEPALIVE}",
        "ServerAliveCountMax=4",
        "Compression=no",
        "LogLevel=ERROR",
    )
    flags = tuple(part for setting in settings for part in ("-o", setting))
    identity = () if login.key is None else ("-i", str(login.key))
    return ("-F", "/dev/null", "-T", *flags, *identity)


def _offered(algorithms: Algorithms | None, pinned: Iterable[str]) -> tuple[str, ...]:
    if algorithms is None:
        return ("HostKeyAlgorithms=+ssh-rsa", "PubkeyAcceptedAlgorithms=+ssh-rsa")
    return (
        f"KexAlgorithms={','.join(algorithms.kex)}",
        f"HostKeyAlgorithms={','.join(algorithms.host_keys_for(pinned))}",
        f"PubkeyAcceptedAlgorithms={','.join(algorithms.signatures)}",
        f"Ciphers={','.join(algorithms.ciphers)}",
        f"MACs={','.join(algorithms.macs)}",
    )


@contextmanager
def environment(login: Login) -> Iterator[Mapping[str, str]]:
    """The environment of one run of the ssh program; it answers the question for the password."""
    plain = {**ENVIRONMENT, "HOME": os.environ.get("HOME", "/")}
    if login.key is not None or login.password is None:
        yield plain
        return
    with tempfile.TemporaryDirectory(prefix="groundlift-") as folder:  # made with mode 0700
        program, pipe = Path(folder, "ask"), Path(folder, "pipe")
        program.write_text(f'#!/bin/sh\nexec cat "${PIPE}"\n')
        program.chmod(0o700)
        os.mkfifo(pipe, 0o600)
        over = threading.Event()
        teller = threading.Thread(target=_tell, args=(pipe, login.password, over), daemon=True)
        teller.start()
        try:
            yield {
                **plain,
                "SSH_ASKPASS": str(program),
                "SSH_ASKPASS_REQUIRE": "force",
                PIPE: str(pipe),
            }
        finally:
            over.set()
            teller.join()


def _tell(pipe: Path, password: str, over: threading.Event) -> None:
    """Write the password to whoever opens the pipe, once."""
    while not over.wait(0.02):
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            continue
        os.write(end, password.encode() + b"\n")
        os.close(end)
        return
