"""kill -9 of a build at any moment: nothing half-published, and the next run finishes."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from core.progress import silent
from isomirror.build import build
from isomirror.release import current
from isomirror.served import Catalogue
from tests.unit.isomirror.conftest import Discs, query
from tests.unit.isomirror.victim import die_before

KILLS = 12


def whole(mirror: Path) -> bool:
    """Either nothing is published, or all of it and readable."""
    if not (mirror / "current").exists():
        return current(mirror) is None
    catalogue = Catalogue(mirror)
    catalogue.check()
    metadata = [path for path in catalogue.files if "/repodata/" in path]
    return catalogue.published.packages == 4 and len(metadata) == 5


def test_a_build_killed_at_any_moment_publishes_all_or_nothing(
    tmp_path: Path, discs: Discs, serve: Callable[[Path], str]
) -> None:
    begun = time.monotonic()
    assert not build_and_die(tmp_path / "probe", discs, 0)
    usual = time.monotonic() - begun
    dice = random.Random(6302012)
    killed, mirror = 0, tmp_path / "m0"
    for turn in range(20 * KILLS):
        if current(mirror):  # else it goes on where the last one was killed
            mirror = tmp_path / f"m{turn}"
        child = os.fork()
        if child == 0:
            try:
                build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
            finally:
                os._exit(0)
        time.sleep(dice.uniform(0, usual))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert whole(mirror)
        if killed >= KILLS:
            break
    assert killed >= KILLS
    build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
    assert whole(mirror)
    assert not [path for path in (mirror / "releases").iterdir() if path.name[0] == "."]
    assert query(serve(mirror), tmp_path) == ["alpha", "beta", "delta", "gamma"]


def build_and_die(mirror: Path, discs: Discs, effect: int) -> bool:
    """Build in a process that kills itself right before its n-th effect on the mirror's files;
    False when it came to its end before that."""
    pin = discs.key.fingerprint
    return die_before(
        effect, mirror, lambda: build((discs.one, discs.two), mirror, silent, fingerprint=pin)
    )


def test_a_build_killed_before_each_of_its_effects_publishes_all_or_nothing(
    tmp_path: Path, discs: Discs
) -> None:
    killed = 0
    for effect in range(1, 200):
        mirror = tmp_path / f"m{effect}"
        mirror.mkdir()
        if not build_and_die(mirror, discs, effect):
            break
        killed += 1
        assert whole(mirror)
        built = build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
        assert built.published is not None
        assert whole(mirror)
        assert [p.name for p in (mirror / "releases").iterdir()] == [built.published.identity]
        assert not list((mirror / "checked").glob(".*"))
    assert killed >= 10


def test_a_rebuild_killed_before_each_of_its_effects_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, discs: Discs
) -> None:
    tree = shutil.copytree(discs.tree / "d2", tmp_path / "d2")
    (tree / "added").write_text("another disc 2\n")
    other = discs.make(tree, tmp_path / "other.iso")
    mirror = tmp_path / "m"
    before = build((discs.one, other), mirror, silent, fingerprint=discs.key.fingerprint)
    assert before.published is not None
    old, seen = before.published.identity, set()
    for effect in range(1, 200):
        died = build_and_die(mirror, discs, effect)
        assert whole(mirror)
        published = current(mirror)
        assert published is not None
        seen.add(published.identity == old)
        if not died or published.identity != old:
            break
    assert seen == {True, False}
    again = build((discs.one, discs.two), mirror, silent, fingerprint=discs.key.fingerprint)
    assert not again.changed


def test_what_a_killed_build_verified_is_not_read_again(tmp_path: Path, discs: Discs) -> None:
    mirror = tmp_path / "m"
    effect = 1
    while len(list((mirror / "checked").glob("*.json"))) < 1:
        shutil.rmtree(mirror, ignore_errors=True)
        mirror.mkdir()
        assert build_and_die(mirror, discs, effect)
        effect += 1
    tasks: list[str] = []
    build(
        (discs.one, discs.two),
        mirror,
        lambda event: tasks.append(event.task),
        fingerprint=discs.key.fingerprint,
    )
    assert {task for task in tasks if task.startswith("verify")} == {f"verify {discs.two.name}"}
