"""From the description of a server and the command line to a login: passwords, jump hosts, sudo."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from adapters.ssh import SshHost
from cli import groundlift
from commands.access import jump_of, read
from commands.connect import open_case
from core.errors import BadDocument, OutsideFailed, UsageProblem
from core.state import State
from tests.contract.accounts import PASSWORD, accounts
from tests.contract.sshd import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with accounts() as server:
        yield server


class Place:
    """A state directory and a site whose one server is behind the sshd."""

    def __init__(self, root: Path, server: Server, **entry: object) -> None:
        self.root, self.site = root, root / "cloud.yml"
        (root / "id_rsa").write_bytes((server.root / "id_rsa").read_bytes())
        site = yaml.safe_load(Path("inventories/lab/cloud.yml").read_text())
        site["ssh"] = {"user": "root", "key": "id_rsa", "known_hosts": "known_hosts"}
        site["sources"] = [
            {
                "name": "old1",
                "address": "127.0.0.1",
                "port": server.port,
                "target": site["sources"][0]["target"],
                **entry,
            }
        ]
        self.site.write_text(yaml.safe_dump(site))

    def call(self, verb: str, *rest: str, answer: str = "") -> Result:
        argv = ["--state", str(self.root), "migrate", verb, "old1", "--site", str(self.site), *rest]
        return CliRunner().invoke(groundlift, argv, input=answer)

    def secret(self, text: str = PASSWORD, mode: int = 0o600) -> Path:
        path = self.root / "secret"
        path.write_text(f"{text}\n")
        path.chmod(mode)
        return path


@pytest.mark.skipif(os.getuid() != 0, reason="accounts of their own need root")
def test_a_server_behind_a_jump_host_is_pinned_and_asked_by_password_and_sudo(
    tmp_path: Path, server: Server
) -> None:
    jump = {"address": "127.0.0.1", "port": server.port, "user": "easy", "known_hosts": "jumps"}
    place = Place(tmp_path, server, user="ttyasked", login="password", sudo="password", jump=jump)
    pinned = place.call("pin", answer="y\ny\n")
    assert pinned.exit_code == 0, pinned.exception
    assert pinned.stdout.count("SHA256:") == 2
    assert (tmp_path / "jumps").exists()
    assert (tmp_path / "known_hosts").exists()
    found = place.call("discover", "--password-file", str(place.secret()))
    assert found.exit_code == 0, found.exception
    assert "ssh       SSH-2.0-OpenSSH" in found.stdout
    facts = tmp_path / "migrate" / "old1"
    for path in facts.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.skipif(os.getuid() != 0, reason="accounts of their own need root")
def test_a_jump_host_whose_key_is_not_pinned_is_refused(tmp_path: Path, server: Server) -> None:
    login = server.login
    place = Place(tmp_path, server, user="easy", sudo="nopasswd")
    (tmp_path / "known_hosts").write_bytes(b"")
    refused = place.call("discover", "--jump", f"easy@127.0.0.1:{login.port}")
    assert isinstance(refused.exception, OutsideFailed)
    assert "is not pinned" in refused.exception.message


def test_a_dead_jump_host_is_said(tmp_path: Path, server: Server) -> None:
    from dataclasses import replace

    jump = replace(server.login, port=1)
    with pytest.raises(OutsideFailed, match="port 1"):
        SshHost("old1", replace(server.login, jump=jump), timeout=3).run(("true",))


def test_a_password_that_nobody_gave_is_asked_for_or_said(tmp_path: Path, server: Server) -> None:
    refused = Place(tmp_path, server, login="password").call("discover")
    assert isinstance(refused.exception, UsageProblem)
    assert "nobody to ask" in refused.exception.message
    assert "--password-file" in refused.exception.hint


def test_the_description_may_name_the_password_file(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, server, user="asked", login="password", password_file="secret")
    place.secret("wrong")
    (tmp_path / "known_hosts").write_bytes(server.login.known_hosts.read_bytes())
    refused = place.call("discover")
    assert isinstance(refused.exception, OutsideFailed)
    assert "does not accept the password" in refused.exception.message


@pytest.mark.parametrize(
    ("field", "value", "place_of_fault"),
    [
        ("login", "kerberos", "login"),
        ("sudo", True, "sudo"),
        ("algorithms", "arcfour", "algorithms"),
        ("jump", {"address": "bastion"}, "jump.address"),
        ("password", "secret", "password"),
    ],
)
def test_a_wrong_field_is_told_with_its_place(
    tmp_path: Path, server: Server, field: str, value: object, place_of_fault: str
) -> None:
    refused = Place(tmp_path, server, **{field: value}).call("discover")
    assert isinstance(refused.exception, BadDocument)
    (fault,) = refused.exception.errors
    assert f"cloud.yml:{fault.split(':')[1]}:" in fault
    assert f"sources.0.{place_of_fault}:" in fault


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_password_file_that_others_can_read_is_refused(
    tmp_path: Path, server: Server, mode: int
) -> None:
    path = Place(tmp_path, server).secret(mode=mode)
    with pytest.raises(UsageProblem, match="others can read") as caught:
        read(path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"\n", b"x" * 1025, b"\xff\xfe\n", b"a\0b\n"])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(raw)
    path.chmod(0o600)
    with pytest.raises(UsageProblem, match="password file"):
        read(path)


def test_a_password_comes_through_a_descriptor() -> None:
    source, sink = os.pipe()
    os.write(sink, b"secret word\nand more\n")
    os.close(sink)
    assert read(Path(f"/dev/fd/{source}")) == "secret word"
    os.close(source)


@pytest.mark.parametrize("text", ["bastion", "a b@10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", ""])
def test_a_jump_host_that_can_not_be_one_is_refused(
    tmp_path: Path, server: Server, text: str
) -> None:
    refused = Place(tmp_path, server).call("discover", "--jump", text or "@")
    assert refused.exit_code == 2


def test_the_command_line_names_a_jump_host() -> None:
    jump = jump_of("ops@10.0.0.1:2222")
    assert (str(jump.address), jump.user, jump.port) == ("10.0.0.1", "ops", 2222)
    assert (jump_of("10.0.0.1").user, jump_of("10.0.0.1").port) == ("root", 22)


def test_a_rescue_system_has_keys_and_a_password_of_its_own(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, server, user="ttyasked", sudo="nopasswd")
    case = open_case(State(tmp_path), "old1", place.site)
    rescue = replace(case, rescue_password=PASSWORD)
    login = rescue.source_login()
    assert (login.user, login.port, login.key, login.sudo) == ("root", 22, None, False)
    assert login.password == PASSWORD
    assert login.known_hosts == tmp_path / "known_hosts.rescue"
    assert PASSWORD not in repr(rescue)
    assert rescue.own().source_login() == case.source_login()


def test_the_rescue_systems_password_is_read_as_carefully(tmp_path: Path, server: Server) -> None:
    place = Place(tmp_path, server)
    refused = place.call("pin", "--rescue", str(place.secret(mode=0o644)))
    assert isinstance(refused.exception, UsageProblem)
    assert "others can read" in refused.exception.message
