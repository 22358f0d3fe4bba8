"""The connection below SSH: looked at by us, then used by the ssh program as if it were its own."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from adapters.process import started
from adapters.ssh import SshHost
from adapters.ssh_socket import connected, looked_at
from core.errors import OutsideFailed
from tests.contract.sshd import Server, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@contextmanager
def speaker(speak: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A connection to somebody who says what ``speak`` does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                speak(peer)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with connected(*listener.getsockname(), 5) as plain:
            yield plain
        thread.join(5)


def test_the_greeting_is_told_and_stays_for_the_ssh_program() -> None:
    def slowly(peer: socket.socket) -> None:
        for part in (b"a word before\r\n", b"SSH-2.0-Open", b"SSH_5.3\r\n"):
            peer.sendall(part)
            time.sleep(0.05)
        peer.recv(1)

    with speaker(slowly) as plain:
        assert looked_at(plain, 5) == "SSH-2.0-OpenSSH_5.3"
        assert plain.recv(100).startswith(b"a word before\r\nSSH-2.0-Open")
        plain.sendall(b"x")


@pytest.mark.parametrize("said", [b"", b"220 mail.example ESMTP\r\n", b"SSH-2.0-cut short"])
def test_who_is_no_server_is_told_at_once(said: bytes) -> None:
    start = time.monotonic()
    with speaker(lambda peer: peer.sendall(said)) as plain, pytest.raises(EOFError):
        looked_at(plain, 30)
    assert time.monotonic() - start < 5


def test_who_talks_without_end_is_not_listened_to() -> None:
    with (
        speaker(lambda peer: peer.sendall(b"HTTP/1.1 400\n" * 1000)) as plain,
        pytest.raises(EOFError),
    ):
        looked_at(plain, 30)


def test_who_says_nothing_is_waited_for_no_longer_than_that() -> None:
    def listen(peer: socket.socket) -> None:
        peer.recv(1)

    with speaker(listen) as plain, pytest.raises(TimeoutError):
        looked_at(plain, 0.2)


def connections(server: Server) -> int:
    place = ("state", "established", "dst", f"127.0.0.1:{server.port}")
    told = subprocess.run(("ss", "-tnH", *place), capture_output=True, text=True, check=True)
    return len(told.stdout.splitlines())


def test_one_connection_is_made_for_a_stream(server: Server) -> None:
    host = SshHost("sshd", server.login)
    with host.stream(("cat",)) as channel:
        assert connections(server) == 1
        channel.stdin.write(b"all of it")
        channel.stdin.close()
        assert channel.stdout.read() == b"all of it"
    host.close()


def test_the_connection_ends_with_the_ssh_program(server: Server) -> None:
    host = SshHost("sshd", server.login)
    with host.stream(("cat",)) as channel:
        channel.kill()
        deadline = time.monotonic() + 10
        while connections(server) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not connections(server)


def test_streams_that_start_at_the_same_time_have_their_own(server: Server) -> None:
    host, lines = SshHost("sshd", server.login), []

    def talk(number: int) -> None:
        with host.stream(("echo", str(number))) as channel:
            lines.append(channel.stdout.read())

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(lines) == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_a_server_that_is_gone_is_told_as_such(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    login = replace(server.login, port=free)
    with pytest.raises(OutsideFailed, match=f"no SSH connection to .* port {free}"):
        SshHost("gone", login).stream(("true",)).__enter__()


def test_errors_come_through_the_socket_that_held_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, started(("sh", "-c", "echo no >&2; exit 3"), {}, "here", ours) as channel:
        assert channel.wait(10) == 3
        assert channel.errors() == "no\n"
