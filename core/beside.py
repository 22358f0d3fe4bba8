"""Calls that wait for others, made at the same time."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def beside(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results, in order, when all have come to their end; the first fault is raised."""
    answers: dict[int, T] = {}
    faults: list[BaseException] = []

    def make(number: int, call: Callable[[], T]) -> None:
        try:
            answers[number] = call()
        except BaseException as fault:  # whatever it is, it is raised below
            faults.append(fault)

    threads = [threading.Thread(target=make, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [answers[number] for number in range(len(calls))]
