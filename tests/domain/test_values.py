"""The value grammar: exact numbers, comparators, ratios, failed runs, and nothing guessed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.model import Comparator, Value, ValueKind
from interface.domain.values import ValueGrammar, parse_structured, parse_value, signed

COMMA = ValueGrammar(decimal_comma=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5.10", "5.10"),
        ("12", "12"),
        ("-0.5", "-0.5"),
        ("+7.0", "7.0"),
        (" 4.2 ", "4.2"),
        ("173.", "173"),
        (".5", "0.5"),
        ("007", "7"),
        ("0.00", "0.00"),
        ("12345678901234567890.123", "12345678901234567890.123"),
    ],
)
def test_numbers_keep_their_exact_digits(text: str, shown: str) -> None:
    assert parse_value(text) == Value(ValueKind.NUMERIC, shown, Decimal(shown))


@pytest.mark.parametrize(
    ("text", "comparator", "number"),
    [
        ("<1.20", Comparator.LT, "1.20"),
        ("< 1.20", Comparator.LT, "1.20"),
        (">8", Comparator.GT, "8"),
        (">= 100", Comparator.GE, "100"),
        ("<=0.5", Comparator.LE, "0.5"),
        ("=<0.5", Comparator.LE, "0.5"),
        ("\u2265 3", Comparator.GE, "3"),
    ],
)
def test_a_comparator_may_be_glued_or_apart(text: str, comparator: Comparator, number: str) -> None:
    value = parse_value(text)
    assert (value.kind, value.comparator, value.text) == (ValueKind.NUMERIC, comparator, number)


@pytest.mark.parametrize(
    "text",
    [
        "1e5",
        "3.26E+05",
        "0x10",
        "1_000",
        "1,234.5",
        "1 234",
        "\u0661\u0662",
        "5..1",
        "--",
        "5-",
        "1.2.3",
        "7,41",
        "5.1*",
    ],
)
def test_what_is_not_plainly_a_number_is_none(text: str) -> None:
    assert parse_value(text).number is None


@pytest.mark.parametrize("text", ["NaN", "inf", "-inf", "Infinity", "nan"])
def test_not_a_number_is_a_failed_run(text: str) -> None:
    value = parse_value(text)
    assert (value.kind, value.number) == (ValueKind.FAILED, None)


@pytest.mark.parametrize("text", ["----", "--", "++++", "****", "ERROR", "Invalid", "no result", "ERREUR"])
def test_a_failed_run_is_never_a_number_nor_a_word(text: str) -> None:
    assert parse_value(text).kind is ValueKind.FAILED


@pytest.mark.parametrize(
    "text", ["NEGATIVE", "+", "++", "+++", "-", "Not Detected", "< Titer min", "A^NEG", "Failed well"]
)
def test_words_are_text(text: str) -> None:
    assert parse_value(text) == Value(ValueKind.TEXT, text)


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_sent_is_empty(text: str) -> None:
    assert parse_value(text) == Value(ValueKind.EMPTY)


def test_a_decimal_comma_counts_only_where_the_driver_says_so() -> None:
    assert parse_value("7,41").kind is ValueKind.TEXT
    assert parse_value("7,41", COMMA) == Value(ValueKind.NUMERIC, "7.41", Decimal("7.41"))
    assert parse_value("<40,00", COMMA).comparator is Comparator.LT
    assert parse_value("1.234,5", COMMA).kind is ValueKind.TEXT


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.234", "1234"),
        ("-1.234.567", "-1234567"),
        ("1.234,5", "1234.5"),
        (">1.234", "1234"),
        ("1234", "1234"),
        ("0,5", "0.5"),
        ("1.5", None),  # a point that groups nothing: nobody knows what is meant
        ("1.2345", None),
        ("<1.5", None),
        ("1234.567", None),
        (".5", None),
        ("5.", None),
    ],
)
def test_a_point_between_thousands_is_no_decimal_point(text: str, number: str | None) -> None:
    grammar = ValueGrammar(decimal_comma=True, thousands=".")
    expected = None if number is None else Decimal(number)
    assert parse_value(text, grammar).number == expected
    assert parse_structured(["", text.lstrip("<>")], grammar).number == expected


def test_an_exponent_counts_only_where_the_driver_says_so() -> None:
    assert parse_value("3.26E+05", ValueGrammar(exponent=True)).number == Decimal("326000")
    assert parse_value("3.26E+05").kind is ValueKind.TEXT
    assert parse_value("1E999", ValueGrammar(exponent=True)).kind is ValueKind.TEXT


def test_ratios_keep_both_parts_and_comparator() -> None:
    assert parse_value("1:128") == Value(ValueKind.RATIO, "1:128", None, None, Decimal(1), Decimal(128))
    assert parse_value(">1:1280").comparator is Comparator.GT


def test_a_driver_may_name_its_own_words() -> None:
    grammar = ValueGrammar(failed_words=frozenset({"erreur"}), empty_words=frozenset({"valuenotset"}))
    assert parse_value("ERREUR", grammar).kind is ValueKind.FAILED
    assert parse_value("ValueNotSet", grammar).kind is ValueKind.EMPTY


@pytest.mark.parametrize(
    ("components", "kind", "text", "comparator"),
    [
        ([">", "100"], ValueKind.NUMERIC, "100", Comparator.GT),
        (["", "5.10"], ValueKind.NUMERIC, "5.10", None),
        (["=", "5"], ValueKind.NUMERIC, "5", None),
        (["", "1", ":", "128"], ValueKind.RATIO, "1:128", None),
        ([">", "1", ":", "128"], ValueKind.RATIO, ">1:128", Comparator.GT),
        ([">", "1", "-", "2"], ValueKind.TEXT, ">1-2", None),
        (["", "1", "-", "2"], ValueKind.RANGE, "1-2", None),
        (["", "2", "+"], ValueKind.TEXT, "2+", None),
        (["<>", "4"], ValueKind.TEXT, "<> 4", None),
        (["", "abc"], ValueKind.TEXT, "abc", None),
        (["", ""], ValueKind.EMPTY, "", None),
        (["", "----"], ValueKind.FAILED, "----", None),
    ],
)
def test_structured_numerics_are_read_by_their_separator(
    components: list[str], kind: ValueKind, text: str, comparator: Comparator | None
) -> None:
    value = parse_structured(components)
    assert (value.kind, value.text, value.comparator) == (kind, text, comparator)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_every_plain_decimal_keeps_value_and_places(number: Decimal) -> None:
    value = parse_value(format(number, "f"))
    assert value.number == number
    assert value.text == format(number, "f")


@given(st.text(max_size=60))
def test_any_text_has_one_meaning_and_only_numbers_have_a_number(text: str) -> None:
    value = parse_value(text)
    assert (value.number is not None) == (value.kind is ValueKind.NUMERIC)
    assert (value.numerator is not None) == (value.kind is ValueKind.RATIO)
    if value.kind is ValueKind.NUMERIC:
        assert set(value.text) <= set("0123456789.-")


@pytest.mark.parametrize("said", ["<5", "<1:10", ">=1:640", "5", "1:40", "<reactive", "reactive"])
def test_a_value_is_read_with_its_sign_once(said: str) -> None:
    value = parse_value(said)
    assert signed(value.comparator, value.text) == said
    assert signed(str(value.comparator or ""), value.text) == said  # as it is stored
