"""SshHost against a server that, as OpenSSH before 7.2, knows no rsa-sha2 signatures of users' keys
and does not announce which it knows. The server is paramiko's, with those algorithms taken out."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from adapters.ssh import Login, SshHost
from core.errors import OutsideFailed

KEY = paramiko.RSAKey.generate(2048)


class Server(paramiko.ServerInterface):
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key == KEY else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # sshd confirms the request before its command says anything; so must this server
        threading.Timer(0.5, self._answer, args=(channel, command)).start()
        return True

    def _answer(self, channel: paramiko.Channel, command: bytes) -> None:
        channel.sendall(command)
        channel.send_exit_status(0)
        channel.close()


@contextmanager
def old_server(version: str) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        transport = paramiko.Transport(client, server_sig_algs=False)
        transport.local_version = f"SSH-2.0-{version}"
        transport._key_info = {"ssh-rsa": paramiko.RSAKey}  # type: ignore[misc]
        transport.add_server_key(KEY)
        transport.start_server(server=Server())

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def host(tmp_path: Path, port: int) -> SshHost:
    KEY.write_private_key_file(str(tmp_path / "id_rsa"))
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} ssh-rsa {KEY.get_base64()}\n")
    login = Login("127.0.0.1", "root", tmp_path / "id_rsa", known, port=port)
    return SshHost("old", login, timeout=5)


@pytest.mark.parametrize("version", ["OpenSSH_4.3", "OpenSSH_5.3", "OpenSSH_7.1p2"])
def test_an_old_server_is_logged_in_to_with_the_signature_it_knows(
    version: str, tmp_path: Path
) -> None:
    with old_server(version) as port:
        old = host(tmp_path, port)
        assert old.run(("uname", "-r")).text.endswith(" uname -r")
        old.close()


def test_this_server_refuses_what_a_newer_one_is_offered(tmp_path: Path) -> None:
    """Without the banner of an old version, newer signatures are tried: the tests above do test."""
    with old_server("OpenSSH_9.2") as port, pytest.raises(OutsideFailed):
        host(tmp_path, port).run(("uname", "-r"))
