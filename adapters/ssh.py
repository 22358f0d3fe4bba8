"""A machine reached by SSH: the control connection by paramiko, bulk data by the ssh program.

Host keys are pinned, always. OpenSSH before 7.2 (CentOS 6 has 5.3) knows no rsa-sha2 signatures
and does not say so: the client must leave them out by itself.
"""

import contextlib
import logging
import os
import re
import shlex
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from adapters import shell
from adapters.process import ENVIRONMENT, ProcessChannel, Tail, started
from core.errors import OutsideFailed
from core.ports import Channel, Completed

SHA2 = ("rsa-sha2-256", "rsa-sha2-512")
KEEPALIVE = 15


@dataclass(frozen=True, slots=True)
class Login:
    """How to get in. ``jump`` is user@address of a machine on the way, with the same key and the
    same file of pinned host keys."""

    address: str
    user: str
    key: Path
    known_hosts: Path
    port: int = 22
    jump: str | None = None

    @property
    def host_id(self) -> str:
        """The name under which known_hosts files list the host."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


class SshHost:
    """core.ports.Host over SSH. Connects at first use, and again when the connection is gone."""

    def __init__(self, name: str, login: Login, *, timeout: float = 20.0) -> None:
        self._name, self._login, self._timeout = name, login, timeout
        self._transport: paramiko.Transport | None = None
        # its threads print tracebacks of what we tell as a sentence
        logging.getLogger("paramiko").addHandler(logging.NullHandler())

    @property
    def name(self) -> str:
        return self._name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        """Run to the end. A non-zero code is an answer; a dead host raises OutsideFailed."""
        command = tuple(argv)
        deadline = time.monotonic() + timeout
        try:
            with self._session(min(timeout, self._timeout)) as channel:
                channel.exec_command(quoted(command))
                return _finish(channel, command, stdin, deadline)
        except TimeoutError as fault:
            raise self._failed(f"`{command[0]}` did not end in {timeout:.0f} s") from fault
        except (paramiko.SSHException, OSError, EOFError) as fault:
            self.close()
            raise self._failed(f"the connection broke during `{command[0]}`: {fault}") from fault

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        """Start a command for bulk data by the ssh program; leaving the context ends it."""
        environment = {**ENVIRONMENT, "HOME": os.environ.get("HOME", "/")}
        full = (*ssh_argv(self._login), quoted(argv))
        context: AbstractContextManager[ProcessChannel] = started(full, environment, self._name)
        return context

    def read(self, path: str, limit: int = 16 * 1024 * 1024) -> bytes:
        """A file's content."""
        return shell.read(self, path, limit)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write beside, sync, rename."""
        shell.write(self, path, data, mode)

    def upload(self, source: Path, path: str) -> None:
        """Stream a local file to ``path``."""
        shell.upload(self, source, path)

    def close(self) -> None:
        """Give up the connection; harmless when repeated."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _failed(self, text: str, hint: str = "") -> OutsideFailed:
        return OutsideFailed(text, hint=hint, where=self._name)

    def _session(self, timeout: float) -> paramiko.Channel:
        if self._transport is None or not self._transport.is_active():
            self.close()
            self._transport = self._connect()
        return self._transport.open_session(timeout=timeout)

    def _connect(self) -> paramiko.Transport:
        login = self._login
        pins = _pins(login, self._name)
        key = _private_key(login.key, self._name)
        transport = None
        try:
            transport = paramiko.Transport(self._socket())
            transport.banner_timeout = transport.auth_timeout = self._timeout
            _prefer_pinned(transport, pins.lookup(login.host_id) or {})
            transport.start_client(timeout=self._timeout)
            self._check_host_key(transport.get_remote_server_key(), pins)
            if _is_old(transport.remote_version):
                transport.disabled_algorithms = {"pubkeys": list(SHA2)}
            transport.auth_publickey(login.user, key)
            transport.set_keepalive(KEEPALIVE)
        except paramiko.AuthenticationException as fault:
            _close(transport)
            raise self._failed(
                f"{login.user}@{login.address} does not accept the key {login.key}",
                "put its public half into ~/.ssh/authorized_keys there",
            ) from fault
        except (paramiko.SSHException, OSError, EOFError) as fault:
            _close(transport)
            raise self._failed(
                f"no SSH connection to {login.address} port {login.port}: {fault}",
                "is the host on, its sshd running, and no firewall between?",
            ) from fault
        except BaseException:
            _close(transport)
            raise
        return transport

    def _socket(self) -> "socket.socket | paramiko.ProxyCommand":
        login = self._login
        if login.jump:
            return paramiko.ProxyCommand(shlex.join(_jump_argv(login, login.jump)))
        return socket.create_connection((login.address, login.port), timeout=self._timeout)

    def _check_host_key(self, key: paramiko.PKey, pins: paramiko.HostKeys) -> None:
        login = self._login
        if pins.check(login.host_id, key):
            return
        known = pins.lookup(login.host_id)
        where = f"{key.get_name()} {fingerprint(key)}"
        if known is not None and key.get_name() in known:
            raise self._failed(
                f"{login.address} shows another host key than the pinned one: {where}",
                "find out why before going on: another machine may be answering. If the key was "
                f"really changed, remove {login.host_id} from {login.known_hosts} and pin it again",
            )
        raise self._failed(
            f"the host key of {login.address} is not pinned: {where}",
            f"compare the fingerprint on the host's own screen, then "
            f"`groundlift migrate pin {self._name}`",
        )


