"""`groundlift demo`: the whole way on the lab, each stage called as an engineer would call it."""

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import click

from core.errors import OutsideFailed, Problem
from core.quantities import duration
from core.state import State

SITE = Path("inventories/lab/cloud.yml")
SERVER = "web1"
BOOT = 300.0  # seconds; an emulated server on a busy machine


@dataclass(frozen=True, slots=True)
class Stage:
    """One verb with its arguments, and what it does in words."""

    title: str
    arguments: tuple[str, ...]


def stages(state: State, site: Path) -> tuple[Stage, ...]:
    """The main job, in order. Each stage skips what an earlier run finished."""
    media = state.root / "lab" / "media"
    discs = tuple(str(media / f"CentOS-6.3-x86_64-bin-DVD{disc}.iso") for disc in (1, 2))
    fingerprint = ("--fingerprint", f"@{media / 'fingerprint'}")
    return (
        Stage("Lab: two DVDs", ("lab", "up", "--only", "media")),
        Stage(
            "Mirror: verify the DVDs, publish one repository",
            ("mirror", "build", *discs, *fingerprint),
        ),
        Stage("Lab: bare nodes and an old server", ("lab", "up")),
        Stage(
            "Mirror: serve it",
            ("mirror", "serve", "--background", "--bind", "10.77.0.1", "--port", "8077"),
        ),
        Stage("Deploy: check the site", ("deploy", "check", str(site))),
        Stage("Deploy: install the cloud", ("deploy", "run", str(site))),
        Stage("Migrate: move the old server", ("migrate", "run", SERVER, "--consent", SERVER)),
        Stage("Report", ("report",)),
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say which stages would be called.")
@click.pass_obj
def demo(state: State, dry_run: bool) -> None:
    """Two DVDs to a server running in an installed cloud, on the lab of this machine."""
    start, before = time.monotonic(), results(state)
    steps = stages(state, SITE)
    for number, stage in enumerate(steps, 1):
        click.secho(f"[{number}/{len(steps)}] {stage.title}", bold=True, err=True)
        click.echo(f"      groundlift {' '.join(stage.arguments)}", err=True)
        if not dry_run:
            call(state, stage)
    if not dry_run:
        click.echo(summary(state, unchanged=before == results(state)))
        click.echo(f"  time           {duration(time.monotonic() - start)}")


def call(state: State, stage: Stage) -> None:
    """Run one verb in a process of its own, as on a terminal, and pass its failure on."""
    environment = {**os.environ, "GROUNDLIFT_STATE": str(state.root)}
    start = time.monotonic()
    done = subprocess.run(
        (sys.executable, "-m", "cli", *stage.arguments), env=environment, check=False
    )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        problem = Problem(
            f"the stage “{stage.title}” ended with code {done.returncode}",
            hint="the lines above say why; the same command continues from here",
        )
        problem.exit_code = done.returncode
        raise problem
    click.echo(f"      {duration(time.monotonic() - start)}", err=True)


def results(state: State) -> dict[str, str]:
    """The digest of every stage's verified result: two runs with equal results changed nothing."""
    found = (
        state.mirror / "current" / "published.json",
        *sorted(state.root.glob("deploy/*/*.json")),
        *sorted(state.root.glob("migrate/*/*.json")),
    )
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.exists()
    }


def page(url: str) -> str:
    """What a web address of the lab answers. A server whose host was just started still boots."""
    end = time.monotonic() + BOOT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (a lab address)
                return str(answer.read(4096).decode("utf-8", "replace"))
        except OSError as fault:
            if time.monotonic() > end:
                raise OutsideFailed(
                    f"{url} does not answer: {fault}",
                    hint="`groundlift lab status` shows what runs",
                ) from fault
        time.sleep(3)


def summary(state: State, *, unchanged: bool) -> str:
    """The end of the demo: where everything is, asked of the running things themselves."""
    rows = json.loads(page("http://10.77.0.50/rows"))
    published = json.loads((state.mirror / "current" / "published.json").read_text())
    lines = (
        (
            "repository",
            f"{published['url_path']} on http://10.77.0.1:8077, {published['packages']} packages",
        ),
        ("nodes", "mgmt1 10.77.0.11, hv1 10.77.0.21, hv2 10.77.0.22"),
        ("migrated", f"{SERVER}: http://10.77.0.50/ is served from the cloud, {rows['rows']} rows"),
        ("reports", str(state.reports)),
    )
    text = "\n".join(f"  {name:14} {value}" for name, value in lines)
    return "nothing changed: everything was in place\n" + text if unchanged else text
