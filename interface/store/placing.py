"""Rows of placers' numbers: what a hospital calls one service that it orders, and the items that it stands for.

Every function works in the caller's transaction, under `lab_changes.lock_orders`; what is placed, and when, is decided
in `flow.placing`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from interface.domain.model import ItemStatus
from interface.domain.views import IdentifierView
from interface.store.db import Connection
from interface.store.ids import uuid7


@dataclass(frozen=True, slots=True)
class PlacerNumber:
    """A number and who gave it; "" is nobody in particular."""

    number: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A placer's number that is known. `content`: a digest of what is ordered, None where nobody can compare it;
    `link_id`: the link that placed it."""

    id: UUID
    placer: PlacerNumber
    group: PlacerNumber
    order_id: UUID
    filler: str
    content: bytes | None
    first_content: bytes | None
    ended_by: bytes | None
    ended: bool = False
    link_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item that a number stands for. `shared`: another number that has not ended stands for it as well, or somebody
    had ordered it without one. `order_id`: not the number's own where it was added to a tube of another order."""

    id: UUID
    order_id: UUID
    specimen_id: UUID | None
    test_id: UUID
    test_code: str
    status: ItemStatus
    shared: bool


@dataclass(frozen=True, slots=True)
class Tube:
    """A specimen, with its order."""

    id: UUID
    barcode: str
    type: str
    order_id: UUID | None
    patient_id: UUID | None
    collected: bool
    collected_at: datetime | None
    known_since: datetime  # received, or made with its order: the later
    disposed: bool


# A tube and what was parted from it: what was ordered on the one may be measured on the other.
_PARTS = """
with recursive part (id) as (
    select unnest($1::uuid[]) union select s.id from part join lab.specimen s on s.parent_id = part.id
)
"""
# Whether `p` and `q` are numbers of one request over FHIR: its own (ORC-2 in v2-to-FHIR), and that of its requisition,
# which the order has and which asks for nothing beside its requests.
_OF_ONE = """p.order_id = q.order_id and (
    q.link_id is null and (p.number, p.authority) = (q.group_number, q.group_authority)
    or p.link_id is null and (q.number, q.authority) = (p.group_number, p.group_authority))"""
_PLACED = """
select p.id, p.number, p.authority, p.group_number, p.group_authority, p.order_id, p.filler_number, p.content,
       p.first_content, p.ended_by, p.ended_at is not null as ended, p.link_id
from lab.placer_order p
"""


async def find(connection: Connection, placer: PlacerNumber) -> Placed | None:
    row = await connection.fetchrow(
        f"{_PLACED} where p.number = $1 and p.authority = $2", placer.number, placer.authority
    )
    return _placed(row) if row else None


async def find_filler(connection: Connection, filler: str) -> Placed | None:
    """By a number as `next_filler` makes them."""
    row = await connection.fetchrow(
        f"{_PLACED} join lab.lab_order o on o.id = p.order_id"
        " where o.number in ($1, regexp_replace($1, '-[0-9]+$', '')) and p.filler_number = $1 order by p.id limit 1",
        filler,
    )
    return _placed(row) if row else None


async def order_of_group(connection: Connection, group: PlacerNumber) -> UUID | None:
    """The order of the laboratory's that the group's latest number belongs to."""
    found: UUID | None = await connection.fetchval(
        "select order_id from lab.placer_order where group_number = $1 and group_authority = $2 and group_number <> ''"
        " order by id desc limit 1",
        group.number,
        group.authority,
    )
    return found


def _placed(row: Record) -> Placed:
    return Placed(
        row["id"],
        PlacerNumber(row["number"], row["authority"]),
        PlacerNumber(row["group_number"], row["group_authority"]),
        row["order_id"],
        row["filler_number"],
        row["content"],
        row["first_content"],
        row["ended_by"],
        row["ended"],
        row["link_id"],
    )


