"""Which analyzer measures what: the code map read backwards, preference, shares, and why there is no work."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from interface.domain.mapping import Effective, MapKey, MapRow, Span, Target
from interface.domain.model import ItemStatus
from interface.domain.routing import (
    ENDED,
    Codes,
    DispatchKind,
    DispatchState,
    NoWork,
    Route,
    WhenDown,
    assigned,
    by_state,
    choose_codes,
    may_measure,
    menu,
    outcome,
    preferred,
    waits,
    why_none,
)
from interface.domain.states import SPECIMEN_STATUS, SpecimenState, SpecimenStatus

A, B, C = (UUID(int=number) for number in (1, 2, 3))
TUBE = UUID(int=77)
SHIPPED, OWN, SITE, SITE_OWN = (False, False), (False, True), (True, False), (True, True)
K, S = DispatchKind, DispatchState


def mapped(*rows: tuple[str, str, str], site: bool = False) -> Effective:
    """Rows of (code, specimen type, test)."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        (code, type): MapRow(UUID(int=at), MapKey("d", "", code, type), Span(Target(test), start), site, 1)
        for at, (code, type, test) in enumerate(rows)
    }


# ---- codes


def test_a_menu_is_the_code_map_backwards() -> None:
    found = mapped(("1", "", "GLU"), ("2", "SER", "UREA"), ("2", "UR", "UREA-U"), ("3", "", "NA"), ("3", "UR", "NA-U"))
    assert menu(found, "SER") == {"GLU": {"1": SHIPPED}, "UREA": {"2": SHIPPED}, "NA": {"3": SHIPPED}}
    assert menu(found, "UR") == {"GLU": {"1": SHIPPED}, "UREA-U": {"2": SHIPPED}, "NA-U": {"3": SHIPPED}}
    assert menu(found, "") == {"GLU": {"1": SHIPPED}, "NA": {"3": SHIPPED}}


def test_a_code_that_is_held_on_a_specimen_type_is_not_on_its_menu() -> None:
    assert menu(mapped(("1", "", "GLU"), ("1", "UR", "")), "UR") == {}


@pytest.mark.parametrize(
    ("possible", "marked", "chosen"),
    [
        ({}, (), Codes()),
        ({"1": SHIPPED}, (), Codes(("1",))),
        ({"1": SHIPPED, "2": SITE}, (), Codes(("2",))),
        ({"1": SITE, "2": SITE_OWN}, (), Codes(("2",))),
        ({"1": SHIPPED, "2": OWN}, (), Codes(("2",))),
        ({"1": OWN, "2": SITE}, (), Codes(("2",))),
        ({"1": SHIPPED, "2": SHIPPED}, ("2",), Codes(("2",))),
        ({"1": SHIPPED, "2": SHIPPED}, ("2", "1"), Codes(("2", "1"))),
        ({"a/1": SHIPPED, "a/2": SHIPPED}, (), Codes(("a",))),  # one order, two results
    ],
)
def test_one_code_is_chosen_where_the_site_has_chosen(
    possible: dict[str, tuple[bool, bool]], marked: tuple[str, ...], chosen: Codes
) -> None:
    assert choose_codes(possible, marked, lambda code: code.partition("/")[0]) == chosen


@pytest.mark.parametrize(
    ("possible", "marked", "words"),
    [
        ({"1": SHIPPED, "2": SHIPPED}, (), "several codes would measure it: 1, 2"),
        ({"1": SITE, "2": SITE, "3": SHIPPED}, (), "several codes would measure it: 1, 2;"),
        ({"1": SHIPPED}, ("1", "9"), "the routing names 9"),
    ],
)
def test_what_is_ambiguous_is_told_and_not_guessed(
    possible: dict[str, tuple[bool, bool]], marked: tuple[str, ...], words: str
) -> None:
    found = choose_codes(possible, marked)
    assert words in found.problem
    assert found.measured
    assert not found.codes


# ---- analyzers


def test_without_routes_everybody_is_offered_it() -> None:
    assert assigned((), TUBE, ()) is None
    assert may_measure(A, (), TUBE, {A}, {B})


FIRST_A = (Route(A, 1), Route(B, 2), Route(C, 3))
A_WAITS = (Route(A, 1, when_down=WhenDown.WAIT), Route(B, 2))


