"""Groups of several media: united by id, every package once, nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isomirror.comps import BadGroups, unite


def comps(*groups: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<comps>{"".join(groups)}</comps>'.encode()


def group(name: str, shown: str, *entries: str) -> str:
    members = f"<packagelist>{''.join(entries)}</packagelist>"
    return f"<group><id>{name}</id><name>{shown}</name>{members}</group>"


def entry(name: str, kind: str, requires: str = "") -> str:
    more = f' requires="{requires}"' if requires else ""
    return f'<packagereq type="{kind}"{more}>{name}</packagereq>'


def test_groups_of_one_id_are_one_with_each_package_once_and_its_strongest_type() -> None:
    first = comps(
        group(
            "core", "Core", entry("a", "optional"), entry("b", "mandatory"), entry("a", "default")
        ),
        "<category><id>base</id><grouplist><groupid>core</groupid></grouplist></category>",
        '<langpacks><match install="x-%s" name="x"/><match install="y-%s" name="y"/></langpacks>',
    )
    second = comps(
        group("core", "Other", entry("b", "optional"), entry("c", "default")),
        group("extra", "Extra", entry("a", "mandatory")),
        "<category><id>base</id><grouplist><groupid>core</groupid><groupid>extra</groupid>"
        "</grouplist></category>",
    )
    text = unite([("DVD1", first), ("more", second)]).decode()
    core = group(
        "core", "Core", entry("a", "default"), entry("b", "mandatory"), entry("c", "default")
    )
    assert core in text
    assert group("extra", "Extra", entry("a", "mandatory")) in text
    assert "<grouplist><groupid>core</groupid><groupid>extra</groupid></grouplist>" in text
    assert text.count("<match ") == 2
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE comps ')


def test_an_entry_under_another_condition_is_another_entry() -> None:
    wanted = (entry("x-de", "conditional", "x"), entry("x-de", "conditional", "y"))
    text = unite([("DVD1", comps(group("german", "German", *wanted, wanted[0])))]).decode()
    assert group("german", "German", *wanted) in text


def test_names_in_other_languages_stay() -> None:
    raw = comps('<group><id>g</id><name>G</name><name xml:lang="zh_CN">组</name></group>')
    assert '<name xml:lang="zh_CN">组</name>' in unite([("DVD1", raw)]).decode()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no XML"),
        (b"<comps><group>", "no XML"),
        (b"<html/>", "starts with <html>"),
        (b'<!DOCTYPE comps [<!ENTITY a "aaaa">]><comps>&a;</comps>', "entities"),
        ("<comps/>".encode("utf-16"), "no UTF-8"),
        (b"<comps>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</comps>", "nested deeper"),
    ],
)
def test_what_is_no_comps_file_is_refused_with_its_medium(raw: bytes, words: str) -> None:
    with pytest.raises(BadGroups, match=words) as caught:
        unite([("DVD1", comps()), ("more", raw)])
    assert caught.value.where == "more"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["optional", "default"]))),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_uniting_loses_no_package_and_repeats_none(media: list[list[tuple[str, str]]]) -> None:
    files = [
        (f"m{number}", comps(group("g", "G", *(entry(*one) for one in entries))))
        for number, entries in enumerate(media)
    ]
    text = unite(files).decode()
    names = {name for entries in media for name, _ in entries}
    assert all(text.count(f">{name}</packagereq>") == 1 for name in names)
    assert text.count("<packagereq") == len(names)
    assert unite([("again", text.encode())]).decode() == text
