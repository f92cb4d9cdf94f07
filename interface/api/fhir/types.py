"""The FHIR types that are served: who may read each, and how the rows that a search found become resources.

A row here and one in `store.search.kinds` are all that a type needs to be read, searched, included, chained, and said
in the CapabilityStatement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from interface.api.fhir.observations import ShownResult
from interface.domain.permissions import Permission
from interface.domain.search import Among
from interface.domain.views import Audience, ObservationRow, ReportView
from interface.flow import reports
from interface.render import fhir
from interface.render.fhir import Json
from interface.render.fhir.binaries import presented_form
from interface.render.json import dumps
from interface.store import evidence, lab, patients, practitioners
from interface.store.db import Connection
from interface.store.lab import OrderFilter, SpecimenFilter
from interface.store.patients import PatientFilter
from interface.store.practitioners import ProviderFilter
from interface.store.query import Page
from interface.store.search.engine import Covered, Order, Row, Rows
from interface.store.search.kinds import kinds


@dataclass(frozen=True, slots=True)
class Shown:
    """One resource as it is shown. `patient_id`: whose data it is."""

    id: UUID
    resource: Json
    updated_at: datetime
    patient_id: UUID | None

    @property
    def name(self) -> str:
        """The id as a text."""
        return str(self.id)

    @property
    def json(self) -> bytes:
        return dumps(self.resource)

    @property
    def version(self) -> str:
        """meta.versionId."""
        found: str = self.resource["meta"]["versionId"]
        return found


class ShownRow(NamedTuple):
    """The same of a row that is rendered when it is asked for."""

    row: ObservationRow

    @property
    def id(self) -> UUID:
        return self.row.id

    @property
    def name(self) -> str:
        """The id as a text."""
        return str(self.row.id)

    @property
    def patient_id(self) -> UUID | None:
        return self.row.patient_id

    @property
    def updated_at(self) -> datetime:
        return datetime.fromisoformat(self.row.updated)

    @property
    def version(self) -> str:
        return str(self.row.version_id)

    @property
    def resource(self) -> Json:
        return fhir.observation_of(self.row)

    @property
    def json(self) -> bytes:
        return fhir.observation_json(self.row)


AnyShown = Shown | ShownRow | ShownResult
Fetch = Callable[[Connection, Sequence[UUID], Audience], Awaitable[Sequence[AnyShown]]]  # in any order


@dataclass(frozen=True, slots=True)
class Type:
    """One resource type. `summary`: the elements that its StructureDefinition (R4) marks as summary; `required`: those
    that a resource must have. `by_rule`: `fetch` itself leaves out what the audience may not see. `read`: shows what
    the cover of its `Kind` gives."""

    name: str
    permission: Permission
    fetch: Fetch
    summary: frozenset[str]
    required: frozenset[str] = frozenset()
    by_rule: bool = False
    read: Callable[[Row, Audience], AnyShown] | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a resource of a type that has no table of records can be shown by; as of a `Type`."""

    name: str
    summary: frozenset[str]
    required: frozenset[str]


