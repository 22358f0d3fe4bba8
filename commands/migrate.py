"""`groundlift migrate`: one verb per stage. Each lives in a module of its own."""

import importlib
import importlib.util

import click

# Verb → module with a Click command of that name (``discover`` in commands.migrate_discover), in
# the order of the stages. A verb is listed once its module is there.
VERBS = {
    "pin": "commands.migrate_pin",
    "discover": "commands.migrate_discover",
    "assess": "commands.migrate_assess",
    "plan": "commands.migrate_plan",
    "transfer": "commands.migrate_transfer",
    "warm": "commands.migrate_warm",
    "prove": "commands.migrate_prove",
    "unquiesce": "commands.migrate_unquiesce",
    "convert": "commands.migrate_convert",
    "define": "commands.migrate_define",
    "verify": "commands.migrate_verify",
    "cutover": "commands.migrate_cutover",
    "run": "commands.migrate_run",
}


class Stages(click.Group):
    """Verbs in the order of the stages, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verb, module in VERBS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = VERBS.get(cmd_name)
        if module is None or importlib.util.find_spec(module) is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command


@click.group(cls=Stages)
def migrate() -> None:
    """Move an old physical server into the cloud, stage by stage or by `run` as a whole."""
