"""By which factor an analyzer says that it diluted: TCD, the details of a test code, beside its results, and SAC, of
the container that they were measured from. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from interface.domain.model import Observed, ValueKind
from interface.domain.values import parse_structured
from interface.wire.hl7 import Segment

UNREAD = Decimal(0)  # something is said that is no factor
_UNDILUTED = Decimal(1)
_PLAIN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def diluted(
    results: Sequence[Observed], codes: Mapping[str, str], details: Iterable[Segment], container: Segment | None = None
) -> list[Observed]:
    """The results of an order with the factors that are said of their codes and of their container. `codes`: by
    location, as sent (OBX-3.1). Where two are said of one code, no factor is."""
    already = _part(container, 29) if container is not None else None
    if already == _UNDILUTED:
        already = None  # of the specimen; it may have been diluted for the test
    factors: dict[str, Decimal] = {}
    for one in details:
        factor, code = _factor(one, already), one.value(1).strip()
        if factor is not None:
            factors[code] = factor if factors.get(code, factor) == factor else UNREAD
    if not factors and already is None:
        return list(results)
    said = [factors.get(codes.get(one.location, ""), already) for one in results]
    return [one if factor is None else replace(one, dilution=factor) for one, factor in zip(results, said, strict=True)]


def factor_of(text: str, pattern: re.Pattern[str] | None) -> Decimal | None:
    """What a LIS2 field says: a factor, or by the driver's pattern several that are multiplied; None where it says
    nothing."""
    text = text.strip()
    if not text:
        return None
    found = pattern.search(text) if pattern is not None else None
    parts = found.groups() if found is not None else (text,)
    total = _UNDILUTED
    for part in parts:
        if not _PLAIN.fullmatch(part or "") or (number := Decimal(part)) < _UNDILUTED:
            return UNREAD
        total *= number
    return total


def _factor(detail: Segment, already: Decimal | None) -> Decimal | None:
    """HL7 v2.5.1 13.4.10: TCD-2 the factor of the automatic dilution, TCD-4 that of one before it, `^1^:^5`. 13.4.3.29:
    SAC-29 the dilution that was performed on the specimen already, which is one before it: said twice it is one, and
    where the two are not the same nobody knows."""
    auto, before = _part(detail, 2), _part(detail, 4)
    if before is not None and already is not None and before != already:
        return UNREAD
    before = already if before is None else before
    if auto is None or before is None:
        return auto if before is None else before
    return auto * before


def _part(detail: Segment, number: int) -> Decimal | None:
    """One part in so many; in none (`^1^:^0`) is not diluted, and says no more than an empty field."""
    value = parse_structured(detail.components(number))
    if value.kind is ValueKind.EMPTY or (value.kind is ValueKind.RATIO and value.denominator == 0):
        return None
    if (
        value.kind is ValueKind.RATIO
        and value.numerator == 1
        and value.denominator is not None
        and value.denominator >= _UNDILUTED
    ):
        return value.denominator
    return UNREAD
