"""Facts asked by one command are the facts asked one by one, on a real machine."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.clock import SystemClock
from adapters.local import LocalHost
from core.facts import network, software, storage, system
from core.facts.fact import Fact, ask, judged
from core.facts.together import ask_together
from core.ports import Completed, Fetched
from migrate.discover import FACTS, discover


def fact(name: str, script: str, **more: object) -> Fact[object]:
    return Fact(name, name, ("sh", "-c", script), str, **more)  # type: ignore[arg-type]


def test_each_answer_is_that_of_the_fact_asked_alone() -> None:
    host = LocalHost()
    still = (system.uname, system.release, system.fstab, system.tools, storage.swaps,
             storage.partitions, network.nameservers, software.cron)  # fmt: skip
    together = ask_together(host, still, 60)
    for one in still:
        assert judged(one, together[one.name]) == ask(host, one, 60)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("printf 'no line end'", (0, b"no line end", b"")),
        ("echo said; echo why >&2; exit 3", (3, b"said\n", b"why\n")),
        ("cat", (0, b"", b"")),
        ("printf 'a\\0b\\n\\n'", (0, b"a\0b\n\n", b"")),
        ("exec /nothing/there 2>/dev/null", (127, b"", b"")),
    ],
)
def test_output_errors_and_code_stay_apart(script: str, expected: tuple[int, bytes, bytes]) -> None:
    facts = (fact("before", "echo before"), fact("asked", script), fact("after", "echo after"))
    told = ask_together(LocalHost(), facts, 60)
    asked = told["asked"]
    assert (asked.code, asked.stdout, asked.stderr) == expected
    assert (told["before"].stdout, told["after"].stdout) == (b"before\n", b"after\n")


def test_one_that_hangs_leaves_them_all_to_be_asked_alone() -> None:
    facts = (fact("quick", "echo quick"), fact("hangs", "exec sleep 30"))
    assert ask_together(LocalHost(), facts, 0.5) == {}


class Counting(LocalHost):
    """How many commands it took."""

    runs = 0

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        self.runs += 1
        return super().run(argv, stdin=stdin, timeout=timeout)


class NoWeb:
    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 0) -> Fetched:
        raise AssertionError(url)


def test_discovery_needs_a_handful_of_commands(tmp_path: Path) -> None:
    host = Counting()
    found = discover(host, "127.0.0.1", web=NoWeb(), clock=SystemClock(), folder=tmp_path)
    assert host.runs < 10 < len(FACTS)
    assert found.hostname
    assert abs(found.clock_skew or 0) < 5
    assert found.taken < datetime.now(UTC)
