"""What was sent against what was read: every result is accounted for, by a FHIR Observation or as held for a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from interface.demo.client import Json
from interface.demo.plan import PlannedSpecimen, Reported, Sent, expected, justified, mapped_test

TEST_SYSTEM = "urn:labora:test"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table, as the EMR read it."""

    specimen: str
    test: str
    value: str
    unit: str
    flag: str
    status: str


@dataclass(frozen=True, slots=True)
class Held:
    """A result that waits for a person."""

    specimen: str
    code: str
    raw_value: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one specimen. `differences`: a sentence each; none when what was read is what was sent."""

    rows: tuple[Row, ...]
    held: tuple[Held, ...]
    differences: tuple[str, ...]


def compare(specimen: PlannedSpecimen, results: Sequence[Json], observations: Sequence[Json]) -> Outcome:
    """`results`: all that the laboratory has of the specimen, as staff see it. `observations`: what the EMR read."""
    differences: list[str] = []
    held: list[Held] = []
    released: list[Sent] = []
    rest = list(results)
    for sent in specimen.sent:
        found = next((one for one in rest if (one["code"], one["raw_value"]) == (sent.code, sent.raw_value)), None)
        if found is None:
            differences.append(f"{specimen.barcode} {sent.code}: {sent.raw_value!r} was sent and is not there")
            continue
        rest.remove(found)
        if not found["held"]:
            released.append(sent)
            continue
        held.append(Held(specimen.barcode, sent.code, sent.raw_value, tuple(found["held"])))
        if wrong := set(found["held"]) - justified(specimen, sent):
            differences.append(f"{specimen.barcode} {sent.code}: held for {', '.join(sorted(wrong))} without a cause")
    differences += [f"{specimen.barcode} {one['code']}: {one['raw_value']!r} was never sent" for one in rest]
    differences += _read_back(specimen, released, observations)
    tests = [test.code for sent in specimen.sent if (test := mapped_test(specimen.link, sent.code))]
    order = {code: place for place, code in enumerate(tests)}  # the analyzer's, for the reader
    rows = sorted(
        (_row(specimen.barcode, one) for one in observations), key=lambda row: order.get(row.test, len(order))
    )
    return Outcome(tuple(rows), tuple(held), tuple(differences))


def _read_back(specimen: PlannedSpecimen, released: Sequence[Sent], observations: Sequence[Json]) -> Iterator[str]:
    """Each released result is read exactly once, with its value; nothing else is."""
    unread = list(observations)
    for sent in released:
        want = expected(specimen.link, sent)
        if want is None:
            yield f"{specimen.barcode} {sent.code}: released, though it is no result the laboratory knows"
            continue
        of_test = [one for one in unread if _test(one) == want.test.code]
        found = next((one for one in of_test if _equal(one, want)), None)
        if found is None:
            read = ", ".join(" ".join(_value(one)) for one in of_test) or "nothing"
            yield f"{specimen.barcode} {want.test.code}: sent as {_said(want)}, read as {read}"
            found = of_test[0] if of_test else None
        if found is not None:
            unread.remove(found)
    yield from (f"{specimen.barcode} {_test(one)}: read by the EMR, but not released" for one in unread)


def _equal(observation: Json, want: Reported) -> bool:
    if observation.get("status") not in ("final", "corrected", "amended"):
        return False
    if want.number is None:
        return _value(observation)[0] == want.text
    quantity = observation.get("valueQuantity", {})
    read = (quantity.get("value"), quantity.get("comparator", ""), quantity.get("code", ""))
    return read == (want.number, want.comparator, want.test.unit)


def _said(want: Reported) -> str:
    return want.text if want.number is None else f"{want.comparator}{want.number} {want.test.unit}"


def _test(observation: Json) -> str:
    codings = observation.get("code", {}).get("coding", [])
    return next((coding["code"] for coding in codings if coding.get("system") == TEST_SYSTEM), "?")


def _value(observation: Json) -> tuple[str, str]:
    """Value and unit as they are shown."""
    if "valueQuantity" in observation:
        quantity = observation["valueQuantity"]
        value = quantity.get("value")
        shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
        return quantity.get("comparator", "") + shown, quantity.get("unit", "")
    if "valueCodeableConcept" in observation:
        return str(observation["valueCodeableConcept"].get("text", "")), ""
    return str(observation.get("valueString", "")), ""


def _row(barcode: str, observation: Json) -> Row:
    value, unit = _value(observation)
    codings = [coding for concept in observation.get("interpretation", []) for coding in concept.get("coding", [])]
    flag = " ".join(coding["code"] for coding in codings)
    return Row(barcode, _test(observation), value, unit, flag, observation.get("status", ""))
