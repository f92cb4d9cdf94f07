"""Which of several runs for one order item is reported. All are kept; exactly one is, and why is said. Pure.

| what there is | reported |
| --- | --- |
| a released run | that one, until a person decides otherwise |
| runs that were measured and are known to be this item's | the latest of them |
| else runs with a value, such as those that were measured out of control | the latest of them |
| only failed runs | the latest |

Whoever reports one of several that say something else answers for it: a person does, unless one of them was asked for.
Of a run that is held because it may be another person's, or was cut, only a person says that it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interface.domain.model import RELEASED, HoldReason, ResultStatus, Value, ValueKind

# What a check found against a run that was measured, and is for certain of this patient and test. What else holds a run
# says that one of these is not known, or that it was measured out of control: nobody need ask for another then.
MEASURED = frozenset(
    {
        HoldReason.DELTA, HoldReason.INTERFERENCE, HoldReason.SUPPRESSED, HoldReason.MEASURING_RANGE,
        HoldReason.IMPLAUSIBLE, HoldReason.INCONSISTENT, HoldReason.QC_EXPIRED, HoldReason.RULE,
        HoldReason.RERUN, HoldReason.AMBIGUOUS_INTERVAL, HoldReason.UNKNOWN_FLAG, HoldReason.QUESTIONABLE,
        HoldReason.ALREADY_REPORTED, HoldReason.SAID_ANEW,
    }
)  # fmt: skip
# With these it is not known whose a run is or whether all of it came, or a person wants to look at it: it says nothing
# of the item for certain, and yet it may be the one that is right.
DOUBTED = frozenset(
    {
        HoldReason.PATIENT_MISMATCH, HoldReason.PATIENT_NAME, HoldReason.DRIVER_MISMATCH, HoldReason.NOT_PATIENT,
        HoldReason.INCOMPLETE_TRANSMISSION, HoldReason.CONTROL_LIKE_ID, HoldReason.OUTSIDE_WINDOW, HoldReason.PERSON,
        HoldReason.BEFORE_SPECIMEN,
    }
)  # fmt: skip
_NO_VALUE = frozenset({ValueKind.EMPTY, ValueKind.FAILED})
GONE = frozenset({ResultStatus.CANCELLED, ResultStatus.ENTERED_IN_ERROR})


_UNASKED: Mapping[str, bool] = {}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an order item. `id`: of its result."""

    id: str
    value: Value
    holds: tuple[HoldReason, ...] = ()
    status: ResultStatus = ResultStatus.PRELIMINARY
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """`disputed`: nobody asked for another run, and an earlier one says something else: a person decides."""

    id: str
    text: str
    released: bool = False
    disputed: bool = False


def choose(runs: Sequence[Run], answers: Mapping[str, bool] = _UNASKED) -> Choice:
    """The run to report. `runs`: at least one, in the order they came, cancelled ones left out; `answers`: those that
    answer a rerun that was asked for, and whether a person asked."""
    released = next((run for run in reversed(runs) if run.status in RELEASED), None)
    if released is not None:
        return Choice(released.id, "released, and stays until a person decides", released=True)
    best = max(enumerate(runs), key=lambda place: (_rank(place[1]), place[0]))[1]
    if len(runs) == 1:
        return Choice(best.id, "the only run")
    others = [run for run in runs if run.id != best.id and _rank(run) == _rank(best) > 0]
    disputed, words = False, f"of {len(runs)} runs the only one with a value that counts"
    if others and best.id in answers:
        words = f"of {len(runs)} runs the latest: the rerun that was asked for"
    elif others:
        disputed = any(not same(run, best) for run in others)
        said = "which says something else, and nobody asked for it" if disputed else "which says the same"
        words = f"of {len(runs)} runs the latest, {said}"
    # A rule asks because of a run that was measured for certain; of the one in doubt it knows nothing.
    doubted = [run for run in runs if _doubted(run) and _rank(run) < _rank(best) and not same(run, best)]
    if doubted and not answers.get(best.id):
        disputed, words = True, f"{words}; one that is in doubt says something else"
    return Choice(best.id, words, disputed=disputed)


def same(one: Run, other: Run) -> bool:
    """Whether two runs say the same."""
    return (one.value.text, one.value.comparator, one.unit) == (other.value.text, other.value.comparator, other.unit)


def _rank(run: Run) -> int:
    if run.value.kind in _NO_VALUE:
        return 0
    return 2 if MEASURED.issuperset(run.holds) else 1


def _doubted(run: Run) -> bool:
    return run.value.kind not in _NO_VALUE and not DOUBTED.isdisjoint(run.holds)
