"""Writes of orders, specimens and people's decisions about results, each in the caller's transaction.

These are rows and nothing else: what may be written, and when, is decided in `flow.orders` and `flow.review`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

from interface.domain import states
from interface.domain.model import RELEASED, TAKEN_BACK, HoldReason, ItemStatus, Priority, ResultStatus, Step, ValueKind
from interface.domain.states import SpecimenState
from interface.domain.views import Actor
from interface.store import changes, qc_gate, surroundings
from interface.store.db import Connection
from interface.store.explanations import SENT_COLUMNS, as_sent, read_steps, write_steps
from interface.store.ids import uuid7
from interface.store.order_changes import none_waits
from interface.store.versions import last_version, was_preliminary

# ---- orders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpecimenRow:
    """A specimen of an order that exists, with the tests ordered on it, wherever they are measured; `wanted_ids`:
    without those cancelled since; `placed_ids`: those that the order's number stands for. `at_first`: none of the order
    is older."""

    barcode: str
    type: str
    collected_at: datetime | None
    test_ids: frozenset[UUID]
    wanted_ids: frozenset[UUID]
    placed_ids: frozenset[UUID]
    at_first: bool
    container: str = ""
    first_container: str = ""  # as it was ordered; another one may have been drawn
    first_type: str = ""  # the same: it may have been told since
    first_collected: datetime | None = None  # the same: it may have been put right
    time_point_min: int | None = None


@dataclass(frozen=True, slots=True)
class SpecimenInsert:
    id: UUID
    barcode: str
    type: str
    collected_at: datetime | None
    received_at: datetime | None
    test_ids: tuple[UUID, ...]
    item_status: ItemStatus
    state: SpecimenState = SpecimenState.EXPECTED
    container: str = ""
    time_point_min: int | None = None
    collected_by: str = ""
    received_by: str = ""
    parent_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class OrderInsert:
    """`ordered_at` None is now."""

    id: UUID
    number: str
    placer_number: str
    patient_id: UUID
    priority: Priority
    clinical_history: str
    ordered_at: datetime | None
    requester_id: UUID | None = None
    ward: str = ""
    patient_group: str = ""
    pregnant: bool | None = None
    gestation_weeks: int | None = None
    placer_authority: str = ""


async def lock_orders(connection: Connection, organization_id: UUID) -> None:
    """Let one transaction at a time make orders for an organization: no two find a barcode or placer number free."""
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('labora.orders.' || $1, 0))", str(organization_id)
    )


async def find_codes(connection: Connection, codes: Iterable[str]) -> dict[str, list[tuple[UUID, ...]]]:
    """What each code orders: of a test itself, of a panel its tests in the panel's order. Unknown codes are left out.

    More than one entry for a code means that a test and a panel share it.
    """
    rows = await connection.fetch(
        """
        select code, array[id] as test_ids from lab.test where active and code = any($1::text[])
        union all
        select p.code, array(select t.id from unnest(p.test_ids) with ordinality as m (test_id, place)
                             join lab.test t on t.id = m.test_id and t.active order by m.place)
        from lab.panel p where p.active and p.code = any($1::text[])
        """,
        list(codes),
    )
    found: dict[str, list[tuple[UUID, ...]]] = defaultdict(list)
    for row in rows:
        found[row["code"]].append(tuple(row["test_ids"]))
    return dict(found)


async def find_loincs(connection: Connection, loincs: Iterable[str]) -> dict[str, list[str]]:
    """The laboratory's codes of the active tests and panels that have these LOINC codes; unknown ones are left out."""
    rows = await connection.fetch(
        """
        select loinc, code from lab.test where active and loinc = any($1::text[])
        union all select loinc, code from lab.panel where active and loinc = any($1::text[]) order by loinc, code
        """,
        [loinc for loinc in loincs if loinc],
    )
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row["loinc"]].append(row["code"])
    return dict(found)


async def test_codes(connection: Connection, test_ids: Iterable[UUID]) -> dict[UUID, str]:
    """The codes of tests."""
    rows = await connection.fetch("select id, code from lab.test where id = any($1::uuid[])", list(test_ids))
    return {row["id"]: row["code"] for row in rows}


async def order_specimen_ids(connection: Connection, order_id: UUID) -> list[UUID]:
    """An order's specimens, no aliquots, in the order in which they were made."""
    rows = await connection.fetch(
        "select id from lab.specimen where order_id = $1 and parent_id is null order by id", order_id
    )
    return [row["id"] for row in rows]


