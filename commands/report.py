"""`groundlift report`: one HTML page of the whole run, for the customer and for the record."""

import json
from pathlib import Path

import click

from acceptance.gather import gather
from acceptance.report import LANGUAGES, counts, render
from core.errors import UsageProblem
from core.state import State, publish


@click.command()
@click.option("--lang", type=click.Choice(LANGUAGES), help="One language only. Default: all.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; needs --lang. Default: reports/ of the state directory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print where it lies and what it counts.")
@click.pass_obj
def report(state: State, lang: str | None, output: Path | None, as_json: bool) -> None:
    """Render mirror, site and servers with all findings as one self-contained HTML page."""
    if output and not lang:
        raise UsageProblem("--output needs --lang", hint="say --lang en or --lang zh_CN")
    run = gather(state)
    if run.until is None:
        raise UsageProblem(
            f"nothing is done yet in {state.root}", hint="run a stage first, or say --state DIR"
        )
    written = []
    for language in [lang] if lang else LANGUAGES:
        path = output or state.reports / f"report.{language}.html"
        text = render(run, language)
        if not path.exists() or path.read_text() != text:
            publish(path, text)
        written.append(path)
    if as_json:
        click.echo(json.dumps({"reports": [str(path) for path in written], **counts(run.findings)}))
        return
    for path in written:
        click.echo(path)
