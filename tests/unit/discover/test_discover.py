"""Discovery: everything is asked, nothing is guessed, nothing hostile breaks it."""

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.documents import load
from core.errors import OutsideFailed
from core.ports import Completed, Fetched
from core.state import publish_model
from migrate.discover import DEADLINE, FACTS, discover
from migrate.source import SourceHost
from tests.fakes.host import FakeHost, answer

CENTOS6 = Path("tests/unit/facts/cases/centos6")


class Clock:
    """Time that only moves when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1353000100 + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Web:
    def __init__(self, pages: dict[str, Fetched]) -> None:
        self.pages = pages

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 0) -> Fetched:
        if url not in self.pages:
            raise OutsideFailed(f"{url} does not answer")
        return self.pages[url]


def centos6() -> FakeHost:
    """A host that answers each fact's command with the recorded output."""
    answers = {
        fact.argv: answer((CENTOS6 / f"{fact.name}.txt").read_bytes())
        for fact in FACTS
        if (CENTOS6 / f"{fact.name}.txt").exists()
    }
    return FakeHost("app01", answers={**answers, "true": answer()})


def found(
    host: FakeHost,
    folder: Path,
    clock: Clock | None = None,
    web: Web | None = None,
    pages: tuple[str, ...] = (),
) -> SourceHost:
    own = clock or Clock()
    web = web or Web({})
    return discover(host, "10.1.1.20", pages=pages, web=web, clock=own, folder=folder)


def test_an_el6_server_is_described_whole(tmp_path: Path) -> None:
    host = found(centos6(), tmp_path)
    assert (host.hostname, host.os.version, host.os.arch) == ("app01.example.cn", "6.3", "x86_64")
    assert host.memory == 16724471808
    assert host.clock_skew == -100.0
    assert [disk.name for disk in host.disks] == ["sda", "sdb"]
    root = next(fs for fs in host.filesystems if fs.mountpoint == "/")
    assert (root.available, root.inodes_free) == (7555526656, 50)
    assert root.uuid == "c9bd9e41-0e3a-4a7b-9a46-0a6ed6b7a3b1"
    assert {(s.protocol, s.port, s.process) for s in host.listeners} == {
        ("tcp", 22, "sshd"),
        ("tcp", 3306, "mysqld"),
        ("tcp6", 80, "httpd"),
        ("udp", 123, "ntpd"),
    }
    assert host.volume_groups[0].volumes == ("lv_root", "lv_snap")


def test_what_can_not_be_read_is_missing_and_empty(tmp_path: Path) -> None:
    host = centos6()
    fact = next(fact for fact in FACTS if fact.name == "firmware")
    host.answers[fact.argv] = answer(code=3)
    assert found(host, tmp_path).firmware == ""
    assert found(host, tmp_path).missing["firmware"] == "exit code 3: no output"


def test_only_reading_commands_are_run() -> None:
    """No command of a fact redirects into a file, installs, mounts or signals anything."""
    forbidden = re.compile(
        r"(^|[^\w=-])(rm|mv|cp|mount|kill|mkdir|touch|tee|mknod|service) |>>?\s*/"
    )
    for fact in FACTS:
        line = " ".join(fact.argv).replace("2>/dev/null", "").replace(">/dev/null", "")
        assert not forbidden.search(line), fact.name


def test_the_raw_answers_are_kept_with_secrets_starred_out(tmp_path: Path) -> None:
    found(centos6(), tmp_path)
    kept = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert kept["uname"] == (CENTOS6 / "uname.txt").read_text()
    everything = "".join(kept.values())
    for secret in ("Secret1", "hunter2", "hunter3", "letmein", "geheim"):
        assert secret not in everything
    assert (tmp_path / "processes.txt").stat().st_mode & 0o077 == 0


def test_no_secret_reaches_the_document(tmp_path: Path) -> None:
    text = found(centos6(), tmp_path).model_dump_json()
    assert not [s for s in ("Secret1", "hunter2", "hunter3", "letmein", "geheim") if s in text]


def test_a_slow_host_is_left_after_the_deadline_with_what_it_said(tmp_path: Path) -> None:
    clock = Clock()

    class Slow(FakeHost):
        def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Completed:
            clock.sleep(20)
            return super().run(argv, stdin=stdin, timeout=timeout)

    host = found(Slow("slow", answers=centos6().answers), tmp_path, clock)
    assert host.hostname == "app01.example.cn"
    assert DEADLINE <= clock.seconds <= DEADLINE + 20
    assert host.missing["services"] == "not asked: the host took more than 150 s"


def test_a_dead_host_is_a_failure_and_not_forty_missing_facts(tmp_path: Path) -> None:
    with pytest.raises(OutsideFailed, match="no connection"):
        found(FakeHost(dead=True), tmp_path)


def test_pages_are_kept_as_proof(tmp_path: Path) -> None:
    web = Web(
        {"http://a/": Fetched(200, b"<h1>\x1b[31mhello</h1>"), "http://b/": Fetched(503, b"")}
    )
    host = found(centos6(), tmp_path, web=web, pages=("http://a/", "http://b/", "http://c/"))
    assert [(page.url, page.status) for page in host.pages] == [
        ("http://a/", 200),
        ("http://b/", 503),
    ]
    assert host.pages[0].excerpt == "<h1> [31mhello</h1>"
    assert len(host.pages[0].sha256) == 64
    assert host.missing["page http://c/"] == "http://c/ does not answer"


def test_the_document_reads_back_as_written(tmp_path: Path) -> None:
    host = found(centos6(), tmp_path)
    publish_model(tmp_path / "source.json", host)
    assert load(tmp_path / "source.json", SourceHost) == host
    assert json.loads((tmp_path / "source.json").read_text())["version"] == 1


HOSTILE = [
    b"",
    b"\0" * 1000,
    bytes(range(256)) * 50,
    b"\x1b]0;owned\x07\x1b[2J" * 20,
    b"../../../../etc/passwd\n" * 20,
    b"{{ 7*7 }}: &a [*a]\n!!python/object/apply:os.system ['id']\n",
    b"<script>alert(1)</script>\t<script>\t<script>\n" * 20,
    b"99999999999999999999999999 " * 20,
    b"a\tb\tc\n" * 30_000,
    b"x" * 9_000_000,
]


@pytest.mark.parametrize("junk", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_host_only_makes_facts_missing(junk: bytes, tmp_path: Path) -> None:
    host = FakeHost(answers={program: answer(junk) for program in programs()})
    described = found(host, tmp_path)
    assert len(described.missing) > 15
    assert all(sign.isprintable() for value in strings(described.model_dump()) for sign in value)
    publish_model(tmp_path / "source.json", described)
    assert load(tmp_path / "source.json", SourceHost) == described


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(outputs=st.lists(st.binary(max_size=300), min_size=len(FACTS), max_size=len(FACTS)))
def test_no_mixture_of_answers_is_a_traceback(outputs: list[bytes], tmp_path: Path) -> None:
    answers = {fact.argv: answer(data) for fact, data in zip(FACTS, outputs, strict=True)}
    described = found(FakeHost(answers=answers), tmp_path)
    assert SourceHost.model_validate_json(described.model_dump_json()) == described


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in strings(part)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def programs() -> set[str]:
    return {fact.argv[0] for fact in FACTS}


def test_asking_takes_little_time_of_ours(tmp_path: Path) -> None:
    start = time.process_time()
    found(centos6(), tmp_path)
    assert time.process_time() - start < 1.0