async def insert(
    connection: Connection,
    organization_id: UUID,
    placer: PlacerNumber,
    order_id: UUID,
    filler: str,
    *,
    group: PlacerNumber = PlacerNumber(),
    content: bytes | None = None,
    link_id: UUID | None = None,
    ward: str = "",
    requester_id: UUID | None = None,
) -> UUID:
    """Raises asyncpg.UniqueViolationError where the number is known."""
    placed_id = uuid7()
    await connection.execute(
        "insert into lab.placer_order (id, organization_id, authority, number, group_authority, group_number, order_id,"
        " link_id, filler_number, content, first_content, ward, requester_id)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)",
        placed_id, organization_id, placer.authority, placer.number, group.authority, group.number, order_id, link_id,
        filler, content, ward, requester_id,
    )  # fmt: skip
    return placed_id


def known_by(said: Sequence[Sequence[str]] | None) -> tuple[IdentifierView, ...] | None:
    """What `lab.known_by` says."""
    return None if said is None else tuple(IdentifierView(authority, value) for authority, value in said)


# What a number comes to stand for, or stands for no more, says so: its order is another version, unless it became one
# in this transaction. Several are locked in the order of their ids, as everybody does.
_SAID_ANEW = """
with o as (
    select id from lab.lab_order where updated_at <> now() and id in (
        select i.order_id from lab.order_item i where i.id = any($1::uuid[])) order by id for no key update)
update lab.lab_order set version = version + 1, updated_at = now() from o where lab_order.id = o.id
"""


async def stand_for(
    connection: Connection,
    organization_id: UUID,
    placed_id: UUID,
    item_ids: Iterable[UUID],
    before: Collection[UUID] = (),
) -> None:
    """The number stands for these items too, and is on their order's report; so does over FHIR that of its requisition.
    Each once, for two containers may say the barcode of one tube (SPM-2). `before`: those that somebody had ordered
    without a number."""
    ids = list(dict.fromkeys(item_ids))
    await connection.execute(
        """
        insert into lab.placer_item (organization_id, placer_order_id, order_item_id, ordered_before)
        select $1, n.id, i.id, i.id = any($4::uuid[]) from unnest($3::uuid[]) as i (id) cross join (
            select $2::uuid as id union select p.id from lab.placer_order q join lab.placer_order p
                on p.order_id = q.order_id and p.number = q.group_number and p.authority = q.group_authority
             where q.id = $2 and q.link_id is null and p.ended_at is null) n
        on conflict (placer_order_id, order_item_id) do update set dropped_at = null
            where placer_item.dropped_at is not null
        """,
        organization_id,
        placed_id,
        ids,
        list(before),
    )
    await connection.execute(
        """insert into lab.report_due (id, organization_id, order_id)
           select gen_random_uuid(), $1, o.id from lab.lab_order o
            where o.id in (select i.order_id from lab.order_item i where i.id = any($2::uuid[]))
              and exists (select from lab.report r where r.order_id = o.id)""",
        organization_id, ids,
    )  # fmt: skip
    await connection.execute(_SAID_ANEW, ids)


async def nobodys(connection: Connection, specimen_ids: Iterable[UUID], test_ids: Iterable[UUID]) -> frozenset[UUID]:
    """The items of these tests on the specimens that wait or are done, and for which no number ever stood: a member of
    staff has ordered them, or a rule."""
    rows = await connection.fetch(
        f"""{_PARTS} select i.id from part join lab.order_item i on i.specimen_id = part.id
        where i.test_id = any($2::uuid[]) and i.status not in ('cancelled', 'rejected')
          and not exists (select from lab.placer_item p where p.order_item_id = i.id)""",  # noqa: S608 - a constant
        list(specimen_ids),
        list(test_ids),
    )
    return frozenset(row["id"] for row in rows)


async def stand_for_order(connection: Connection, organization_id: UUID, placed_id: UUID, order_id: UUID) -> None:
    """The number stands for all items that the order has now."""
    rows = await connection.fetch("select id from lab.order_item where order_id = $1", order_id)
    await stand_for(connection, organization_id, placed_id, [row["id"] for row in rows])


