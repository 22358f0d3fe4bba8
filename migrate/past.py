"""The point of no return, as files: once the source is fenced, what answers under its address is
the domain, and its replica is what the domain's disk stands on."""

from pathlib import Path

from core.errors import PastReturn

# fenced.json: the source is off. cutover.json: and the domain was compared with it.
MARKS = ("cutover.json", "fenced.json")


def returned_not(folder: Path) -> Path | None:
    """The file that says that there is no way back by itself; None before that."""
    return next((folder / name for name in MARKS if (folder / name).exists()), None)


def refuse(host: str, folder: Path, text: str) -> None:
    """Raises PastReturn, which says ``text``, once the source is fenced."""
    mark = returned_not(folder)
    if mark is not None:
        raise PastReturn(
            f"{host} was cut over: {text}",
            hint="what was proved of it is kept. If it went back to its old machine, do first what "
            'docs/migrate-run.md says under "The way back"',
            where=str(mark),
        )
