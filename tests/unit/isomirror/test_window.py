"""The window over a disc: every reader gets the file's bytes, in bounded memory, and nobody waits
for ever, however the places that are asked for lie."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from isomirror import window
from isomirror.window import BLOCKS, NOTHING, Passed, Stopped, Window

SMALL = 4096


@pytest.fixture
def disc(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "BLOCK", SMALL)
    path = tmp_path / "disc"
    path.write_bytes(random.Random(1).randbytes(100 * SMALL + 77))
    return path


def read(view, who, start, end):
    got = b""
    try:
        for piece in view.read(who, start, end, 1000):
            got += piece
    except Passed as passed:
        assert passed.at == start + len(got)
        return got, False
    finally:
        view.need(who, NOTHING)
    return got, True


def test_readers_side_by_side_get_the_files_bytes_in_bounded_memory(disc):
    raw = disc.read_bytes()
    view = Window(str(disc), len(raw))
    places = [(0, len(raw)), (5, 60 * SMALL), (17, len(raw) - 3), (0, 1)]
    for who, (start, _) in enumerate(places):
        view.need(who, start)
    with ThreadPoolExecutor() as threads:
        threads.submit(view.fill)
        asked = [threads.submit(read, view, who, *place) for who, place in enumerate(places)]
        for (start, end), answer in zip(places, asked, strict=True):
            assert answer.result(30) == (raw[start:end], True)
    assert view._made <= BLOCKS


def test_who_asks_for_what_has_passed_is_told_and_holds_nobody_up(disc):
    raw = disc.read_bytes()
    view = Window(str(disc), len(raw))
    with ThreadPoolExecutor() as threads:
        view.need("all", 0)  # before: else all may have passed when it is said
        threads.submit(view.fill)
        assert threads.submit(read, view, "all", 0, len(raw)).result(30) == (raw, True)
        assert threads.submit(read, view, "late", 10, 20).result(30) == (b"", False)


def test_a_file_that_ends_early_ends_the_reading_at_the_last_whole_block(disc):
    raw = disc.read_bytes()
    view = Window(str(disc), len(raw) + 5 * SMALL)
    view.need("all", 0)
    with ThreadPoolExecutor() as threads:
        threads.submit(view.fill)
        got, whole = threads.submit(read, view, "all", 0, view.end).result(30)
    assert not whole
    assert got == raw[: 100 * SMALL]
    assert "the image ends" in str(view.fault)


@pytest.mark.parametrize("seed", range(20))
def test_places_in_any_order_and_over_one_another_never_wait_for_one_another(disc, seed):
    raw = disc.read_bytes()
    chance = random.Random(seed)
    places = [sorted(chance.sample(range(len(raw)), 2)) for _ in range(40)]
    view = Window(str(disc), len(raw))
    with ThreadPoolExecutor(max_workers=4) as threads:
        threads.submit(view.fill)
        asked = [threads.submit(read, view, who, *place) for who, place in enumerate(places)]
        for (start, end), answer in zip(places, asked, strict=True):
            got, whole = answer.result(60)
            assert got == raw[start : start + len(got)]
            assert whole == (len(got) == end - start)


def test_stopping_wakes_everybody(disc):
    view = Window(str(disc), len(disc.read_bytes()))
    view.need("holds", 0)
    with ThreadPoolExecutor() as threads:
        filling = threads.submit(view.fill)
        waiting = threads.submit(read, view, "waits", 99 * SMALL, 100 * SMALL)
        view.stop()
        filling.result(30)
        with pytest.raises(Stopped):
            waiting.result(30)
