"""Flags at every boundary, for exact values and for values that are known only to lie on one side of a number."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from interface.domain.flags import evaluate, evaluate_each
from interface.domain.model import Comparator, HoldReason, Interval, IntervalUse, Value, ValueKind
from interface.domain.values import parse_structured, parse_value

HOLD = (HoldReason.AMBIGUOUS_INTERVAL,)


def interval(low: str | None, high: str | None, critical: tuple[str | None, str | None] = (None, None)) -> Interval:
    def limit(text: str | None) -> Decimal | None:
        return Decimal(text) if text else None

    return Interval("i", "t", "mmol/L", limit(low), limit(high), limit(critical[0]), limit(critical[1]))


def number(text: str) -> Value:
    """`<=3.5` is a numeric value with a comparator."""
    digits = text.lstrip("<>=")
    sign = text[: len(text) - len(digits)]
    return Value(ValueKind.NUMERIC, digits, Decimal(digits), Comparator(sign) if sign else None)


POTASSIUM = interval("3.5", "5.2", ("2.5", "6.5"))


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("2.49", "LL"), ("2.5", "L"), ("2.51", "L"), ("3.49", "L"), ("3.5", "N"), ("3.50", "N"), ("4.1", "N"),
        ("5.2", "N"), ("5.21", "H"), ("6.5", "H"), ("6.51", "HH"), ("-1", "LL"),
    ],
)  # fmt: skip
def test_a_value_on_a_limit_is_within_it(value: str, flag: str) -> None:
    assert evaluate(number(value), POTASSIUM).flags == (flag,)
    assert evaluate(number(value), POTASSIUM).holds == ()


@pytest.mark.parametrize(
    ("value", "flags", "holds"),
    [
        # surely on one side of a limit
        ("<2.5", ("<", "LL"), ()), ("<2.0", ("<", "LL"), ()), (">6.5", (">", "HH"), ()), (">=6.6", (">", "HH"), ()),
        # surely low, but how low is not known
        ("<=2.5", ("<", "L"), HOLD), ("<3.5", ("<", "L"), HOLD), ("<3.0", ("<", "L"), HOLD),
        # surely high, but how high is not known
        (">5.2", (">", "H"), HOLD), (">=6.5", (">", "H"), HOLD), (">=5.3", (">", "H"), HOLD),
        # low, normal or high
        ("<=3.5", ("<",), HOLD), ("<4", ("<",), HOLD), ("<9", ("<",), HOLD),
        (">=5.2", (">",), HOLD), (">1", (">",), HOLD),
    ],
)  # fmt: skip
def test_a_value_with_a_comparator_says_only_what_holds_for_all_it_may_be(
    value: str, flags: tuple[str, ...], holds: tuple[HoldReason, ...]
) -> None:
    found = evaluate(number(value), POTASSIUM)
    assert (found.flags, found.holds) == (flags, holds)


@pytest.mark.parametrize(
    ("value", "bounds", "flags", "held"),
    [
        ("<0.6", (None, "5"), ("<", "N"), False),  # CRP below the measuring range is normal
        ("<=5", (None, "5"), ("<", "N"), False),
        ("<0.6", ("0", "5"), ("<", "N"), False),  # nothing is below zero where the interval starts there
        ("<0.6", ("-2", "2"), ("<",), True),  # base excess may be
        ("<6", (None, "5"), ("<",), True),
        (">90", ("60", None), (">", "N"), False),  # eGFR
        (">=60", ("60", None), (">", "N"), False),
        (">50", ("60", None), (">",), True),
    ],
)
def test_one_sided_intervals(
    value: str, bounds: tuple[str | None, str | None], flags: tuple[str, ...], held: bool
) -> None:
    found = evaluate(number(value), interval(*bounds))
    assert found.flags == flags
    assert bool(found.holds) is held


def test_no_interval_is_no_flag_and_not_normal() -> None:
    assert evaluate(number("4"), None).flags == ()
    assert evaluate(number("<4"), None).flags == ("<",)
    assert evaluate(number("4"), interval(None, None)).flags == ()
    assert evaluate(number("2"), interval(None, None, ("2.5", None))).flags == ("LL",)
    assert evaluate(number("3"), interval(None, None, ("2.5", None))).flags == ()


@pytest.mark.parametrize("kind", [kind for kind in ValueKind if kind is not ValueKind.NUMERIC])
def test_what_is_not_a_number_gets_no_flag(kind: ValueKind) -> None:
    assert evaluate(Value(kind, "POS", numerator=Decimal(1), denominator=Decimal(99)), POTASSIUM).flags == ()


SIDES = {"LL": -2, "L": -1, "N": 0, "H": 1, "HH": 2}
LIMITS = st.lists(st.decimals("-50", "50", places=1), min_size=4, max_size=4, unique=True).map(sorted)


def _between(limits: list[Decimal]) -> Interval:
    critical_low, low, high, critical_high = limits
    return Interval("i", "t", "1", low, high, critical_low, critical_high)


@given(LIMITS, st.lists(st.decimals("-60", "60", places=2), min_size=2, max_size=8).map(sorted))
def test_a_larger_value_never_has_a_lower_flag(limits: list[Decimal], values: list[Decimal]) -> None:
    sides = [SIDES[evaluate(number(str(value)), _between(limits)).flags[0]] for value in values]
    assert all(first <= second for first, second in pairwise(sides))


@given(
    LIMITS, st.decimals("-60", "60", places=2), st.sampled_from(list(Comparator)), st.decimals("0.01", "40", places=2)
)
def test_what_is_said_of_a_comparator_holds_for_every_value_it_may_stand_for(
    limits: list[Decimal], bound: Decimal, comparator: Comparator, distance: Decimal
) -> None:
    assume(limits[1] != 0)  # from zero on, a set of values ends at zero: see the one-sided examples
    found = evaluate(Value(ValueKind.NUMERIC, "", bound, comparator), _between(limits))
    said = [SIDES[flag] for flag in found.flags if flag in SIDES]
    below = comparator in (Comparator.LT, Comparator.LE)
    member = bound - distance if below else bound + distance
    side = SIDES[evaluate(number(str(member)), _between(limits)).flags[0]]
    if said and not found.holds:
        assert side == said[0]
    elif said:  # the direction is sure, the criticality is not
        assert side * said[0] > 0


@pytest.mark.parametrize(
    ("value", "flag", "display"),
    [
        ("1.75", "L", ""), ("1.74", "L", "LL"), ("3.4", "L", ""), ("4", "N", ""), ("5.3", "H", ""),
        ("7.8", "H", ""), ("7.81", "H", "HH"),
    ],
)  # fmt: skip
def test_the_rule_of_thumb_is_shown_and_is_no_critical_flag(value: str, flag: str, display: str) -> None:
    found = evaluate(number(value), interval("3.5", "5.2"))
    assert (found.flags, found.display, found.holds) == ((flag,), display, ())


def test_the_rule_of_thumb_says_nothing_beside_critical_limits_or_of_limits_that_are_not_positive() -> None:
    assert evaluate(number("1"), POTASSIUM) == evaluate(number("1"), POTASSIUM, POTASSIUM)
    assert (evaluate(number("1"), POTASSIUM).flags, evaluate(number("1"), POTASSIUM).display) == (("LL",), "")
    excess = interval("-2", "2")  # base excess: half of -2 is no limit at all
    assert [evaluate(number(value), excess).display for value in ("-9", "2.9")] == ["", ""]
    assert evaluate(number("3.01"), excess).display == "HH"
    assert evaluate(number("1"), interval(None, "0")).display == ""
    assert evaluate(number("-1"), interval("0", None)).display == ""
    assert evaluate(number(">7.8"), interval("3.5", "5.2")).display == "HH"
    assert evaluate(number(">7.7"), interval("3.5", "5.2")).display == ""


def test_critical_limits_may_stand_in_a_row_of_their_own() -> None:
    own = replace(interval(None, None, ("2.5", "6.5")), use=IntervalUse.CRITICAL)
    plain = replace(interval("3.5", "5.2", ("1", "9")), use=IntervalUse.REFERENCE)
    assert evaluate(number("2.4"), plain, own).flags == ("LL",)
    assert evaluate(number("2.4"), None, own).flags == ("LL",)
    assert evaluate(number("0.5"), plain).flags == ("L",)


URINE = replace(
    interval(None, None), normal_values=("Negative", "Trace"), abnormal_values=("1+", "2+"), critical_values=("4+",)
)


@pytest.mark.parametrize(
    ("word", "flags", "held"),
    [
        ("negative", ("N",), False), (" Trace ", ("N",), False), ("2+", ("A",), False), ("4+", ("AA",), False),
        ("3+", (), True),
    ],
)  # fmt: skip
def test_words_are_judged_by_the_laboratory_s_lists(word: str, flags: tuple[str, ...], held: bool) -> None:
    for kind in (ValueKind.TEXT, ValueKind.CODED):
        found = evaluate(Value(kind, word), URINE)
        assert (found.flags, bool(found.holds)) == (flags, held)


def test_a_word_in_no_list_is_not_judged_where_no_normal_ones_are_named() -> None:
    listed = replace(URINE, normal_values=())
    assert (
        evaluate(Value(ValueKind.TEXT, "3+"), listed).flags,
        evaluate(Value(ValueKind.TEXT, "3+"), listed).holds,
    ) == (
        (),
        (),
    )


GRADES = replace(
    interval(None, None), normal_values=("negative", "1"), abnormal_values=("2", "+3"), critical_values=("4", "1:640")
)


@pytest.mark.parametrize(
    ("sent", "flags", "held"),
    [
        ("4", ("AA",), False), ("4.0", ("AA",), False), ("3", ("A",), False), ("1", ("N",), False), ("5", (), True),
        ("<1", ("<",), True), ("1:640", ("AA",), False), ("1 : 640", ("AA",), False), ("1:320", (), True),
        (">1:640", (), True), ("Negative", ("N",), False),
    ],
)  # fmt: skip
def test_numbers_and_titres_are_judged_by_the_lists_too(sent: str, flags: tuple[str, ...], held: bool) -> None:
    found = evaluate(parse_value(sent), GRADES)
    assert (found.flags, bool(found.holds)) == (flags, held)
    assert evaluate(parse_value(sent), replace(GRADES, normal_values=())).holds == ()


def test_a_list_may_have_a_comparator_and_names_it_once() -> None:
    listed = replace(GRADES, critical_values=("> 1:640", ">= 5", "1/320"))
    for sent in (">1:640", "> 1:640", ">=5", "1:320"):
        assert evaluate(parse_value(sent), listed).flags[-1] == "AA"
    assert evaluate(parse_structured([">", "1", ":", "640"]), listed).flags == ("AA",)
    assert evaluate(parse_structured(["", "1", "/", "320"]), listed).flags == ("AA",)
    assert evaluate(parse_value("1:640"), listed).flags == ()


@pytest.mark.parametrize(
    ("value", "flags", "held"),
    [
        ("4", ("AA",), False), ("1", ("N",), False), ("2", ("A",), False), ("2.9", ("L",), False),
        ("3.6", ("N",), False), ("6.6", ("HH",), False), ("5.3", ("H",), False), ("9", ("HH",), False),
        ("<3", ("<", "L"), False), ("<1", ("<", "L"), False), (">1", (">",), True), (">9", (">", "HH"), False),
    ],
)  # fmt: skip
def test_a_number_in_no_list_goes_by_the_limits_and_no_list_takes_a_critical_one_away(
    value: str, flags: tuple[str, ...], held: bool
) -> None:
    both = replace(
        GRADES, low=Decimal("3.5"), high=Decimal("5.2"), critical_low=Decimal(0), critical_high=Decimal("6.5")
    )
    both = replace(both, normal_values=("1", "9"))
    found = evaluate(number(value), both)
    assert (found.flags, bool(found.holds)) == (flags, held)


def test_where_only_critical_ones_have_limits_a_number_in_no_list_is_held() -> None:
    own = replace(interval(None, None, (None, "6.5")), use=IntervalUse.CRITICAL)
    assert evaluate(number("7"), GRADES, own).flags == ("HH",)
    assert evaluate(number("5"), GRADES, own).holds == HOLD
    assert evaluate(number("1"), GRADES, own).flags == ("N",)


def test_of_several_rows_only_what_all_of_them_say_is_said() -> None:
    wider, turned = interval(None, None, ("2", "7")), interval(None, None, ("10", None))
    for value, flags, holds in (
        ("8", ("HH",), ()), ("6.8", (), HOLD), ("4", (), ()), ("1", ("LL",), ()), (">8", (">", "HH"), ()),
        (">6.8", (">",), HOLD),
    ):  # fmt: skip
        found = evaluate_each(number(value), None, (POTASSIUM, wider))
        assert (found.flags, found.holds) == (flags, holds)
    assert evaluate_each(number("8"), None, (POTASSIUM, turned)).holds == HOLD
    assert evaluate_each(Value(ValueKind.TEXT, "4"), None, (GRADES, replace(GRADES, critical_values=()))).holds == HOLD
    assert evaluate_each(Value(ValueKind.TEXT, "4"), None, (GRADES, GRADES)).flags == ("AA",)
