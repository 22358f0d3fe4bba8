"""`groundlift mirror …` as it is called: exit codes, JSON, and a server in the background."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands.access_log import FILES, SIZE, AccessLog
from commands.background import running
from tests.unit.isomirror.conftest import Discs, Key

ROOT = Path(__file__).parents[3]
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = (sys.executable, "-m", "cli", "--state", str(tmp_path / "state"), "mirror", *words)
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)

    yield run
    run("stop")


@pytest.fixture
def pin(discs: Discs, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "fingerprint").write_text(discs.key.fingerprint.lower() + "\n")
    return ("--fingerprint", f"@{tmp_path}/fingerprint")


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_build_says_what_it_published_and_then_that_nothing_changed(
    call: Call, discs: Discs, pin: tuple[str, ...]
) -> None:
    first = call("build", str(discs.one), str(discs.two), *pin)
    assert (first.returncode, first.stdout.split(":")[0]) == (0, "published")
    again = call("build", str(discs.two), str(discs.one), *pin)
    assert (again.returncode, again.stdout.split(":")[0]) == (0, "nothing changed")
    told = json.loads(call("status", "--json").stdout)
    assert told["published"]["packages"] == 4
    assert told["discs_unchanged"] is True
    assert told["serving"] is None


def test_a_blocked_build_ends_with_3_and_its_findings_as_json(
    call: Call, discs: Discs, pin: tuple[str, ...]
) -> None:
    done = call("build", str(discs.two), *pin, "--json")
    assert done.returncode == 3
    failed = [f["rule"] for f in json.loads(done.stdout)["findings"] if f["answer"] == "fail"]
    assert failed == ["media.set_complete", "media.first_disc"]
    assert call("status").stdout == "nothing is published\n"


def test_a_dry_run_publishes_nothing(call: Call, discs: Discs, pin: tuple[str, ...]) -> None:
    done = call("build", str(discs.one), str(discs.two), *pin, "--dry-run")
    assert done.returncode == 0
    assert "nothing was published" in done.stdout
    assert call("status").stdout == "nothing is published\n"


def test_the_wrong_key_blocks_and_a_short_key_id_is_no_pin(call: Call, discs: Discs) -> None:
    centos = call("build", str(discs.one), str(discs.two))
    assert centos.returncode == 3
    assert "C1DAC52D1664E8A4386DBA430946FCA2C105B9DE" in centos.stdout
    short = call("build", str(discs.one), str(discs.two), "--fingerprint", "C105B9DE")
    assert short.returncode == 2


def test_a_path_that_leads_nowhere_is_a_usage_error(call: Call, pin: tuple[str, ...]) -> None:
    assert call("build", "/nonexistent.iso", *pin).returncode == 2
    assert call("serve").returncode == 2


def test_a_server_in_the_background_is_started_once_and_ended_by_stop(
    call: Call, discs: Discs, pin: tuple[str, ...], port: str, tmp_path: Path
) -> None:
    call("build", str(discs.one), str(discs.two), *pin)
    started = call("serve", "--background", "--port", port)
    url = f"http://127.0.0.1:{port}/centos/6.3/os/x86_64/"
    assert (started.returncode, started.stdout) == (0, f"serving {url}\n")
    with urllib.request.urlopen(url + ".discinfo", timeout=10) as answer:
        assert answer.status == 200
    again = call("serve", "--background", "--port", port)
    assert (again.returncode, again.stdout.startswith("already serving")) == (0, True)
    assert f"served     {url}" in call("status").stdout
    served = running(tmp_path / "state" / "mirror" / "serve.json")
    assert served is not None
    assert call("stop").stdout == f"stopped process {served.pid}\n"
    assert running(tmp_path / "state" / "mirror" / "serve.json") is None
    assert call("stop").stdout == "nothing is served\n"
    log = (tmp_path / "state" / "mirror" / "access.log").read_text()
    assert '"GET /centos/6.3/os/x86_64/.discinfo HTTP/1.1" 200' in log


def test_a_taken_port_is_the_outside_s_fault(
    call: Call, discs: Discs, pin: tuple[str, ...], port: str
) -> None:
    call("build", str(discs.one), str(discs.two), *pin)
    with socket.create_server(("127.0.0.1", int(port))):
        done = call("serve", "--background", "--port", port)
    assert done.returncode == 4
    assert "can't listen" in done.stderr


def test_stop_never_ends_a_process_that_took_over_the_pid(call: Call, tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    note.write_text(
        json.dumps({"pid": os.getpid(), "started": 1, "url": "http://x/", "identity": "x"})
    )
    assert running(note) is None
    assert call("stop", "--pid-file", str(note)).stdout == "nothing is served\n"
    for text in ("", "[]", '{"pid": -1}', '{"pid": "1", "started": 1, "url": "", "identity": ""}'):
        note.write_text(text)
        assert running(note) is None


@pytest.mark.parametrize("limit", ["10", "600", "2000"])
def test_a_full_disk_is_the_outside_s_fault_and_publishes_nothing(
    call: Call, discs: Discs, pin: tuple[str, ...], tmp_path: Path, limit: str
) -> None:
    argv = (sys.executable, "-m", "cli", "--state", str(tmp_path / "state"), "mirror", "build")
    done = subprocess.run(
        ("prlimit", f"--fsize={limit}", *argv, str(discs.one), str(discs.two), *pin),
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "can't write the repository" in done.stderr) == (4, True)
    assert call("status").stdout == "nothing is published\n"
    assert call("build", str(discs.one), str(discs.two), *pin).returncode == 0


def test_a_medium_is_added_told_of_exported_and_removed(
    call: Call, discs: Discs, pin: tuple[str, ...], extras: Path, stranger: Key, tmp_path: Path
) -> None:
    call("build", str(discs.one), str(discs.two), *pin)
    with_key = ("--key", str(stranger.public), "--fingerprint", stranger.fingerprint)
    dry = call("add", str(extras), *with_key, "--name", "more", "--dry-run")
    assert (dry.returncode, "the medium is good" in dry.stdout) == (0, True)
    done = call("add", str(extras), *with_key, "--name", "more")
    assert (done.returncode, done.stdout.split(":")[1][:11]) == (0, " 6 packages"), done
    assert "add-on     more: 2 packages, " in call("status").stdout
    told = json.loads(call("status", "--json").stdout)
    assert told["addons_unchanged"] is True
    exported = call("export", str(tmp_path / "disk"), "--url", "http://depot/")
    assert exported.returncode == 0
    assert exported.stdout.endswith("every file read back and right\n")
    text = (tmp_path / "disk/centos/6.3/os/x86_64/groundlift.repo").read_text()
    assert "baseurl=http://depot/centos/6.3/os/x86_64/\n" in text
    asked = call("repo-file", "--url", "http://depot/centos/6.3/os/x86_64")
    assert asked.stdout == text
    assert call("repo-file").returncode == 2  # nothing is served: the address is not known
    again = json.loads(call("export", str(tmp_path / "disk"), "--json").stdout)
    assert (again["written"], again["removed"]) == (1, 0)  # the .repo file: another address
    assert call("remove", "more").stdout.startswith("published: 4 packages")
    assert call("remove", "more").returncode == 2
    bad = call("add", str(extras), "--name", "more", "--json")
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["published"] is None


def test_the_unit_that_serves_for_weeks_is_one_systemd_accepts_and_is_shut_in(
    call: Call, discs: Discs, pin: tuple[str, ...], port: str, tmp_path: Path
) -> None:
    call("build", str(discs.one), str(discs.two), *pin)
    done = call("serve", "--bind", "127.0.0.1", "--port", port, "--install-unit", "--dry-run")
    assert done.returncode == 0, done.stderr
    unit = tmp_path / "groundlift-mirror.service"
    unit.write_text(done.stdout)
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    judged = subprocess.run(
        ("systemd-analyze", "verify", str(unit)), capture_output=True, text=True, env=env
    )
    assert (judged.returncode, judged.stderr) == (0, "")
    exposed = subprocess.run(
        ("systemd-analyze", "security", "--offline=yes", "--threshold=40", str(unit)),
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert exposed.returncode == 0, exposed.stdout[-400:]
    command = re.search(r"^ExecStart=(.*)$", done.stdout, re.M)
    assert command
    with subprocess.Popen(command[1].split(), cwd=ROOT, stdout=subprocess.DEVNULL) as served:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/") == 200
        finally:
            served.terminate()
    assert served.returncode == 0


def wait_for(url: str) -> int:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except OSError:
            time.sleep(0.1)
    return 0


def test_the_access_log_takes_its_share_of_the_disk_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    line = "x" * 65536
    for _ in range(2):  # a second server goes on where the first ended
        log = AccessLog(path)
        for _ in range((FILES + 2) * SIZE // len(line) // 2):
            log(line)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["access.log", *(f"access.log.{n + 1}" for n in range(FILES))]
    total = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert total <= (FILES + 1) * SIZE
