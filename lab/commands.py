"""`groundlift lab`: the small estate on this machine that everything is tried on."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import click

from commands.console import progress
from core.errors import UsageProblem
from core.progress import Report
from core.quantities import size
from core.state import State
from lab import claim, estate, media, nodes, source
from lab.estate import Estate, Node

PARTS = ("media", "nodes", "source")


@click.group()
def lab() -> None:
    """Two DVDs, bare nodes and an old server, for trying everything on this machine."""


@lab.command()
@click.option("--only", type=click.Choice(PARTS), help="Bring up one part alone.")
@click.option("--fresh", is_flag=True, help="Throw away what was done on the nodes and the server.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def up(state: State, only: str | None, fresh: bool, dry_run: bool) -> None:
    """Make and start what is missing. Call it again to continue."""
    here, wanted = estate.of(state), (only,) if only else PARTS
    if dry_run:
        click.echo("\n".join(_intentions(here, wanted, fresh)))
        return
    _needs_root()
    with progress() as report:
        bring_up(here, wanted, report, fresh=fresh)


def bring_up(here: Estate, parts: tuple[str, ...], report: Report, *, fresh: bool = False) -> None:
    """The wanted parts; nodes and server at the same time, as each waits a lot."""
    if parts != ("media",):
        claim.take(here)
    if "media" in parts or "nodes" in parts:
        media.build(here, report)
    machines: list[Callable[[], object]] = []
    if "nodes" in parts:
        machines.append(lambda: _nodes(here, report, fresh))
    if "source" in parts:
        machines.append(lambda: source.up(here, report, fresh=fresh))
    if machines:
        with ThreadPoolExecutor(len(machines)) as pool:
            for request in [pool.submit(machine) for machine in machines]:
                request.result()


def _nodes(here: Estate, report: Report, fresh: bool) -> None:
    if fresh:
        nodes.forget(here)
    nodes.up(here, report)


def _intentions(here: Estate, parts: tuple[str, ...], fresh: bool) -> list[str]:
    said = []
    if "media" in parts:
        said.append("media: nothing to do" if media.built(here) else "media: would build two discs")
    if "nodes" in parts:
        said += [
            f"{one.name}: " + ("nothing to do" if one.answers and not fresh else "would start")
            for one in nodes.status(here)
        ]
    if "source" in parts:
        idle = source.status(here).answers and not fresh
        said.append("source: " + ("nothing to do" if idle else "would start"))
    return said


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_obj
def status(state: State, as_json: bool) -> None:
    """What of the lab is there, and what answers."""
    here = estate.of(state)
    discs = [
        {"disc": disc.name, "bytes": disc.stat().st_size if disc.exists() else None}
        for disc in here.discs
    ]
    machines = [asdict(one) for one in nodes.status(here)]
    server = asdict(source.status(here))
    if as_json:
        answer = {
            "directory": str(here.directory),
            "media": {"built": media.built(here), "discs": discs},
            "nodes": machines,
            "source": server,
        }
        click.echo(json.dumps(answer, indent=2))
        return
    for disc in discs:
        held = disc["bytes"]
        click.echo(f"{disc['disc']:36} {size(held) if isinstance(held, int) else 'missing'}")
    for machine in (*machines, server):
        click.echo(f"{machine['name']:8} {machine['address']:14} {_word(machine)}")


def _word(machine: dict[str, object]) -> str:
    if machine["pid"] is None:
        return "off" if machine.get("made", machine.get("built")) else "not made yet"
    return f"{'answers' if machine['answers'] else 'does not answer'} (process {machine['pid']})"


@lab.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def down(state: State, dry_run: bool) -> None:
    """Switch everything off and take the network away. What was installed stays."""
    here = estate.of(state)
    if dry_run:
        running = [one.name for one in nodes.status(here) if one.pid]
        server = source.status(here)
        running += [server.name] if server.pid else []
        click.echo(f"would switch off: {', '.join(running) or 'nothing'}")
        return
    _needs_root()
    if not claim.ours(here):
        click.echo("nothing of this lab runs: the machine belongs to another one", err=True)
        return
    source.down(here)
    nodes.down(here)
    claim.drop(here)


@lab.command()
@click.argument("name")
@click.pass_obj
def create(state: State, name: str) -> None:
    """Make and start one spare node, NAME (mol1 to mol4)."""
    _needs_root()
    here, node = estate.of(state), _spare(name)
    with progress() as report:
        claim.take(here)
        media.build(here, report)
        nodes.up(here, report, [node])


@lab.command()
@click.argument("name")
@click.pass_obj
def destroy(state: State, name: str) -> None:
    """Remove the spare node NAME with all that is on it."""
    _needs_root()
    nodes.destroy(estate.of(state), [_spare(name)])


def _spare(name: str) -> Node:
    for node in estate.SPARE:
        if node.name == name:
            return node
    known = ", ".join(node.name for node in estate.SPARE)
    raise UsageProblem(f"{name} is no spare node of the lab", hint=f"spare nodes are {known}")


def _needs_root() -> None:
    if os.geteuid() != 0:
        raise UsageProblem(
            "the lab makes bridges, mounts and containers, which only root may",
            hint="run it with sudo",
        )
