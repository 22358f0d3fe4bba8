"""`--full` runs so many seeds that 200 kills and cuts are well exceeded, `--seeds N` as many as
wished; without either a handful, so that the whole suite stays quick."""

import pytest

SEEDS = 20  # up to 240 kills and 80 cuts, 80 flipped bits, 100 troubles of sources and pools


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long fault suite")
    parser.addoption("--seeds", type=int, default=0, help="so many seeds of the fault suite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        count = metafunc.config.getoption("--seeds", default=0) or (SEEDS if full else 3)
        metafunc.parametrize("seed", range(count))
