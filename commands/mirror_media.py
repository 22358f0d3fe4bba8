"""`groundlift mirror add` and `remove`: add-on media beside the discs."""

from pathlib import Path

import click

from commands.mirror_result import FILE, dry_and_json, pinned, publishing, show_built
from core.state import State
from isomirror import extend


@click.command()
@click.argument("medium", type=click.Path(path_type=Path))
@click.option("--name", help="What it is called in the repository; default: from the file's name.")
@click.option("--key", type=FILE, help="Public key file; default: the discs' or the medium's own.")
@click.option(
    "--fingerprint",
    help="Of the key: 40 hexadecimal digits, or @FILE that holds them; default: the discs' key.",
)
@click.option("--sums", type=FILE, help="The publisher's sha256sum.txt (sha1sum.txt, md5sum.txt).")
@dry_and_json
@click.pass_obj
def add(
    state: State,
    medium: Path,
    name: str | None,
    key: Path | None,
    fingerprint: str | None,
    sums: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Verify an ISO, a tar or a directory of RPMs and publish it with the discs. Copies nothing."""
    pin = pinned(fingerprint) if fingerprint else None
    given = extend.Given(medium, name, key, pin, sums)
    with publishing(as_json) as report:
        built = extend.add(given, state.mirror, report, dry_run=dry_run)
    show_built(built, as_json, dry="the medium is good")


@click.command()
@click.argument("name")
@dry_and_json
@click.pass_obj
def remove(state: State, name: str, dry_run: bool, as_json: bool) -> None:
    """Publish without the add-on medium NAME. Its files are not touched."""
    with publishing(as_json) as report:
        built = extend.remove(name, state.mirror, report, dry_run=dry_run)
    show_built(built, as_json, dry=f"{name} can be removed")
