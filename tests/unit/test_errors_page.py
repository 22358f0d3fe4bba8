"""docs/errors.md is written from the classes, and this keeps it true.

`python -m tests.unit.test_errors_page` writes it anew.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import core.errors
from core.errors import Problem

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
PACKAGES = ("core", "adapters", "isomirror", "deploy", "migrate", "acceptance")
HEAD = """# Errors

Generated from the code. Every error is a sentence with the place and a remedy; the exit code says
what kind it is. 1 is a fault in Groundlift itself, 130 means that you stopped it.

| exit code | error | meaning |
|---|---|---|
"""


def problems() -> list[type[Problem]]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            if ".agent" not in module.name and ".callback" not in module.name:
                importlib.import_module(module.name)
    found, queue = [], [core.errors.Problem]
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        if kind is not Problem and kind.__module__.split(".")[0] in PACKAGES:
            found.append(kind)
    return sorted(set(found), key=lambda kind: (kind.exit_code, kind.__name__))


def page() -> str:
    rows = [
        f"| {kind.exit_code} | {kind.__name__} | {' '.join((inspect.getdoc(kind) or '').split())} |"
        for kind in problems()
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_the_errors_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.unit.test_errors_page"


def test_every_error_says_what_it_means() -> None:
    assert all(inspect.getdoc(kind) for kind in problems())


if __name__ == "__main__":
    PAGE.write_text(page())
