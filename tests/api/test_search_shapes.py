"""A statement that is remembered by a search's shape is the one that would be made, with that search's values."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from interface.api.fhir.search import Reader, Search
from interface.api.fhir.types import TYPES
from interface.domain.permissions import Restriction
from interface.domain.views import Audience
from interface.store.search.engine import Covered, Place, Rows, form_of
from interface.store.search.kinds import kinds
from interface.store.search.shapes import MOST_SHAPES, Shapes

KINDS = kinds(Audience.EMR)
READER = Reader(KINDS, {name: (Restriction(),) for name in TYPES}, "http://lab", datetime(2026, 11, 26, tzinfo=UTC))
ONE, OTHER = "01a21824-a424-7760-a1f0-3ef051021a2d", "01a21824-a424-7760-a1f0-3ef051021a2e"
CODE, VALUE = "http://loinc.org", "http://unitsofmeasure.org"
# Parameters of one search, and of another that differs from it in values only
ALIKE = (
    (f"patient={ONE}", f"patient={OTHER}"),
    (f"subject=Patient/{ONE}&category=laboratory", f"subject=Patient/{OTHER}&category=imaging"),
    (f"patient={ONE}&date=ge2026-01-01&date=lt2026-06", f"patient={OTHER}&date=ge2020&date=lt2021-02-03"),
    (f"patient={ONE}&code={CODE}|718-7", f"patient={OTHER}&code={CODE}|2345-7"),
    (f"patient={ONE}&status=final&_sort=-date", f"patient={OTHER}&status=amended&_sort=-date"),
    (f"patient={ONE}&code:text=hem", f"patient={OTHER}&code:text=glu"),
    (f"_id={ONE}", f"_id={OTHER}"),
    (f"value-quantity=gt5.4|{VALUE}|g/L", f"value-quantity=gt7|{VALUE}|mmol/L"),
)
# of which no two may be taken for one another
DIFFERENT = (
    f"patient={ONE}&date=ge2026-01-01", f"patient={ONE}&date=gt2026-01-01", f"patient={ONE}&date=2026-01-01",
    f"patient={ONE}&date=ne2026-01-01", f"patient={ONE}&_lastUpdated=ge2026-01-01", f"patient={ONE}&code={CODE}|718-7",
    f"patient={ONE}&code=718-7", f"patient={ONE}&code={CODE}|", f"patient={ONE}&code:not=718-7",
    f"patient={ONE}&code=718-7,2345-7", f"patient={ONE},{OTHER}", f"specimen={ONE}", f"_id={ONE}",
    f"patient={ONE}&_sort=date", f"patient={ONE}&_sort=-date", f"patient={ONE}&_count=7",
    f"patient={ONE}&date:missing=true", f"patient={ONE}&patient={OTHER}", "patient.identifier=7",
    "status=final", "status=final&category=laboratory",
)  # fmt: skip
PLACE, LATER = Place((), UUID(ONE)), Place((), UUID(OTHER))


def asked(parameters: str) -> Search:
    return READER.search("Observation", [tuple(each.split("=", 1)) for each in parameters.split("&")], strict=True)  # type: ignore[misc]


def page(shapes: Shapes, search: Search, after: Place | None = None) -> Covered:
    """The page that is remembered or made, which has its own form."""
    known = shapes.page(Rows("Observation", search.where), search.order, after, search.count)
    assert known.form == (form_of(known.page) if known.page.one else None)
    return known.page


def made(search: Search, after: Place | None = None) -> Covered:
    return Covered.of(KINDS, Rows("Observation", search.where), search.order, after, search.count)


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_searches_of_one_shape_are_one_statement_with_the_values_of_each(first: str, second: str) -> None:
    shapes, one, two = Shapes(KINDS), asked(first), asked(second)
    assert page(shapes, one) == made(one)
    found = page(shapes, two)
    assert found == made(two) != made(one)
    assert found.text is page(shapes, one).text, "it is remembered"


@pytest.mark.parametrize("after", [None, PLACE])
def test_searches_of_different_shapes_are_different_statements(after: Place | None) -> None:
    shapes = Shapes(KINDS)
    for parameters in (*DIFFERENT, *DIFFERENT):
        search = asked(parameters)
        place = Place(("2026-01-01",) * len(search.order.by), after.id) if after is not None else None
        assert page(shapes, search, place) == made(search, place), parameters


def test_the_next_page_is_another_statement_with_the_place_it_begins_at() -> None:
    shapes, search = Shapes(KINDS), asked(f"patient={ONE}")
    for after in (None, PLACE, LATER, None):
        assert page(shapes, search, after) == made(search, after)


def test_what_is_remembered_has_a_bound() -> None:
    shapes = Shapes(KINDS)
    for count in range(1, MOST_SHAPES + 20):
        search = asked(f"patient={ONE}&_count={count}")
        assert page(shapes, search) == made(search)
        assert len(shapes) <= MOST_SHAPES