_SPECIMENS = """
with recursive part (of, id) as (
    select id, id from lab.specimen where order_id = $1 and parent_id is null
    union all select part.of, s.id from part join lab.specimen s on s.parent_id = part.id
)
select s.barcode, s.type, s.collected_at, s.container, s.time_point_min,
       coalesce(k.body ->> 'container', s.container) as first_container,
       coalesce(k.body ->> 'type', s.type) as first_type,
       (k.body ->> 'collected_at')::timestamptz as first_collected,
       s.created_at = min(s.created_at) over () as at_first,
       array_remove(array_agg(i.test_id), null) as test_ids,
       array_remove(array_agg(i.test_id) filter (where i.status <> 'cancelled'), null) as wanted_ids,
       array_remove(array_agg(i.test_id) filter (where exists (
           select from lab.placer_item w join lab.placer_order p on p.id = w.placer_order_id
            where w.order_item_id = i.id and p.number = $2 and p.authority = $3)), null) as placed_ids
from part join lab.specimen s on s.id = part.of
left join lab.order_item i on i.specimen_id = part.id
left join lateral (select v.body from lab.record_version v
    where v.kind = 'specimen' and v.record_id = s.id order by v.version limit 1) k on true
group by s.id, k.body order by s.id
"""


async def order_specimens(connection: Connection, order_id: UUID, number: str, authority: str) -> list[SpecimenRow]:
    """An order's specimens in the order in which they were made, aliquots as what they were parted from. The number is
    one of the order's."""
    rows = await connection.fetch(_SPECIMENS, order_id, number, authority)
    of_tests = ("test_ids", "wanted_ids", "placed_ids")
    return [SpecimenRow(**dict(row.items()) | {of: frozenset(row[of] or ()) for of in of_tests}) for row in rows]


async def known_barcodes(connection: Connection, barcodes: Iterable[str], open_only: bool) -> frozenset[str]:
    """Those of the barcodes that a specimen carries; `open_only`: one that may still be analysed."""
    rows = await connection.fetch(
        """
        select distinct barcode from lab.specimen
        where barcode = any($1::text[]) and (status = 'available' or not $2)
        """,
        list(barcodes),
        open_only,
    )
    return frozenset(row["barcode"] for row in rows)


NUMBERED: Final = ("order", "specimen", "worksheet")  # what has numbers of a year: `NAME.YEAR`


async def next_number(connection: Connection, organization_id: UUID, name: str) -> int:
    """The organization's next number of this name, from 1. Others who want one wait until this transaction ends."""
    number: int = await connection.fetchval(
        """
        insert into lab.counter as c (organization_id, name, value) values ($1, $2, 1)
        on conflict (organization_id, name) do update set value = c.value + 1 returning value
        """,
        organization_id,
        name,
    )
    return number


async def find_practitioners(
    connection: Connection, identifier: str, family: str, given: str, authority: str
) -> list[UUID]:
    """The practitioners of this identifier, or of this whole name where none is given."""
    rows = await connection.fetch(
        """
        select p.id from lab.practitioner p
        left join lab.practitioner_identifier i
            on i.practitioner_id = p.id and i.ended_at is null and i.authority = $4 and i.value = $1
        where case when $1 <> '' then i.id is not null else p.family = $2 and p.given = $3 end order by p.id
        """,
        identifier,
        family,
        given,
        authority,
    )
    return [row["id"] for row in rows]


async def is_practitioner(connection: Connection, practitioner_id: UUID) -> bool:
    known: bool = await connection.fetchval(
        "select exists (select from lab.practitioner where id = $1)", practitioner_id
    )
    return known


async def insert_practitioner(
    connection: Connection, organization_id: UUID, identifier: str, family: str, given: str, authority: str
) -> UUID:
    added = uuid7()
    await connection.execute(
        "insert into lab.practitioner (id, organization_id, family, given) values ($1, $2, $3, $4)",
        added,
        organization_id,
        family,
        given,
    )
    if identifier:
        await connection.execute(
            "insert into lab.practitioner_identifier (id, organization_id, practitioner_id, authority, value)"
            " values ($1, $2, $3, $4, $5)",
            uuid7(),
            organization_id,
            added,
            authority,
            identifier,
        )
    return added


