"""kill -9 while a medium is added or removed, and of an export: all of it or what was before."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from core.progress import silent
from isomirror.export import MARK, SUMS, export
from isomirror.extend import Given, add, remove
from isomirror.release import current
from isomirror.served import Catalogue
from tests.unit.isomirror.conftest import Key
from tests.unit.isomirror.victim import die_before

KILLS = 8


def standing(mirror: Path) -> tuple[str, ...]:
    """The add-on media that are published, with everything that belongs to them."""
    catalogue = Catalogue(mirror)
    catalogue.check()
    published = catalogue.published
    names = tuple(addon.name for addon in published.addons)
    assert published.packages == 4 + 2 * len(names)
    rpms = [path for path in catalogue.files if path.endswith(".rpm")]
    assert len(rpms) == published.packages
    for key in published.keys:
        assert catalogue.prefix + key in catalogue.files
    return names


def test_adding_and_removing_killed_before_each_effect_leaves_what_was_or_what_is_wanted(
    tmp_path: Path, publish: Callable[..., Path], extras: Path, stranger: Key
) -> None:
    mirror = publish(tmp_path / "m")
    given = Given(extras, "more", stranger.public, stranger.fingerprint)
    for work, before, after in (
        (lambda: add(given, mirror, silent), (), ("more",)),
        (lambda: remove("more", mirror, silent), ("more",), ()),
    ):
        seen = set()
        for effect in range(1, 200):
            died = die_before(effect, mirror, work)
            seen.add(standing(mirror))
            if not died or standing(mirror) == after:
                break
        assert seen == {before, after}
        work() if standing(mirror) == before else None
        assert standing(mirror) == after


def sums_are_right(target: Path) -> bool:
    return (
        subprocess.run(("sha256sum", "--quiet", "--check", SUMS), cwd=target).returncode == 0
        and (target / MARK).read_text().split()[1] == "complete"
    )


def test_an_export_killed_before_each_effect_goes_on_and_never_calls_itself_complete(
    tmp_path: Path, publish: Callable[..., Path]
) -> None:
    mirror, target = publish(tmp_path / "m"), tmp_path / "disk"
    kept = []
    for effect in range(1, 400, 3):
        if not die_before(effect, target, lambda: export(mirror, target, silent)):
            break
        mark = target / MARK
        assert not mark.exists() or mark.read_text().split()[1] == "incomplete"
        kept.append(len(list(target.rglob("*.rpm"))))
    assert kept[0] == 0
    assert max(kept) == 4
    assert sums_are_right(target)
    assert not list(target.rglob(".*.part"))
    again = export(mirror, target, silent)
    assert (again.written, again.kept) == (0, again.files)


def test_an_export_killed_at_any_moment_is_completed_by_the_next(
    tmp_path: Path, publish: Callable[..., Path]
) -> None:
    mirror = publish(tmp_path / "m")
    begun = time.monotonic()
    export(mirror, tmp_path / "probe", silent)
    usual = time.monotonic() - begun
    dice, killed = random.Random(20120709), 0
    for turn in range(10 * KILLS):
        target = tmp_path / f"disk{turn}"
        child = os.fork()
        if child == 0:
            try:
                export(mirror, target, silent)
            finally:
                os._exit(0)
        time.sleep(dice.uniform(0, usual))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        export(mirror, target, silent)
        assert sums_are_right(target)
        if killed >= KILLS:
            break
    assert killed >= KILLS
    assert current(mirror) is not None
