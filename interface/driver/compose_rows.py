"""Blocks of a declared layout about one specimen, in the shape of a vector's. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from interface.driver.layout import Fields, Meaning, Place
from interface.driver.leaves import fitted
from interface.driver.planned import Measured, Run, Stamp, timed
from interface.driver.repertoire import Repertoire, RowShape
from interface.driver.rows import Row
from interface.errors import DriverError

_OF_PATIENT = (Meaning.PATIENT_ID, Meaning.PATIENT_NAME, Meaning.BIRTH_DATE, Meaning.SEX)


def compose_rows(known: Repertoire, shape: RowShape, run: Run, stamp: Stamp) -> tuple[bytes, ...]:
    """The texts of the blocks. Raises DriverError where a result has no record to be written in, or does not fit."""
    layout, old = shape.rows.layout, shape.specimen.specimen_id or ""
    waiting = {one.code: one for one in run.results}
    rows: list[Row] = []
    for template in shape.rows.templates:
        if not waiting.keys() & set(template.codes):
            continue
        row = shape.rows.row(template)
        _of_specimen(row, layout.fields, old, run.specimen_id)
        for at, code in enumerate(template.codes):
            fields = {**layout.fields, **(template.places[at] if at < len(template.places) else {})}
            if code in waiting:
                _result(row, fields, waiting.pop(code))
            for places in fields.get(Meaning.INSTRUMENT_TIME, ()):
                for place in _sent(places):
                    row.put(place, timed(row.get(place), stamp.at))
        rows.append(row)
    if waiting:
        raise DriverError(f"driver {known.driver.id}: no record of its vectors says {', '.join(sorted(waiting))}")
    opening = shape.rows.opening()
    if opening is not None:
        _of_specimen(opening, layout.fields, old, run.specimen_id)
    return shape.rows.blocks(opening, rows)


def said_with(shape: RowShape, code: str, others: Collection[str]) -> bool:
    """Whether a code stands in one record with any of the others."""
    return any(code in one.codes and not set(others).isdisjoint(one.codes) for one in shape.rows.templates)


def _sent(places: tuple[Place, ...]) -> Iterator[Place]:
    return (place for place in places if place.word is None)


def _of_specimen(row: Row, fields: Mapping[Meaning, tuple[tuple[Place, ...], ...]], old: str, new: str) -> None:
    for places in fields.get(Meaning.SPECIMEN_ID, ()):
        for place in _sent(places):
            before = row.get(place)
            if old and old in before:
                row.replace(place, fitted(before, old, new).strip())
    for meaning in _OF_PATIENT:
        for places in fields.get(meaning, ()):
            for place in _sent(places):
                if row.get(place).strip():
                    row.put(place, "")


def _result(row: Row, fields: Fields, result: Measured) -> None:
    """The value in its place; the flag too, where it is another."""
    for places in fields.get(Meaning.VALUE, ()):
        sent = list(_sent(places))
        if len(sent) == 1 and row.get(sent[0]).strip():
            row.replace(sent[0], result.raw)
            break
    if result.flags != result.like.flags:
        for places in fields.get(Meaning.FLAGS, ()):
            for place in _sent(places):
                row.replace(place, result.flags[0] if result.flags else "")
