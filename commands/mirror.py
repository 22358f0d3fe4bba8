"""`groundlift mirror`: build, serve, status, stop."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click

from commands.console import progress, show_findings
from core.errors import OutsideFailed, UsageProblem
from core.quantities import size
from core.rules import Finding
from core.state import State, publish
from isomirror import build as building
from isomirror.build import MediaBlocked
from isomirror.serve import Catalogue, Server

ISO = click.Path(dir_okay=False, path_type=Path)


@click.group()
def mirror() -> None:
    """Turn installation DVDs into one verified repository, and serve it."""


@mirror.command()
@click.argument("images", nargs=-1, required=True, type=ISO)
@click.option("--key", type=ISO, help="Public key file; default: the one on the disc.")
@click.option(
    "--fingerprint",
    default=building.CENTOS_6,
    show_default="CentOS 6",
    help="The key's 40 hexadecimal digits, or @FILE that holds them.",
)
@click.option("--dry-run", is_flag=True, help="Verify everything, publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def build(
    state: State,
    images: tuple[Path, ...],
    key: Path | None,
    fingerprint: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Verify the discs and every package on them, then publish. Extracts nothing."""
    pin = _fingerprint(fingerprint)
    try:
        with progress() as report:
            built = building.build(
                images, state.mirror, report, fingerprint=pin, key=key, dry_run=dry_run
            )
    except MediaBlocked as blocked:
        _findings(blocked.findings, as_json)
        raise
    if as_json:
        shown = {
            "changed": built.changed,
            "published": built.published and built.published.model_dump(mode="json"),
            "findings": [finding.model_dump(mode="json") for finding in built.findings],
        }
        click.echo(json.dumps(shown, indent=2))
        return
    show_findings(built.findings)
    if built.published is None:
        click.echo("the discs are good; nothing was published (--dry-run)")
        return
    word = "published" if built.changed else "nothing changed: published already"
    found = built.published
    click.echo(f"{word}: {found.packages} packages, {size(found.bytes)}, {found.url_path}")


@mirror.command()
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8077, show_default=True, help="Port to listen on.")
@click.option("--background", is_flag=True, help="Go on in the background; `mirror stop` ends it.")
@click.pass_obj
def serve(state: State, bind: str, port: int, background: bool) -> None:
    """Serve the published repository over HTTP, straight from the ISO files."""
    catalogue = Catalogue(state.mirror)
    catalogue.check()
    url = f"http://{bind}:{port}{catalogue.prefix}"
    running = serving(state)
    if running and background:
        if (
            _told(state).get("url") == url
            and _told(state).get("id") == catalogue.published.identity
        ):
            click.echo(f"already serving {url} (process {running})")
            return
        end(state, running)
    log = state.mirror / "access.log"
    server = Server((bind, port), catalogue, _logger(log))
    click.echo(f"serving {url}")
    if background and not _detach(log):
        return
    told = {"pid": os.getpid(), "url": url, "id": catalogue.published.identity}
    publish(_pid_file(state), json.dumps(told))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        _pid_file(state).unlink(missing_ok=True)


@mirror.command()
@click.pass_obj
def stop(state: State) -> None:
    """Stop the server that `mirror serve --background` started."""
    running = serving(state)
    if running is None:
        click.echo("nothing is served")
        return
    end(state, running)
    click.echo(f"stopped process {running}")


@mirror.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(state: State, as_json: bool) -> None:
    """Say what is published and verified, and whether it is served."""
    found = building.current(state.mirror)
    running = serving(state)
    url = _told(state).get("url") if running else None
    if as_json:
        published = found and found.model_dump(mode="json")
        click.echo(json.dumps({"published": published, "serving": url}, indent=2))
        return
    if found is None:
        click.echo("nothing is published")
        return
    click.echo(f"published  {found.when:%Y-%m-%d %H:%M} UTC, {found.url_path}")
    click.echo(
        f"packages   {found.packages}, {size(found.bytes)}, all signed by {found.fingerprint}"
    )
    for medium in found.media:
        word = "unchanged" if medium.unchanged() else "MISSING OR REPLACED"
        click.echo(f"disc       {medium.name}: {size(medium.size)}, {medium.volume}, {word}")
    click.echo(f"served     {url or 'no'}")
    show_findings(found.findings)


def _findings(findings: tuple[Finding, ...], as_json: bool) -> None:
    if as_json:
        shown = [finding.model_dump(mode="json") for finding in findings]
        click.echo(json.dumps({"changed": False, "published": None, "findings": shown}, indent=2))
    else:
        show_findings(findings)


def _fingerprint(text: str) -> str:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="ascii", errors="replace")
        except OSError as fault:
            raise UsageProblem(f"can't read {text[1:]}: {fault.strerror}") from fault
    digits = "".join(text.split()).upper()
    if len(digits) != 40 or set(digits) - set("0123456789ABCDEF"):
        raise UsageProblem(
            f"{text.strip()!r} is no fingerprint",
            hint="give all 40 hexadecimal digits: a short key id can be forged",
        )
    return digits


def _pid_file(state: State) -> Path:
    return state.mirror / "serve.json"


def _told(state: State) -> dict[str, str]:
    try:
        told = json.loads(_pid_file(state).read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def serving(state: State) -> int | None:
    """The server's process, if it lives and is ours."""
    number = str(_told(state).get("pid", ""))
    try:
        line = Path("/proc", number, "cmdline").read_bytes() if number.isdigit() else b""
    except OSError:
        return None
    return int(number) if b"\0mirror\0serve" in line else None


def end(state: State, number: int) -> None:
    """End the server and wait until it is gone."""
    os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while serving(state) == number:
        if time.monotonic() > deadline:
            raise OutsideFailed(f"the server (process {number}) does not stop")
        time.sleep(0.05)


def _logger(path: Path) -> Callable[[str], None]:
    file = path.open("a", buffering=1, encoding="utf-8")
    guard = threading.Lock()

    def log(line: str) -> None:
        with guard:
            file.write(line + "\n")

    return log


def _detach(log: Path) -> bool:
    """Go on in a process that no terminal ends; False in the one that was called."""
    sys.stdout.flush()
    if os.fork():
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number, target in ((0, null), (1, out), (2, out)):
        os.dup2(target, number)
    return True
