"""SshHost against servers that know what OpenSSH of their age knew: its key exchanges, host keys,
signatures, ciphers and checksums, and nothing else. Before 7.2 none announces which signatures of
users' keys it knows. The server is paramiko's, with the rest taken out; it runs real commands."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from adapters.ssh import SshHost
from adapters.ssh_algorithms import SETS, chosen
from adapters.ssh_login import Login
from core.errors import OutsideFailed

KEY = paramiko.RSAKey.generate(2048)
PASSWORD = "a pass phrase, 密码"
SHA1_KEX = ("diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1")
OFFERS = {  # banner: key exchanges, checksums
    "OpenSSH_3.9p1": (("diffie-hellman-group-exchange-sha1", *SHA1_KEX), ("hmac-md5", "hmac-sha1")),
    "OpenSSH_4.3": (("diffie-hellman-group-exchange-sha1", *SHA1_KEX), ("hmac-md5", "hmac-sha1")),
    "OpenSSH_5.3": (
        ("diffie-hellman-group-exchange-sha256", "diffie-hellman-group-exchange-sha1", *SHA1_KEX),
        ("hmac-md5", "hmac-sha1"),
    ),
    "OpenSSH_7.1p2": (
        ("ecdh-sha2-nistp256", "diffie-hellman-group-exchange-sha256", *SHA1_KEX),
        ("hmac-sha2-256", "hmac-sha1"),
    ),
}
CIPHERS = ("aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-cbc", "3des-cbc")


class Server(paramiko.ServerInterface):
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key == KEY else paramiko.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if password == PASSWORD else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # sshd confirms the request before its command says anything; so must this server
        threading.Timer(0.2, self._answer, args=(channel, command)).start()
        return True

    def _answer(self, channel: paramiko.Channel, command: bytes) -> None:
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        with suppress(EOFError, OSError):  # whoever has the code may leave at once
            channel.send_exit_status(done.returncode)
            channel.close()


@contextmanager
def old_server(version: str) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    age = next(name for name in OFFERS if name >= version or name == "OpenSSH_7.1p2")
    paramiko.Transport.load_server_moduli()
    seen: list[paramiko.Transport] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                transport = paramiko.Transport(client, server_sig_algs=False)
                transport.local_version = f"SSH-2.0-{version}"
                transport._key_info = {"ssh-rsa": paramiko.RSAKey}  # type: ignore[misc]
                options = transport.get_security_options()
                options.kex, options.digests = OFFERS[age]
                options.ciphers = CIPHERS
                transport.add_server_key(KEY)
                seen.append(transport)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=Server())

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        for transport in seen:
            transport.close()


def login(tmp_path: Path, port: int) -> Login:
    KEY.write_private_key_file(str(tmp_path / "id_rsa"))
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} ssh-rsa {KEY.get_base64()}\n")
    return Login("127.0.0.1", "root", tmp_path / "id_rsa", known, port=port)


@pytest.mark.parametrize("version", [*OFFERS])
def test_an_old_server_is_logged_in_to_with_what_it_knows(version: str, tmp_path: Path) -> None:
    with old_server(version) as port:
        old = SshHost("old", login(tmp_path, port), timeout=5)
        assert old.run(("echo", version)).text == f"{version}\n"
        old.close()


@pytest.mark.parametrize("version", [*OFFERS])
def test_bulk_data_finds_the_same_algorithms(version: str, tmp_path: Path) -> None:
    with old_server(version) as port:
        old = SshHost("old", login(tmp_path, port), timeout=5)
        with old.stream(("echo", version)) as channel:
            assert channel.stdout.read() == f"{version}\n".encode()
        old.close()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_password_logs_in_for_both_kinds_of_connection(wrong: bool, tmp_path: Path) -> None:
    with old_server("OpenSSH_5.3") as port:
        how = replace(login(tmp_path, port), key=None, password=PASSWORD + "!" * wrong)
        old = SshHost("old", how, timeout=5)
        if wrong:
            with pytest.raises(OutsideFailed, match="does not accept the password"):
                old.run(("true",))
            return
        assert old.run(("echo", "in")).text == "in\n"
        with old.stream(("echo", "in")) as channel:
            assert channel.stdout.read() == b"in\n"
        old.close()


def test_a_password_stands_in_no_argument_no_environment_and_no_message(tmp_path: Path) -> None:
    with old_server("OpenSSH_5.3") as port:
        how = replace(login(tmp_path, port), key=None, password=PASSWORD)
        old = SshHost("old", how, timeout=5)
        with old.stream(("echo", "in")) as channel:
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    for file in ("cmdline", "environ"):
                        assert PASSWORD.encode() not in (process / file).read_bytes(), process
            channel.stdout.read()
        assert PASSWORD not in repr(how) + repr(old)
        old.close()


def test_a_server_is_never_offered_more_than_its_age_needs() -> None:
    """SHA-1 only where nothing else is known; no CBC, no MD5, no DSA, no group 1 for anybody."""
    kex = {name: any("sha1" in one for one in SETS[name].kex) for name in SETS}
    assert kex == {"modern": False, "before-7.2": False, "before-5.9": False, "before-4.4": True}
    rsa = {name: "ssh-rsa" in SETS[name].signatures for name in SETS}
    assert rsa == {"modern": False, "before-7.2": True, "before-5.9": True, "before-4.4": True}
    for entry in SETS.values():
        every = " ".join((*entry.kex, *entry.host_keys, *entry.ciphers, *entry.macs))
        assert not any(word in every for word in ("cbc", "md5", "ssh-dss", "group1-", "arcfour"))
        assert bool(entry.weak) == (entry.name != "modern")


@pytest.mark.parametrize(
    ("banner", "name"),
    [
        ("SSH-2.0-OpenSSH_3.9p1", "before-4.4"),
        ("SSH-2.0-OpenSSH_5.3", "before-5.9"),
        ("SSH-1.99-OpenSSH_5.8p1 Debian-1ubuntu3", "before-5.9"),
        ("SSH-2.0-OpenSSH_6.6.1", "before-7.2"),
        ("SSH-2.0-OpenSSH_7.2p2", "modern"),
        ("SSH-2.0-OpenSSH_10.0", "modern"),
        ("SSH-2.0-dropbear_2012.55", "modern"),
    ],
)
def test_the_banner_chooses_the_set(banner: str, name: str) -> None:
    assert chosen(banner).name == name


def test_a_set_that_is_named_wins_over_the_banner() -> None:
    assert chosen("SSH-2.0-dropbear_2012.55", "before-5.9").name == "before-5.9"


def test_this_server_refuses_what_a_newer_one_is_offered(tmp_path: Path) -> None:
    """Without the banner of an old version, newer algorithms are asked: the tests above do test."""
    with (
        old_server("OpenSSH_9.2") as port,
        pytest.raises(OutsideFailed, match=r"accept the key|no SSH"),
    ):
        SshHost("old", login(tmp_path, port), timeout=5).run(("uname", "-r"))
