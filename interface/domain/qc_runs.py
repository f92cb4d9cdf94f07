"""Which controls were measured together: a run. Pure.

Analyzers do not say it. A run is formed from time and level alone, so that it is the same whoever looks: a point joins
the newest run that began before it, while that has no point of its level and began no longer than `run_minutes` before;
else it begins a run of its own. So a level that is repeated begins another run, which the levels after it join.

What comes late is put in its place: where no earlier run takes it, it joins the run that began after it, if all of that
is close enough. Runs are never formed anew: a point stays in the run that it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from interface.domain.qc import Point


@dataclass(slots=True)
class _Run:
    begin: datetime
    end: datetime
    levels: set[int]


def run_of(known: Sequence[Point], at: datetime, level: int, run_minutes: int) -> str | None:
    """The run that a point joins; None: it begins one. `known`: the stream's points within `run_minutes` of `at`,
    before and after it, excluded ones too (they were measured all the same)."""
    window = timedelta(minutes=run_minutes)
    runs = _runs(known)
    before = [(run.begin, name) for name, run in runs.items() if run.begin <= at]
    if before:
        name = max(before)[1]
        run = runs[name]
        return name if level not in run.levels and at - run.begin <= window else _later(runs, at, level, window)
    return _later(runs, at, level, window)


def _later(runs: dict[str, _Run], at: datetime, level: int, window: timedelta) -> str | None:
    """The first run that began after it."""
    after = [(run.begin, name) for name, run in runs.items() if run.begin > at]
    if not after:
        return None
    name = min(after)[1]
    run = runs[name]
    return name if level not in run.levels and run.end - at <= window else None


def _runs(points: Iterable[Point]) -> dict[str, _Run]:
    runs: dict[str, _Run] = {}
    for point in points:
        run = runs.get(point.run)
        if run is None:
            runs[point.run] = _Run(point.at, point.at, {point.level})
        else:
            run.begin, run.end = min(run.begin, point.at), max(run.end, point.at)
            run.levels.add(point.level)
    return runs
