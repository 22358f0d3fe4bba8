"""What the commands that publish have in common: their options and how their result looks."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from commands.console import progress, show_findings
from core.documents import read_bounded
from core.errors import UsageProblem
from core.progress import Report
from core.quantities import size
from core.rules import Finding
from isomirror import sums
from isomirror.build import Built, MediaBlocked

PIN = 64 * 1024  # bytes of a file with a fingerprint
FILE = click.Path(dir_okay=False, path_type=Path)


@contextmanager
def publishing(as_json: bool) -> Iterator[Report]:
    """Progress, and the findings that blocked before the error is told."""
    try:
        with progress() as report:
            yield report
    except MediaBlocked as blocked:
        _findings(blocked.findings, as_json)
        raise


def show_built(built: Built, as_json: bool, *, dry: str) -> None:
    """What was published, or that nothing was; ``dry`` is the sentence for --dry-run."""
    if as_json:
        shown = {
            "changed": built.changed,
            "published": built.published and built.published.model_dump(mode="json"),
            "findings": [finding.model_dump(mode="json") for finding in built.findings],
        }
        click.echo(json.dumps(shown, indent=2))
        return
    show_findings(built.findings)
    found = built.published
    if found is None:
        click.echo(f"{dry}; nothing was published (--dry-run)")
        return
    word = "published" if built.changed else "nothing changed: published already"
    click.echo(f"{word}: {found.packages} packages, {size(found.bytes)}, {found.url_path}")


def _findings(findings: tuple[Finding, ...], as_json: bool) -> None:
    if as_json:
        shown = [finding.model_dump(mode="json") for finding in findings]
        click.echo(json.dumps({"changed": False, "published": None, "findings": shown}, indent=2))
    else:
        show_findings(findings)


def pinned(text: str) -> str:
    """A fingerprint, given itself or as @FILE."""
    if text.startswith("@"):
        try:
            raw = read_bounded(Path(text[1:]), PIN)
        except OSError as fault:
            raise UsageProblem(
                f"can't read {text[1:]}: {fault.strerror}",
                hint="give the 40 hexadecimal digits, or @ and a file that holds nothing else",
            ) from fault
        text = raw.decode("ascii", "replace")
    digits = "".join(text.split()).upper()
    if len(digits) != 40 or set(digits) - set("0123456789ABCDEF"):
        raise UsageProblem(
            f"{text.strip()[:80]!r} is no fingerprint",
            hint="give all 40 hexadecimal digits: a short key id can be forged",
        )
    return digits


def checksums(*paths: Path) -> bytes:
    """The content of checksum files; empty when there are none. One without a sum is refused: what
    was meant to be compared must not pass as if nobody had asked."""
    found = []
    for path in paths:
        try:
            found.append(read_bounded(path, sums.LIMIT))
        except OSError as fault:
            raise UsageProblem(
                f"can't read {path}: {fault.strerror}", hint="give the publisher's sha256sum.txt"
            ) from fault
        sums.read_sums(found[-1], str(path))
    return b"\n".join(found)


def isos(given: Path) -> tuple[Path, ...]:
    """An image itself, or the images of a directory."""
    if not given.is_dir():
        return (given,)
    try:
        names = sorted(given.iterdir())
    except OSError as fault:
        raise UsageProblem(
            f"can't read {given}: {fault.strerror}", hint="name the ISO files"
        ) from fault
    found = tuple(p for p in names if p.suffix.lower() == ".iso" and p.is_file())
    if not found:
        raise UsageProblem(f"there is no .iso file in {given}", hint="name the ISO files")
    return found


def dry_and_json(command: Callable[..., None]) -> Callable[..., None]:
    """The two options of every command that publishes."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        command
    )
    return click.option("--dry-run", is_flag=True, help="Verify everything, publish nothing.")(
        command
    )
