"""The report: whatever stages exist, in two languages, with nothing in it that a browser runs."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from acceptance.gather import Status, gather
from acceptance.report import LANGUAGES, render
from cli import groundlift
from core.state import State, publish, publish_model
from migrate.assess import Waivers, assess
from migrate.plan import draft, text
from tests.unit.rules.healthy import subject

DIGEST = "ab" * 32
NASTY = "<script>alert(1)</script><img src=http://evil/x>\"'{{ 7*7 }}"


class Page(HTMLParser):
    """What a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


def whole_run(root: Path) -> State:
    """A state directory as all stages leave it."""
    state = State(root)
    publish(
        state.mirror / "current" / "published.json",
        json.dumps(
            {"version": 1, "url_path": "/centos/6.3/os/x86_64/", "packages": 61, "bytes": 9000}
        ),
    )
    publish(
        state.deploy("lab") / "deployed.json",
        json.dumps(
            {"site": "lab", "nodes": [{"name": "hv1", "address": "10.77.0.21", "changed": 7}]}
        ),
    )
    folder = state.migrate("web1")
    case = subject(host={"clock_local": True, "firmware": "uefi"})
    publish_model(folder / "source.json", case.host)
    publish_model(folder / "report.json", assess(case, DIGEST, Waivers()))
    publish(folder / "plan.yml", text(draft(case, DIGEST)))
    publish(
        folder / "transfer.json", json.dumps({"bytes": 1536, "seconds": 75, "passes": [{"n": 1}]})
    )
    return state


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_report_is_one_page_that_loads_and_runs_nothing(language: str, tmp_path: Path) -> None:
    page = parsed(render(gather(whole_run(tmp_path)), language))
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert not [value for name, value in page.attributes if name in ("src", "href", "onload")]
    policy = dict(page.attributes)["content"]
    assert policy is not None


def test_every_stage_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    run = gather(whole_run(tmp_path))
    assert [(s.kind, s.name) for s in run.subjects] == [
        ("mirror", "mirror"),
        ("site", "lab"),
        ("server", "web1"),
    ]
    assert {stage.name: stage.status for stage in run.subjects[2].stages} == {
        "discover": Status.DONE,
        "assess": Status.BLOCKED,
        "plan": Status.DONE,
        "transfer": Status.DONE,
        "convert": Status.OPEN,
        "define": Status.OPEN,
        "verify": Status.OPEN,
        "cutover": Status.OPEN,
    }


def test_values_are_readable(tmp_path: Path) -> None:
    html = render(gather(whole_run(tmp_path)), "en")
    for text_ in ("/centos/6.3/os/x86_64/", "8.8 KiB", "1.5 KiB", "1 min 15 s", "10.77.0.21"):
        assert text_ in html


def test_findings_carry_their_remedy_in_the_readers_language(tmp_path: Path) -> None:
    run = gather(whole_run(tmp_path))
    assert "The server starts by UEFI" in render(run, "en")
    chinese = render(run, "zh_CN")
    assert "以 UEFI 启动" in chinese
    assert "暂不适合迁移" in chinese
    assert "The server starts by UEFI" not in chinese


def test_what_an_old_server_says_is_text_and_nothing_else(tmp_path: Path) -> None:
    state = whole_run(tmp_path)
    case = subject(
        host={
            "product": NASTY,
            "hostname": NASTY,
            "fixed_addresses": [{"path": f"/etc/{NASTY}", "text": NASTY}],
            "missing": {NASTY: NASTY},
        }
    )
    publish_model(state.migrate("web1") / "source.json", case.host)
    publish_model(state.migrate("web1") / "report.json", assess(case, DIGEST, Waivers()))
    publish(
        state.migrate("web1") / "verify.json", json.dumps({NASTY: NASTY, "rows": [{NASTY: NASTY}]})
    )
    page = parsed(render(gather(state), "en"))
    assert not page.tags & {"script", "img"}
    assert any("{{ 7*7 }}" in words for words in page.words)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff",
        b"[]",
        b"3",
        b'{"findings": 3}',
        b'{"findings": [{}, 1, null]}',
        b"{" * 100_000,
    ],
)
def test_a_spoilt_document_is_shown_as_one(content: bytes, tmp_path: Path) -> None:
    state = whole_run(tmp_path)
    for name in ("source.json", "report.json", "plan.yml", "transfer.json"):
        (state.migrate("web1") / name).write_bytes(content)
    for language in LANGUAGES:
        parsed(render(gather(state), language))


def test_the_command_writes_both_languages_and_says_where(tmp_path: Path) -> None:
    whole_run(tmp_path)
    done = CliRunner().invoke(groundlift, ["--state", str(tmp_path), "report"])
    assert done.exit_code == 0
    assert [Path(line).name for line in done.output.split()] == [
        "report.en.html",
        "report.zh_CN.html",
    ]


def test_a_second_report_of_the_same_run_changes_nothing(tmp_path: Path) -> None:
    whole_run(tmp_path)
    arguments = ["--state", str(tmp_path), "report", "--lang", "en"]
    CliRunner().invoke(groundlift, arguments)
    before = (tmp_path / "reports" / "report.en.html").stat().st_mtime_ns
    CliRunner().invoke(groundlift, arguments)
    assert (tmp_path / "reports" / "report.en.html").stat().st_mtime_ns == before


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(groundlift, ["--state", str(tmp_path), "report"])
    assert "nothing is done yet" in str(done.exception)
