"""The command `groundlift`: hand argv to a verb, and turn a Problem into a sentence and a code."""

import importlib
import os
import sys
from pathlib import Path

import click

from core.errors import BadDocument, Interrupted, OutsideFailed, Problem

# Verb → its module, and what it does: --help and completion import none of them.
VERBS = {
    "mirror": ("commands.mirror", "Turn installation DVDs into one verified repository; serve it."),
    "provision": ("commands.provision", "Install bare machines over the network."),
    "deploy": ("commands.deploy", "Check a site's description and install its cloud."),
    "migrate": ("commands.migrate", "Move an old physical server into the cloud."),
    "report": ("commands.report", "Show a whole run as one page."),
    "doctor": ("commands.doctor", "Say what this machine lacks, and what that costs."),
    "lab": ("lab.commands", "The small estate that everything is tried on."),
    "demo": ("commands.demo", "Two DVDs to a server running in an installed cloud, on the lab."),
}


class Lazy(click.Group):
    """Verbs are imported when they are called."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # nobody reads any more: no fault, and click would call it one
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise click.exceptions.Exit(141) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in VERBS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="groundlift")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GROUNDLIFT_STATE",
    default=Path(".state"),
    show_default=True,
    help="Where results and progress are kept.",
)
@click.pass_context
def groundlift(ctx: click.Context, state: Path) -> None:
    """Two DVDs and old servers in; an accepted private cloud with those servers in it out."""
    from core.state import State

    ctx.obj = State(state.absolute())


def show(problem: Problem) -> None:
    """One problem on stderr: sentence, places, remedy."""
    click.secho(f"error: {problem}", fg="red", err=True)
    if isinstance(problem, BadDocument):
        for error in problem.errors:
            click.echo(f"  {error}", err=True)
    if problem.hint:
        click.echo(f"  → {problem.hint}", err=True)


def outside(fault: OSError) -> Problem:
    """What the kernel refused, as a problem."""
    return OutsideFailed(
        fault.strerror or str(fault), where=str(fault.filename or ""),
        hint="look at that place, its rights and its space, and run again",
    )  # fmt: skip


def main() -> None:
    """Entry point; the one place that catches everything."""
    debug = bool(os.environ.get("GROUNDLIFT_DEBUG"))
    try:
        code = groundlift.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except Problem as problem:
        show(problem)
        sys.exit(problem.exit_code)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        show(Interrupted("stopped", hint="run the same command again to continue"))
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as fault:  # a disk or a right that no stage expected to fail
        if debug:
            raise
        show(outside(fault))
        sys.exit(OutsideFailed.exit_code)
    except Exception as fault:
        if debug:
            raise
        click.secho(
            f"error: a fault in Groundlift: {type(fault).__name__}: {fault}", fg="red", err=True
        )
        click.echo(
            "  → set GROUNDLIFT_DEBUG=1 and run again to see where; please report it", err=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
