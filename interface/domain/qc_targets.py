"""What a control should measure, from what it has measured. Pure.

How many measurements are wanted. Of a new product at least 20, on 20 days or, in practice, on fewer as preliminary
values; of a new lot of a product in use a mean from 10 on 10 days, with the SD or CV of the lot in use: CLSI C24 4th
edition as Bio-Rad describes it (helpcenter.qcnet.com, "How to establish mean and acceptable QC ranges"). Westgard says
20 over 20 days (james.westgard.com, January 2017, "Establishing new control ranges"). Asked for here: 20 on 10 days
where the SD is the lot's own, 10 on 10 days where its CV is the former lot's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from interface.domain.exact import EXACT, rounded, shown
from interface.domain.qc_lots import TargetView
from interface.domain.qc_statistics import decimals_of, percent_of, statistics

FURTHER_DECIMALS: Final = 2  # of a mean and an SD, more than results are reported with
FEWEST_DIGITS: Final = 3  # of an SD, those that count
FEWEST_CUMULATED: Final = 20


class Spread(StrEnum):
    """Where the SD of a new lot is from."""

    OBSERVED = "observed"  # its own points
    PREVIOUS = "previous"  # the CV of the lot in use, times the new mean


FEWEST: Final = {Spread.OBSERVED: (20, 10), Spread.PREVIOUS: (10, 10)}  # points, days


@dataclass(frozen=True, slots=True)
class Summary:
    """What points come to, in the unit of the test's results. SD and CV (%) are None where there are none."""

    points: int
    days: int  # on which they were measured, in UTC
    first: datetime | None = None
    last: datetime | None = None
    mean: Decimal | None = None
    sd: Decimal | None = None
    cv: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Former:
    """The lot in use that a new one is compared with: what its target says and what was measured under that."""

    lot: str
    mean: Decimal
    sd: Decimal
    unit: str
    cv: Decimal | None
    measured: Summary


@dataclass(frozen=True, slots=True)
class Proposal:
    """A target as a lot's own points make it. `problems`: why it cannot be set so."""

    unit: str
    spread: Spread
    measured: Summary
    mean: Decimal | None
    sd: Decimal | None
    cv: Decimal | None
    former: Former | None = None
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def summary(points: Sequence[tuple[datetime, Decimal]]) -> Summary:
    """Of points in the order of time."""
    found = statistics(number for _, number in points)
    if found is None:
        return Summary(0, 0)
    days = len({at.astimezone(UTC).date() for at, _ in points})
    return Summary(found.n, days, points[0][0], points[-1][0], found.mean, found.sd, found.cv)


def former_of(target: TargetView, points: Sequence[tuple[datetime, Decimal]]) -> Former:
    lot = f"{target.lot}/{target.level}" if target.level else target.lot
    return Former(lot, target.mean, target.sd, target.unit, percent_of(target.sd, target.mean), summary(points))


def propose(
    points: Sequence[tuple[datetime, Decimal]],
    unit: str,
    decimals: int | None,
    former: Former | None,
    spread: Spread = Spread.OBSERVED,
    fewest: int | None = None,
    fewest_days: int | None = None,
) -> Proposal:
    """Mean and SD from a lot's counted points, oldest first. `fewest`, `fewest_days`: in place of FEWEST."""
    measured, problems = summary(points), []
    mean, sd = measured.mean, measured.sd
    if spread is Spread.PREVIOUS:
        sd = None
        if former is None or former.cv is None:
            problems.append("there is no lot in use whose CV could be taken")
        elif mean is not None:
            sd = abs(EXACT.divide(EXACT.multiply(former.cv, mean), Decimal(100)))
    finest = decimals_of(number for _, number in points)
    digits = finest if decimals is None else decimals + FURTHER_DECIMALS
    if sd:
        digits = max(digits, FEWEST_DIGITS - 1 - sd.adjusted())
    mean, sd = (None if number is None else rounded(number, digits) for number in (mean, sd))
    usual = FEWEST[spread]
    wanted, on_days = fewest or usual[0], fewest_days or usual[1]
    if measured.points < wanted or measured.days < on_days:
        have = f"{measured.points} points on {measured.days} days"
        problems.append(f"there are {have}, and at least {wanted} on {on_days} are wanted")
    if sd is not None and not sd:
        problems.append("the SD comes to 0")
    elif sd is None and not problems:
        problems.append("one point has no SD")
    cv = None if mean is None or sd is None else percent_of(sd, mean)
    return Proposal(unit, spread, measured, mean, sd, cv, former, tuple(problems), _remarks(measured, former))


def _remarks(measured: Summary, former: Former | None) -> tuple[str, ...]:
    if former is None or measured.cv is None or not former.cv:
        return ()
    ratio = EXACT.divide(measured.cv, former.cv)
    return (f"its CV is {shown(measured.cv, 2)} %, {shown(ratio, 2)} times that of lot {former.lot}",)


def cumulated(points: Sequence[tuple[datetime, Decimal]], decimals: int | None) -> tuple[Decimal, Decimal] | None:
    """Mean and SD of all points so far; None where they are too few, or all alike."""
    found = propose(points, "", decimals, None, fewest=FEWEST_CUMULATED, fewest_days=1)
    if found.problems or found.mean is None or found.sd is None:
        return None
    return found.mean, found.sd
