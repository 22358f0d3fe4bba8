"""Calls at the same time: their results in order, the first fault for all."""

import threading
from functools import partial

import pytest

from core.beside import beside


def test_they_run_at_the_same_time_and_answer_in_order() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def meets(number: int) -> int:
        meeting.wait()
        return number

    assert beside([partial(meets, number) for number in range(3)]) == [0, 1, 2]
    assert beside([]) == []


def test_a_fault_is_raised_when_all_have_ended() -> None:
    late = threading.Event()
    ended = []

    def fails() -> None:
        raise ValueError("first")

    def ends() -> None:
        late.wait(0.2)
        ended.append(1)

    with pytest.raises(ValueError, match="first"):
        beside([ends, fails])
    assert ended == [1]
