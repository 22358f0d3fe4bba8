"""`groundlift mirror closure`: whether the repository holds all that something needs."""

from collections.abc import Callable
from pathlib import Path

import click

from commands.console import progress, show_findings
from core.errors import UsageProblem
from core.quantities import size
from core.rules import blockers
from core.state import State
from deploy.bundle import open_bundle
from isomirror import metadata, release
from isomirror.closure import NotClosed, Proof, prove
from isomirror.served import load_tree

ROOT = Path(__file__).resolve().parent.parent


@click.command()
@click.argument("roots", nargs=-1, metavar="[PACKAGE | @GROUP | /FILE]...")
@click.option("--bundle", "bundles", multiple=True, help="All that a bundle installs; repeatable.")
@click.option("--all", "everything", is_flag=True, help="List every package, not only the sums.")
@click.option("--json", "as_json", is_flag=True, help="Print the proof as JSON.")
@click.pass_obj
def closure(
    state: State, roots: tuple[str, ...], bundles: tuple[str, ...], everything: bool, as_json: bool
) -> None:
    """Prove that everything that is named can be installed on a minimal system from the published
    repository alone, and say from which medium. With nothing named: all bundles.

    Exit code 3 when anything is missing, or could not be proven."""
    found = release.opened(state.mirror)
    if found is None:
        raise UsageProblem("nothing is published", hint="`groundlift mirror build` first")
    folder, published = found
    if not roots and not bundles:
        bundles = tuple(sorted(path.parent.name for path in ROOT.glob("bundles/*/bundle.yml")))
    named = [*roots]
    for name in bundles:
        named += open_bundle(ROOT, name).bundle.roots
    with progress() as report:
        proof = prove(
            metadata.from_folder(folder), tuple(dict.fromkeys(named)), media(folder, published),
            report, published.arch,
        )  # fmt: skip
    if as_json:
        click.echo(proof.model_dump_json(indent=2))
    else:
        _show(proof, everything)
    if blockers(proof.findings):
        count = len(blockers(proof.findings))
        raise NotClosed(
            f"not proven: {count} finding{'s' if count > 1 else ''} of severity blocker",
            hint="`groundlift mirror add` publishes another medium beside the discs",
        )


def media(folder: Path, published: release.Published) -> Callable[[str], str]:
    """Tells the medium of a package's path, by the name `mirror status` calls it."""
    tree = load_tree(folder / "tree.json")
    names = {medium.path: medium.name for medium in published.media}

    def medium(path: str) -> str:
        if path.startswith("addons/"):
            return path.split("/")[1]
        found = tree.files.get(path)
        return names.get(tree.discs[found[0]].path, "?") if found else "?"

    return medium


def _show(proof: Proof, everything: bool) -> None:
    show_findings(proof.findings)
    if everything:
        for package in proof.packages:
            why = f"wanted by {package.wanted_by}" if package.wanted_by else "named"
            click.echo(f"{package.nevra:60} {package.medium}  {why}")
    if not proof.minimal:
        return
    click.echo(f"{len(proof.packages)} packages on top of the {proof.minimal} of a minimal install")
    for medium in sorted({package.medium for package in proof.packages}):
        own = [package for package in proof.packages if package.medium == medium]
        click.echo(f"  {len(own):5} from {medium}, {size(sum(p.bytes for p in own))}")
    if not blockers(proof.findings):
        click.echo("proven: nothing that they need is missing")
