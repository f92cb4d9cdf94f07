"""A value that a person puts in the place of what was measured: what the laboratory's rules make of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from interface.domain.decide import Decision, decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.model import SpecimenFacts, Step
from interface.domain.review import Refusal, ReviewError
from interface.domain.values import parse_value
from interface.domain.views import Actor
from interface.store import surroundings
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection
from interface.store.judged_for import measured_by
from interface.store.lab_changes import ResultRow

LONGEST_VALUE = 4000  # characters


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value as a person types it. `unit` "": the test's own."""

    value: str
    unit: str = ""


async def decided(connection: Connection, actor: Actor, row: ResultRow, new: NewValue) -> Decision:
    """What the laboratory's rules make of a typed value."""
    if not new.value.strip() or len(new.value) > LONGEST_VALUE or not new.value.isprintable():
        raise ReviewError(Refusal.INVALID, "a correction needs a value, as it is to be reported")
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    test = catalogue.of_result(str(row.test_id))
    if test is None:
        raise ReviewError(Refusal.CONFLICT, "the result is of no known test: reject it, or map its code and replay")
    locked = await surroundings.lock(connection, (), [row.specimen_id] if row.specimen_id else ())
    specimen = locked.by_id.get(str(row.specimen_id), SpecimenFacts("", ""))
    item = next((one for one in specimen.items if one.id == str(row.order_item_id)), None)
    made = Step(
        "enter", "ok", f"entered by {actor.name}", inputs={"value": new.value.strip(), "unit": new.unit.strip()}
    )
    # Limits may be those of the analyzer or method by which it was measured: of a corrected value they are the same.
    analyzer, method = await measured_by(connection, row.id, row.candidate_id)
    context = DecisionContext(catalogue, received_at=datetime.now(UTC), analyzer=analyzer)
    return decide_value(test, parse_value(new.value), new.unit.strip(), specimen, item, context, made, method)


def columns(decision: Decision, new: NewValue) -> dict[str, object]:
    """The version's columns that a typed value changes. What the analyzer said stays in the versions before."""
    value = decision.value
    return {
        "kind": value.kind, "comparator": value.comparator or "", "value": value.text, "unit": decision.unit,
        "number": None if value.number is None else str(value.number),
        "low": None if decision.low is None else str(decision.low),
        "high": None if decision.high is None else str(decision.high),
        "reference": decision.reference, "flags": list(decision.flags), "raw_value": new.value.strip(),
        "raw_unit": new.unit.strip(), "raw_flags": "", "raw_status": "", "raw_reference": "", "comments": [],
    }  # fmt: skip


def shown(decision: Decision) -> str:
    """The value with its unit, for the explanation."""
    sign = decision.value.comparator or ""
    sign = "" if decision.value.text.startswith(sign) else sign
    return f"{sign}{decision.value.text} {decision.unit}".strip()