async def stand_again(connection: Connection, specimen_id: UUID, item_ids: Sequence[UUID]) -> None:
    """The numbers that stand for these items stand for those of the same tests on a specimen in place of theirs too."""
    await connection.execute(
        """
        insert into lab.placer_item (organization_id, placer_order_id, order_item_id, ordered_before)
        select own.organization_id, own.placer_order_id, new.id, own.ordered_before
        from lab.placer_item own join lab.placer_order p on p.id = own.placer_order_id
        join lab.order_item old on old.id = own.order_item_id
        join lab.order_item new on new.specimen_id = $1 and new.test_id = old.test_id
        where own.order_item_id = any($2::uuid[]) and own.dropped_at is null and p.ended_at is null
        on conflict do nothing
        """,
        specimen_id,
        list(item_ids),
    )


async def items_of(connection: Connection, placed_ids: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The ids of the items that each of the numbers stands for."""
    found: dict[UUID, list[UUID]] = {}
    for row in await connection.fetch(
        "select placer_order_id, order_item_id from lab.placer_item"
        " where placer_order_id = any($1::uuid[]) and dropped_at is null order by order_item_id",
        list(placed_ids),
    ):
        found.setdefault(row["placer_order_id"], []).append(row["order_item_id"])
    return found


async def next_filler(connection: Connection, order_id: UUID) -> str:
    """The laboratory's number of a service: its order's, and which of that order's services from the second on."""
    row = await connection.fetchrow(
        "select o.number, (select count(*) from lab.placer_order p where p.order_id = o.id) as before"
        " from lab.lab_order o where o.id = $1",
        order_id,
    )
    if row is None:
        return ""
    return f"{row['number']}-{row['before'] + 1}" if row["before"] else str(row["number"])


async def drop(connection: Connection, placed_id: UUID, item_ids: Sequence[UUID]) -> None:
    """The number stands for these items no more."""
    await connection.execute(
        "update lab.placer_item set dropped_at = now() where placer_order_id = $1 and order_item_id = any($2::uuid[])",
        placed_id,
        list(item_ids),
    )
    await connection.execute(_SAID_ANEW, list(item_ids))


async def say(
    connection: Connection, placed_id: UUID, content: bytes | None, ward: str, requester_id: UUID | None
) -> None:
    """What is ordered under the number now; from where and by whom, where that is said."""
    await connection.execute(
        "update lab.placer_order set content = $2, ward = coalesce(nullif($3, ''), ward),"
        " requester_id = coalesce($4, requester_id), updated_at = now() where id = $1",
        placed_id, content, ward, requester_id,
    )  # fmt: skip


async def ask_for(connection: Connection, order_id: UUID, known: UUID, now: UUID | None) -> None:
    """Who asked for the order is somebody else: so they are of each number of it that said the same."""
    await connection.execute(
        "update lab.placer_order set requester_id = $3 where order_id = $1 and requester_id = $2", order_id, known, now
    )


async def wards(connection: Connection, order_id: UUID) -> list[str]:
    """From where the services of an order were ordered, as each number keeps it."""
    rows = await connection.fetch("select ward from lab.placer_order where order_id = $1", order_id)
    return [row["ward"] for row in rows]


async def keep_asked(connection: Connection, order_ids: Iterable[UUID]) -> None:
    """The numbers of these orders that say no ward keep that of their order, which is about to have another."""
    await connection.execute(
        "update lab.placer_order p set ward = o.ward, requester_id = coalesce(p.requester_id, o.requester_id)"
        " from lab.lab_order o where o.id = p.order_id and o.id = any($1::uuid[]) and p.ward = '' and o.ward <> ''",
        list(order_ids),
    )


async def end(connection: Connection, placed_id: UUID, message: bytes | None) -> None:
    """Nothing is wanted under the number any more; `message`: a digest of the one that said so."""
    await connection.execute(
        "update lab.placer_order set ended_at = now(), ended_by = $2, updated_at = now() where id = $1",
        placed_id,
        message,
    )
    await connection.execute(_SAID_ANEW, (await items_of(connection, [placed_id])).get(placed_id, []))


async def items(connection: Connection, placed_id: UUID) -> list[PlacedItem]:
    """What the number stands for, locked, in the order of the items' ids."""
    rows = await connection.fetch(
        f"""
        select i.id, i.order_id, i.specimen_id, i.test_id, t.code as test_code, i.status, exists (
            select from lab.placer_item other join lab.placer_order p on p.id = other.placer_order_id
            where other.order_item_id = i.id and (other.ordered_before or other.placer_order_id <> $1
              and other.dropped_at is null and p.ended_at is null and not ({_OF_ONE}))) as shared
        from lab.placer_item own join lab.placer_order q on q.id = own.placer_order_id
        join lab.order_item i on i.id = own.order_item_id join lab.test t on t.id = i.test_id
        where own.placer_order_id = $1 and own.dropped_at is null order by i.id for update of i
        """,  # noqa: S608 - words of ours
        placed_id,
    )
    return [PlacedItem(**{**dict(row.items()), "status": ItemStatus(row["status"])}) for row in rows]


async def asked_twice(connection: Connection, item_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Those of the items that more than one placer's number stands for, of numbers that have not ended; or one, where
    somebody had ordered it without a number."""
    rows = await connection.fetch(
        f"""
        select distinct own.order_item_id as id
        from lab.placer_item own join lab.placer_order p on p.id = own.placer_order_id
        join lab.placer_item other on other.order_item_id = own.order_item_id
        join lab.placer_order q on q.id = other.placer_order_id
        where own.order_item_id = any($1::uuid[]) and own.dropped_at is null and p.ended_at is null
          and (other.ordered_before or other.placer_order_id <> own.placer_order_id and other.dropped_at is null
               and q.ended_at is null and not ({_OF_ONE}))
        """,  # noqa: S608 - words of ours
        list(item_ids),
    )
    return frozenset(row["id"] for row in rows)


async def open_tubes(connection: Connection, barcode: str) -> list[Tube]:
    """The specimens of this barcode that may be measured."""
    return await _tubes(connection, "s.barcode = $1 and s.status = 'available'", barcode)


async def tubes(connection: Connection, specimen_ids: Iterable[UUID]) -> list[Tube]:
    return await _tubes(connection, "s.id = any($1::uuid[])", list(specimen_ids))


async def _tubes(connection: Connection, condition: str, value: object) -> list[Tube]:
    rows = await connection.fetch(
        f"""
        select s.id, s.barcode, s.type, s.order_id, s.patient_id, s.state <> 'expected' as collected, s.collected_at,
               greatest(s.received_at, s.created_at) as known_since, s.state = 'disposed' as disposed
        from lab.specimen s where {condition} order by s.id
        """,  # noqa: S608 - a condition of ours
        value,
    )
    return [Tube(**dict(row.items())) for row in rows]


async def items_on(connection: Connection, specimen_id: UUID, test_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """The items of these tests on the specimen, or on a part of it, that are not closed."""
    rows = await connection.fetch(
        f"""{_PARTS} select i.test_id, i.id from part join lab.order_item i on i.specimen_id = part.id
        where i.test_id = any($2::uuid[]) and i.status not in ('cancelled', 'rejected') order by i.id""",  # noqa: S608
        [specimen_id],
        list(test_ids),
    )
    return {row["test_id"]: row["id"] for row in rows}


async def parted_from(connection: Connection, specimen_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Of each specimen the one that it was parted from in the beginning; of most it is itself."""
    rows = await connection.fetch(
        """
        with recursive up (id, at) as (
            select id, id from unnest($1::uuid[]) as asked (id)
            union select up.id, s.parent_id from up join lab.specimen s on s.id = up.at where s.parent_id is not null
        )
        select up.id, up.at from up join lab.specimen s on s.id = up.at where s.parent_id is null
        """,
        list(specimen_ids),
    )
    return {row["id"]: row["at"] for row in rows}


async def begun_on(connection: Connection, specimen_id: UUID, test_ids: Iterable[UUID]) -> bool:
    """Whether one of the tests is being measured on the specimen, or has been."""
    begun: bool = await connection.fetchval(
        f"""{_PARTS} select exists (select from part join lab.order_item i on i.specimen_id = part.id
        where i.test_id = any($2::uuid[]) and i.status in ('in_progress', 'completed', 'verified'))""",  # noqa: S608
        [specimen_id],
        list(test_ids),
    )
    return begun


async def said_before(connection: Connection, message_id: UUID, until: UUID) -> bool:
    """Whether the very message, byte by byte, came by its link before `until`, an id. Its control id tells less: many
    count theirs from the beginning each day. Each is one block, whose frame has the message's id. What was refused
    in whole or in part does not count: who is told so again looks at it."""
    again: bool = await connection.fetchval(
        """
        select exists (select from lab.message m join lab.message b
            on b.organization_id = m.organization_id and b.control_id = m.control_id and b.link_id = m.link_id
            and b.message_type = m.message_type and b.bytes = m.bytes and b.id < m.id and b.id < $2
            and b.settled is distinct from 'rejected'
            join lab.frame said on said.id = m.id join lab.frame before on before.id = b.id
            where m.id = $1 and m.control_id <> '' and said.bytes = before.bytes)
        """,
        message_id,
        until,
    )
    return again


async def concerned(
    connection: Connection, placers: Iterable[PlacerNumber], groups: Iterable[PlacerNumber], barcodes: Iterable[str]
) -> list[UUID]:
    """The specimens of the orders that these numbers and groups belong to, and those of these barcodes that may be
    measured: what is to be locked, in the order of their ids, before anything is done about several orders."""
    numbers, together = list(placers), list(groups)
    rows = await connection.fetch(
        """
        select s.id from lab.specimen s where s.order_id in (
            select p.order_id from unnest($1::text[], $2::text[]) as w (number, authority)
            join lab.placer_order p on p.number = w.number and p.authority = w.authority
            union all
            select i.order_id from unnest($1::text[], $2::text[]) as w (number, authority)
            join lab.placer_order p on p.number = w.number and p.authority = w.authority
            join lab.placer_item own on own.placer_order_id = p.id join lab.order_item i on i.id = own.order_item_id
            union all
            select p.order_id from unnest($3::text[], $4::text[]) as w (number, authority)
            join lab.placer_order p on p.group_number = w.number and p.group_authority = w.authority
            where p.group_number <> '')
        union
        select s.id from lab.specimen s where s.barcode = any($5::text[]) and s.status = 'available'
        """,
        [one.number for one in numbers],
        [one.authority for one in numbers],
        [one.number for one in together],
        [one.authority for one in together],
        list(barcodes),
    )
    return [row["id"] for row in rows]


_CODES = """
with mapped as (
    select t.code from lab.code_map m left join lab.test t on t.id = m.test_id and t.active
    where m.driver = $1 and (m.link_id is null or m.link_id = $2) and m.code = $3 and m.specimen_type in ('', $4)
      and m.ended_at is null and m.valid_from <= now() and (m.valid_to is null or m.valid_to > now())
    order by m.specimen_type = '', m.origin = 'site' desc, m.link_id is null, m.revision desc, m.id desc limit 1
), own as (
    select code from lab.test where code = $3 and active union select code from lab.panel where code = $3 and active
)
select code from mapped where code is not null
union select code from own where not exists (select from mapped)
union select p.code from lab.panel p
where $5 and p.loinc = $3 and p.active and not exists (select from mapped) and not exists (select from own)
order by code
"""


async def ordered_codes(
    connection: Connection, driver: str, link_id: UUID, code: str, specimen_type: str, *, loinc: bool
) -> list[str]:
    """What a placer's code stands for, in the laboratory's codes: by the link's map, the strongest row as
    `domain.mapping.lookup` has it; where no row says anything, the test or panel of the same code; else, where it is a
    LOINC code, the panels that have it. A row that says that the code is to be held stands for nothing."""
    rows = await connection.fetch(_CODES, driver, link_id, code, specimen_type, loinc)
    return [row["code"] for row in rows]


async def relabel(connection: Connection, specimen_id: UUID, barcode: str) -> None:
    """A tube that is expected carries this barcode, which is free."""
    await connection.execute(
        "update lab.specimen set barcode = $2, version = version + 1, updated_at = now() where id = $1",
        specimen_id,
        barcode,
    )
