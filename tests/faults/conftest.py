"""`--full` runs so many seeds that 200 kills and cuts are exceeded, which is counted;
`--seeds N` as many as wished; without either a handful, so that the whole suite stays quick."""

from collections import Counter
from collections.abc import Iterator

import pytest

SEEDS = 20
AIM = 200  # kills and cuts that really happened
COUNTS = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long fault suite")
    parser.addoption("--seeds", type=int, default=0, help="so many seeds of the fault suite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        count = metafunc.config.getoption("--seeds", default=0) or (SEEDS if full else 3)
        metafunc.parametrize("seed", range(count))


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How often each kind of fault happened."""
    counts = request.config.stash.setdefault(COUNTS, Counter())
    yield counts
    if request.config.getoption("--full"):
        assert counts["kills"] + counts["cuts"] >= AIM


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    counts = config.stash.get(COUNTS, Counter())
    if counts:
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        terminalreporter.write_line(f"faults that happened: {told}")
