"""A decoded message's controls and calibrators as rows. No input or output but new ids."""

from __future__ import annotations

from uuid import UUID

from interface.domain.catalogue import Catalogue
from interface.domain.model import CodeMapping, HoldReason, Observed, ObservedSpecimen
from interface.domain.qc_arrival import QcProblem
from interface.domain.times import measured_at
from interface.flow.outcome import instant
from interface.flow.work import Work
from interface.store.controls import ControlResult
from interface.store.ids import uuid7

# What the driver says against a record, where its fields may be another's.
_UNREADABLE = frozenset({HoldReason.UNREADABLE_VALUE, HoldReason.AMBIGUOUS_SPECIMEN})
_OF_ITS_RECORD = _UNREADABLE | {HoldReason.UNMAPPED_CODE}  # all else the analyzer says of the measurement


def controls_of(work: Work, catalogue: Catalogue) -> tuple[ControlResult, ...]:
    """A message's controls and calibrators as rows. What its driver calls a detail is one where a map names it."""
    return tuple(
        _control(work, catalogue, *one) for one in work.controls() if not one[1].detail or catalogue.maps(one[1].code)
    )


def _control(
    work: Work, catalogue: Catalogue, specimen: ObservedSpecimen, observed: Observed, key: bytes
) -> ControlResult:
    mapping = catalogue.mapping(observed.code, specimen.type)
    received_at = work.message.received_at
    instrument_at = instant(observed.instrument_time, work.zone, work.by_rote, received_at)
    said, value = observed.measured_with, observed.value
    return ControlResult(
        id=uuid7(),
        natural_key=key,
        message_id=work.message.id,
        analyzer_id=work.link.analyzer_id,
        role=specimen.role.value,
        kind=value.kind.value,
        measured_at=measured_at(instrument_at, received_at),
        specimen_as_sent=specimen.specimen_id or "",
        code=observed.code,
        test_id=UUID(mapping.test_id) if mapping and mapping.test_id else None,
        number=value.number if value.comparator is None else None,  # `<5` is not 5
        value=value.text if value.number is None else f"{value.comparator or ''}{value.text}",
        raw_value=observed.raw_value,
        unit=_control_unit(observed, mapping),
        raw_flags=" ".join(observed.flags),
        instrument_time=observed.instrument_time,
        instrument_at=instrument_at,
        location=observed.location,
        module=said.module,
        lot_as_sent=said.control_lot,
        level_as_sent=said.level,
        reagent_lot=said.reagent_lot,
        calibrator_lot=said.calibrator_lot,
        doubts=tuple([hold.value for hold in observed.holds if hold not in _OF_ITS_RECORD]),
        barcode=work.barcode(specimen),
        doubt=_doubt(work, observed),
    )


def _control_unit(observed: Observed, mapping: CodeMapping | None) -> str:
    """The unit its number is in: as the driver reads what was sent, else as sent, else as the map says."""
    sent = observed.unit if observed.ucum is None else observed.ucum
    return sent or (mapping.unit if mapping else "")


def _doubt(work: Work, observed: Observed) -> str:
    if work.incomplete:
        return QcProblem.INCOMPLETE.value
    if HoldReason.DRIVER_MISMATCH in work.holds:
        return QcProblem.DRIVER_MISMATCH.value
    return "" if _UNREADABLE.isdisjoint(observed.holds) else QcProblem.UNREADABLE.value