async def _patients(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    filter = PatientFilter(ids=tuple(ids), page=Page(limit=len(ids)))
    found = await patients.find_patients(connection, filter)
    return [Shown(view.id, fhir.patient(view), view.updated_at, view.id) for view in found]


async def _results(connection: Connection, ids: Sequence[UUID], audience: Audience) -> Sequence[AnyShown]:
    limit = 1 << len(ids).bit_length()  # in the statement's text: few different ones are planned
    rows = Rows("Observation", Among(tuple(ids)))
    found, _ = await Covered.of(kinds(audience), rows, Order(), None, limit).find(connection)
    return [ShownResult.of(row, audience) for row in found]


async def _reports(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    found = await lab.find_reports(connection, OrderFilter(ids=tuple(ids), page=Page(limit=len(ids))), audience)
    laboratory = await evidence.laboratory(connection)
    printed = await reports.attached(connection, ids, audience)
    return [
        Shown(
            one.order.id,
            fhir.diagnostic_report(one, laboratory) | _presented(one, printed.get(one.order.id)),
            one.updated_at,
            one.order.patient_id,
        )
        for one in found
    ]


def _presented(view: ReportView, printed: reports.Attached | None) -> Json:
    known = (printed.report, printed.hash, printed.size) if printed is not None else (None, None, None)
    forms = presented_form(view, *known)
    return {"presentedForm": forms} if forms else {}


async def _requests(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    found = await lab.find_orders(connection, OrderFilter(item_ids=tuple(ids), page=Page(limit=len(ids))), audience)
    wanted = frozenset(ids)
    return [
        Shown(item.id, fhir.service_request(order, item), order.updated_at, order.patient_id)
        for order in found
        for item in order.items
        if item.id in wanted
    ]


async def _specimens(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    found = await lab.find_specimens(connection, SpecimenFilter(ids=tuple(ids), page=Page(limit=len(ids))), audience)
    return [Shown(view.id, fhir.specimen(view), view.updated_at, view.patient_id) for view in found]


async def _practitioners(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    filter = ProviderFilter(ids=tuple(ids), page=Page(limit=len(ids)))
    found = await practitioners.find_providers(connection, filter)
    return [Shown(view.id, fhir.practitioner(view), view.updated_at, None) for view in found]


async def _organizations(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    view = await evidence.laboratory(connection)
    known = view is not None and view.id in ids
    return [Shown(view.id, fhir.organization(view), view.updated_at, None)] if view and known else []


async def _devices(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    found = await evidence.find_devices(connection, ids)
    return [Shown(view.id, fhir.device(view), view.updated_at, None) for view in found]


async def _provenance(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    found = await evidence.find_provenance(connection, ids, audience)
    return [Shown(view.id, fhir.provenance(view), view.recorded_at, view.patient_id) for view in found]


async def _accesses(connection: Connection, ids: Sequence[UUID], audience: Audience) -> list[Shown]:
    """Whose data was reached is said in them, but they are no patient's data."""
    found = await evidence.find_accesses(connection, ids)
    return [Shown(view.id, fhir.audit_event(view), view.at, None) for view in found]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements: isSummary and min of the R4 StructureDefinitions (https://hl7.org/fhir/R4/<type>.html, column Flags: Σ)
TYPES: dict[str, Type] = {
    one.name: one
    for one in (
        Type(
            "Patient", Permission.PATIENT_READ, _patients,
            _names("identifier active name telecom gender birthDate _birthDate deceasedBoolean deceasedDateTime address"
                   " managingOrganization link"),
            by_rule=True,
        ),
        Type(
            "Observation", Permission.RESULT_READ, _results,
            _names("identifier basedOn partOf status code subject focus encounter effectiveDateTime effectivePeriod"
                   " issued performer valueQuantity valueCodeableConcept valueString valueRange valueRatio"
                   " valueDateTime valueTime valuePeriod valueInteger valueBoolean valueSampledData hasMember"
                   " derivedFrom component"),
            _names("status code"),
            by_rule=True, read=ShownResult.of,
        ),
        Type(
            "DiagnosticReport", Permission.RESULT_READ, _reports,
            _names("identifier status category code subject encounter effectiveDateTime effectivePeriod issued"
                   " performer resultsInterpreter media"),
            _names("status code"),
            by_rule=True,
        ),
        Type(
            "ServiceRequest", Permission.ORDER_READ, _requests,
            _names("identifier instantiatesCanonical instantiatesUri basedOn replaces requisition status intent"
                   " category priority doNotPerform code orderDetail quantityQuantity subject encounter"
                   " occurrenceDateTime occurrencePeriod asNeededBoolean authoredOn requester performerType performer"
                   " locationCode locationReference reasonCode reasonReference specimen bodySite patientInstruction"),
            _names("status intent subject"),
            by_rule=True,
        ),
        Type(
            "Specimen", Permission.ORDER_READ, _specimens,
            _names("identifier accessionIdentifier status type subject receivedTime condition"),
            by_rule=True,
        ),
        Type(
            "Practitioner", Permission.ORDER_READ, _practitioners,
            _names("identifier active name telecom address gender birthDate"),
            by_rule=True,
        ),
        Type(
            "Organization", Permission.RESULT_READ, _organizations, _names("identifier active type name partOf"),
            by_rule=True,
        ),
        Type("Device", Permission.RESULT_READ, _devices, _names("udiCarrier status safety"), by_rule=True),
        Type(
            "Provenance", Permission.RESULT_READ, _provenance, _names("target recorded"),
            _names("target recorded agent"),
            by_rule=True,
        ),
        Type(
            "AuditEvent", Permission.AUDIT_READ, _accesses,
            _names("type subtype action recorded outcome outcomeDesc purposeOfEvent"),
            _names("type recorded agent source"),
            by_rule=True,
        ),
    )
}  # fmt: skip
PARTS: Mapping[str, Type | Parts] = TYPES | {
    "Subscription": Parts(
        "Subscription", _names("status contact end reason criteria error channel"),
        _names("status reason criteria channel"),
    ),
    "Binary": Parts("Binary", _names("contentType securityContext"), _names("contentType")),
}  # fmt: skip
SUBSCRIPTION: Final = {  # what a Subscription is searched by: of which type, and what is said of it
    "_id": ("token", "the resource's id"),
    "_lastUpdated": ("date", "when it last changed"),
    "criteria": ("string", "the whole criteria"),
    "payload": ("token", "application/fhir+json"),
    "status": ("token", "active, error or off"),
    "type": ("token", "rest-hook"),
    "url": ("uri", "the whole endpoint"),
}
