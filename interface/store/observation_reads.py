"""Reads of one result each, as many as there are at the same moment, by one statement: who asks, what is there, and
what its version says, unless that was read before.

Nothing is looked up for a token that is not valid; what the audience may not see is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from interface.domain.views import Audience, ObservationRow
from interface.store.actors import TOKENS, TokenHolder
from interface.store.db import Connection
from interface.store.search.cover import INSTANTS, hidden, hides
from interface.store.search.kinds import kinds
from interface.store.versions import measured, shown_version


class Asked(NamedTuple):
    """A result that somebody asks for, and with which token. `known`: the version of which they know what it says."""

    token_hash: bytes
    id: UUID
    known: UUID | None = None


class Beside(NamedTuple):
    """All that an Observation shows of a result but what its version says. Instants as `timestamptz_send` has them;
    `shown_id`: its versionId (`store.versions.shown_version`)."""

    version_id: UUID
    shown_id: UUID
    order_item_id: UUID | None
    updated: bytes
    collected: bytes | None
    patient_id: UUID | None
    laboratory_id: UUID
    laboratory_title: str
    laboratory_name: str
    origin: str
    specimen_id: UUID | None
    analyzer_id: UUID | None
    analyzer: str | None


# What an Observation shows of a version, which is never changed: the application has no right to.
Said: TypeAlias = tuple[Any, ...]


class Told(NamedTuple):
    """`beside`: None where there is no such result, or none that the audience may see; `said`: None where the version
    is the one that is known."""

    holder: TokenHolder
    beside: Beside | None
    said: Said | None


# The organization is found once and by its key: by the policies alone every laboratory's row would be read.
_LABORATORY = """select o.id, o.title, o.name from lab.organization o
    where o.id = (select nullif(current_setting('labora.org', true), '')::uuid)"""
_FIND = """
with t as materialized ({tokens}), o as materialized ({laboratory})
select a.n, t.user_id, t.client_id, t.name, t.roles, t.scopes,
       m.version_id, m.shown_id, m.order_item_id, timestamptz_send(m.updated_at), timestamptz_send(s.collected_at),
       m.patient_id, o.id, o.title, o.name, m.origin, m.specimen_id, m.analyzer_id, d.name,
       v.id, timestamptz_send({measured}), v.test_code, v.test_name, v.loinc, v.status, v.kind, v.comparator,
       v.number::text, v.value, v.unit, v.low::text, v.high::text, v.reference, nullif(v.flags, '{{}}'),
       nullif(v.comments, '{{}}'), v.note, v.method
from unnest($2::bytea[], $3::uuid[], $4::uuid[]) with ordinality a (hash, id, known, n)
join t on t.token_hash = a.hash cross join o
left join lateral (
    select r.version_id, {shown} as shown_id, r.order_item_id, r.updated_at, r.patient_id, r.origin, r.specimen_id,
           r.analyzer_id, r.created_at
    from lab.result r where r.id = a.id and {visible} limit 1) m on true
left join lateral (select s.collected_at from lab.specimen s where s.id = m.specimen_id limit 1) s on true
left join lateral (select d.name from lab.analyzer d where d.id = m.analyzer_id limit 1) d on true
left join lateral (
    select v.* from lab.result_version v where v.id = m.version_id and v.id is distinct from a.known limit 1) v on true
"""


@cache
def find_text(audience: Audience) -> str:
    """The statement of `find`, planned once on each connection."""
    visible = kinds(audience)["Observation"].visible
    return _FIND.format(
        tokens=TOKENS, laboratory=_LABORATORY, visible=visible, shown=shown_version("r"), measured=measured("v", "m")
    )  # fmt: skip


async def find(connection: Connection, asked: Sequence[Asked], audience: Audience) -> list[Told | None]:
    """What each finds; None of a token that is not valid."""
    hashes, ids, known = zip(*asked, strict=True)
    found: list[Told | None] = [None] * len(asked)
    for row in await connection.fetch(find_text(audience), list(dict.fromkeys(hashes)), hashes, ids, known):
        user, client, name, roles, scopes = row[1:6]
        beside = Beside._make(row[6:19])
        holder = TokenHolder(user, client, name, tuple(roles), tuple(scopes))
        said = row[20:] if row[19] is not None else None
        found[row[0] - 1] = Told(holder, beside if beside.version_id is not None else None, said)
    return found


def observation_row(id: UUID, beside: Beside, said: Said, audience: Audience) -> ObservationRow:
    """The same row as the search makes of the result."""
    measured, *words, flags, comments, note, method = said
    effective = INSTANTS[beside.collected or measured]
    told = (tuple(flags) if flags else None, tuple(comments) if comments else None)
    named = id, beside.shown_id, beside.order_item_id, INSTANTS[beside.updated], effective
    row = ObservationRow._make((*named, *beside[5:9], *words, *told, note, beside.origin, method, *beside[10:]))
    if not hides(row.status, audience):
        return row
    return row._replace(comparator="", number=None, value="", **hidden(row.status))
