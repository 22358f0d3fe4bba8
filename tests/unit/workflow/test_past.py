"""Once the source is fenced its address and its disks are the domain's: no verb takes the one for
the other, whether or not the domain was compared with it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import cli
from commands import migrate_cutover, rest
from core.documents import load
from core.errors import Blocked, NoAnswer, PastReturn, UsageProblem
from core.progress import silent
from core.state import State, publish_model
from migrate import convert, quiesce
from migrate.convert import Share
from migrate.cutover import Fenced
from migrate.verify import UUID
from tests.fakes.host import HANGS, FakeHost, answer
from tests.unit.transfer import estate

ROOT = Path(__file__).parents[3]


def call(state: Path, *words: str) -> Result:
    site = str(ROOT / "inventories/lab/cloud.yml")
    return CliRunner().invoke(
        cli.groundlift, ("--state", str(state), "migrate", *words, "--site", site)
    )


@pytest.fixture
def fenced(tmp_path: Path) -> Path:
    folder = State(tmp_path).migrate("web1")
    folder.mkdir(parents=True)
    (folder / "fenced.json").write_text("{}")
    rest = quiesce.Quiesced(
        host="web1", boot="b", started=datetime.now(UTC), services=("app",), mountpoints=("/",)
    )
    publish_model(folder / "quiesce.json", rest)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("run", "web1"),
        ("run", "web1", "--rehearse", "--consent", "web1"),
        ("run", "web1", "--again", "--consent", "web1"),
        ("unquiesce", "web1"),
        ("discover", "web1", "--again"),
        ("warm", "web1"),
        ("transfer", "web1"),
        ("transfer", "web1", "--pass", "delta"),
        ("transfer", "web1", "--pass", "final", "--consent", "web1"),
    ],
)
def test_a_domain_is_not_taken_for_the_server_it_was(fenced: Path, words: Sequence[str]) -> None:
    refused = call(fenced, *words)
    assert isinstance(refused.exception, PastReturn)
    assert "The way back" in refused.exception.hint
    assert (fenced / "migrate/web1/quiesce.json").exists()


def test_a_server_at_rest_is_not_described_as_if_it_worked(fenced: Path) -> None:
    (fenced / "migrate/web1/fenced.json").unlink()
    refused = call(fenced, "discover", "web1", "--again")
    assert isinstance(refused.exception, UsageProblem)
    assert "is at rest" in refused.exception.message


def test_whoever_ends_while_a_server_is_at_rest_says_so(
    fenced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fenced / "migrate/web1"
    case = SimpleNamespace(source=SimpleNamespace(name="web1"), folder=folder)

    def failing() -> str:
        with pytest.raises(KeyboardInterrupt), rest.told(case):  # type: ignore[arg-type]
            raise KeyboardInterrupt
        return capsys.readouterr().err

    assert failing() == ""  # it is off, and its domain runs
    (folder / "fenced.json").unlink()
    assert "web1 is at rest" in failing()
    assert "migrate unquiesce web1" in failing()
    (folder / "quiesce.json").write_text("{")
    assert "can't be told" in failing()
    (folder / "quiesce.json").unlink()
    assert failing() == ""


def test_nothing_is_converted_into_the_disk_of_a_running_domain(tmp_path: Path) -> None:
    (tmp_path / "fenced.json").write_text("{}")
    plan = estate.plan(Path("/dev/null"), tmp_path, 512)
    share = Share("root@192.0.2.2", Path("/bin/false"), Path("/bin/false"))
    node = FakeHost()
    with pytest.raises(PastReturn, match="writes into its overlay"):
        convert.convert(
            plan, FakeHost(), node, share, tmp_path, silent, replica_sha256="0" * 64, kvm=False
        )


def test_every_disk_of_a_server_is_converted() -> None:
    plan = estate.plan(Path("/dev/null"), Path("/pool"), 512)
    plan = plan.model_copy(update={"disks": plan.disks * 7})
    overlays = tuple(Path(f"/st&ate/{number}.qcow2") for number in range(7))
    text = convert._source_xml(plan, overlays)
    assert [f"/st&amp;ate/{number}.qcow2" in text for number in range(7)] == [True] * 7
    assert "sdg" in text


def silence(seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """A cutover of a server that does not answer, and was told to switch off ``seconds`` after its
    rest began."""
    held = quiesce.Quiesced(
        host="old", boot="b", started=datetime(2026, 1, 2, tzinfo=UTC), services=(), mountpoints=()
    )
    publish_model(tmp_path / "quiesce.json", held)
    when = datetime.fromtimestamp(held.started.timestamp() + seconds, UTC)
    publish_model(tmp_path / "fencing.json", Fenced(host="old", consent="old", when=when))

    class Gone(FakeHost):
        def run(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise NoAnswer("no answer")

        read = run  # type: ignore[assignment]

    plan = estate.plan(Path("/dev/null"), tmp_path, 512)
    clock = SimpleNamespace(
        monotonic=lambda: 0.0, sleep=lambda _: None, now=lambda: datetime.now(UTC)
    )
    monkeypatch.setattr(migrate_cutover, "ready", lambda _: plan)
    monkeypatch.setattr(migrate_cutover, "SystemClock", lambda: clock)
    case = SimpleNamespace(folder=tmp_path, rescue=False, source_host=Gone)
    return lambda: migrate_cutover.fenced(case, "old", silent, off=False)  # type: ignore[arg-type]


def test_an_order_of_an_earlier_rest_does_not_make_silence_a_proof(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Blocked, match="never heard that it is to be off"):
        silence(-60, monkeypatch, tmp_path)()
    assert not (tmp_path / "fenced.json").exists()


def test_an_order_that_was_never_answered_leaves_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C while it hangs: the next run must not take silence for the answer."""
    run = silence(60, monkeypatch, tmp_path)
    (tmp_path / "fencing.json").unlink()

    def fence(
        _: object, __: object, standing: Callable[[], bool], *rest: object, **more: object
    ) -> None:
        assert standing()
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate_cutover.cutting, "fence", fence)
    monkeypatch.setattr(migrate_cutover.cutting, "still_source", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not (tmp_path / "fencing.json").exists()


def test_an_order_of_this_rest_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silence(60, monkeypatch, tmp_path)()
    assert load(tmp_path / "fenced.json", Fenced).host == "old"
    assert not (tmp_path / "fencing.json").exists()


@pytest.mark.parametrize(
    ("minutes", "shown", "runs", "starts"),
    [
        (1, "", False, True),  # just fenced: nobody asks
        (90, None, False, True),  # silent
        (90, "00000000-0000-0000-0000-000000000001\n", True, True),  # the domain itself
        (90, "11111111-2222-4333-8444-555555555555\n", False, False),
        (90, "11111111-2222-4333-8444-555555555555\n", True, False),
        (90, "Not Settable\n", False, False),
        (90, "locked", True, True),  # the domain lets nobody in: the comparison says so
        (90, "locked", False, False),
    ],
)
def test_a_domain_is_not_started_beside_a_server_that_was_switched_on_again(
    minutes: int,
    shown: str | None,
    runs: bool,
    starts: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    when = datetime.now(UTC) - timedelta(minutes=minutes)
    publish_model(tmp_path / "fenced.json", Fenced(host="old", consent="old", when=when))
    plan, started = estate.plan(Path("/dev/null"), tmp_path, 512), list[str]()
    host = FakeHost(answers={} if shown is None else {UUID: answer(shown)}, dead=shown is None)
    if shown == "locked":
        host.answers[UUID] = answer(code=HANGS)
    states = {"old": "running" if runs else "shut off"}
    case = SimpleNamespace(
        folder=tmp_path,
        own=lambda: SimpleNamespace(source_host=lambda: host),
        hypervisor=lambda _: SimpleNamespace(close=lambda: None, domains=lambda: states),
    )
    monkeypatch.setattr(migrate_cutover.planning, "read", lambda _: plan)
    monkeypatch.setattr(
        migrate_cutover.cutting, "switch_on", lambda plan, *_: started.append(plan.domain)
    )
    try:
        migrate_cutover.switched_on(case, silent)  # type: ignore[arg-type]
    except PastReturn as problem:
        assert (
            "something is under" if shown == "locked" else "switched on again"
        ) in problem.message
    assert started == ["old"] * starts
