"""What a leaf of a rule says of a fact; of a value beyond a limit, against the numbers that it may stand for."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.conditions import Bounds, Is, Tags, Words
from interface.domain.model import Comparator
from interface.domain.values import numeric

HALVES = [Decimal(n) / 2 for n in range(-20, 41)]  # every number and every gap between the bounds that are drawn
DRAWN = st.integers(0, 10).map(Decimal)
SETS = {
    Comparator.LT: lambda number, limit: number < limit,
    Comparator.LE: lambda number, limit: number <= limit,
    Comparator.GE: lambda number, limit: number >= limit,
    Comparator.GT: lambda number, limit: number > limit,
}


@given(st.data(), DRAWN, st.sampled_from(Comparator))
def test_a_value_beyond_a_limit_is_judged_as_every_number_it_may_be(
    data: st.DataObject, limit: Decimal, comparator: Comparator
) -> None:
    low = data.draw(st.sampled_from(["min", "above", ""]))
    high = data.draw(st.sampled_from(["max", "below", ""]))
    bounds = Bounds(**{key: data.draw(DRAWN) for key in (low, high) if key})
    if bounds.empty:
        return
    said = {bounds.judge(number) for number in HALVES if SETS[comparator](number, limit)}
    expected = said.pop() if len(said) == 1 else None
    assert bounds.judge(numeric(limit, comparator)) is expected


@given(DRAWN, DRAWN, DRAWN, st.sampled_from([("min", "max"), ("above", "below"), ("min", "below"), ("above", "max")]))
def test_a_range_is_empty_when_no_number_is_in_it(
    number: Decimal, low: Decimal, high: Decimal, keys: tuple[str, str]
) -> None:
    bounds = Bounds(**dict(zip(keys, (low, high), strict=True)))
    assert bounds.empty is not any(bounds.judge(one) for one in HALVES)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(min=Decimal("3.5")), ["3.5", "3.6"], ["3.4"]),
        (Bounds(above=Decimal("3.5")), ["3.6"], ["3.5"]),
        (Bounds(max=Decimal("5.1")), ["5.1", "-1"], ["5.2"]),
        (Bounds(below=Decimal("5.1")), ["5.0"], ["5.1"]),
        (Bounds(min=Decimal("0.1"), max=Decimal("0.3")), ["0.10", "0.3", "0.2"], ["0.0999", "0.30001"]),
    ],
)
def test_bounds_are_exact(bounds: Bounds, inside: list[str], outside: list[str]) -> None:
    assert all(bounds.judge(numeric(Decimal(one))) for one in inside)
    assert not any(bounds.judge(numeric(Decimal(one))) for one in outside)


@pytest.mark.parametrize("condition", [Bounds(min=Decimal(1)), Words(("a",)), Is(True), Tags(only=frozenset({"N"}))])
@pytest.mark.parametrize("observed", [None, object(), 1.5])
def test_what_is_no_such_fact_is_unknown(condition: Bounds | Words | Is | Tags, observed: object) -> None:
    assert condition.judge(observed) is None


@pytest.mark.parametrize(
    ("tags", "observed", "said"),
    [
        (Tags(only=frozenset({"N"})), ("N",), True),
        (Tags(only=frozenset({"N"})), (), True),
        (Tags(only=frozenset()), ("N",), False),
        (Tags(any_of=frozenset({"H", "L"})), ("N", "L"), True),
        (Tags(any_of=frozenset({"H", "L"})), (), False),
        (Tags(none_of=frozenset({"HH"})), ("HH",), False),
        (Tags(none_of=frozenset({"HH"})), (), True),
        (Tags(all_of=frozenset({"a", "b"})), ("a",), False),
        (Tags(all_of=frozenset({"a", "b"}), only=frozenset({"a", "b", "c"})), ("b", "a", "c"), True),
        (Tags(all_of=frozenset({"a", "b"}), only=frozenset({"a", "b"})), ("b", "a", "c"), False),
    ],
)
def test_tags(tags: Tags, observed: tuple[str, ...], said: bool) -> None:
    assert tags.judge(observed) is said
