"""Numbers of checks and calculations, however many digits an analyzer sends."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.exact import rounded, shown


@pytest.mark.parametrize(
    ("number", "decimals", "made"),
    [
        ("1.005", 2, "1.01"),
        ("-0.004", 2, "0.00"),
        ("0", 2, "0.00"),
        ("7.25", None, "7.25"),
        ("9" * 39, 2, "9" * 39 + ".00"),
        ("1e122", 3, "1" + "0" * 122 + ".000"),  # a per cent of the largest by the smallest that is measured
    ],
)
def test_a_number_has_so_many_digits_after_the_point(number: str, decimals: int | None, made: str) -> None:
    assert f"{rounded(Decimal(number), decimals):f}" == made


def test_what_is_larger_than_anything_measured_is_left_as_it_is() -> None:
    assert rounded(Decimal("1e999"), 2) == Decimal("1e999")
    assert shown(Decimal("1e200")) == "1" + "0" * 200
