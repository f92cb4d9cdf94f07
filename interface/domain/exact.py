"""Arithmetic of checks and calculations: Decimal in one context of its own, so that nothing else changes a result."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from interface.domain.model import LabTest, Value, ValueKind
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance, convert

EXACT = Context(prec=34, rounding=ROUND_HALF_EVEN)  # as many digits as a conversion of units keeps
# Powers, roots, logarithms: correct to within the last of these digits, and what is printed has at most ten.
_FARTHEST = 60  # powers of ten from one; a number that decisions take has at most forty digits on either side
# To round by: room for all digits that a number, a ratio of two, or a per cent of it may have.
_WIDE = Context(prec=4 * _FARTHEST, rounding=ROUND_HALF_EVEN)
FINE = Context(prec=22, rounding=ROUND_HALF_EVEN)
_NUMERIC = ValueKind.NUMERIC


def rounded(number: Decimal, decimals: int | None) -> Decimal:
    """Half up to so many digits after the point, as a result is reported; never -0. What is larger than anything that
    is measured is left as it is: of its digits none is after the point."""
    if decimals is None or number.adjusted() > 3 * _FARTHEST:
        return number
    made = number.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=_WIDE)
    return made if made else made.copy_abs()


def exact_number(value: Value) -> Decimal | None:
    """The number of a value that is one; None for `<5`, words, and whatever else stands for more than one number."""
    if value.kind is not _NUMERIC or value.comparator is not None or not measurable(value.number):
        return None
    return value.number


def measurable(number: Decimal | None) -> bool:
    """Whether it can be computed with: a finite number, and no larger or smaller than anything is measured."""
    return number is not None and number.is_finite() and -_FARTHEST <= number.adjusted() <= _FARTHEST


def in_unit(number: Decimal, from_unit: str, to_unit: str, substance: Substance = UNKNOWN_SUBSTANCE) -> Decimal:
    """`number` in another unit; raises UnknownUnit."""
    return number if from_unit == to_unit else convert(number, from_unit, to_unit, substance)


def in_unit_of(test: LabTest, number: Decimal, from_unit: str, to_unit: str) -> Decimal:
    return in_unit(number, from_unit, to_unit, test.substance)


def shown(number: Decimal, decimals: int = 1) -> str:
    """For an explanation."""
    return f"{rounded(number, decimals):f}"
