"""Final names are given to whole files only, and one run holds the lock."""

import multiprocessing
from pathlib import Path

import pytest

from core.errors import Locked
from core.state import lock, publish


def test_a_published_file_replaces_the_old_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    publish(tmp_path / "a" / "b.json", "old")
    publish(tmp_path / "a" / "b.json", b"new", mode=0o600)
    assert (tmp_path / "a" / "b.json").read_bytes() == b"new"
    assert (tmp_path / "a" / "b.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_a_failed_publication_keeps_what_was_there(tmp_path: Path) -> None:
    publish(tmp_path / "b", "old")
    with pytest.raises(TypeError):
        publish(tmp_path / "b", 3)  # type: ignore[arg-type]
    assert (tmp_path / "b").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def _hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with lock(path, "x"):
        held.set()
        multiprocessing.Event().wait(60)


def test_a_second_run_is_told_who_holds_the_lock_and_a_killed_one_leaves_none(
    tmp_path: Path,
) -> None:
    held = multiprocessing.Event()
    holder = multiprocessing.Process(target=_hold, args=(tmp_path / "lock", held))
    holder.start()
    assert held.wait(10)
    with pytest.raises(Locked, match=str(holder.pid)), lock(tmp_path / "lock", "the state"):
        pass
    holder.kill()
    holder.join()
    with lock(tmp_path / "lock", "the state"):
        pass
