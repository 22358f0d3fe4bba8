"""The systemd unit of `mirror serve`, for a controller that serves a site for weeks."""

import sys
from importlib.resources import files
from pathlib import Path

import click
from jinja2 import Environment, StrictUndefined

from core.errors import OutsideFailed, UsageProblem
from core.state import State, publish
from isomirror.served import Catalogue

UNIT = Path("/etc/systemd/system/groundlift-mirror.service")
ROOT = Path(__file__).resolve().parent.parent
LOW = 1024  # ports below are root's


def text(state: State, catalogue: Catalogue, bind: str, port: int) -> str:
    """The unit. It may write the mirror's own directory and read the images, nothing else."""
    mirror = state.mirror.absolute()
    places = {mirror, ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    places |= {Path(disc.path).parent for disc in catalogue.discs}
    if any(set(str(place)) & set(" \t\n\"'%\\$") for place in places):
        raise UsageProblem(
            "a path has a space or a sign that systemd reads in its own way",
            hint="keep the images, the state and Groundlift under plain names",
        )
    source = files("commands").joinpath("mirror.service.j2").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 (no page)
    return (
        template.from_string(source).render(
            python=sys.executable, root=ROOT, state=state.root.absolute(), mirror=mirror,
            bind=bind, port=port, low=port < LOW, read=sorted(map(str, places - {mirror})),
            prefix=catalogue.prefix,
        )
        + "\n"
    )  # fmt: skip


def install(unit: str, *, dry_run: bool) -> None:
    """Write it, or only show it."""
    if dry_run:
        click.echo(unit, nl=False)
        return
    try:
        publish(UNIT, unit)
    except OSError as fault:
        raise OutsideFailed(
            f"can't write the unit: {fault.strerror}", where=str(UNIT),
            hint="call it as root, or with --dry-run and put it there yourself",
        ) from fault  # fmt: skip
    click.echo(f"{UNIT} is written. `systemctl daemon-reload`, then")
    click.echo(f"`systemctl enable --now {UNIT.stem}`")
