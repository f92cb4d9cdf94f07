"""CPU time of a piece of work, as the least of several runs: what else the machine does makes it larger, never less."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

ROUNDS, CALLS = 15, 40


def cpu_us(work: Callable[[], object], rounds: int = ROUNDS, calls: int = CALLS) -> float:
    """Microseconds of CPU per call."""
    least = float("inf")
    for _ in range(rounds):
        start = process_time()
        for _ in range(calls):
            work()
        least = min(least, (process_time() - start) / calls)
    return least * 1e6


def line(what: str, figure: float, unit: str, least: float) -> str:
    """One line of a report: a figure and how many times the least it is."""
    return f"{what:<34}{figure:>10.1f} {unit}   {figure / least:>6.1f} times the least"


def rate_line(what: str, us: float, note: str = "") -> str:
    """One line of a report: how many messages a second that is on one core."""
    return f"{what:<44}{1e6 / us:>10,.0f} messages/s {us:>10,.1f} us{'   ' + note if note else ''}"