def ssh_argv(login: Login) -> tuple[str, ...]:
    """The ssh program with everything but the command; nothing of the user's own configuration."""
    via: tuple[str, ...] = ()
    if login.jump:
        proxy = shlex.join(_jump_argv(login, login.jump)).replace("%", "%%")
        via = ("-o", f"ProxyCommand={proxy}")
    target = ("-p", str(login.port), "--", f"{login.user}@{login.address}")
    return ("ssh", *ssh_options(login), *via, *target)


def quoted(argv: Sequence[str]) -> str:
    """One line for the remote shell, in the C locale and with sbin in the PATH."""
    return shlex.join(("env", *(f"{key}={text}" for key, text in ENVIRONMENT.items()), *argv))


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` prints it; the MD5 form too, the only one that old systems show."""
    md5 = ":".join(f"{byte:02x}" for byte in key.get_fingerprint())
    return f"{key.fingerprint} MD5:{md5}"


def host_key(address: str, port: int, timeout: float = 20.0) -> paramiko.PKey:
    """The key a host shows to anybody; for pinning only, with a person's consent."""
    try:
        with socket.create_connection((address, port), timeout=timeout) as plain:
            transport = paramiko.Transport(plain)
            try:
                transport.start_client(timeout=timeout)
                return transport.get_remote_server_key()
            finally:
                transport.close()
    except (paramiko.SSHException, OSError, EOFError) as fault:
        raise OutsideFailed(f"no SSH connection to {address} port {port}: {fault}") from fault


def ssh_options(login: Login) -> tuple[str, ...]:
    """What every call of the ssh program needs: pinned keys, old algorithms, no surprises."""
    settings = (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f'UserKnownHostsFile="{login.known_hosts}"',
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlgorithms=+ssh-rsa",
        "PubkeyAcceptedAlgorithms=+ssh-rsa",
        "IdentitiesOnly=yes",
        "ConnectTimeout=20",
        f"ServerAliveInterval={KEEPALIVE}",
        "ServerAliveCountMax=4",
        "Compression=no",
        "LogLevel=ERROR",
    )
    flags = tuple(part for setting in settings for part in ("-o", setting))
    return ("-F", "/dev/null", "-T", *flags, "-i", str(login.key))


def _jump_argv(login: Login, jump: str) -> tuple[str, ...]:
    return ("ssh", *ssh_options(login), "-W", f"{login.address}:{login.port}", "--", jump)


def _pins(login: Login, name: str) -> paramiko.HostKeys:
    pins = paramiko.HostKeys()
    try:
        pins.load(str(login.known_hosts))
    except FileNotFoundError:
        return pins
    except (OSError, paramiko.SSHException) as fault:
        raise OutsideFailed(f"can't read {login.known_hosts}: {fault}", where=name) from fault
    return pins


def _private_key(path: Path, name: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except paramiko.PasswordRequiredException as fault:
        raise OutsideFailed(
            f"the key {path} is locked by a passphrase",
            hint="use a key of this project alone, without a passphrase, readable by you only",
            where=name,
        ) from fault
    except (OSError, ValueError, TypeError, paramiko.SSHException) as fault:
        raise OutsideFailed(
            f"can't use {path} as a private key: {fault}",
            hint="make one with `ssh-keygen -t rsa -b 3072 -m PEM`: CentOS 6 reads no newer kind",
            where=name,
        ) from fault


def _prefer_pinned(transport: paramiko.Transport, pinned: Iterable[str]) -> None:
    """Ask for the kinds of host key that are pinned, lest the host shows another of its keys."""
    kinds = set(pinned)
    if "ssh-rsa" in kinds:
        kinds.update(SHA2)
    options = transport.get_security_options()
    options.key_types = (
        *(kind for kind in options.key_types if kind in kinds),
        *(kind for kind in options.key_types if kind not in kinds),
    )


def _is_old(version: str) -> bool:
    found = re.match(r"SSH-[\d.]+-OpenSSH_(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < (7, 2)


def _close(transport: paramiko.Transport | None) -> None:
    if transport is not None:
        transport.close()


def _finish(
    channel: paramiko.Channel, argv: tuple[str, ...], stdin: bytes, deadline: float
) -> Completed:
    """Feed and drain all three ends at once: any of them may block the others."""
    tail = Tail()

    def feed() -> None:
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(stdin)
        with contextlib.suppress(OSError, EOFError):
            channel.shutdown_write()

    def drain() -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := channel.recv_stderr(32768):
                tail.add(data)

    threads = [threading.Thread(target=work, daemon=True) for work in (feed, drain)]
    for thread in threads:
        thread.start()
    output = _receive(channel, deadline)
    if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
        raise TimeoutError
    for thread in threads:
        thread.join(max(0.1, deadline - time.monotonic()))
    code = channel.recv_exit_status()
    if code == -1:
        raise EOFError("closed without an exit code")
    return Completed(argv, code, output, tail.data)


def _receive(channel: paramiko.Channel, deadline: float) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        data = channel.recv(65536)
        if not data:
            return b"".join(parts)
        parts.append(data)
        total += len(data)
        if total > shell.OUTPUT_LIMIT:
            raise EOFError(f"more than {shell.OUTPUT_LIMIT} bytes of output")
