"""Series of controls for the tests of Westgard's rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from interface.domain.qc import Evaluation, Multirule, Point, QcMode, QcRule
from interface.domain.westgard import evaluate

BEGIN = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
EVERY = tuple(QcRule)


def point(run: int, level: int, z: Decimal | str | None, n: int = 0, excluded: bool = False) -> Point:
    """The control of a level in a run. Its id says which: `3.2` is of the third run and of level 2."""
    return Point(
        id=f"{run}.{level}" + (f".{n}" if n else ""),
        at=BEGIN + timedelta(hours=8 * run, minutes=level, seconds=n),
        run=f"run {run}",
        level=level,
        lot=f"lot of {level}",
        target=f"target of {level}",
        z=None if z is None else Decimal(z),
        excluded=excluded,
    )


def series(text: str) -> list[Point]:
    """Runs apart by spaces, in a run one z for each level apart by commas; `-` is a level that was not measured."""
    points = []
    for run, controls in enumerate(text.split(), start=1):
        for level, z in enumerate(controls.split(","), start=1):
            if z != "-":
                points.append(point(run, level, z))
    return points


def judged(points: Sequence[Point], rule: Multirule, levels: int) -> list[Evaluation]:
    """Each point judged as the newest, after those before it."""
    return [evaluate(rule, points[:n], points[n], levels) for n in range(len(points))]


def only(*rules: QcRule, mode: QcMode = QcMode.MODERN, loose: bool = False) -> Multirule:
    return Multirule(rules=rules, mode=mode, loose_r4s=loose)


def broken(evaluation: Evaluation) -> set[tuple[QcRule, bool]]:
    """Its broken rules, and whether across levels."""
    return {(violation.rule, violation.across) for violation in evaluation.violations}


def ids(points: Iterable[Point]) -> tuple[str, ...]:
    return tuple(each.id for each in points)
