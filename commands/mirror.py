"""`groundlift mirror`: build, serve, status, stop; add and remove, closure, export."""

import json
import re
import signal
import threading
from pathlib import Path

import click

from commands import mirror_closure, mirror_export, mirror_media, mirror_unit
from commands.access_log import AccessLog
from commands.background import Serving, announce, detach, end, running
from commands.console import show_findings
from commands.mirror_result import (
    FILE,
    checksums,
    dry_and_json,
    isos,
    pinned,
    publishing,
    show_built,
)
from core.errors import UsageProblem
from core.quantities import size
from core.state import State
from isomirror import build as building
from isomirror.release import Published, current
from isomirror.serve import Server
from isomirror.served import Catalogue
from isomirror.sums import beside

SERVING = "serve.json"
HOST = re.compile(r"[A-Za-z0-9](\.?[A-Za-z0-9-]){0,252}")


@click.group()
def mirror() -> None:
    """Turn installation DVDs and more media into one verified repository, and serve it."""


mirror.add_command(mirror_media.add)
mirror.add_command(mirror_media.remove)
mirror.add_command(mirror_closure.closure)
mirror.add_command(mirror_export.export)
mirror.add_command(mirror_export.repository_file)


@mirror.command()
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ISO|DIR..."
)
@click.option("--key", type=FILE, help="Public key file; default: the one on the disc.")
@click.option(
    "--fingerprint",
    default=building.CENTOS_6,
    show_default="CentOS 6",
    help="The key's 40 hexadecimal digits, or @FILE that holds them.",
)
@click.option(
    "--sums",
    type=FILE,
    multiple=True,
    help="The publisher's sha256sum.txt of the discs, or its .asc; repeatable. Default: the one "
    "that lies beside the images and names all of them.",
)
@click.option("--no-sums", is_flag=True, help="Leave a checksum file beside the images alone.")
@dry_and_json
@click.pass_obj
def build(
    state: State,
    images: tuple[Path, ...],
    key: Path | None,
    fingerprint: str,
    sums: tuple[Path, ...],
    no_sums: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Verify the discs and every package on them, then publish. Extracts nothing. The order of the
    images does not matter; of a directory its *.iso files are taken."""
    pin = pinned(fingerprint)
    images = tuple(image for given in images for image in isos(given))
    found = None if sums or no_sums else beside(images)
    if found:
        click.echo(f"the discs are held to {found}", err=True)
    listed = checksums(*sums, *([found] if found else []))
    with publishing(as_json) as report:
        built = building.build(
            images, state.mirror, report, fingerprint=pin, key=key, sums=listed, dry_run=dry_run
        )
    show_built(built, as_json, dry="the discs are good")


@mirror.command()
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8077, show_default=True, type=click.IntRange(1, 65535), help="Its port."
)
@click.option("--background", is_flag=True, help="Go on in the background; `mirror stop` ends it.")
@click.option("--pid-file", type=FILE, help="Where the server is noted; default: <state>/mirror.")
@click.option("--install-unit", is_flag=True, help="Write a systemd unit that serves so; as root.")
@click.option("--dry-run", is_flag=True, help="With --install-unit: only show the unit.")
@click.pass_obj
def serve(
    state: State,
    bind: str,
    port: int,
    background: bool,
    pid_file: Path | None,
    install_unit: bool,
    dry_run: bool,
) -> None:
    """Serve the published repository over HTTP, straight from the ISO files."""
    if not HOST.fullmatch(bind):
        raise UsageProblem(
            f"{bind[:80]!r} is no address to listen on",
            hint="give this machine's IPv4 address in the nodes' network, or 0.0.0.0 for all",
        )
    catalogue = Catalogue(state.mirror)
    catalogue.check()
    if install_unit or dry_run:
        unit = mirror_unit.text(state, catalogue, bind, port)
        mirror_unit.install(unit, dry_run=dry_run)
        return
    identity = catalogue.published.identity
    url = f"http://{bind}:{port}{catalogue.prefix}"
    note = (pid_file or state.mirror / SERVING).absolute()
    served = running(note)
    if served and background:
        if (served.url, served.identity) == (url, identity):
            click.echo(f"already serving {url} (process {served.pid})")
            return
        end(served, note)  # it serves something else: another address, or a former release
        served = None
    log = state.mirror / "access.log"
    server = Server((bind, port), catalogue, AccessLog(log))
    click.echo(f"serving {url}")
    if background and not detach(log, note):
        return
    if served is None:  # a second server in the foreground leaves the first one's note alone
        announce(note, url, identity)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
    try:
        server.serve_forever(poll_interval=0.2)
        server.stop()  # waits for answers under way
    finally:
        server.server_close()
        if served is None:
            note.unlink(missing_ok=True)


@mirror.command()
@click.option("--pid-file", type=FILE, help="Where the server is noted; default: <state>/mirror.")
@click.option("--dry-run", is_flag=True, help="Only say what would be stopped.")
@click.pass_obj
def stop(state: State, pid_file: Path | None, dry_run: bool) -> None:
    """Stop the server that `mirror serve` started."""
    note = pid_file or state.mirror / SERVING
    served = running(note)
    if served is None:
        click.echo("nothing is served")
        return
    if dry_run:
        click.echo(f"would stop process {served.pid}")
        return
    end(served, note)
    click.echo(f"stopped process {served.pid}")


@mirror.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def status(state: State, as_json: bool) -> None:
    """Say what is published and verified, and whether it is served."""
    found = current(state.mirror)
    served = running(state.mirror / SERVING)
    url = served.url if served else None
    if as_json:
        click.echo(json.dumps(_standing(found, served), indent=2))
        return
    if found is None:
        click.echo("nothing is published")
        return
    click.echo(f"published  {found.when:%Y-%m-%d %H:%M} UTC, {found.url_path}")
    click.echo(
        f"packages   {found.packages}, {size(found.bytes)}, discs signed by {found.fingerprint}"
    )
    for medium in found.media:
        word = "unchanged" if medium.unchanged() else "MISSING OR REPLACED"
        click.echo(f"disc       {medium.name}: {size(medium.size)}, {medium.volume}, {word}")
    for addon in found.addons:
        word = "unchanged" if addon.unchanged() else "MISSING OR REPLACED"
        click.echo(
            f"add-on     {addon.name}: {_count(addon.packages)}, {size(addon.size)}, {addon.kind} "
            f"{addon.path}, signed by {addon.fingerprint}, {word}"
        )
    former = served and served.identity != found.identity
    click.echo(f"served     {url or 'no'}{' (a former build: serve again)' if former else ''}")
    show_findings(found.findings)


def _standing(found: Published | None, served: Serving | None) -> dict[str, object]:
    return {
        "published": found and found.model_dump(mode="json"),
        "discs_unchanged": found and all(medium.unchanged() for medium in found.media),
        "addons_unchanged": found and all(addon.unchanged() for addon in found.addons),
        "serving": served and served.url,
        "serving_current": bool(served and found and served.identity == found.identity),
    }


def _count(packages: int) -> str:
    return f"{packages} package" + ("s" if packages != 1 else "")
