"""cloud.yml: what a person writes, and what somebody hostile might."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.documents import LIMIT, parse
from core.errors import BadDocument
from deploy.site import Site
from tests.unit.deploy.sites import CLOUD, data, site

TEXT = CLOUD.read_text()


def faults(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(BadDocument) as caught:
        parse(text.encode() if isinstance(text, str) else text, Site, "cloud.yml")
    return caught.value.errors


def changed(path: str, value: object) -> str:
    """cloud.yml with one value replaced; the path has keys and indexes."""
    whole = data()
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = whole
    for part in parents:
        place = place[part]  # type: ignore[index]
    place[last] = value  # type: ignore[index]
    return yaml.safe_dump(whole)


def test_the_golden_site_is_read() -> None:
    assert [node.name for node in site().nodes] == ["both", "second", "store"]


def test_every_fault_is_told_at_once_at_its_line() -> None:
    broken = (
        TEXT.replace("192.0.2.12", "192.0.2.300")
        .replace("em1", "em1 up")
        .replace("site: harbour", "site: Harbour")
    )
    places = [fault.split(": ")[:2] for fault in faults(broken)]
    assert places == [
        ["cloud.yml:2:7", "site"],
        ["cloud.yml:9:85", "networks.0.device"],
        ["cloud.yml:13:29", "nodes.1.address"],
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nodes/0/name", "{{ lookup('pipe', 'id') }}"),
        ("nodes/0/name", "both\nansible_connection: local"),
        ("nodes/0/name", "../../etc"),
        ("site", "../x"),
        ("bundle", "../../other"),
        ("pools/0/path", "/data/../etc"),
        ("pools/0/path", "/data/a b"),
        ("pools/0/path", "/data/{{x}}"),
        ("pools/0/path", "data"),
        ("pools/0/path", "/"),
        ("mirror/url", "https://192.0.2.5/x/"),
        ("mirror/url", "http://192.0.2.5/x y/"),
        ("mirror/url", "file:///etc/"),
        ("ssh/user", "root -o ProxyCommand=id"),
        ("ssh/user", "-oProxyCommand=id"),
        ("ssh/key", "a\nb"),
        ("time/zone", "../../etc/passwd"),
        ("time/servers", ["a b"]),
        ("time/servers", ["x\nserver y"]),
        ("vars", {"ansible_connection": "local"}),
        ("vars", {"groundlift_release": "7"}),
        ("vars", {"base_x": "{{ lookup('pipe', 'id') }}"}),
        ("vars", {"base_x": "{% for %}"}),
        ("vars", {"base_x": "a\u202eb\x00"}),
        ("vars", {"base-x": 1}),
        ("vars", {"base_x": [1]}),
        ("nodes/1/vars", {"ansible_host": "192.0.2.99"}),
        ("nodes/0/roles", []),
        ("nodes/0/roles", ["hypervisors"]),
        ("nodes", []),
        ("networks/0/cidr", "192.0.2.1/24"),
        ("networks/0/bridge", "br0; reboot"),
        ("release", "6"),
        ("version", 2),
        ("sources/0/quiesce", ["httpd; reboot"]),
        ("sources/0/port", 70000),
        ("unknown", 1),
    ],
)
def test_what_would_be_misread_further_on_is_refused(path: str, value: object) -> None:
    told = faults(changed(path, value))
    assert told
    assert all(fault.startswith("cloud.yml:") for fault in told)


def test_a_list_whose_only_item_is_wrong_is_told_as_that_item_alone() -> None:
    (told,) = faults(changed("nodes/1/roles", ["hypervisors"]))
    assert "nodes.1.roles.0" in told


def test_a_long_wrong_value_is_shown_in_part() -> None:
    (told,) = faults(changed("site", "x" * 10_000))
    assert len(told) < 250
    assert told.endswith("…)")


def test_true_stays_true_and_a_number_a_number() -> None:
    vars_ = site(lambda it: it.update(vars={"base_firewall": False, "a": 3, "b": "c"})).vars
    assert {name: (type(value), value) for name, value in vars_.items()} == {
        "base_firewall": (bool, False),
        "a": (int, 3),
        "b": (str, "c"),
    }


def test_a_name_given_twice_as_key_is_refused() -> None:
    assert "written twice" in faults(TEXT + "site: other\n")[0]


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join(['*' + old] * 8)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert any("alias" in fault for fault in faults(bomb))


def test_a_huge_file_is_refused_unread() -> None:
    with pytest.raises(BadDocument, match="too long"):
        parse(b"#" * (LIMIT + 1), Site, "cloud.yml")


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe\x00", b"a: !!python/object/apply:os.system [id]\n", b"- a\n", b"", b"\x1b[2J"],
)
def test_what_is_no_site_at_all_is_a_bad_document(raw: bytes) -> None:
    with pytest.raises(BadDocument):
        parse(raw, Site, "cloud.yml")


LINES = st.lists(st.sampled_from(TEXT.splitlines(keepends=True)), max_size=40).map("".join)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["version", "site", "nodes", "name", "address", "vars", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def only_problems_or_a_site(raw: bytes) -> None:
    try:
        read = parse(raw, Site, "cloud.yml")
    except BadDocument as problem:
        assert str(problem)
    else:
        assert read.nodes


@settings(deadline=None)  # other programs share the processor
@given(st.binary(max_size=300))
def test_any_bytes_are_a_problem_or_a_site(raw: bytes) -> None:
    only_problems_or_a_site(raw)


@settings(deadline=None)  # other programs share the processor
@given(LINES)
def test_any_mixture_of_true_lines_is_a_problem_or_a_site(text: str) -> None:
    only_problems_or_a_site(text.encode())


@settings(deadline=None)  # other programs share the processor
@given(st.sampled_from(sorted(data())), TREES)
def test_any_value_in_any_place_is_a_problem_or_a_site(key: str, tree: object) -> None:
    only_problems_or_a_site(yaml.safe_dump({**data(), key: tree}).encode())


@settings(deadline=None)  # other programs share the processor
@given(st.integers(0, len(TEXT)), st.text(max_size=6))
def test_any_insertion_is_a_problem_or_a_site(at: int, text: str) -> None:
    only_problems_or_a_site((TEXT[:at] + text + TEXT[at:]).encode("utf-8", "surrogatepass"))
