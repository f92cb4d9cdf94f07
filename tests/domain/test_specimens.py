from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.specimens import mistyped, order_stem, own_number

STEMS = st.from_regex(r"[0-9]{8}", fullmatch=True)


def test_a_number_is_year_order_place_and_luhns_check_digit() -> None:
    # By hand: of 2600000101 every second digit from the right doubled is 1 1 and 6, so 2 + 2 + (1 + 2), with the 2
    # that is not doubled 9; 1 makes it ten.
    assert own_number("26000001", 1) == "26000001011"
    assert order_stem("2026-000001") == "26000001"
    assert order_stem("2026-1234567") == "261234567"
    assert order_stem("N-1") == ""


@given(STEMS, st.integers(1, 99), st.integers(0, 10), st.integers(1, 9))
def test_one_wrong_digit_is_told(stem: str, place: int, at: int, by: int) -> None:
    number = own_number(stem, place)
    assert not mistyped(number)
    wrong = f"{number[:at]}{(int(number[at]) + by) % 10}{number[at + 1 :]}"
    assert mistyped(wrong)


@given(STEMS, st.integers(1, 99), st.integers(0, 9))
def test_neighbours_that_change_places_are_told_but_for_09_and_90(stem: str, place: int, at: int) -> None:
    number = own_number(stem, place)
    pair = number[at : at + 2]
    swapped = number[:at] + pair[::-1] + number[at + 2 :]
    assert mistyped(swapped) is (pair[0] != pair[1] and set(pair) != {"0", "9"})


@pytest.mark.parametrize("barcode", ["", "B1", "2600000101", "26000001011-1", "A1234567890123"])
def test_other_numbers_are_nobodys_mistake(barcode: str) -> None:
    assert not mistyped(barcode)
