"""What every Host promises, asked of the fake, of this machine, and of a real sshd."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.local import LocalHost
from adapters.ssh import SshHost
from adapters.ssh_program import ssh_argv
from core.errors import NoAnswer, OutsideFailed
from core.ports import Completed, Host
from tests.contract.sshd import Server, sshd
from tests.fakes.host import FLOODS, HANGS, FakeHost, answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def fake() -> FakeHost:
    return FakeHost(
        answers={
            "printf": lambda argv, _: Completed(argv, 0, argv[2].encode(), b""),
            "sh": lambda argv, _: Completed(argv, 7, b"out\n", b"err\n"),
            "sleep": answer(code=HANGS),
            "printenv": answer("C\n"),
            "dd": answer(b"\0" * 3_000_000),
            "yes": answer(code=FLOODS),
        }
    )


@pytest.fixture(params=["fake", "local", "ssh"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    if request.param == "fake":
        made: Host = fake()
    elif request.param == "local":
        made = LocalHost()
    else:
        made = SshHost("sshd", request.getfixturevalue("server").login)
    yield made
    made.close()
    made.close()


def test_a_code_that_is_not_zero_is_an_answer(host: Host) -> None:
    done = host.run(("sh", "-c", "echo out; echo err >&2; exit 7"))
    assert (done.code, done.stdout, done.stderr.strip()) == (7, b"out\n", b"err")


def test_a_program_that_is_not_there_answers_127(host: Host) -> None:
    assert host.run(("no-such-program",)).code == 127


@pytest.mark.parametrize(
    "text", ["", "two words", "$HOME `id` $(id) ; | & > *", "'\"\\", "new\nline", "中文"]
)
def test_arguments_arrive_as_they_were_given(host: Host, text: str) -> None:
    assert host.run(("printf", "%s", text)).stdout.decode() == text


def test_binary_input_comes_back_unchanged(host: Host) -> None:
    data = bytes(range(256)) * 8192
    assert host.run(("cat",), stdin=data).stdout == data


def test_long_output_is_complete(host: Host) -> None:
    assert len(host.run(("dd", "if=/dev/zero", "bs=1000000", "count=3")).stdout) == 3_000_000


def test_commands_speak_the_c_locale(host: Host) -> None:
    assert host.run(("printenv", "LC_ALL")).text == "C\n"


def test_a_command_that_does_not_end_is_a_failure_in_time(host: Host) -> None:
    with pytest.raises(OutsideFailed, match="did not end"):
        host.run(("sleep", "30"), timeout=0.5)


def test_a_flood_of_output_is_a_failure_before_it_fills_the_memory(host: Host) -> None:
    with pytest.raises(OutsideFailed, match="more than"):
        host.run(("yes", "a flood of sixteen bytes and more"), timeout=120)
    assert host.run(("printf", "%s", "here")).text == "here"


def test_a_command_that_reads_nothing_ignores_its_input(host: Host) -> None:
    assert host.run(("printf", "%s", "x"), stdin=b"y" * 3_000_000).text == "x"


def test_a_command_that_hangs_with_unread_input_is_a_failure_in_time(host: Host) -> None:
    with pytest.raises(OutsideFailed, match="did not end"):
        host.run(("sleep", "30"), stdin=b"y" * 3_000_000, timeout=0.5)


def test_the_host_still_answers_after_a_timeout(host: Host) -> None:
    with pytest.raises(OutsideFailed):
        host.run(("sleep", "30"), timeout=0.3)
    assert host.run(("printf", "%s", "here")).text == "here"


def test_a_stream_carries_bytes_both_ways(host: Host) -> None:
    data = bytes(range(256)) * 4096
    with host.stream(("cat",)) as channel:
        channel.stdin.write(data[:200])
        channel.stdin.close()
        assert channel.stdout.read() == data[:200]
        assert channel.wait(10) == 0


def test_a_stream_tells_its_exit_code_and_its_errors(host: Host) -> None:
    with host.stream(("sh", "-c", "echo err >&2; exit 7")) as channel:
        assert channel.wait(10) == 7
        assert channel.errors().strip() == "err"


def test_a_file_reads_back_as_written(host: Host, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    host.write(f"{tmp_path}/a file", data)
    assert host.read(f"{tmp_path}/a file") == data


def test_writing_replaces_what_was_there_and_leaves_nothing_beside(
    host: Host, tmp_path: Path
) -> None:
    host.write(f"{tmp_path}/file", b"old and longer")
    host.write(f"{tmp_path}/file", b"new")
    assert host.read(f"{tmp_path}/file") == b"new"
    assert [path.name for path in tmp_path.iterdir()] in (["file"], [])  # [] is the fake's


def test_an_uploaded_file_is_complete(host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 5000)
    host.upload(source, f"{tmp_path}/target")
    assert host.read(f"{tmp_path}/target") == source.read_bytes()


def test_a_missing_file_is_a_failure(host: Host, tmp_path: Path) -> None:
    with pytest.raises(OutsideFailed, match="missing"):
        host.read(f"{tmp_path}/missing")


def test_a_file_over_the_limit_is_a_failure(host: Host, tmp_path: Path) -> None:
    host.write(f"{tmp_path}/file", b"x" * 11)
    assert host.read(f"{tmp_path}/file", limit=11) == b"x" * 11
    with pytest.raises(OutsideFailed, match="longer than 10"):
        host.read(f"{tmp_path}/file", limit=10)


def test_writing_where_nothing_can_be_written_is_a_failure(host: Host) -> None:
    with pytest.raises(OutsideFailed, match="can't write"):
        host.write("/no-such-directory/file", b"x")


def test_leaving_a_stream_ends_its_command(server: Server) -> None:
    for real in (LocalHost(), SshHost("sshd", server.login)):
        with real.stream(("sh", "-c", "echo $$; exec cat")) as channel:
            pid = int(channel.stdout.readline())
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not Path(f"/proc/{pid}").exists()
        real.close()


def test_a_mode_is_kept(tmp_path: Path, server: Server) -> None:
    for real in (LocalHost(), SshHost("sshd", server.login)):
        path = tmp_path / "secret"
        real.write(str(path), b"x", mode=0o600)
        assert path.stat().st_mode & 0o777 == 0o600
        real.close()


def test_a_host_whose_key_is_not_pinned_is_refused(tmp_path: Path, server: Server) -> None:
    login = replace(server.login, known_hosts=tmp_path / "none")
    with pytest.raises(OutsideFailed, match=r"is not pinned: ssh-.* SHA256:") as caught:
        SshHost("sshd", login).run(("true",))
    assert "migrate pin sshd" in caught.value.hint


def test_a_host_that_shows_another_key_is_refused(tmp_path: Path, server: Server) -> None:
    kind, blob, *_ = (server.root / "id_rsa.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"{server.login.host_id} {kind} {blob}\n")
    login = replace(server.login, known_hosts=known)
    with pytest.raises(OutsideFailed, match="another host key than the pinned one"):
        SshHost("sshd", login).run(("true",))
    with pytest.raises(OutsideFailed, match="another host key"):
        SshHost("sshd", login).stream(("echo", "reached")).__enter__()
    program = subprocess.run([*ssh_argv(login), "echo reached"], capture_output=True)
    assert (program.stdout, program.returncode) == (b"", 255)


def test_a_key_nobody_knows_is_refused_with_a_remedy(tmp_path: Path, server: Server) -> None:
    login = replace(server.login, key=server.root / "host_rsa")
    with pytest.raises(OutsideFailed, match="does not accept the key") as caught:
        SshHost("sshd", login).run(("true",))
    assert "authorized_keys" in caught.value.hint


def test_something_that_is_no_key_is_refused_with_a_remedy(tmp_path: Path, server: Server) -> None:
    (tmp_path / "junk").write_bytes(b"\0\1junk")
    login = replace(server.login, key=tmp_path / "junk")
    with pytest.raises(OutsideFailed, match="as a private key") as caught:
        SshHost("sshd", login).run(("true",))
    assert "ssh-keygen" in caught.value.hint


def test_a_dead_port_is_a_failure(server: Server) -> None:
    login = replace(server.login, port=1)
    with pytest.raises(OutsideFailed, match=r"no SSH connection to 127\.0\.0\.1 port 1"):
        SshHost("dead", login, timeout=3).run(("true",))


def test_a_server_that_does_not_greet_is_given_up_when_the_command_has_no_time_left(
    server: Server,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        login = replace(server.login, port=mute.getsockname()[1])
        start = time.monotonic()
        with pytest.raises(OutsideFailed, match="no SSH connection"):
            SshHost("mute", login, timeout=120).run(("true",), timeout=1)
    assert time.monotonic() - start < 60  # far from what a connection may take otherwise


def test_a_host_behind_another_is_reached_through_it(server: Server) -> None:
    login = replace(server.login, jump=server.login)
    host = SshHost("behind", login)
    assert host.run(("echo", "hello")).text == "hello\n"
    with host.stream(("echo", "hello")) as channel:
        assert channel.stdout.read() == b"hello\n"
    host.close()


def test_a_lost_connection_is_made_again(server: Server) -> None:
    host = SshHost("sshd", server.login)
    host.run(("true",))
    host.close()
    assert host.run(("echo", "back")).text == "back\n"
    host.close()


@contextmanager
def nobody() -> Iterator[int]:
    """A port at which nobody ever answers, as at an address without a machine: the kernel drops
    what comes to a queue that is full."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        time.sleep(0.1)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("over", ["straight", "over a jump host"])