@pytest.mark.parametrize(
    ("routes", "down", "holders", "has"),
    [
        (FIRST_A, (), (), {A}),
        (FIRST_A, (A,), (), {A, B}),  # an analyzer that asks is not down
        (FIRST_A, (A, B), (), {A, B, C}),
        (FIRST_A, (A, B, C), (), {A, B, C}),
        (FIRST_A, (), (B,), {B}),  # who has it keeps it
        (FIRST_A, (B,), (B,), {A, B}),
        (FIRST_A, (A,), (A,), {A, B}),
        (A_WAITS, (A,), (), {A}),
        ((Route(B, 1),), (), (), {B}),
    ],
)
def test_one_has_what_is_routed(
    routes: tuple[Route, ...], down: tuple[UUID, ...], holders: tuple[UUID, ...], has: set[UUID]
) -> None:
    assert {one for one in (A, B, C) if may_measure(one, routes, TUBE, down, holders)} == has


def test_what_is_measured_again_goes_to_who_measured_it() -> None:
    assert {one for one in (A, B, C) if may_measure(one, FIRST_A, TUBE, (), only=C)} == {C}


def test_shares_are_kept_over_many_specimens_and_the_same_for_each() -> None:
    routes = (Route(A, 1, share=70), Route(B, 2, share=30))
    drawn = [assigned(routes, UUID(int=number << 64), ()) for number in range(2000)]
    assert 0.65 < drawn.count(A) / len(drawn) < 0.75
    assert drawn == [assigned(routes[::-1], UUID(int=number << 64), ()) for number in range(2000)]
    assert {route.analyzer_id for route in preferred(routes, TUBE)} == {A, B}


# ---- states


@pytest.mark.parametrize("state", SpecimenState)
def test_only_what_is_in_the_laboratory_and_can_be_measured_is_offered(state: SpecimenState) -> None:
    offered = by_state(state) is None
    assert offered is (state in (SpecimenState.RECEIVED, SpecimenState.STORED))
    assert not offered or SPECIMEN_STATUS[state] is SpecimenStatus.AVAILABLE


I = ItemStatus  # noqa: E741 - a table of states


@pytest.mark.parametrize(
    ("mine", "others", "reason"),
    [
        ([], 0, NoWork.DONE),
        ([], 2, NoWork.NOT_FOR_THIS_ANALYZER),
        ([(I.RECEIVED, True)], 0, NoWork.NOT_FOR_THIS_ANALYZER),  # another one has it
        ([(I.COMPLETED, False)], 3, NoWork.DONE),
        ([(I.RECEIVED, False)], 0, NoWork.DONE),  # its result waits for a person
        ([(I.CANCELLED, False)], 0, NoWork.CANCELLED),
        ([(I.CANCELLED, False), (I.VERIFIED, False)], 0, NoWork.DONE),
        ([(I.REJECTED, False), (I.CANCELLED, False)], 1, NoWork.REJECTED),
    ],
)
def test_why_there_is_no_work(mine: list[tuple[ItemStatus, bool]], others: int, reason: NoWork) -> None:
    assert why_none(mine, others) is reason


def test_what_waits_for_a_person_is_measured_again_only_if_somebody_asks() -> None:
    assert waits(I.RECEIVED, measured=False, again=False)
    assert not waits(I.RECEIVED, measured=True, again=False)
    assert waits(I.IN_PROGRESS, measured=True, again=True)
    assert not any(waits(status, False, True) for status in (I.COMPLETED, I.VERIFIED, I.CANCELLED, I.REJECTED))


@pytest.mark.parametrize("kind", DispatchKind)
@pytest.mark.parametrize("old", DispatchState)
@pytest.mark.parametrize("said", [*DispatchState, None])
def test_what_has_ended_stays_and_what_is_taken_back_ends(
    kind: DispatchKind, old: DispatchState, said: DispatchState | None
) -> None:
    new = outcome(kind, old, said)
    if old in ENDED or said is None:
        assert new is old
    elif kind is K.CANCEL and old is S.QUEUED:  # said of the work itself
        assert new is (S.CANCELLED if said in (S.REFUSED, S.CANCELLED) else S.QUEUED)
    elif kind is K.CANCEL and said is S.ACCEPTED:
        assert new is S.CANCELLED
    else:
        assert new is said
