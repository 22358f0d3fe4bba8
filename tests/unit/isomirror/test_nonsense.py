"""The verbs called with what makes no sense: a sentence and a remedy, never a fault of ours."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from commands.access_log import AccessLog
from commands.mirror_result import checksums, pinned
from core.errors import Problem, UsageProblem
from core.progress import silent
from isomirror.extend import Given, add
from isomirror.repofile import address
from tests.unit.isomirror.conftest import Discs

ROOT = Path(cli.__file__).parent


def call(state: Path, *words: str) -> tuple[int, str]:
    """The command in this process: its code, and what it said of a Problem."""
    done = CliRunner().invoke(cli.groundlift, ["--state", str(state), "mirror", *words])
    if isinstance(done.exception, Problem):
        return done.exception.exit_code, f"{done.output}{done.exception} → {done.exception.hint}"
    return done.exit_code, done.output


@pytest.fixture
def state(tmp_path: Path, publish: Callable[..., Path]) -> Path:
    publish(tmp_path / "state" / "mirror")
    return tmp_path / "state"


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, str]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "dir").mkdir()
    return {name: str(tmp_path / name) for name in ("pipe", "empty", "dir", "gone")}


def test_what_is_no_image_is_told_as_what_it_is(state: Path, odd: dict[str, str]) -> None:
    for verb, code in (("build", 2), ("add", 3)):
        found = call(state, verb, odd["gone"])
        assert (found[0], "there is no such file" in found[1]) == (code, True)
    for strange in (odd["pipe"], "/dev/zero"):
        code, said = call(state, "build", strange)
        assert (code, "no regular file" in said, "dd if=" in said) == (2, True, True)
        code, said = call(state, "add", strange)
        assert (code, "no regular file" in said, "dd if=" in said) == (3, True, True)
    assert "no .iso file" in call(state, "build", odd["dir"])[1]
    assert call(state, "build", odd["empty"])[0] == 3


@pytest.mark.parametrize("option", ["--sums", "--key", "--fingerprint"])
def test_a_file_without_an_end_is_refused_and_not_read_to_it(
    option: str, state: Path, discs: Discs
) -> None:
    value = "@/dev/zero" if option == "--fingerprint" else "/dev/zero"
    words = ["build", str(discs.one), str(discs.two), option, value]
    if option != "--fingerprint":
        words += ["--fingerprint", discs.key.fingerprint]
    code, said = call(state, *words)
    assert (code, "it is longer than" in said) == (2, True), said
    assert not said.endswith("→ ")


def test_a_checksum_file_without_sums_is_never_taken_for_none(
    state: Path, odd: dict[str, str], discs: Discs
) -> None:
    pin = ("--fingerprint", discs.key.fingerprint)
    code, said = call(state, "build", str(discs.one), str(discs.two), *pin, "--sums", odd["empty"])
    assert (code, "no checksums in it" in said) == (2, True)
    given = Given(discs.tree / "d1" / "Packages", "more", sums=Path(odd["empty"]))
    with pytest.raises(Problem, match="no checksums in it"):
        add(given, state / "mirror", silent)
    with pytest.raises(UsageProblem, match="Is a directory"):
        checksums(Path(odd["dir"]))
    with pytest.raises(UsageProblem, match="Is a directory"):
        pinned("@" + odd["dir"])


@pytest.mark.parametrize(
    "bind", ["", "a..b", "1.2.3.4 --x", "10.0.0.1\nExecStartPre=/bin/x", "::1", "-x", "x" * 300]
)
def test_an_address_that_is_none_reaches_neither_a_socket_nor_a_unit(
    bind: str, state: Path
) -> None:
    for more in ((), ("--dry-run",)):
        code, said = call(state, "serve", f"--bind={bind}", *more)
        assert (code, "is no address to listen on" in said) == (2, True), said


def test_a_repo_file_leads_to_an_address_that_nodes_can_reach(state: Path, tmp_path: Path) -> None:
    for url in ("", "/x", "http://x/\nevil=1", "http://a b/", "ftp://x/"):
        for words in (("repo-file",), ("export", str(tmp_path / "out"), "--dry-run")):
            code, said = call(state, *words, "--url", url)
            assert (code, "is no address" in said) == (2, True), (words, url, said)
    for url in ("http://10.0.0.1:8077/centos/", "https://h/", "file:///media/usb", "http://[::1]/"):
        assert address(url) == url
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    argv = (sys.executable, "-m", "cli", "--state", str(state), "mirror")
    serve = (*argv, "serve", "--background", "--bind", "0.0.0.0", "--port", port)
    subprocess.run(serve, cwd=ROOT, check=True, capture_output=True, timeout=60)
    try:
        code, said = call(state, "repo-file")
    finally:
        subprocess.run((*argv, "stop"), cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert (code, "on every address" in said) == (2, True)


def test_a_full_disk_ends_the_access_log_and_nothing_else() -> None:
    log = AccessLog(Path("/dev/full"))
    log("a line")


def test_a_list_of_files_that_is_damaged_is_told_by_every_verb(state: Path, tmp_path: Path) -> None:
    (state / "mirror/current/tree.json").write_text("{")
    for words in (("serve",), ("closure", "alpha"), ("export", str(tmp_path / "out"))):
        code, said = call(state, *words)
        assert (code, "build the mirror again" in said) == (4, True), said


def test_a_proof_of_what_is_there_already_is_told(state: Path) -> None:
    code, said = call(state, "closure", "alpha")
    assert (code, "proven" in said) == (0, True)


def test_a_path_that_no_document_can_hold_is_refused(
    state: Path, tmp_path: Path, discs: Discs
) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.iso")
    odd.symlink_to(discs.two)
    pin = ("--fingerprint", discs.key.fingerprint)
    code, said = call(state, "build", str(discs.one), str(odd), *pin)
    assert (code, "no UTF-8" in said) == (2, True), said
    assert "no UTF-8" in call(state, "add", str(odd), "--name", "x")[1]


def test_a_note_that_can_t_be_read_is_not_taken_for_none(state: Path) -> None:
    (state / "mirror" / "serve.json").mkdir()
    done = CliRunner().invoke(cli.groundlift, ["--state", str(state), "mirror", "stop"])
    assert isinstance(done.exception, IsADirectoryError)
    told = cli.outside(done.exception)
    assert (told.exit_code, str(told)) == (4, f"{state}/mirror/serve.json: Is a directory")
