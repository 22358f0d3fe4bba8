"""A machine reached by SSH: the control connection by paramiko, bulk data by the ssh program.

Host keys are pinned, always; a server is offered what its age needs and nothing weaker. With
``sudo`` in the login every command, small or bulk, becomes root here and nowhere else.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import paramiko

from adapters import shell
from adapters.process import ProcessChannel, started
from adapters.ssh_algorithms import SHA2, Algorithms, chosen, version
from adapters.ssh_begin import Beginning
from adapters.ssh_command import NeedsTerminal, Prepared, prepared
from adapters.ssh_exchange import Exchange
from adapters.ssh_login import (
    Login,
    check_host_key,
    pinned_kinds,
    private_key,
)
from adapters.ssh_program import KEEPALIVE, environment, ssh_argv
from adapters.ssh_socket import Overheard, banner, connected, looked_at, silence
from core.errors import NoAnswer, OutsideFailed, TurnedAway
from core.ports import Channel, Completed

NO_ANSWER = "is the host on, its sshd running, and no firewall between?"


class SshHost:
    """core.ports.Host over SSH. Connects at first use, and again when the connection is gone."""

    def __init__(self, name: str, login: Login, *, timeout: float = 20.0) -> None:
        self._name, self._login, self._timeout = name, login, timeout
        self._transport: paramiko.Transport | None = None
        self._alone = threading.RLock()  # connections are asked for by several threads
        self._jump = SshHost(name, login.jump) if login.jump else None
        self._banner, self._algorithms = "", chosen("", login.algorithms)
        self._terminal = False  # whether sudo wants one
        self._entered = not login.sudo  # whether a command became root already
        # its threads print tracebacks of what we tell as a sentence
        logging.getLogger("paramiko").addHandler(logging.NullHandler())

    @property
    def name(self) -> str:
        return self._name

    @property
    def algorithms(self) -> Algorithms:
        """The set that is offered; known once connected."""
        return self._algorithms

    @property
    def banner(self) -> str:
        """The server's own version; "" before the first connection."""
        return self._banner

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        """Run to the end. A non-zero code is an answer; where nothing is, NoAnswer is raised, and
        OutsideFailed for all else that goes wrong."""
        command = tuple(argv)
        deadline = time.monotonic() + timeout
        try:
            return self._with_terminal(lambda: self._run(command, stdin, timeout, deadline))
        except TimeoutError as fault:
            raise self._failed(f"`{command[0]}` did not end in {timeout:.0f} s") from fault
        except (paramiko.SSHException, OSError, EOFError) as fault:
            self.close()
            raise self._failed(f"the connection broke during `{command[0]}`: {fault}") from fault

    def _run(
        self, command: tuple[str, ...], stdin: bytes, timeout: float, deadline: float
    ) -> Completed:
        ready = self._prepared(command)
        within = min(timeout, self._timeout)
        transport = self.connected(within)
        with transport.open_session(timeout=within) as channel:
            exchange = Exchange(channel, ready, self._login.password, self._name, deadline)
            done = exchange.run(command, stdin)
        self._entered = True
        return done

    def stream(self, argv: Sequence[str]) -> AbstractContextManager[Channel]:
        """Start a command for bulk data by the ssh program; leaving the context ends it. The
        command has begun when the context is entered."""
        context: AbstractContextManager[ProcessChannel] = self._stream(tuple(argv))
        return context

    @contextmanager
    def _stream(self, argv: tuple[str, ...]) -> Iterator[ProcessChannel]:
        with self._alone:
            if not self._entered:
                self.run(("true",))  # learns whether sudo wants a terminal
        ready = self._prepared(argv)
        with (
            self._plain() as plain,
            environment(self._login) as variables,
            started((*self.program(plain), ready.line), variables, self._name, plain) as channel,
        ):
            channel.cleaned = ready.cleaned
            beginning = Beginning(channel, ready, self._login.password, self._name, plain)
            try:
                beginning.wait(3 * self._timeout)
            except OutsideFailed:
                self.connected()  # tells better what is wrong with a host key or a login
                raise
            if plain is not None:
                plain.close()  # it is the ssh program's alone: its end is the connection's
            yield channel

    @contextmanager
    def _plain(self) -> Iterator[socket.socket | None]:
        """The connection that the ssh program takes over; none where the way leads over another
        machine. The server's greeting, which tells what may be offered, stays in it."""
        if self._jump is not None:
            yield None
            return
        try:
            plain = connected(self._login.address, self._login.port, self._timeout)
        except OSError as fault:
            raise self._no_connection(fault) from fault
        with plain:
            try:
                self._banner = looked_at(plain, self._timeout)
            except (OSError, EOFError) as fault:
                raise self._no_connection(fault) from fault
            self._algorithms = chosen(self._banner, self._login.algorithms)
            yield plain

    def program(self, plain: socket.socket | None = None) -> tuple[str, ...]:
        """The ssh program with all that this host needs, but the command; with ``plain`` it takes
        that connection."""
        if not self._banner:
            self._greeting()
        via: tuple[str, ...] = ()
        if self._jump is not None:
            via = self._jump.program()
        pinned = pinned_kinds(self._login, self._name)
        return ssh_argv(self._login, self._algorithms, pinned, via, ours=plain is not None)

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
        if self._jump is not None:
            self._jump.close()

    def connected(self, within: float = 0.0) -> paramiko.Transport:
        """The live connection, made anew when it is gone, each step in so many seconds."""
        with self._alone:
            if self._transport is None or not self._transport.is_active():
                self.close()
                self._transport = self._connect(within or self._timeout)
            return self._transport

    def _prepared(self, argv: tuple[str, ...]) -> Prepared:
        return prepared(argv, sudo=self._login.sudo, terminal=self._terminal)

    def _with_terminal(self, work: Callable[[], Completed]) -> Completed:
        """Once more with a terminal, where sudo turns out to want one; remembered from then on."""
        try:
            return work()
        except NeedsTerminal:
            self._terminal = True
        try:
            return work()
        except NeedsTerminal as fault:
            raise self._failed(
                "sudo wants a terminal (requiretty) and no Python is there to make one",
                "log in as root by key, or put `Defaults:USER !requiretty` into /etc/sudoers",
            ) from fault

    def _failed(self, text: str, hint: str = "") -> OutsideFailed:
        return OutsideFailed(text, hint=hint, where=self._name)

    def _connect(self, within: float) -> paramiko.Transport:
        login = self._login
        transport = None
        try:
            self._banner, plain = banner(self._socket(within))
            self._algorithms = chosen(self._banner, login.algorithms)
            transport = paramiko.Transport(plain)  # type: ignore[arg-type]
            transport.banner_timeout = transport.auth_timeout = within
            _offer(transport, self._algorithms, pinned_kinds(login, self._name))
            transport.start_client(timeout=within)
            check_host_key(login, transport.get_remote_server_key(), self._name)
            self._authenticate(transport)
            transport.set_keepalive(KEEPALIVE)
        except (paramiko.SSHException, OSError, EOFError) as fault:
            _close(transport)
            raise self._no_connection(fault) from fault
        except BaseException:
            _close(transport)
            raise
        return transport

    def _greeting(self) -> None:
        """Learn the server's version."""
        try:
            self._banner, plain = banner(self._socket(self._timeout))
            plain.close()
        except (paramiko.SSHException, OSError, EOFError) as fault:
            raise self._no_connection(fault) from fault
        self._algorithms = chosen(self._banner, self._login.algorithms)

    def _no_connection(
        self, fault: Exception, kind: type[OutsideFailed] = OutsideFailed
    ) -> OutsideFailed:
        text = f"no SSH connection to {self._login.address} port {self._login.port}: {fault}"
        return kind(text, hint=NO_ANSWER, where=self._name)

    def _authenticate(self, transport: paramiko.Transport) -> None:
        login = self._login
        if not set(SHA2) & set(self._algorithms.signatures):
            # OpenSSH before 7.2 knows no rsa-sha2 signatures and does not say so
            transport.disabled_algorithms = {"pubkeys": list(SHA2)}
        try:
            if login.key is not None:
                transport.auth_publickey(login.user, private_key(login.key, self._name))
            elif login.password is not None:
                transport.auth_password(login.user, login.password)
            else:
                raise self._failed("neither a key nor a password is there to log in with")
        except paramiko.AuthenticationException as fault:
            raise self._turned_away() from fault

    def _turned_away(self) -> TurnedAway:
        login, hint = self._login, "put its public half into ~/.ssh/authorized_keys there"
        if login.key is None:
            return TurnedAway(
                f"{login.user}@{login.address} does not accept the password",
                hint="check it, and that sshd there allows PasswordAuthentication",
                where=self._name,
            )
        age = version(self._banner)
        if age is not None and age < (6, 5):
            hint += "; OpenSSH before 6.5 takes RSA keys only, and no Ed25519"
        return TurnedAway(
            f"{login.user}@{login.address} does not accept the key {login.key}",
            hint=hint, where=self._name,
        )  # fmt: skip

    def _socket(self, within: float) -> "socket.socket | paramiko.Channel":
        """Raises NoAnswer where nothing is, and what the library raises for all else."""
        login = self._login
        if self._jump is not None:
            return self._through(self._jump, within)
        try:
            return connected(login.address, login.port, within)
        except OSError as fault:
            if silence(fault):
                raise self._no_connection(fault, NoAnswer) from fault
            raise

    def _through(self, jump: "SshHost", within: float) -> paramiko.Channel:
        """The same over another machine, whose own silence says nothing of this one."""
        place = (self._login.address, self._login.port)
        try:
            transport = jump.connected(within)
            try:
                with Overheard(transport) as heard:
                    channel = transport.open_channel(
                        "direct-tcpip", place, ("127.0.0.1", 0), timeout=within
                    )
            except paramiko.SSHException as fault:
                if not silence(fault, heard.words):
                    raise
                if not isinstance(fault, paramiko.ChannelException):  # is it the jump host then?
                    _sign_of_life(transport, within)
                unreached = self._no_connection(fault, NoAnswer)
            else:
                channel.settimeout(within)
                return channel
        except NoAnswer as fault:
            raise OutsideFailed(fault.message, hint=fault.hint, where=fault.where) from fault
        raise unreached