async def insert_order(connection: Connection, organization_id: UUID, order: OrderInsert) -> None:
    """An order without specimens."""
    await connection.execute(
        """
        insert into lab.lab_order (id, organization_id, number, placer_number, patient_id, priority, clinical_history,
                                   ordered_at, requester_id, ward, patient_group, pregnant, gestation_weeks,
                                   placer_authority, ward_at)
        values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()), $9, $10, $11, $12, $13, $14,
                case when $10 <> '' and $8 is not null then least($8, now()) end)
        """,
        order.id, organization_id, order.number, order.placer_number, order.patient_id, order.priority,
        order.clinical_history, order.ordered_at, order.requester_id, order.ward, order.patient_group, order.pregnant,
        order.gestation_weeks, order.placer_authority,
    )  # fmt: skip


async def insert_specimens(
    connection: Connection,
    organization_id: UUID,
    order_id: UUID | None,
    patient_id: UUID | None,
    specimens: Sequence[SpecimenInsert],
) -> None:
    """An order's specimens and the items on them, in this order."""
    await connection.execute(
        """
        insert into lab.specimen (id, organization_id, order_id, patient_id, barcode, type, collected_at, received_at,
                                  state, container, time_point_min, collected_by, received_by, parent_id)
        select row.id, $1, $2, $3, row.barcode, row.type, row.collected_at, row.received_at, row.state, row.container,
               row.time_point_min, row.collected_by, row.received_by, row.parent_id
        from unnest($4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[],
                    $11::int[], $12::text[], $13::text[], $14::uuid[])
             as row (id, barcode, type, collected_at, received_at, state, container, time_point_min, collected_by,
                     received_by, parent_id)
        """,
        organization_id, order_id, patient_id, [one.id for one in specimens], [one.barcode for one in specimens],
        [one.type for one in specimens], [one.collected_at for one in specimens],
        [one.received_at for one in specimens], [one.state.value for one in specimens],
        [one.container for one in specimens], [one.time_point_min for one in specimens],
        [one.collected_by for one in specimens], [one.received_by for one in specimens],
        [one.parent_id for one in specimens],
    )  # fmt: skip
    if order_id is not None:
        items = [(one.id, test_id, one.item_status) for one in specimens for test_id in one.test_ids]
        await insert_items(connection, organization_id, order_id, items)


async def insert_items(
    connection: Connection, organization_id: UUID, order_id: UUID, items: Sequence[tuple[UUID, UUID, ItemStatus]]
) -> None:
    """Items of an order: specimen, test and status of each."""
    await connection.execute(
        """
        insert into lab.order_item (id, organization_id, order_id, specimen_id, test_id, status)
        select row.id, $1, $2, row.specimen_id, row.test_id, row.status
        from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[]) as row (id, specimen_id, test_id, status)
        """,
        organization_id,
        order_id,
        [uuid7() for _ in items],
        [item[0] for item in items],
        [item[1] for item in items],
        [item[2].value for item in items],
    )


# ---- decisions about results ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A locked result as far as a decision needs it. `candidate` is the pending version, else the current one."""

    id: UUID
    organization_id: UUID
    specimen_id: UUID | None
    order_id: UUID | None
    order_item_id: UUID | None
    test_id: UUID | None
    version_id: UUID
    version: int
    status: ResultStatus
    held: frozenset[HoldReason]
    released: bool  # it was, at some time
    pending: bool
    flags: frozenset[str]
    verified_by: UUID | None  # of the current version: the first of two
    candidate_id: UUID
    candidate_version: int
    candidate_held: frozenset[HoldReason]
    candidate_kind: ValueKind
    candidate_flags: frozenset[str]
    candidate_author: UUID | None  # the user who made it; None: an analyzer, or a rule
    candidate_verified_by: UUID | None
    last_version: int


async def lock_results(connection: Connection, result_ids: Sequence[UUID]) -> None:
    """Lock what deciding new results locks, in its order: the analyzers' controls, specimens with what was parted
    from them, the persons, the results."""
    rows = await connection.fetch(
        f"select r.specimen_id, r.patient_id, {qc_gate.MEASURED_ON} as analyzer_id"  # noqa: S608 - a constant
        " from lab.result r where r.id = any($1::uuid[])",
        list(result_ids),
    )
    if analyzers := {row["analyzer_id"] for row in rows if row["analyzer_id"]}:
        await qc_gate.lock_deciding(connection, analyzers)
    specimens, patients = ({row[name] for row in rows if row[name]} for name in ("specimen_id", "patient_id"))
    await surroundings.lock_only(connection, specimens, patients)
    await connection.execute(
        "select from lab.result where id = any($1::uuid[]) order by natural_key for update", list(result_ids)
    )


