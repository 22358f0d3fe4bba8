"""YAML documents: every fault at once, each with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.documents import LIMIT, Document, parse
from core.errors import BadDocument


class Node(Document):
    name: str
    port: int = 22


class Site(Document):
    title: str
    nodes: tuple[Node, ...] = ()


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(BadDocument) as caught:
        parse(text.encode(), Site, "site.yml")
    assert caught.value.exit_code == 2
    return caught.value.errors


def test_a_good_document_becomes_frozen_data() -> None:
    site = parse(b"title: a\nnodes: [{name: n1, port: 23}]\n", Site, "site.yml")
    assert site == Site(title="a", nodes=(Node(name="n1", port=23),))


def test_all_faults_are_told_at_once_with_their_lines() -> None:
    told = faults("title: 3\nnodes:\n  - name: n1\n    port: x\n  - prot: 1\n    name: n2\n")
    assert [fault.split(": ")[:2] for fault in told] == [
        ["site.yml:1:8", "title"],
        ["site.yml:4:11", "nodes.0.port"],
        ["site.yml:5:11", "nodes.1.prot"],
    ]


def test_a_missing_field_is_placed_at_its_mapping() -> None:
    assert faults("title: a\nnodes:\n  - port: 1\n")[0].startswith("site.yml:3:5: nodes.0.name:")


def test_a_key_written_twice_is_a_fault() -> None:
    assert faults("title: a\ntitle: b\n") == ("site.yml:2:1: title: the key is written twice",)


def test_an_alias_is_refused_so_that_no_small_file_becomes_a_huge_one() -> None:
    bomb = "title: &a [x, x]\nnodes: [*a, *a]\n"
    assert any("alias" in fault for fault in faults(bomb))


def test_a_syntax_error_has_line_and_column() -> None:
    assert faults("title: [a\nnodes: b\n")[0].startswith("site.yml:2:")


@pytest.mark.parametrize("text", ["", "- a\n", "3\n", "{a: b", "\x00", "? [a]\n: b\n"])
def test_what_is_no_site_is_a_bad_document(text: str) -> None:
    assert faults(text)


def test_python_objects_are_never_made() -> None:
    assert faults("title: !!python/object/apply:os.system ['true']\n")


def test_a_file_too_long_to_be_a_document_is_refused() -> None:
    with pytest.raises(BadDocument, match="too long"):
        parse(b" " * (LIMIT + 1), Site, "site.yml")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_a_document_or_a_problem(raw: bytes) -> None:
    try:
        assert isinstance(parse(raw, Site, "site.yml"), Site)
    except BadDocument as problem:
        assert problem.errors


@pytest.mark.parametrize("text", ["{" * 100_000, "[" * 100_000, "- " * 100_000, "? " * 100_000])
def test_a_file_of_brackets_is_a_fault_and_no_crash(text: str) -> None:
    assert faults(text)[0].startswith("site.yml:")