def test_silence_is_told_from_a_refusal(server: Server, over: str) -> None:
    jump = None if over == "straight" else server.login
    with nobody() as port:
        for login, kind in (
            (replace(server.login, port=port, jump=jump), NoAnswer),
            (replace(server.login, port=1, jump=jump), OutsideFailed),
        ):
            host = SshHost("old", login, timeout=2)
            with pytest.raises(OutsideFailed, match="no SSH connection") as caught:
                host.run(("true",))
            host.close()
            assert type(caught.value) is kind


@pytest.fixture
def empty() -> Iterator[str]:
    """An address of a network on which there is nobody else."""
    subprocess.run(["ip", "link", "add", "gx0", "type", "veth", "peer", "name", "gx1"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.211.79.1/30", "dev", "gx0"], check=True)
        for device in ("gx0", "gx1"):
            subprocess.run(["ip", "link", "set", device, "up"], check=True)
        yield "10.211.79.2"
    finally:
        subprocess.run(["ip", "link", "del", "gx0"], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network without a machine")
@pytest.mark.parametrize("over", ["straight", "over a jump host"])
def test_an_address_without_a_machine_is_silent(server: Server, over: str, empty: str) -> None:
    """As on one's own network: the kernel, or the jump host's, finds nobody there."""
    login = replace(server.login, address=empty)
    if over != "straight":
        login = replace(login, jump=server.login)
    host = SshHost("old", login, timeout=10)
    with pytest.raises(NoAnswer, match="no SSH connection"):
        host.run(("true",))
    host.close()


def test_the_silence_of_a_jump_host_says_nothing_of_what_is_behind_it(server: Server) -> None:
    with nobody() as port:
        way = replace(server.login, jump=replace(server.login, port=port))
        with pytest.raises(OutsideFailed, match=f"port {port}") as caught:
            SshHost("old", way, timeout=2).run(("true",))
    assert type(caught.value) is OutsideFailed


def test_a_fake_that_is_dead_is_silent() -> None:
    with pytest.raises(NoAnswer):
        FakeHost(dead=True).run(("true",))
