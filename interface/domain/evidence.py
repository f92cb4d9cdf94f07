"""Who and what stands behind a record: the laboratory, its analyzers, why a version is so, who saw what. Frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from interface.domain.model import Origin, ResultStatus, Step
from interface.domain.views import ActorKind


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """A laboratory as whoever administers it sees it."""

    id: UUID
    name: str
    title: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LaboratoryView:
    """A laboratory as an EMR sees it, in one of its versions."""

    id: UUID
    name: str
    title: str
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceView:
    """An analyzer in one of its versions. `manufacturer`, `model`: as its driver says."""

    id: UUID
    version: int
    updated_at: datetime
    name: str
    serial: str
    manufacturer: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class ProvenanceView:
    """Where one version of a result comes from: who measured, by which rules, who released it.

    `prior`: the version before, of those that the audience may see. `verifier_name`: of the first of two people.
    """

    id: UUID  # the version's
    result_id: UUID
    recorded_at: datetime
    status: ResultStatus
    patient_id: UUID | None
    prior: UUID | None
    origin: Origin
    analyzer_id: UUID | None
    analyzer: str
    message_id: UUID | None
    actor_kind: ActorKind
    actor_id: UUID | None
    actor: str  # a user's login, a client's or a link's name, `NAME@REVISION` of a rule set
    actor_title: str  # a user's full name
    verifier: str
    verifier_title: str
    driver_revision: str
    map_revision: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class AuditView:
    """One row of the audit trail. `entity_id` is of the kind `entity_kind`, a FHIR type or a word of ours."""

    id: UUID
    at: datetime
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    entity_kind: str
    entity_id: UUID | None
    address: str
    outcome: str
    detail: Mapping[str, str] = field(default_factory=dict)
