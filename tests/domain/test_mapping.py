"""Spans of a map in time: what is not touched stays, nothing overlaps, and what is wanted holds when it is wanted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.loinc import is_loinc
from interface.domain.mapping import KeyChange, Kind, MapKey, Span, Target, Wanted, cut, overlay, put, replan

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
KEY = MapKey("d", "", "X", "")
HOURS = range(-1, 26)


def at(hour: int) -> datetime:
    return EPOCH + timedelta(hours=hour)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    start = draw(st.integers(0, 20))
    end = draw(st.none() | st.integers(start + 1, 24))
    return Span(Target(draw(st.sampled_from("ABC"))), at(start), None if end is None else at(end))


def hours_of(found: tuple[Span, ...]) -> list[str]:
    """The test of each hour, "" for none; at most one may cover it."""
    told = []
    for hour in HOURS:
        covering = [span.target.test for span in found if span.covers(at(hour))]
        assert len(covering) <= 1, found
        told.append(covering[0] if covering else "")
    return told


def built(parts: list[Span]) -> tuple[Span, ...]:
    found: tuple[Span, ...] = ()
    for part in parts:
        found = overlay(found, part)
    return found


@given(st.lists(spans(), max_size=6), spans())
def test_what_is_put_holds_in_its_time_and_all_else_as_before(parts: list[Span], new: Span) -> None:
    before = built(parts)
    after = overlay(before, new)
    expected = [
        new.target.test if new.covers(at(hour)) else there for hour, there in zip(HOURS, hours_of(before), strict=True)
    ]
    assert hours_of(after) == expected
    assert all(first.start < second.start for first, second in pairwise(after))


@given(st.lists(spans(), max_size=6), spans())
def test_what_is_cut_is_nothing_in_its_time_and_all_else_as_before(parts: list[Span], gone: Span) -> None:
    before = built(parts)
    expected = ["" if gone.covers(at(hour)) else there for hour, there in zip(HOURS, hours_of(before), strict=True)]
    assert hours_of(cut(before, gone.start, gone.end)) == expected


@given(st.lists(spans(), max_size=6), spans(), st.integers(0, 24))
def test_the_same_again_is_no_change(parts: list[Span], new: Span, hour: int) -> None:
    wanted = Wanted(KEY, new.target, new.start, new.end)
    once = put(built(parts), wanted, at(hour))
    assert put(once, wanted, at(hour)) == once


@given(st.lists(spans(), max_size=6), st.integers(0, 23))
def test_a_plan_leaves_the_past_and_what_holds_already(parts: list[Span], hour: int) -> None:
    before, now = built(parts), at(hour)
    coming = [Wanted(KEY, span.target, span.start, span.end) for span in before if span.end is None or span.end > now]
    assert replan(before, coming, now) == before
    emptied = hours_of(replan(before, [], now))
    for place, told in zip(HOURS, emptied, strict=True):
        assert told == ("" if at(place) >= now else hours_of(before)[HOURS.index(place)])


def test_a_plan_that_names_no_start_keeps_the_row_that_is_there() -> None:
    there = (Span(Target("A"), at(0)),)
    assert replan(there, [Wanted(KEY, Target("A"))], at(5)) == there
    changed = replan(there, [Wanted(KEY, Target("B"))], at(5))
    assert changed == (Span(Target("A"), at(0), at(5)), Span(Target("B"), at(5)))


def test_a_change_is_what_it_does_from_now_on() -> None:
    past, present = Span(Target("A"), at(0), at(2)), Span(Target("B"), at(2))
    assert KeyChange(KEY, (past,), (past, present)).kind(at(5)) is Kind.ADD
    assert KeyChange(KEY, (past, present), (past,)).kind(at(5)) is Kind.REMOVE
    assert KeyChange(KEY, (present,), (Span(Target("C"), at(2)),)).kind(at(5)) is Kind.CHANGE


@pytest.mark.parametrize("code", ["718-7", "2345-7", "6690-2", "14749-6", "90370-8"])
def test_codes_of_loinc_s_own_have_its_form(code: str) -> None:
    assert is_loinc(code)


@pytest.mark.parametrize(
    "code", ["718-8", "2354-7", "718", "718-", "-7", "718-77", "12345678-9", "LP1-2", " 718-7", "\u066718-7"]
)
def test_what_is_no_loinc_code_is_known_by_form_or_check_digit(code: str) -> None:
    assert not is_loinc(code)
