"""What a decoded message comes to: decisions on its results, as rows to write. No input or output but new ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

from interface.domain.catalogue import Catalogue
from interface.domain.decide import Decision, DecisionContext, decide
from interface.domain.identity import natural_key
from interface.domain.model import (
    RELEASED,
    DecodedMessage,
    HoldReason,
    Observed,
    ObservedSpecimen,
    ResultStatus,
    SpecimenFacts,
    SpecimenRole,
    Step,
)
from interface.domain.times import instrument_instant
from interface.domain.views import ActorKind
from interface.flow.context import LinkContext
from interface.settings import Unsolicited
from interface.store.ids import uuid7
from interface.store.journal import StoredMessage
from interface.store.results import ControlResult, CurrentResult, Outcome, ResultVersion


@dataclass(frozen=True, slots=True)
class Work:
    """A message that has been decoded and waits for its decision."""

    message: StoredMessage
    link: LinkContext
    decoded: DecodedMessage
    holds: tuple[HoldReason, ...] = ()  # what stands against the whole message
    _keyed: tuple[tuple[ObservedSpecimen, Observed, bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "_keyed",
            tuple(
                (specimen, observed, self._key(specimen, observed, alone=not specimen.specimen_id))
                for specimen in self.decoded.specimens
                if _is_patient(specimen)
                for observed in specimen.results
            ),
        )

    @property
    def incomplete(self) -> bool:
        return self.message.state == "incomplete"

    @property
    def barcodes(self) -> list[str]:
        """The patient specimens it speaks of; results of one specimen are decided in the order they came."""
        return sorted({s.specimen_id for s in self.decoded.specimens if s.specimen_id and _is_patient(s)})

    def keys(self) -> list[bytes]:
        """The natural keys of its patient results."""
        return [key for _, _, key in self._keyed]

    def observations(self) -> tuple[tuple[ObservedSpecimen, Observed, bytes], ...]:
        """Its patient results with their natural keys, in the order of the message."""
        return self._keyed

    def controls(self) -> Iterator[tuple[ObservedSpecimen, Observed, bytes]]:
        """Its results on no patient's specimen. Without an instrument time each message is a point of its own."""
        for specimen in self.decoded.specimens:
            if not _is_patient(specimen):
                for observed in specimen.results:
                    yield specimen, observed, self._key(specimen, observed, alone=not observed.instrument_time)

    def _key(self, specimen: ObservedSpecimen, observed: Observed, *, alone: bool) -> bytes:
        return natural_key(
            str(self.link.analyzer_id), specimen, observed, message=str(self.message.id) if alone else ""
        )


def _is_patient(specimen: ObservedSpecimen) -> bool:
    return specimen.role is SpecimenRole.PATIENT


Specimens = Mapping[str, tuple[SpecimenFacts, ...]]


def keys_apart(work: Work, specimens: Specimens, current: Mapping[bytes, CurrentResult]) -> dict[bytes, bytes]:
    """The natural keys under which there is a result of another specimen, each with the key to take instead.

    A barcode that is used again, on an analyzer that sends no time, has the keys of the tube that carried it before:
    the result of the one is never a version of the other's.
    """
    apart = {}
    for specimen, observed, key in work.observations():
        known = current.get(key)
        found = specimens.get(specimen.specimen_id or "", ())
        specimen_id = _uuid(found[0].id) if len(found) == 1 else None
        if known is None or known.specimen_id == specimen_id:
            continue
        if known.specimen_id is None and known.status not in RELEASED:
            continue  # what came before its order belongs to the specimen once there is one
        own = f"specimen {specimen_id or 'not known'}"
        apart[key] = natural_key(str(work.link.analyzer_id), specimen, observed, message=own)
    return apart


def outcome_of(
    work: Work,
    catalogue: Catalogue,
    specimens: Specimens,
    current: Mapping[bytes, CurrentResult],
    apart: Mapping[bytes, bytes] = MappingProxyType({}),
    closed: frozenset[str] = frozenset(),
) -> Outcome:
    """Decide every result of a message. `current`: what exists under the message's natural keys; `apart`: see
    `keys_apart`; `closed`: barcodes of specimens that are not open any more."""
    versions = tuple(_versions(work, catalogue, specimens, current, apart, closed))
    controls = tuple(_control(work, catalogue, *one) for one in work.controls())
    problems = tuple(f"{problem.location}: {problem.text}" for problem in work.decoded.problems)
    held = problems or work.incomplete or any(version.held for version in versions)
    settled, reason = ("held", "") if held else ("released", "")
    if work.decoded.queries and not versions and not controls:
        settled, reason = "rejected", "query_not_answered"
    return Outcome(work.message.id, settled, work.link.link_id, work.link.name, versions, controls, problems, reason)


def _versions(
    work: Work,
    catalogue: Catalogue,
    specimens: Specimens,
    current: Mapping[bytes, CurrentResult],
    apart: Mapping[bytes, bytes],
    closed: frozenset[str],
) -> Iterator[ResultVersion]:
    for version in decisions(work, catalogue, specimens, apart, closed):
        known = current.get(version.natural_key)
        if known is None:
            yield version
        elif (changed := _changed(version, known, incomplete=work.incomplete)) is not None:
            yield changed


