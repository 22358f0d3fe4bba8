"""Every rule fires on one server and is silent about another; unknown never passes."""

from datetime import date
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from acceptance.report import LANGUAGES, words
from core.documents import parse
from core.errors import UsageProblem
from core.rules import Answer, Rule, Severity
from migrate.assess import Accepted, Verdict, Waivers, assess, waive, waivers_text
from migrate.rules.catalogue import RULES, page
from migrate.rules.subject import Subject
from tests.unit.rules.healthy import HOST, subject

CASES = yaml.safe_load((Path(__file__).parent / "cases.yml").read_text())
BY_ID = {rule.id: rule for rule in RULES}
DIGEST = "0" * 64


def answers(rule: Rule[Subject], given: Subject) -> set[Answer]:
    outcome = rule.judge(given)
    outcomes = [outcome] if not hasattr(outcome, "__iter__") else list(outcome)
    return {found.answer for found in outcomes}


def report(given: Subject, book: Waivers | None = None):
    return assess(given, DIGEST, book or Waivers())


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert set(CASES) == set(BY_ID)
    assert len(BY_ID) == len(RULES) >= 25


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_fires_where_it_should(name: str) -> None:
    assert Answer.FAIL in answers(BY_ID[name], subject(**CASES[name]["fires"]))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_rule_is_silent_where_it_should_be(name: str) -> None:
    assert answers(BY_ID[name], subject(**CASES[name]["silent"])) == {Answer.PASS}


def test_a_healthy_server_is_feasible() -> None:
    found = report(subject())
    assert [f.rule for f in found.findings if f.answer is not Answer.PASS] == []
    assert found.verdict is Verdict.FEASIBLE


def test_a_server_of_which_nothing_is_known_passes_no_blocker_that_asks_facts() -> None:
    from migrate.discover import FACTS

    nothing = {"missing": {fact.name: "not asked" for fact in FACTS}}
    found = report(subject(host=nothing))
    passed = {f.rule for f in found.findings if f.answer is Answer.PASS}
    assert passed <= {"app.no_page", "app.page_fails", "access.ssh_weak"}
    assert found.verdict is Verdict.UNDECIDED


def test_a_hypervisor_that_is_away_leaves_the_matter_open() -> None:
    away = {"missing": dict.fromkeys(("arch", "cpu", "memory", "pool_free"), "no route")}
    found = report(subject(target=away))
    unknown = {f.rule for f in found.findings if f.answer is Answer.UNKNOWN}
    assert unknown == {"cpu.count_over_host", "memory.over_host", "storage.pool_room"}
    assert found.verdict is Verdict.UNDECIDED


def test_a_failed_blocker_decides_and_a_warning_is_a_condition() -> None:
    assert report(subject(host={"firmware": "uefi"})).verdict is Verdict.NOT_FEASIBLE
    assert report(subject(host={"clock_local": True})).verdict is Verdict.CONDITIONAL


def test_an_accepted_blocker_no_longer_blocks_but_stays_a_condition() -> None:
    book = waive(Waivers(), ["firmware.uefi"], "Wang Li", "boots by CSM", date(2026, 1, 2))
    found = report(subject(host={"firmware": "uefi"}), book)
    (finding,) = (f for f in found.findings if f.rule == "firmware.uefi")
    assert finding.waiver is not None
    assert (finding.waiver.person, finding.blocks) == ("Wang Li", False)
    assert found.verdict is Verdict.CONDITIONAL


def test_a_waiver_of_no_rule_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"no rule firmware\.efi"):
        waive(Waivers(), ["firmware.efi"], "Wang Li", "typing", date(2026, 1, 2))


@pytest.mark.parametrize("text", ["", "x", "a\nb", "\x1b[31m", "x" * 401])
def test_a_waiver_needs_a_name_and_a_reason_of_one_line(text: str) -> None:
    with pytest.raises(ValidationError):
        waive(Waivers(), ["firmware.uefi"], text, "reason", date(2026, 1, 2))


@pytest.mark.parametrize("reason", ["a: b #c", "- x", "'\"{[*&", "中文 理由", "yes"])
def test_the_book_of_waivers_reads_back_as_written(reason: str) -> None:
    book = waive(Waivers(), ["firmware.uefi"], "王丽", reason, date(2026, 1, 2))
    assert parse(waivers_text(book).encode(), Waivers, "waivers.yml") == book


def test_a_second_waiver_of_a_rule_replaces_the_first() -> None:
    book = waive(Waivers(), ["firmware.uefi"], "Wang Li", "first", date(2026, 1, 2))
    book = waive(book, ["firmware.uefi"], "Li Na", "second", date(2026, 1, 3))
    expected = Accepted(rule="firmware.uefi", person="Li Na", reason="second", day=date(2026, 1, 3))
    assert book.waivers == (expected,)


def test_the_same_facts_give_the_same_report() -> None:
    assert report(subject()).model_dump_json() == report(subject()).model_dump_json()


def test_two_servers_with_one_mac_or_address_collide() -> None:
    other = HOST.model_copy(update={"name": "db1", "address": "10.77.0.51", "hostname": "db1"})
    found = report(subject(others=(other,)))
    (finding,) = (f for f in found.findings if f.rule == "network.duplicate_identity")
    assert finding.evidence == "MAC 00:1b:78:31:0a:50"
    assert finding.where == "server db1"


def test_a_thousand_findings_of_one_rule_are_told_shortly() -> None:
    many = [{"path": f"/etc/{n}.ini", "text": "10.1.1.1"} for n in range(1000)]
    found = report(subject(host={"fixed_addresses": many}))
    told = [f for f in found.findings if f.rule == "app.fixed_addresses"]
    assert len(told) == 21
    assert told[-1].evidence == "and 980 more"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_says_what_to_do_in_every_language(rule: Rule[Subject]) -> None:
    assert rule.remediation.endswith(".")
    assert not rule.title.endswith(".")
    chinese = words(LANGUAGES[1]).rules[rule.id]
    assert chinese.title
    assert chinese.remediation.endswith("。")


def test_a_rule_id_is_an_area_and_a_condition() -> None:
    assert all(rule.id.count(".") == 1 and rule.id.islower() for rule in RULES)
    assert {rule.severity for rule in RULES} == set(Severity)


def test_the_page_of_rules_is_current() -> None:
    assert Path("docs/rules.md").read_text() == page(), "python -m migrate.rules.catalogue"
