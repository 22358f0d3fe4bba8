"""`groundlift mirror export` and `repo-file`: the repository for others to serve and to use."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from commands.background import running
from commands.console import progress
from core.errors import UsageProblem
from core.quantities import size
from core.state import State
from isomirror import export as exporting
from isomirror.release import current
from isomirror.repofile import address, repo_file


@click.command()
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--url", help="Where DIR will be reached, for the .repo file; default: file://DIR.")
@click.option("--dry-run", is_flag=True, help="Look at the space and the names, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def export(state: State, target: Path, url: str | None, dry_run: bool, as_json: bool) -> None:
    """Write the repository as plain files to DIR, for nginx or a USB disk, and verify each."""
    base = address(url) if url is not None else ""
    with progress() as report:
        found = exporting.export(state.mirror, target, report, url=base, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"dry_run": dry_run}, indent=2))
        return
    whole = f"{found.files} files, {size(found.bytes)}"
    if dry_run:
        click.echo(
            f"{whole}: {found.written} to write, {found.kept} to compare; {size(found.free)} free; "
            "nothing was written (--dry-run)"
        )
        return
    click.echo(
        f"exported to {found.target}: {whole}; {found.written} written, {found.kept} kept, "
        f"{found.removed} removed; every file read back and right"
    )


@click.command("repo-file")
@click.option("--url", help="Address of the repository; default: where it is served now.")
@click.pass_obj
def repository_file(state: State, url: str | None) -> None:
    """Print the .repo file for yum: signatures demanded, every medium's key named."""
    published = current(state.mirror)
    if published is None:
        raise UsageProblem("nothing is published", hint="run `groundlift mirror build` first")
    served = running(state.mirror / "serve.json")
    everywhere = served is not None and served.url.startswith("http://0.0.0.0:")
    if url is None and (served is None or everywhere):
        why = "it is served on every address of this machine" if everywhere else "it is not served"
        raise UsageProblem(
            f"the repository's address is not known: {why}",
            hint=f"give it: --url http://HOST:PORT{published.url_path}",
        )
    base = address(url if url is not None else served.url if served else "")
    click.echo(repo_file(base.rstrip("/") + "/", published.keys), nl=False)
