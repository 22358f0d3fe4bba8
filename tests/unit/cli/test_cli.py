"""The root command: problems become a sentence, a remedy and the documented code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cli
from core.errors import BadDocument, Blocked, Interrupted, Locked, OutsideFailed, UsageProblem

ROOT = Path(cli.__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "cli", *arguments), capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (UsageProblem("x"), 2),
        (Blocked("x"), 3),
        (OutsideFailed("x"), 4),
        (Locked("x"), 5),
        (Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
        (OSError(28, "No space left on device", "/x"), 4),
        (PermissionError(13, "Permission denied", "/x"), 4),
        (OSError(28, "No space left on device", "/s/x"), 4),
        (PermissionError(13, "Permission denied"), 4),
    ],
)
def test_every_end_has_its_code_and_never_a_traceback(
    problem: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def fails() -> None:
        raise problem

    monkeypatch.setattr(cli.groundlift, "main", fails.main)
    monkeypatch.setattr(sys, "argv", ["groundlift"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == code
    assert told.lstrip().startswith("error: ")
    assert "Traceback" not in told


def test_a_bad_document_shows_every_fault_and_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.show(BadDocument("2 faults", errors=("a:1:1: x", "a:2:1: y"), hint="correct them"))
    told = capsys.readouterr().err
    assert told == "error: 2 faults\n  a:1:1: x\n  a:2:1: y\n  → correct them\n"


def test_an_unknown_verb_is_a_usage_error() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_a_reader_that_goes_away_is_no_fault() -> None:
    gone, end = os.pipe()
    os.close(gone)
    words = (sys.executable, "-m", "cli", "migrate", "transfer", "--help")
    done = subprocess.run(words, cwd=ROOT, stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_number_that_is_none_is_refused() -> None:
    for option in ("--rate", "--slowdown"):
        done = run("migrate", "transfer", "web1", option, "nan")
        assert (done.returncode, "a number is needed" in done.stderr) == (2, True)


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    found: list[tuple[str, ...]] = []
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        found += verbs(below, (*path, name))
    return found


def test_every_verb_explains_itself() -> None:
    for path in verbs(cli.groundlift):
        command: click.Command = cli.groundlift
        for name in path:
            assert isinstance(command, click.Group)
            below = command.get_command(click.Context(command), name)
            assert below is not None
            command = below
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


# These say what a machine or a program needs, or hold a thing that is named on the line.
PLAIN = {"mirror repo-file", "lab create", "lab destroy"}
REPORTS = {
    *("mirror status", "mirror closure", "provision check", "provision status", "deploy check"),
    *("deploy status", "migrate prove", "report", "doctor", "lab status"),
}


def test_verbs_that_report_speak_json_and_all_others_can_be_tried_dry() -> None:
    for path in verbs(cli.groundlift):
        command: click.Command = cli.groundlift
        for name in path:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), name) or command
        options = {word for one in command.params for word in one.opts}
        wanted = "--json" if " ".join(path) in REPORTS else "--dry-run"
        assert wanted in options or " ".join(path) in PLAIN, path


def test_a_shell_can_ask_how_a_command_goes_on() -> None:
    told = subprocess.run(
        (sys.executable, "-c", "import sys, cli; sys.argv = ['groundlift']; cli.main()"),
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "_GROUNDLIFT_COMPLETE": "bash_complete", "COMP_CWORD": "2",
             "COMP_WORDS": "groundlift migrate t"},
    )  # fmt: skip
    assert told.stdout.split() == ["plain,transfer"]


def test_the_doctor_speaks_json() -> None:
    findings = json.loads(run("doctor", "--json").stdout)
    assert {"machine.python_version", "machine.kvm_usable"} <= {item["rule"] for item in findings}
    assert all(item["remediation"] for item in findings if item["answer"] != "pass")


def test_help_does_not_import_the_heavy_libraries() -> None:
    script = (
        "import sys, cli; cli.groundlift.main(['--help'], standalone_mode=False);"
        "print(sorted({'dbos', 'libvirt', 'createrepo_c', 'paramiko'} & set(sys.modules)))"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
