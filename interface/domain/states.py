"""Which step from one state to another is legal, for order items and specimens (DESIGN §5). Two tables each; pure.

A step onward needs no reason and may leave out states between: whoever measures a tube has received it. A step back
needs one, in words, because it takes something back that somebody may have relied on. What is in neither is illegal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from interface.domain.model import ItemStatus
from interface.errors import IllegalStep


class SpecimenState(StrEnum):
    EXPECTED = "expected"  # ordered, not taken as far as anybody said
    COLLECTED = "collected"
    RECEIVED = "received"  # by the laboratory
    STORED = "stored"  # has a place; may be taken out and measured again
    EXHAUSTED = "exhausted"  # nothing is left of it
    REJECTED = "rejected"  # unfit: nothing measured on it may be released
    DISPOSED = "disposed"
    CANCELLED = "cancelled"  # never taken: nothing is ordered on it any more


class SpecimenStatus(StrEnum):
    """FHIR R4 specimen-status: what the state means to those outside. Only what is available is measured."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    UNSATISFACTORY = "unsatisfactory"


_I, _S = ItemStatus, SpecimenState

ITEM_STEPS: Mapping[ItemStatus, frozenset[ItemStatus]] = {
    _I.REQUESTED: frozenset(
        {_I.COLLECTED, _I.RECEIVED, _I.IN_PROGRESS, _I.COMPLETED, _I.VERIFIED, _I.CANCELLED, _I.REJECTED}
    ),
    _I.COLLECTED: frozenset({_I.RECEIVED, _I.IN_PROGRESS, _I.COMPLETED, _I.VERIFIED, _I.CANCELLED, _I.REJECTED}),
    _I.RECEIVED: frozenset({_I.IN_PROGRESS, _I.COMPLETED, _I.VERIFIED, _I.CANCELLED, _I.REJECTED}),
    _I.IN_PROGRESS: frozenset({_I.COMPLETED, _I.VERIFIED, _I.CANCELLED, _I.REJECTED}),
    # Not to cancelled: what was measured is discarded by a person first, or released.
    _I.COMPLETED: frozenset({_I.VERIFIED, _I.REJECTED}),
    _I.VERIFIED: frozenset(),
    _I.CANCELLED: frozenset(),
    _I.REJECTED: frozenset(),
}
ITEM_BACK: Mapping[ItemStatus, frozenset[ItemStatus]] = {
    _I.IN_PROGRESS: frozenset({_I.REQUESTED, _I.COLLECTED, _I.RECEIVED}),  # taken off a worksheet
    _I.COMPLETED: frozenset({_I.IN_PROGRESS}),  # its result was discarded, or a rerun was asked for
    _I.VERIFIED: frozenset({_I.IN_PROGRESS}),  # a rerun was asked for
    _I.REJECTED: frozenset({_I.RECEIVED}),  # the specimen was rejected by mistake
}

SPECIMEN_STEPS: Mapping[SpecimenState, frozenset[SpecimenState]] = {
    _S.EXPECTED: frozenset({_S.COLLECTED, _S.RECEIVED, _S.REJECTED, _S.CANCELLED}),
    _S.COLLECTED: frozenset({_S.RECEIVED, _S.EXHAUSTED, _S.REJECTED, _S.DISPOSED}),
    _S.RECEIVED: frozenset({_S.STORED, _S.EXHAUSTED, _S.REJECTED, _S.DISPOSED}),
    _S.STORED: frozenset({_S.RECEIVED, _S.EXHAUSTED, _S.REJECTED, _S.DISPOSED}),  # received: taken out again
    _S.EXHAUSTED: frozenset({_S.DISPOSED}),
    _S.REJECTED: frozenset({_S.DISPOSED}),
    _S.DISPOSED: frozenset(),
    _S.CANCELLED: frozenset(),
}
SPECIMEN_BACK: Mapping[SpecimenState, frozenset[SpecimenState]] = {
    _S.EXHAUSTED: frozenset({_S.RECEIVED}),  # something is left after all
    _S.REJECTED: frozenset({_S.RECEIVED}),  # rejected by mistake
}

SPECIMEN_STATUS: Mapping[SpecimenState, SpecimenStatus] = {
    _S.EXPECTED: SpecimenStatus.AVAILABLE,
    _S.COLLECTED: SpecimenStatus.AVAILABLE,
    _S.RECEIVED: SpecimenStatus.AVAILABLE,
    _S.STORED: SpecimenStatus.AVAILABLE,
    _S.EXHAUSTED: SpecimenStatus.UNAVAILABLE,
    _S.REJECTED: SpecimenStatus.UNSATISFACTORY,
    _S.DISPOSED: SpecimenStatus.UNAVAILABLE,
    _S.CANCELLED: SpecimenStatus.UNAVAILABLE,
}

CLOSED_ITEM = frozenset({ItemStatus.CANCELLED, ItemStatus.REJECTED})  # nothing is measured for it any more
DONE_ITEM = frozenset({ItemStatus.COMPLETED, ItemStatus.VERIFIED})
OPEN_ITEM = frozenset(ItemStatus) - CLOSED_ITEM - DONE_ITEM  # its measurement is awaited

_State = TypeVar("_State", bound=StrEnum)


def item_step(old: ItemStatus, new: ItemStatus, reason: str = "") -> None:
    """Raise IllegalStep unless an order item may go from `old` to `new`; a step back needs a `reason`.

    From a state to itself is no step: whoever finds it where it should be leaves it there and does not ask.
    """
    _step("order item", ITEM_STEPS, ITEM_BACK, old, new, reason)


def specimen_step(old: SpecimenState, new: SpecimenState, reason: str = "") -> None:
    """The same for a specimen."""
    _step("specimen", SPECIMEN_STEPS, SPECIMEN_BACK, old, new, reason)


def may_become(new: ItemStatus) -> tuple[str, ...]:
    """The states from which an order item may go to `new` without a reason, in the order of its life: for statements
    that take the step for many at once and leave alone what may not."""
    return tuple(old.value for old in ItemStatus if new in ITEM_STEPS[old])


def _step(
    what: str,
    onward: Mapping[_State, frozenset[_State]],
    back: Mapping[_State, frozenset[_State]],
    old: _State,
    new: _State,
    reason: str,
) -> None:
    if new in onward[old]:
        return
    if new not in back.get(old, frozenset()):
        raise IllegalStep(f"the {what} is {_words(old)}; it cannot become {_words(new)}")
    if not reason.strip():
        raise IllegalStep(f"the {what} is {_words(old)}; that it becomes {_words(new)} again needs a reason")


def _words(state: StrEnum) -> str:
    return state.value.replace("_", " ")