def host_key(login: Login, name: str, timeout: float = 20.0) -> paramiko.PKey:
    """The key a host shows to anybody; for pinning only, with a person's consent."""
    host = SshHost(name, login, timeout=timeout)
    try:
        said, plain = banner(host._socket(timeout))
        transport = paramiko.Transport(plain)  # type: ignore[arg-type]
        try:
            _offer(transport, chosen(said, login.algorithms), ())
            transport.start_client(timeout=timeout)
            return transport.get_remote_server_key()
        finally:
            transport.close()
    except (paramiko.SSHException, OSError, EOFError) as fault:
        raise OutsideFailed(
            f"no SSH connection to {login.address} port {login.port}: {fault}",
            hint=NO_ANSWER,
            where=name,
        ) from fault
    finally:
        host.close()


def _offer(transport: paramiko.Transport, algorithms: Algorithms, pinned: Iterable[str]) -> None:
    """Of the set, what paramiko knows, in the set's order; for host keys only the pinned kinds."""
    options = transport.get_security_options()
    for kind, wanted in (
        ("kex", algorithms.kex),
        ("key_types", algorithms.host_keys_for(pinned)),
        ("ciphers", algorithms.ciphers),
        ("digests", algorithms.macs),
    ):
        known = getattr(options, kind)
        setattr(options, kind, tuple(name for name in wanted if name in known))


def _sign_of_life(transport: paramiko.Transport, within: float) -> None:
    """Raises SSHException when the other end says nothing; a refusal is something."""
    with contextlib.suppress(paramiko.ChannelException):
        transport.open_session(timeout=within).close()


def _close(transport: paramiko.Transport | None) -> None:
    if transport is not None:
        transport.close()