async def lock_result(connection: Connection, result_id: UUID) -> ResultRow | None:
    """Lock the result and what it is of; None when there is none."""
    await lock_results(connection, [result_id])
    row = await connection.fetchrow(  # a statement of its own: it sees what a transaction waited for has committed
        f"""
        select r.id, r.organization_id, r.specimen_id, r.order_id, r.order_item_id, r.test_id, r.version_id, r.version,
               r.status, r.held, r.released_at is not null as released, r.pending_version_id is not null as pending,
               c.flags, c.verified_by, v.id as candidate_id, v.version as candidate_version, v.held as candidate_held,
               v.kind as candidate_kind, v.flags as candidate_flags,
               case when v.actor_kind = 'user' then v.actor_id end as candidate_author,
               v.verified_by as candidate_verified_by,
               {last_version("r.id", "v.version")} as last_version
        from lab.result r
        join lab.result_version c on c.id = r.version_id
        join lab.result_version v on v.id = coalesce(r.pending_version_id, r.version_id)
        where r.id = $1
        """,  # noqa: S608 - names of ours
        result_id,
    )
    if row is None:
        return None
    fields = dict(row.items())
    fields["status"], fields["candidate_kind"] = ResultStatus(row["status"]), ValueKind(row["candidate_kind"])
    for name in ("held", "candidate_held"):
        fields[name] = frozenset(map(HoldReason, row[name]))
    for name in ("flags", "candidate_flags"):
        fields[name] = frozenset(row[name])
    return ResultRow(**fields)


async def copy_version(
    connection: Connection,
    actor: Actor,
    row: ResultRow,
    status: ResultStatus,
    comment: str,
    step: Step,
    held: Sequence[HoldReason] = (),
    *,
    source: UUID | None = None,
    changes: Mapping[str, object] = MappingProxyType({}),
    steps: Sequence[Step] = (),
) -> tuple[UUID, int]:
    """Append a version again (the candidate, unless `source` names another) with another status and holds, and
    `comment` added to its note. `changes`: columns that say something else, numbers as text.

    Its explanation is the source's with `steps` and `step` added. Returns the version's id and number; the result does
    not point to it yet.
    """
    version_id, version = uuid7(), row.last_version + 1
    said: dict[str, object] = {
        "id": version_id, "version": version, "status": status, "held": list(held), "actor_kind": actor.kind,
        "actor_id": actor.id, "verified_by": None,
    }  # fmt: skip
    said |= await _explanation(connection, source or row.candidate_id, (*steps, step))
    # All columns of the source, whichever there are: a column that is added later is not lost here.
    await connection.execute(
        """
        insert into lab.result_version
        select (jsonb_populate_record(v, $2::text::jsonb || jsonb_build_object('created_at', now(),
            'note', concat_ws(E'\\n', nullif(v.note, ''), nullif($3::text, ''))))).*
        from lab.result_version v where id = $1
        """,
        source or row.candidate_id,
        json.dumps(said | dict(changes), default=str),
        comment,
    )
    return version_id, version


async def _explanation(connection: Connection, source: UUID, steps: Sequence[Step]) -> dict[str, object]:
    """The source's explanation with `steps` after it, as columns of a version."""
    # With what the analyzer said, which the columns of the new version may not say any more.
    before = await connection.fetchrow(
        f"""select lab.explained(d.steps) as steps, d.driver_revision, d.map_revision, {SENT_COLUMNS}
            from lab.decision d join lab.result_version v on v.id = d.result_version_id where v.id = $1""",  # noqa: S608 - names of ours
        source,
    )
    if before is None:
        return {"steps": write_steps(steps)}
    said = as_sent(read_steps(before["steps"]), before)
    return {
        "steps": write_steps([*said, *steps]), "driver_revision": before["driver_revision"],
        "map_revision": before["map_revision"],
    }  # fmt: skip


