"""How benchmarks measure and print: two things side by side, interleaved, medians, one line a figure."""

from __future__ import annotations

import operator
import statistics
import sys
import time
from collections.abc import Callable

OPERATORS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


def interleaved(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median seconds of ``first`` and of ``second`` over ``rounds``, taken in turn.

    Both run once beforehand, uncounted. Which goes first alternates, so that a drift of the machine's
    speed falls on both.
    """
    first(), second()
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            start = time.perf_counter()
            (first, second)[index]()
            seconds[index].append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def medians(name: str, **values: float) -> None:
    """Print what a figure is made of, before the figure."""
    print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in values.items()))


def figure(name: str, value: float, sign: str, target: float) -> None:
    """Print one figure with its target: ``bench: NAME=VALUE target OP NUMBER ok|short``."""
    verdict = "ok" if OPERATORS[sign](value, target) else "short"
    print(f"bench: {name}={value:.4g} target {sign} {target:g} {verdict}")
    sys.stdout.flush()


def skipped(name: str, reason: str) -> None:
    """Say that a benchmark has nothing to measure on this machine."""
    print(f"bench: {name} skipped: {reason}")
