"""Westgard's control rules: what they say of the newest point of a stream. Pure; PROTOCOLS §4.4.

z is (x - mean) / SD; "beyond" is strictly beyond, so a point on a limit breaks nothing and z = 0 is on neither side.

| rule | is broken when | within a level, over runs | across levels |
| --- | --- | --- | --- |
| 1-2s, 1-3s | 1 point is beyond 2 (3) SD | by itself | - |
| 2-2s | 2 consecutive are beyond the same 2 SD | yes | any two levels of the run |
| R-4s | one of the run is beyond +2 SD, another beyond -2 SD (loose: they are more than 4 SD apart) | - | of the run |
| 2of3-2s | 2 of 3 consecutive are beyond the same 2 SD | yes | of the run |
| 3-1s, 4-1s | 3 (4) consecutive are beyond the same 1 SD | yes | yes, over runs |
| 6x 8x 9x 10x 12x | so many consecutive are on one side of the mean | yes | yes, over runs |
| 7T | 7 consecutive strictly rise or strictly fall | yes | - |

Sources: Westgard JO, Barry PL, Hunt MR, Groth T, Clin Chem 1981;27:493-501 (1-2s 1-3s 2-2s R-4s 4-1s 10x);
westgard.com/westgard-rules (2of3-2s 3-1s 6x 8x 9x 12x 7T, and which rules for how many materials).

*Consecutive* across levels is in the order of runs, within a run in the order of level numbers, whichever came first:
so what a rule finds is the same however the levels of a run arrive. A rule is broken by the newest point only if that
point is one of those that break it: what older points break among themselves was said when they were judged. So two of
three are enough as soon as there are two, for no third takes it back, and a third in range after them breaks nothing.

Points that are excluded, have no z, or are of a lot or target of their level that is not the current one count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from itertools import pairwise

from interface.domain.exact import measurable, shown
from interface.domain.qc import Evaluation, Multirule, Point, QcMode, QcRule, QcVerdict, Violation
from interface.domain.record import record

_ALL = 1_000  # points of a run: all that it has
_Z = Context(prec=34, rounding=ROUND_UP)  # away from 0: no rounding brings a point back onto a limit it is beyond
_APART = Context(prec=30, rounding=ROUND_HALF_EVEN)  # coarser than z: 7/3 and -5/3 are 4 apart, not a digit more


@record
class _Count:
    """`hits` of `window` consecutive points beyond the same `limit`; 0 for a scope in which the rule does not look."""

    hits: int
    limit: Decimal
    level: int = 0  # window within the level
    run: int = 0  # window across the levels of the run
    stream: int = 0  # window across levels and runs


def _row(count: int, limit: int) -> _Count:
    return _Count(count, Decimal(limit), level=count, stream=count)


_COUNTS = {
    QcRule.R1_2S: _Count(1, Decimal(2), level=1),
    QcRule.R1_3S: _Count(1, Decimal(3), level=1),
    QcRule.R2_2S: _Count(2, Decimal(2), level=2, run=_ALL),
    QcRule.R2OF3_2S: _Count(2, Decimal(2), level=3, run=3),
    QcRule.R3_1S: _row(3, 1),
    QcRule.R4_1S: _row(4, 1),
    QcRule.R6X: _row(6, 0),
    QcRule.R8X: _row(8, 0),
    QcRule.R9X: _row(9, 0),
    QcRule.R10X: _row(10, 0),
    QcRule.R12X: _row(12, 0),
}
_NEEDS = {rule: count.level for rule, count in _COUNTS.items()} | {QcRule.R_4S: 2, QcRule.R7T: 7}


@record
class _Counted:
    """A point that counts."""

    id: str
    run: str
    level: int
    z: Decimal


HISTORY = max(_NEEDS.values())  # counted points of each level before the newest: with so many, more change nothing

# "Recommended multirules for N's of 2 and 4", "of 3 and 6": westgard.com/multirule4.html. 10x, 12x, 9x are choices.
_OF_TWO = (QcRule.R1_3S, QcRule.R2_2S, QcRule.R_4S, QcRule.R4_1S, QcRule.R8X)
_OF_THREE = (QcRule.R1_3S, QcRule.R2OF3_2S, QcRule.R_4S, QcRule.R3_1S, QcRule.R6X)
# One control in a run has no second for R-4s. The others are those of two, which then look over runs alone.
_OF_ONE = tuple(rule for rule in _OF_TWO if rule is not QcRule.R_4S)


def by_levels(n: int) -> tuple[QcRule, ...]:
    """The rules that reject, for a stream with so many levels in a run."""
    if n <= 1:
        return _OF_ONE
    return _OF_TWO if n % 3 else _OF_THREE


def needs(rules: Iterable[QcRule]) -> int:
    """How many points of a level, the newest included, the most demanding of the rules looks at; R-4s: of a run."""
    return max((_NEEDS[rule] for rule in rules), default=0)


def z_of(number: Decimal | None, mean: Decimal, sd: Decimal) -> Decimal | None:
    """How many SD from the mean; None where there is no number, no mean or no usable SD: such a point is not judged."""
    if number is None or not (number.is_finite() and mean.is_finite() and measurable(sd)) or sd <= 0:
        return None
    return _Z.divide(Context(prec=100).subtract(number, mean), sd)


def evaluate(rule: Multirule, history: Sequence[Point], new: Point, levels: int) -> Evaluation:
    """What the rules say of `new`.

    `history`: the stream's points before it, of all levels, oldest first, those of its run included; the last `HISTORY`
    counted ones of each level are enough. `levels`: how many an acceptable run has; it chooses the rules where `rule`
    names none. In classic mode the other rules are looked at when a point of the run is beyond 2 SD: the first that is
    has them looked at for the points of its run that came before it too.

    A rule is `insufficient` while the level has fewer points than it needs, whatever is seen across levels; R-4s while
    the run has but this one.
    """
    point = _counted(new)
    if point is None:
        return Evaluation(QcVerdict.UNKNOWN, text="excluded" if new.excluded else "not judged: no z")
    stream = _ordered([*_current(history, new), point])
    rules = rule.rules or by_levels(levels)
    judged = [point]
    found: list[Violation] = []
    if rule.mode is QcMode.CLASSIC:
        judged = _behind_the_gate(stream, point)
        found += _broken(QcRule.R1_2S, stream, point, rule)
        rules = tuple(each for each in rules if each is not QcRule.R1_2S)
    for one in judged:
        for each in rules:
            found += (broken for broken in _broken(each, stream, one, rule) if broken not in found)
    broken = {violation.rule for violation in found}
    insufficient = tuple(each for each in rules if each not in broken and _too_few(each, stream, point))
    return Evaluation(_verdict(broken, rule), tuple(found), insufficient, _text(point.z, found, insufficient))


def _verdict(broken: set[QcRule], rule: Multirule) -> QcVerdict:
    if broken - {QcRule.R1_2S, *rule.warn_only}:
        return QcVerdict.REJECT
    return QcVerdict.WARN if broken else QcVerdict.ACCEPT


def _counted(point: Point) -> _Counted | None:
    if point.excluded or point.z is None or not point.z.is_finite():
        return None
    return _Counted(point.id, point.run, point.level, point.z)


def _current(history: Sequence[Point], new: Point) -> list[_Counted]:
    """Those that count, oldest first: of each level, of the lot and target of its newest point."""
    current = {new.level: (new.lot, new.target)}
    kept = []
    for point in reversed(history):
        counted = _counted(point)
        if counted is None or point.id == new.id:
            continue
        if current.setdefault(point.level, (point.lot, point.target)) == (point.lot, point.target):
            kept.append(counted)
    kept.reverse()
    return kept


def _ordered(points: Sequence[_Counted]) -> list[_Counted]:
    """Run after run, each in the order of level numbers; what is of one level keeps its order."""
    runs: dict[str, int] = {}
    for point in points:
        runs.setdefault(point.run, len(runs))
    return sorted(points, key=lambda point: (runs[point.run], point.level))


def _level(stream: Sequence[_Counted], point: _Counted) -> list[_Counted]:
    return [each for each in stream if each.level == point.level]


def _run(stream: Sequence[_Counted], point: _Counted) -> list[_Counted]:
    return [each for each in stream if each.run == point.run]


def _behind_the_gate(stream: Sequence[_Counted], point: _Counted) -> list[_Counted]:
    """The points of the run that classic mode judges now: none while all are within 2 SD."""
    run = _run(stream, point)
    beyond = [each for each in run if each.z.copy_abs() > 2]
    if beyond == [point]:
        return run
    return [point] if beyond else []


def _too_few(rule: QcRule, stream: Sequence[_Counted], point: _Counted) -> bool:
    points = _run(stream, point) if rule is QcRule.R_4S else _level(stream, point)
    return len(points) < _NEEDS[rule]


def _broken(rule: QcRule, stream: Sequence[_Counted], point: _Counted, multirule: Multirule) -> list[Violation]:
    """How `point` breaks the rule: within its level, and across levels."""
    level, run = _level(stream, point), _run(stream, point)
    if rule is QcRule.R_4S:
        return _apart(run, point, multirule.loose_r4s)
    if rule is QcRule.R7T:
        return _trend(level, point)
    count = _COUNTS[rule]
    found = []
    for points, window, across in ((level, count.level, False), (run, count.run, True), (stream, count.stream, True)):
        hits = _hits(points, point, count, window, across)
        if hits:
            found.append(Violation(rule, tuple(each.id for each in hits), across))
    return found


def _hits(points: Sequence[_Counted], point: _Counted, count: _Count, window: int, across: bool) -> list[_Counted]:
    """Those that break the rule with `point`, of the oldest window that enough of them are in; [] where none is."""
    if not point.z.copy_abs() > count.limit:
        return []
    at = points.index(point)
    for begin in range(max(0, at - window + 1), at + 1):
        hits = [each for each in points[begin : begin + window] if _beyond(each, count.limit, point.z > 0)]
        if len(hits) >= count.hits and (not across or len({each.level for each in hits}) > 1):
            return hits
    return []


def _beyond(point: _Counted, limit: Decimal, high: bool) -> bool:
    return point.z > limit if high else point.z < -limit


def _apart(run: Sequence[_Counted], point: _Counted, loose: bool) -> list[Violation]:
    """R-4s: `point` and, of those of its run that it is too far from, the farthest."""
    others = [each for each in run if each is not point and _too_far(each.z, point.z, loose)]
    if not others:
        return []
    other = max(others, key=lambda each: each.z.copy_abs())
    return [
        Violation(QcRule.R_4S, tuple(each.id for each in run if each in (point, other)), other.level != point.level)
    ]


def _too_far(one: Decimal, other: Decimal, loose: bool) -> bool:
    if loose:
        return _APART.subtract(one, other).copy_abs() > 4
    return max(one, other) > 2 and min(one, other) < -2


def _trend(level: Sequence[_Counted], point: _Counted) -> list[Violation]:
    last = level[: level.index(point) + 1][-_NEEDS[QcRule.R7T] :]
    steps = {(after.z > before.z) - (after.z < before.z) for before, after in pairwise(last)}
    if len(last) < _NEEDS[QcRule.R7T] or steps not in ({1}, {-1}):
        return []
    return [Violation(QcRule.R7T, tuple(each.id for each in last))]


def _text(z: Decimal, found: Sequence[Violation], insufficient: Sequence[QcRule]) -> str:
    said = [f"z {shown(z, 2)}"]
    said += [f"{each.rule} {'across levels' if each.across else 'within the level'}" for each in found]
    if insufficient:
        said.append(f"not enough points for {', '.join(insufficient)}")
    return "; ".join(said)
