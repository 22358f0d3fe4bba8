"""The inventory: the golden files, and what writing does to files that are there."""

import os
from pathlib import Path

import pytest
import yaml

from deploy.inventory import HEADER, files, write
from tests.unit.deploy.sites import site

EXPECTED = Path("tests/golden/inventory/expected")


def test_the_inventory_is_the_golden_one() -> None:
    texts = files(site())
    if os.environ.get("GROUNDLIFT_GOLDEN") == "write":
        for name, text in texts.items():
            (EXPECTED / name).parent.mkdir(parents=True, exist_ok=True)
            (EXPECTED / name).write_text(text)
    kept = sorted(path for path in EXPECTED.rglob("*.yml"))
    assert texts == {str(path.relative_to(EXPECTED)): path.read_text() for path in kept}


def test_the_labs_inventory_in_the_repository_is_what_its_cloud_yml_makes() -> None:
    from core.documents import load
    from deploy.site import Site

    folder = Path("inventories/lab")
    for name, text in files(load(folder / "cloud.yml", Site)).items():
        assert (folder / name).read_text() == text, name


def test_a_second_writing_touches_nothing(tmp_path: Path) -> None:
    assert len(write(site(), tmp_path)) == 5
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.yml")}
    assert write(site(), tmp_path) == ()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.yml")} == before


def test_only_the_file_that_differs_is_written(tmp_path: Path) -> None:
    write(site(), tmp_path)
    changed = write(site(lambda data: data["nodes"][1].pop("vars")), tmp_path)
    assert changed == (tmp_path / "host_vars/second.yml",)


def test_files_of_nodes_that_are_gone_go_and_those_of_a_person_stay(tmp_path: Path) -> None:
    write(site(), tmp_path)
    mine = tmp_path / "host_vars" / "mine.yml"
    mine.write_text("written: by hand\n")
    write(site(lambda data: data["nodes"].pop()), tmp_path)
    assert sorted(path.name for path in (tmp_path / "host_vars").iterdir()) == [
        "both.yml",
        "mine.yml",
        "second.yml",
    ]


@pytest.mark.parametrize("name", sorted(files(site())))
def test_every_file_says_that_it_is_generated_and_is_yaml(name: str) -> None:
    text = files(site())[name]
    assert text.startswith(HEADER)
    assert isinstance(yaml.safe_load(text), dict)
