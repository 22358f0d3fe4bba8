"""SshHost as an account that becomes root by sudo: a real sshd and a real sudo."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.ssh import SshHost
from core.errors import NoAnswer, OutsideFailed
from migrate.cutover import POWER_OFF
from tests.contract.accounts import PASSWORD, accounts
from tests.contract.sshd import Server
from tests.contract.test_host import nobody

BINARY = bytes(range(256)) * 12_000  # 3 MiB with every control character a terminal acts on

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a mount namespace needs root")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with accounts() as server:
        yield server


@pytest.fixture
def host(request: pytest.FixtureRequest, server: Server) -> Iterator[SshHost]:
    made = host_as(server, request.param)
    yield made
    made.close()


def host_as(
    server: Server, account: str, password: str = PASSWORD, *, sudo: bool = True
) -> SshHost:
    given = password if "asked" in account else None
    return SshHost(account, replace(server.login, user=account, password=given, sudo=sudo))


ROOTS = ("easy", "asked", "tty", "ttyasked", "csh")


@pytest.mark.parametrize("host", ROOTS, indirect=True)
def test_every_command_is_root_and_says_only_what_it_says(host: SshHost) -> None:
    done = host.run(("sh", "-c", "id -u; echo err >&2; exit 7"))
    assert (done.code, done.stdout, done.stderr) == (7, b"0\n", b"err\n")


@pytest.mark.parametrize("host", ROOTS, indirect=True)
def test_bytes_pass_unchanged_both_ways(host: SshHost) -> None:
    assert host.run(("cat",), stdin=BINARY).stdout == BINARY
    with host.stream(("sh", "-c", "id -u; cat; echo err >&2; exit 3")) as channel:
        assert channel.stdout.readline() == b"0\n"
        for start in range(0, len(BINARY), 32_000):
            channel.stdin.write(BINARY[start : start + 32_000])
            channel.stdin.flush()
            assert channel.stdout.read(32_000) == BINARY[start : start + 32_000]
        channel.stdin.close()
        assert channel.stdout.read() == b""
        assert (channel.wait(10), channel.errors()) == (3, "err\n")


@pytest.mark.parametrize("host", ROOTS, indirect=True)
@pytest.mark.parametrize(
    "text", ["$HOME `id` ! !! ; | & > *", "'\"\\ \\'", "new\nline", "中文 50%s"]
)
def test_arguments_pass_every_shell(host: SshHost, text: str) -> None:
    assert host.run(("printf", "%s", text)).stdout.decode() == text


@pytest.mark.parametrize("host", ["easy", "ttyasked"], indirect=True)
def test_an_end_of_input_arrives_as_one(host: SshHost) -> None:
    with host.stream(("wc", "-c")) as channel:
        channel.stdin.write(b"x" * 1000)
        channel.stdin.close()
        assert (channel.stdout.read(), channel.wait(10)) == (b"1000\n", 0)


@pytest.mark.parametrize("host", ["easy", "ttyasked"], indirect=True)
def test_leaving_a_stream_ends_the_command_of_root(host: SshHost) -> None:
    with host.stream(("sh", "-c", "echo $$; exec cat")) as channel:
        pid = int(channel.stdout.readline())
        assert Path(f"/proc/{pid}").stat().st_uid == 0
    done = subprocess.run(["timeout", "5", "tail", "--pid", str(pid), "-f", "/dev/null"])
    assert done.returncode == 0


def test_a_password_never_reaches_the_command_nor_an_argument(server: Server) -> None:
    """Also when sudo does not ask, since it was answered before or needs none."""
    for account in ("asked", "ttyasked", "easy"):
        login = replace(server.login, user=account, password=PASSWORD, sudo=True)
        host = SshHost(account, login)
        assert [host.run(("cat",), stdin=b"x").stdout for _ in range(2)] == [b"x", b"x"]
        with host.stream(("cat",)) as channel:
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    for file in ("cmdline", "environ"):
                        assert PASSWORD.encode() not in (process / file).read_bytes(), process
            channel.stdin.close()
            assert channel.stdout.read() == b""
        host.close()


def test_a_password_alone_gets_in_and_becomes_root(server: Server) -> None:
    login = replace(server.login, user="asked", key=None, password=PASSWORD, sudo=True)
    host = SshHost("asked", login)
    assert host.run(("id", "-u")).text == "0\n"
    with host.stream(("id", "-u")) as channel:
        assert channel.stdout.read() == b"0\n"
    host.close()


@pytest.mark.parametrize("account", ["asked", "ttyasked"])
def test_a_wrong_password_is_said_once_and_not_tried_for_ever(server: Server, account: str) -> None:
    host = host_as(server, account, "wrong")
    with pytest.raises(OutsideFailed, match="sudo does not accept the password"):
        host.run(("id",))
    host.close()


def test_a_password_that_is_missing_is_said(server: Server) -> None:
    login = replace(server.login, user="asked", password=None, sudo=True)
    with pytest.raises(OutsideFailed, match="sudo asks for a password") as caught:
        SshHost("asked", login).run(("id",))
    assert "--password-file" in caught.value.hint


def test_an_account_that_may_not_become_root_is_said(server: Server) -> None:
    login = replace(server.login, user="nobody2", password=PASSWORD, sudo=True)
    with pytest.raises(OutsideFailed, match=r"not let this account become root: .*sudoers"):
        SshHost("nobody2", login).run(("id",))


def test_an_account_whose_shell_runs_nothing_is_said(server: Server) -> None:
    host = SshHost("menu", replace(server.login, user="menu"))
    for attempt in (lambda: host.run(("id",)), lambda: host.stream(("id",)).__enter__()):
        with pytest.raises(OutsideFailed, match="shell runs no commands"):
            attempt()
    host.close()


def test_a_noisy_shell_is_not_heard_without_sudo_either(server: Server) -> None:
    host = host_as(server, "easy", sudo=False)
    assert host.run(("echo", "hello")).stdout == b"hello\n"
    with host.stream(("sh", "-c", "echo hello; echo err >&2")) as channel:
        assert (channel.stdout.read(), channel.wait(10)) == (b"hello\n", 0)
        assert channel.errors() == "err\n"
    host.close()


def test_the_real_sudo_is_there() -> None:
    assert shutil.which("sudo"), "the tests above would test nothing"


@pytest.mark.parametrize("host", ["easy", "tty"], indirect=True)
def test_an_order_to_switch_off_outlives_its_session(host: SshHost, tmp_path: Path) -> None:
    """A terminal that ends hangs up on all that was begun on it: what CentOS 5 and 6 have sudo ask
    for, and Debian's sudo hides by a terminal of its own."""
    tmp_path.chmod(0o777)
    done = tmp_path / "done"
    shell, option, order = POWER_OFF
    for real, played in (
        ("echo o > /proc/sysrq-trigger", f"touch {done}"),
        ("poweroff -f", "true"),
        ("sync", "true"),
    ):
        assert order.count(real) == 1
        order = order.replace(real, played)
    assert "sysrq" not in order
    assert host.run((shell, option, order), timeout=20).code == 0
    host.close()
    assert not done.exists()  # its answer comes before
    deadline = time.monotonic() + 20
    while not done.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_jump_host_that_runs_no_commands_tells_silence_too(server: Server) -> None:
    jump = replace(server.login, user="menu", sudo=False)
    with nobody() as port:
        behind = SshHost("old", replace(server.login, port=port, jump=jump), timeout=2)
        with pytest.raises(NoAnswer):
            behind.run(("true",))
        behind.close()
