"""Running phases: what is done stays done, what changed runs again, what fails is told."""

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import Locked, OutsideFailed, UsageProblem
from core.ports import Fetched, PlayEvent
from core.progress import Event, Kind, silent
from core.state import lock
from deploy import check as checking
from deploy import run as running
from deploy.bundle import open_bundle
from deploy.run import Cloud, Options, PhaseFailed, SiteBlocked, Summary, World
from tests.fakes.playbooks import FakePlaybooks
from tests.unit.deploy.sites import Data, site

PHASES = ("precheck", "base", "network", "hypervisor", "storage", "management", "postcheck")
HOSTS = ("both", "second", "store")


@dataclass
class Pages:
    """The mirror's index, or an error."""

    answer: Fetched | OutsideFailed = field(
        default_factory=lambda: Fetched(200, b"<repomd xmlns=''/>")
    )

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 4096) -> Fetched:
        if isinstance(self.answer, OutsideFailed):
            raise self.answer
        return self.answer


class Clock:
    """A minute later at each look."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(minutes=1)
        return self.time

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@dataclass
class Bench:
    """A cloud in a directory of its own, with its fakes."""

    cloud: Cloud
    playbooks: FakePlaybooks
    pages: Pages
    clock: Clock

    def run(self, **options: object) -> Summary:
        self.playbooks.calls.clear()
        world = World(self.playbooks, self.pages, self.clock)
        return running.run(self.cloud, world, Options(**options), silent)  # type: ignore[arg-type]

    @property
    def ran(self) -> tuple[str, ...]:
        return tuple(call.playbook for call in self.playbooks.calls)

    def results(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.cloud.folder.glob("*.json"))}

    def answer(self, phase: str, *events: PlayEvent) -> None:
        self.playbooks.scripts = {**self.playbooks.scripts, phase: events}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "product"
    for name in ("roles", "playbooks", "bundles"):
        shutil.copytree(Path(name), root / name)
    content = open_bundle(root, "libvirt-el6")
    cloud = Cloud(site(), content, tmp_path / "inventory", tmp_path / "state")
    return Bench(cloud, FakePlaybooks(hosts=HOSTS), Pages(), Clock())


def changed(task: str) -> PlayEvent:
    return PlayEvent("changed", task=task, host="second")


def failed(task: str, host: str = "second") -> PlayEvent:
    return PlayEvent("failed", task=task, host=host, message="no such package")


def test_a_first_run_runs_every_phase_in_order_and_keeps_each_result(bench: Bench) -> None:
    bench.answer("base", changed("Install packages"))
    summary = bench.run()
    assert bench.ran == PHASES
    assert list(bench.results()) == [f"{at}-{name}.json" for at, name in enumerate(PHASES, 1)]
    assert [(ran.phase, ran.changed) for ran in summary.phases if ran.changed] == [("base", 1)]
    done = running.read(bench.cloud.folder / "2-base.json")
    assert done is not None
    assert [(change.host, change.task) for change in done.changes] == [
        ("second", "Install packages")
    ]
    assert done.hosts["second"]["changed"] == 1


def test_phases_get_the_inventory_of_the_site(bench: Bench) -> None:
    bench.run()
    assert all("192.0.2.12" in text for text in bench.playbooks.inventories)
    assert (bench.cloud.inventory / "host_vars/second.yml").exists()


def test_a_second_run_runs_nothing_and_writes_nothing(bench: Bench) -> None:
    bench.run()
    before = bench.results()
    summary = bench.run()
    assert bench.ran == ()
    assert all(ran.result is None for ran in summary.phases)
    assert bench.results() == before


def test_a_failed_phase_is_told_with_host_task_and_reason_and_ends_the_run(bench: Bench) -> None:
    bench.answer("network", failed("Describe the bridges"))
    with pytest.raises(PhaseFailed, match=r"network failed on second: Describe.*no such") as caught:
        bench.run()
    assert caught.value.exit_code == 4
    assert bench.ran == PHASES[:3]
    assert list(bench.results()) == ["1-precheck.json", "2-base.json"]


def test_the_run_after_a_failure_begins_at_the_phase_that_failed(bench: Bench) -> None:
    bench.answer("network", failed("Describe the bridges"))
    with pytest.raises(PhaseFailed):
        bench.run()
    bench.answer("network")
    bench.run()
    assert bench.ran == PHASES[2:]


def test_a_run_that_broke_off_leaves_no_result_of_the_phase_from_before(bench: Bench) -> None:
    bench.run()
    bench.answer("storage", failed("Define the pool"))
    with pytest.raises(PhaseFailed):
        bench.run(again=True)
    assert "5-storage.json" not in bench.results()
    assert "6-management.json" in bench.results()


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("roles/network/tasks/main.yml", "network"),
        ("roles/base/templates/iptables.j2", "base"),
        ("playbooks/storage.yml", "storage"),
        ("playbooks/tasks/migration.yml", "precheck"),
    ],
)
def test_a_changed_file_makes_its_phase_and_all_after_it_run(
    bench: Bench, file: str, first: str
) -> None:
    bench.run()
    edit(bench.cloud.content.root / file)
    bench.run()
    assert bench.ran == PHASES[PHASES.index(first) :]


def test_a_roles_readme_is_no_reason_to_run_it_again(bench: Bench) -> None:
    bench.run()
    edit(bench.cloud.content.root / "roles/network/README.md")
    bench.run()
    assert bench.ran == ()


def test_another_repository_is_a_reason_to_run_again(bench: Bench) -> None:
    bench.run()
    bench.pages.answer = Fetched(200, b"<repomd>other</repomd>")
    bench.run()
    assert bench.ran == PHASES


def test_a_changed_site_is_a_reason_and_a_new_source_is_none(bench: Bench) -> None:
    bench.run()
    bench.cloud = replace(bench.cloud, site=site(lambda data: data.pop("sources")))
    bench.run()
    assert bench.ran == ()
    bench.cloud = replace(bench.cloud, site=site(lambda data: data["vars"].clear()))
    bench.run()
    assert bench.ran == PHASES


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}', "\x00"])
def test_a_result_that_cannot_be_read_is_none(bench: Bench, content: str) -> None:
    bench.run()
    (bench.cloud.folder / "6-management.json").write_text(content)
    bench.run()
    assert bench.ran == PHASES[5:]


def test_again_without_changes_leaves_every_result_as_it_was(bench: Bench) -> None:
    bench.answer("base", changed("Install packages"))
    bench.run()
    before = bench.results()
    bench.answer("base")
    bench.run(again=True)
    assert bench.ran == PHASES
    assert bench.results() == before


def test_again_with_a_change_tells_the_new_one(bench: Bench) -> None:
    bench.run()
    bench.answer("base", changed("Write kernel settings"))
    bench.run(again=True)
    done = running.read(bench.cloud.folder / "2-base.json")
    assert done is not None and done.changes[0].task == "Write kernel settings"


def test_from_and_only_choose_phases(bench: Bench) -> None:
    bench.run(begin="storage")
    assert bench.ran == PHASES[4:]
    bench.run(only="base")
    assert bench.ran == ("base",)


def test_an_unknown_phase_is_refused_with_the_names_there_are(bench: Bench) -> None:
    with pytest.raises(UsageProblem) as caught:
        bench.run(only="bass")
    assert "precheck, base" in caught.value.hint
    with pytest.raises(UsageProblem):
        bench.run(only="base", begin="base")


def test_check_runs_every_phase_in_check_mode_and_keeps_nothing(bench: Bench) -> None:
    summary = bench.run(check=True)
    assert bench.ran == PHASES
    assert all(call.check for call in bench.playbooks.calls)
    assert bench.results() == {}
    assert not bench.cloud.inventory.exists()
    assert sum(ran.changed for ran in summary.phases) == 0


def test_check_proves_nothing_while_changes_are_to_come(bench: Bench) -> None:
    bench.answer("base", changed("Install packages"))
    summary = bench.run(check=True)
    assert bench.ran == PHASES[:-1]
    assert [(ran.phase, ran.changed) for ran in summary.phases if ran.changed] == [("base", 1)]


def test_a_site_that_breaks_rules_is_not_touched(bench: Bench) -> None:
    def break_it(data: Data) -> None:
        data["nodes"][1]["address"] = "192.0.2.11"

    bench.cloud = replace(bench.cloud, site=site(break_it))
    with pytest.raises(SiteBlocked) as caught:
        bench.run()
    assert caught.value.exit_code == 3
    assert bench.ran == ()
    assert not bench.cloud.inventory.exists()


@pytest.mark.parametrize(
    "answer",
    [OutsideFailed("refused"), Fetched(503, b"<repomd/>"), Fetched(200, b"<html>It works</html>")],
)
def test_a_mirror_that_gives_no_index_ends_the_run_before_any_node(
    bench: Bench, answer: Fetched | OutsideFailed
) -> None:
    bench.pages.answer = answer
    with pytest.raises(OutsideFailed) as caught:
        bench.run()
    assert "mirror serve" in caught.value.hint
    assert bench.ran == ()


def test_two_runs_of_one_site_exclude_each_other(bench: Bench) -> None:
    with lock(bench.cloud.folder / "lock", "another run"), pytest.raises(Locked):
        bench.run()


def test_progress_counts_tasks_and_tells_what_changed_and_failed(bench: Bench) -> None:
    seen: list[Event] = []
    bench.answer("base", changed("Install packages"), failed("Set the time zone"))
    world = World(bench.playbooks, bench.pages, bench.clock)
    with pytest.raises(PhaseFailed):
        running.run(bench.cloud, world, Options(), seen.append)
    notes = [event.text for event in seen if event.kind is Kind.NOTE]
    assert notes == [
        "second: changed: Install packages",
        "second: Set the time zone: no such package",
    ]
    assert [event for event in seen if event.task == "base"][-1].total == 2


def asked(bench: Bench) -> dict[str, list[tuple[str, str]]]:
    world = World(bench.playbooks, bench.pages, bench.clock)
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in checking.check(bench.cloud, world, silent):
        if not finding.rule.startswith("site."):
            found.setdefault(finding.rule, []).append((finding.where, finding.answer.value))
    return found


def test_check_asks_mirror_and_every_node_and_changes_nothing(bench: Bench) -> None:
    assert asked(bench) == {
        "mirror.reachable": [("", "pass")],
        "closure.proven": [("", "unknown")],  # these pages hold no package list
        "node.reachable": [(host, "pass") for host in HOSTS],
        "node.ready": [(host, "pass") for host in HOSTS],
    }
    assert [(call.playbook, call.check) for call in bench.playbooks.calls] == [("precheck", True)]
    assert not bench.cloud.inventory.exists()


def test_check_tells_unreachable_unfit_and_missing_apart(bench: Bench) -> None:
    bench.answer(
        "precheck",
        failed("There is memory", host="both"),
        PlayEvent("unreachable", task="Gathering Facts", host="store", message="no route"),
    )
    bench.pages.answer = OutsideFailed("refused")
    assert asked(bench) == {
        "mirror.reachable": [("http://192.0.2.5:8077/centos/6.3/os/x86_64/", "fail")],
        "closure.proven": [("", "unknown")],
        "node.reachable": [("both", "pass"), ("second", "pass"), ("store", "fail")],
        "node.ready": [("both", "fail"), ("second", "pass"), ("store", "unknown")],
    }


def test_check_of_a_site_that_breaks_rules_asks_no_node(bench: Bench) -> None:
    bench.cloud = replace(bench.cloud, site=site(lambda data: data["nodes"].pop(0)))
    assert asked(bench)["node.reachable"] == [("", "unknown")]
    assert bench.ran == ()
