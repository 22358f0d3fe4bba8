"""The house rules a machine can check."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("core", "adapters", "isomirror", "deploy", "migrate", "acceptance", "commands", "lab")


def tracked(pattern: str = "") -> list[Path]:
    """What git tracks or would track; the whole tree where there is no git."""
    listed = subprocess.run(
        ("git", "ls-files", "-co", "--exclude-standard"), cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name.endswith(pattern) and (ROOT / name).is_file()]


def modules() -> list[Path]:
    return [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in PRODUCT]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {path.name: path.read_text().count("\n") for path in tracked(".py")}
    assert {name: count for name, count in long.items() if count > 400} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 60
    ]
    assert long == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [path for path in modules() if path.stem in drawers] == []


def test_below_the_verbs_nothing_prints_or_exits() -> None:
    banned = re.compile(r"^\s*(print\(|sys\.exit\(|os\._exit\()")
    below = ("core", "isomirror", "deploy", "migrate", "acceptance")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        if path.relative_to(ROOT).parts[0] in below and "agent" not in path.parts
        for number, line in enumerate(path.read_text().split("\n"), 1)
        if banned.match(line)
    ]
    assert found == []


def test_nothing_binary_and_no_package_is_kept_here() -> None:
    wrong = (".iso", ".rpm", ".deb", ".qcow2", ".raw", ".img", ".whl", ".gz", ".xz")
    assert [path for path in tracked() if path.suffix in wrong] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_every_locked_dependency_has_hashes_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    wanted = re.findall(r"^[a-z][^\s=]*==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(wanted) > 0
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_the_readme_says_the_same_in_both_languages() -> None:
    def commands(name: str) -> list[str]:
        lines = (ROOT / name).read_text().split("\n")
        told = [line.split("#")[0].split() for line in lines]
        return [" ".join(words[:3]) for words in told if words[:1] in (["make"], ["groundlift"])]

    def quoted(name: str) -> list[str]:
        """All that is set as code in the prose, and all links."""
        prose = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.S)
        links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if "README" not in link]
        return [*re.findall(r"`([^`]+)`", prose), *links]

    def sections(name: str) -> int:
        return (ROOT / name).read_text().count("\n## ")

    english, chinese = "README.md", "README.zh_CN.md"
    assert commands(english)[:-1] == commands(chinese)[:-1]
    assert quoted(english) == quoted(chinese)
    assert sections(english) == sections(chinese)


def test_links_in_the_documents_lead_somewhere() -> None:
    dead = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked(".md")
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert dead == []