def decisions(
    work: Work,
    catalogue: Catalogue,
    specimens: Specimens,
    apart: Mapping[bytes, bytes] = MappingProxyType({}),
    closed: frozenset[str] = frozenset(),
) -> Iterator[ResultVersion]:
    """The decision on every patient result of a message, each as the first version of a result of its own."""
    patients = work.decoded.patients
    context, of = DecisionContext(catalogue), None
    for specimen, observed, as_sent in work.observations():
        # What its driver calls a detail of another result is kept in the message, and is a result where a map names it.
        if observed.detail and not catalogue.maps(observed.code):
            continue
        if specimen is not of:
            of = specimen
            context = DecisionContext(
                catalogue,
                driver=work.link.driver.id,
                driver_revision=work.link.driver.revision,
                specimens=specimens.get(specimen.specimen_id or "", ()),
                observed_patient=patients[specimen.patient] if specimen.patient is not None else None,
                # A tube that was closed or rejected is no unknown one: its results are never taken without an order.
                unsolicited=Unsolicited.HOLD if specimen.specimen_id in closed else work.link.settings.unsolicited,
                incomplete=work.incomplete,
                received_at=work.message.received_at,
                holds=work.holds,
            )
        yield _version(work, specimen, observed, apart.get(as_sent, as_sent), decide(observed, specimen, context))


def _changed(version: ResultVersion, known: CurrentResult, *, incomplete: bool) -> ResultVersion | None:
    """The next version of a result that exists, or None where this says nothing new (DESIGN §1.2, §1.4)."""
    said = (version.raw_value, version.raw_unit, version.raw_flags, version.raw_status, version.comments)
    same = said == known.said
    following = replace(version, result_id=known.id, version=known.last_version + 1, fresh=False)
    if known.status in RELEASED:
        if same or said == known.pending_said:
            return None
        held = (*version.held, HoldReason.CHANGED_AFTER_RELEASE)
        text = f"version {known.version} is released and stays current until a person decides"
        step = Step("version", "hold", text, inputs={"replaces": str(known.version_id)})
        steps = (*version.steps, step)
        return replace(following, pending=True, held=held, status=ResultStatus.REGISTERED, steps=steps)
    decided_alike = frozenset(version.held) == known.held and version.specimen_id == known.specimen_id
    if same and (incomplete or decided_alike):
        if known.status not in (ResultStatus.CANCELLED, ResultStatus.ENTERED_IN_ERROR) or incomplete:
            return None
    text = "the same analyzer, specimen, code, occurrence and instrument time: a new version"
    step = Step("version", "ok", text, inputs={"replaces": str(known.version_id)})
    return replace(following, steps=(*version.steps, step))


def _version(
    work: Work, specimen: ObservedSpecimen, observed: Observed, key: bytes, decision: Decision
) -> ResultVersion:
    came = Step(
        "receive", "ok", f"{work.message.state} message on link {work.link.name}",
        inputs={"message": str(work.message.id), "location": observed.location},
    )  # fmt: skip
    test, item = decision.test, decision.item
    return ResultVersion(
        id=uuid7(),
        result_id=uuid7(),
        version=1,
        fresh=True,
        pending=False,
        natural_key=key,
        status=decision.status,
        held=decision.holds,
        kind=decision.value.kind.value,
        message_id=work.message.id,
        actor_kind=ActorKind.LINK,
        actor_id=work.link.link_id,
        analyzer_id=work.link.analyzer_id,
        specimen_id=_uuid(decision.specimen.id if decision.specimen else None),
        patient_id=_uuid(decision.patient_id),
        order_id=_uuid(item.order_id if item else None),
        order_item_id=_uuid(item.id if item else None),
        test_id=_uuid(test.id if test else None),
        location=observed.location,
        specimen_as_sent=specimen.specimen_id or "",
        code=observed.code,
        code_path=observed.code_path,
        raw_value=observed.raw_value,
        raw_unit=observed.unit,
        raw_flags=" ".join(observed.flags),
        raw_status=observed.status,
        raw_reference=observed.reference,
        instrument_time=observed.instrument_time,
        instrument_at=_instant(observed.instrument_time, work.link.settings.timezone),
        comments=observed.comments,
        test_code=test.code if test else "",
        test_name=test.name if test else observed.name,
        loinc=test.loinc if test else "",
        comparator=decision.value.comparator.value if decision.value.comparator else "",
        number=decision.value.number,
        value=decision.value.text,
        unit=decision.unit,
        low=decision.low,
        high=decision.high,
        reference=decision.reference,
        flags=decision.flags,
        steps=(came, *decision.steps),
        driver_revision=f"{work.link.driver.id} {work.link.driver.revision}",
        map_revision=decision.map_revision,
    )


def _control(
    work: Work, catalogue: Catalogue, specimen: ObservedSpecimen, observed: Observed, key: bytes
) -> ControlResult:
    mapping = catalogue.mapping(observed.code, specimen.type)
    return ControlResult(
        id=uuid7(),
        natural_key=key,
        message_id=work.message.id,
        analyzer_id=work.link.analyzer_id,
        role=specimen.role.value,
        kind=observed.value.kind.value,
        specimen_as_sent=specimen.specimen_id or "",
        code=observed.code,
        test_id=_uuid(mapping.test_id if mapping else None),
        number=observed.value.number,
        value=observed.value.text,
        raw_value=observed.raw_value,
        unit=observed.unit,
        raw_flags=" ".join(observed.flags),
        instrument_time=observed.instrument_time,
        instrument_at=_instant(observed.instrument_time, work.link.settings.timezone),
        location=observed.location,
    )


@lru_cache(maxsize=1024)  # one message, one time for most of its results
def _instant(text: str, timezone: str) -> datetime | None:
    return instrument_instant(text, ZoneInfo(timezone))


@lru_cache(maxsize=4096)  # the same tests in every message, the same specimen in every result of one
def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None
