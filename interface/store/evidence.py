"""Who and what stands behind a record, as `domain.evidence`: the laboratory, analyzers, explanations, accesses.

What an audience sees of an explanation follows from what it sees of the result (`store.lab.visible`); of the audit
trail, see `AUDITED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from asyncpg import Record

from interface.domain.evidence import AuditView, DeviceView, LaboratoryView, ProvenanceView
from interface.domain.model import Origin, ResultStatus
from interface.domain.views import ActorKind, Audience
from interface.store.db import Connection
from interface.store.explanations import read_steps
from interface.store.lab import version_visible
from interface.store.versions import versions_of


async def laboratory(connection: Connection) -> LaboratoryView | None:
    """The connection's own organization."""
    row = await connection.fetchrow("select id, name, title, version, updated_at from lab.organization")
    return LaboratoryView(**row) if row else None


async def find_devices(connection: Connection, ids: Iterable[UUID]) -> list[DeviceView]:
    """Analyzers."""
    rows = await connection.fetch(
        "select id, version, updated_at, name, serial, manufacturer, model from lab.analyzer"
        " where id = any($1::uuid[])",
        list(ids),
    )
    return [DeviceView(**row) for row in rows]


# ---- why a version is as it is --------------------------------------------------------------------------------------

_PROVENANCE = """
select v.id, v.result_id, v.created_at as recorded_at, v.status, r.patient_id, r.origin, r.analyzer_id,
       coalesce(a.name, '') as analyzer, v.message_id, v.actor_kind, v.actor_id,
       coalesce(u.username, c.name, l.name, g.name || '@' || g.revision, '') as actor,
       coalesce(u.full_name, '') as actor_title, coalesce(w.username, '') as verifier,
       coalesce(w.full_name, '') as verifier_title, coalesce(d.driver_revision, '') as driver_revision,
       coalesce(d.map_revision, 0) as map_revision, coalesce(lab.explained(d.steps), '[]') as steps, (
           select p.id from {before} p
           where p.version < v.version and {prior}
           order by p.version desc limit 1) as prior
from lab.result_version v
join lab.result r on r.id = v.result_id
left join lab.analyzer a on a.id = r.analyzer_id
left join lateral (select * from lab.decision y where y.result_version_id = v.id offset 0) d on true
left join lab.app_user u on u.id = v.actor_id
left join lateral {before} f  -- who verified it first, where two people do
    on f.version = (lab.explained(d.steps)::jsonb -> -1 -> 'inputs' ->> 'from_version')::int
   and v.status in ('final', 'corrected')
left join lab.app_user w on w.id = coalesce(v.verified_by, f.verified_by)
left join lab.client c on c.id = v.actor_id
left join lab.link l on l.id = v.actor_id
left join lab.rule_set g on g.id = v.actor_id
where v.id = any($1::uuid[]) and {visible}
"""


async def find_provenance(
    connection: Connection, version_ids: Iterable[UUID], audience: Audience
) -> list[ProvenanceView]:
    """Of these versions of results, those that the audience may see."""
    text = _PROVENANCE.format(
        visible=version_visible(audience, evidence=True),
        prior=version_visible(audience, "p", evidence=True),
        before=versions_of("= v.result_id"),
    )
    return [_provenance(row) for row in await connection.fetch(text, list(version_ids))]


def _provenance(row: Record) -> ProvenanceView:
    fields = dict(row.items())
    fields["status"], fields["origin"] = ResultStatus(row["status"]), Origin(row["origin"])
    fields["actor_kind"], fields["steps"] = ActorKind(row["actor_kind"]), read_steps(row["steps"])
    return ProvenanceView(**fields)


# ---- who saw or changed what ----------------------------------------------------------------------------------------

# What FHIR shows of the trail: who reached patients' data over FHIR, and all that clients did. Over FHIR the staff too
# sees only what an EMR may see. What they did and saw elsewhere would tell of results that nobody outside may know of,
# and of quality control; `labora audit list` has it.
AUDITED = """(a.actor_kind = 'client'
    or (a.action in ('read', 'vread', 'history', 'search', 'export', 'everything') and a.entity_kind ~ '^[A-Z]')
    or (a.action = 'disclose' and a.detail ->> 'by' ~ '^[a-z]+ [A-Z]'))"""


_ACCESSES = """
select a.id, a.at, a.actor_kind, a.actor_id, a.actor_name, a.action, a.entity_kind, a.entity_id, a.address, a.outcome,
       a.detail
from lab.audit_event a where a.id = any($1::uuid[]) and
"""


async def find_accesses(connection: Connection, ids: Iterable[UUID]) -> list[AuditView]:
    """Rows of the audit trail, as far as `AUDITED` goes."""
    return [AuditView(**row) for row in await connection.fetch(" ".join((_ACCESSES, AUDITED)), list(ids))]