async def point_to(
    connection: Connection,
    row: ResultRow,
    version_id: UUID,
    version: int,
    status: ResultStatus,
    release: bool,
    held: Sequence[HoldReason] = (),
    *,
    keep_pending: bool = False,
) -> bool:
    """Make a version the result's current one, held for `held`. False when another was faster.

    Nothing is pending beside it then, unless `keep_pending`. Where it is preliminary, or takes back what was, an EMR
    that sees such results hears of it; of what is released the caller tells (`owe`).
    """
    done = await connection.execute(
        """
        update lab.result
        set version_id = $3, version = $4, status = $5, held = $7, updated_at = now(),
            pending_version_id = case when $8 then pending_version_id end,
            released_at = case when $6 then now() else released_at end
        where id = $1 and version = $2
        """,
        row.id,
        row.version,
        version_id,
        version,
        status,
        release,
        list(held),
        keep_pending,
    )
    if not done.endswith(" 1"):
        return False
    if status not in RELEASED and (
        _seen_early(row.status, row.held) or _seen_early(status, held) or await _taken_back(connection, row, status)
    ):
        await changes.note_preliminary(connection, row.organization_id, row.order_id or row.id, version_id)
    return True


def _seen_early(status: ResultStatus, held: Collection[HoldReason]) -> bool:
    """Whether an EMR sees it where `[api] preliminary` says so, and nowhere else."""
    return status is ResultStatus.PRELIMINARY and not held


async def _taken_back(connection: Connection, row: ResultRow, status: ResultStatus) -> bool:
    """Whether an EMR that sees what is preliminary saw it taken back as something else than it is from now on."""
    if row.released or row.status not in TAKEN_BACK or row.status is status:
        return False
    return bool(await connection.fetchval(f"select {was_preliminary('$1')}", row.id))


async def set_pending(connection: Connection, result_id: UUID, version_id: UUID) -> None:
    """A change to a released result waits; nobody outside the laboratory sees that it does."""
    await connection.execute("update lab.result set pending_version_id = $2 where id = $1", result_id, version_id)


async def drop_pending(connection: Connection, result_id: UUID) -> None:
    """The released version stays; nobody outside the laboratory sees that a change was proposed."""
    await connection.execute("update lab.result set pending_version_id = null where id = $1", result_id)


async def step_item(connection: Connection, row: ResultRow, status: ItemStatus, reason: str = "") -> None:
    """The order item's new status; nothing when it has it, or has no item.

    It is a new version of the order where an EMR sees the step: to a result's release, or back from it. Raises
    IllegalStep when its state does not allow it.
    """
    old = await connection.fetchval("select status from lab.order_item where id = $1 for update", row.order_item_id)
    if old in (None, status.value):
        return
    states.item_step(ItemStatus(old), status, reason)
    await connection.execute(
        "update lab.order_item set status = $2, updated_at = now() where id = $1", row.order_item_id, status
    )
    if ItemStatus.VERIFIED in (old, status):
        await connection.execute(
            "update lab.lab_order set version = version + 1, updated_at = now() where id = $1", row.order_id
        )
        await none_waits(connection, [row.order_id])


async def complete_item(connection: Connection, row: ResultRow) -> None:
    """An item that waits for a result has one that nothing holds. The order's version stays: an EMR sees no change."""
    await connection.execute(
        "update lab.order_item set status = 'completed', updated_at = now() where id = $1 and status = any($2::text[])",
        row.order_item_id,
        list(states.may_become(ItemStatus.COMPLETED)),
    )


async def reopen_item(connection: Connection, row: ResultRow, reason: str) -> None:
    """An item completed by a result that is now discarded is in progress again, unless another completes it. None that
    is held does, such as a run that failed.

    The order's version stays: an EMR, which did not see the item completed, sees no change.
    """
    old = await connection.fetchval(
        """
        select i.status from lab.order_item i where i.id = $1 and i.status = 'completed' and not exists (
            select from lab.result r where r.order_id = i.order_id and r.order_item_id = i.id
            and r.status not in ('cancelled', 'entered-in-error') and r.held = '{}')
        for update of i
        """,
        row.order_item_id,
    )
    if old is not None:
        states.item_step(ItemStatus(old), ItemStatus.IN_PROGRESS, reason)
        await connection.execute(
            "update lab.order_item set status = 'in_progress', updated_at = now() where id = $1", row.order_item_id
        )


async def owe(connection: Connection, organization_id: UUID, result_id: UUID, version: int) -> None:
    """An EMR is owed this version of the result."""
    await connection.execute(
        """
        insert into lab.outbox (id, organization_id, kind, entity_id, entity_version) values ($1, $2, 'result', $3, $4)
        """,
        uuid7(),
        organization_id,
        result_id,
        version,
    )
