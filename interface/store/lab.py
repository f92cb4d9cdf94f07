"""Reads of the laboratory's records as `domain.views`: results, reports, orders and specimens.

A patient's are also those of the patients that were merged into it (`store.patients`).

Who may see which result is decided here and nowhere else (DESIGN §1.4), by `visible` and `_VISIBLE_STATUSES`; every
read below that touches a result goes through it. An order's items, which would give an unreleased result away by
their status, are shown to an EMR as they were before it came.

What this asks of the writers: `result.version_id` is the current version and `result.version`, `status` and `held`
repeat its own; a change to a released result that nobody has decided yet touches `pending_version_id` only, neither
these nor `updated_at`; and a result nobody may see does not touch `lab_order.updated_at`. All instants are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from asyncpg import Record

from interface.domain.model import (
    RELEASED,
    TAKEN_BACK,
    Comparator,
    HoldReason,
    ItemStatus,
    Origin,
    Priority,
    ResultStatus,
    Step,
    ValueKind,
)
from interface.domain.states import SpecimenState
from interface.domain.views import (
    Audience,
    OrderItemView,
    OrderView,
    ReportView,
    RequesterView,
    ResultView,
    SpecimenView,
)
from interface.store.as_sent import results_called
from interface.store.db import Connection
from interface.store.explanations import SENT_COLUMNS, as_sent, read_steps
from interface.store.patients import of_persons
from interface.store.placing import known_by
from interface.store.query import FIRST_PAGE, Query
from interface.store.query import Cursor as Cursor
from interface.store.query import Page as Page
from interface.store.versions import measured, versions_of, was_preliminary

_VISIBLE_STATUSES = {
    Audience.STAFF: frozenset(ResultStatus),
    Audience.EMR: RELEASED,
    Audience.EMR_PRELIMINARY: RELEASED | {ResultStatus.PRELIMINARY},
}


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which results. An empty tuple or None asks nothing; different fields must all hold, values of one field any.

    `test_codes` and `loincs` are one field: a result matches by either. `effective_*` are of the specimen's collection,
    or of the measurement where the collection is unknown; since inclusive, until exclusive.
    """

    ids: tuple[UUID, ...] = ()
    patient_ids: tuple[UUID, ...] = ()
    order_ids: tuple[UUID, ...] = ()
    specimen_ids: tuple[UUID, ...] = ()
    message_ids: tuple[UUID, ...] = ()
    barcodes: tuple[str, ...] = ()  # as the analyzer sent them
    test_codes: tuple[str, ...] = ()
    loincs: tuple[str, ...] = ()
    statuses: tuple[ResultStatus, ...] = ()
    held_only: bool = False  # also released results with a change that waits; nothing for an EMR
    effective_since: datetime | None = None
    effective_until: datetime | None = None
    by_effective: bool = (
        False  # pages in the order of that time (or of arrival, where neither is known), see `stamp_of`
    )
    page: Page = FIRST_PAGE


@dataclass(frozen=True, slots=True)
class OrderFilter:
    ids: tuple[UUID, ...] = ()
    patient_ids: tuple[UUID, ...] = ()
    item_ids: tuple[UUID, ...] = ()
    specimen_ids: tuple[UUID, ...] = ()
    numbers: tuple[str, ...] = ()  # the laboratory's or the placer's; one field with the next two
    own_numbers: tuple[str, ...] = ()
    placer_numbers: tuple[str, ...] = ()
    barcodes: tuple[str, ...] = ()
    test_codes: tuple[str, ...] = ()
    loincs: tuple[str, ...] = ()
    cancelled: bool | None = None
    ordered_since: datetime | None = None
    ordered_until: datetime | None = None
    page: Page = FIRST_PAGE


@dataclass(frozen=True, slots=True)
class SpecimenFilter:
    ids: tuple[UUID, ...] = ()
    barcodes: tuple[str, ...] = ()
    patient_ids: tuple[UUID, ...] = ()
    order_ids: tuple[UUID, ...] = ()
    types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    racks: tuple[str, ...] = ()
    parent_ids: tuple[UUID, ...] = ()
    collected_since: datetime | None = None
    collected_until: datetime | None = None
    page: Page = FIRST_PAGE


def visible(audience: Audience, row: str = "r") -> str:
    """THE rule who sees a result (or a version of one, `row`): staff everything, an EMR what was released, or where it
    is so configured also what is preliminary; nothing that is held, and of several runs only the one to report.

    What was released and then retracted stays, as entered in error and without its value: who has it must learn that.
    So does what was preliminary and is held or rejected now, as registered or cancelled, for who could see it.
    """
    if audience is Audience.EMR_PRELIMINARY:
        return f"({_told(audience, row)} or {_taken_back(row)})"
    return _told(audience, row)


def report_changed(audience: Audience) -> str:
    """Whether a change of a result `r` is one of its order's report: what is visible, and a preliminary run that is not
    shown any more since another is to be reported, which may be held: then this one's change is all that says so."""
    if audience is Audience.EMR_PRELIMINARY:
        return f"({visible(audience)} or r.status = 'preliminary' and r.held = '{{}}')"
    return visible(audience)


def _told(audience: Audience, row: str) -> str:
    if audience is Audience.STAFF:
        return "true"
    statuses = ", ".join(f"'{status.value}'" for status in sorted(_VISIBLE_STATUSES[audience]))
    reported = " and r.reportable" if row == "r" else ""
    shown = f"{row}.status in ({statuses}) and {row}.held = '{{}}'{reported}"
    return f"({shown} or {row}.status = 'entered-in-error' and r.released_at is not null)"


def _taken_back(row: str) -> str:
    """Whether it was preliminary once, and is no more without ever having been released. Which of several runs was
    reported then is not known; that one was rejected may be seen of each."""
    statuses = ", ".join(f"'{status.value}'" for status in sorted(TAKEN_BACK))
    unreleased = "r.released_at is null" if row == "r" else f"coalesce({row}.created_at < r.released_at, true)"
    return f"{row}.status in ({statuses}) and {unreleased} and {was_preliminary('r.id', f'w.version < {row}.version')}"


def version_visible(audience: Audience, row: str = "v", *, evidence: bool = False) -> str:
    """Who sees a version of a result `r`: nothing of a result that the audience may not see as it stands now, and an
    EMR no version that was never current. `evidence`: where it comes from as well, which says why it is held."""
    if audience is Audience.STAFF:
        return "true"
    shown = _told(audience, row) if evidence else visible(audience, row)
    return f"{visible(audience)} and {shown} and {row}.version <= r.version"


# ---- results --------------------------------------------------------------------------------------------------------

VERSION_COLUMNS = """
    v.id as version_id, v.version, v.status, v.held, r.id, r.created_at, r.released_at, r.specimen_id, r.patient_id,
    r.order_id, r.order_item_id, r.pending_version_id, v.message_id, v.specimen_as_sent, v.code, v.raw_value,
    v.raw_unit, v.raw_flags, v.instrument_time, v.instrument_at, v.comments, v.test_code, v.test_name, v.loinc, v.kind,
    v.comparator, v.number, v.value, v.unit, v.low, v.high, v.reference, v.flags, v.note, v.method,
    coalesce(a.name, '') as analyzer, r.analyzer_id, r.reportable, r.origin,
    s.collected_at
"""
_CURRENT = """
from lab.result r
join lab.result_version v on v.id = r.version_id
left join lab.analyzer a on a.id = r.analyzer_id
left join lab.specimen s on s.id = r.specimen_id
where
"""
_EVERY = f"""
from lab.result r
cross join lateral {versions_of("= r.id")} v
left join lab.analyzer a on a.id = r.analyzer_id
left join lab.specimen s on s.id = r.specimen_id
where
"""
_RESULTS = " ".join(("select", VERSION_COLUMNS, ", r.updated_at", _CURRENT))
_COUNT = " ".join(("select count(*)", _CURRENT))
_HISTORY = " ".join(("select", VERSION_COLUMNS, ", v.created_at as updated_at", _EVERY))
# The same as an EMR read it: once more where the time of its collection was told of a version, and without that time
# what it had read before.
_AS_READ = f"""
select {VERSION_COLUMNS}, case when e.told then r.told_at else v.created_at end as updated_at,
       case when e.told then r.told_id else v.id end as shown_id
from lab.result r
cross join lateral {versions_of("= r.id")} v
cross join lateral (select false as told union all select true where v.id = r.told_of) e
left join lab.analyzer a on a.id = r.analyzer_id
left join lateral (
    select x.collected_at from lab.specimen x where x.id = r.specimen_id and (r.told_of is null or e.told
        or v.version > (select w.version from lab.result_version w where w.id = r.told_of))) s on true
where
"""  # noqa: S608 - names of ours


_EFFECTIVE = f"coalesce(s.collected_at, {measured('v', 'r')})"
_EFFECTIVE_ORDER = f"coalesce({_EFFECTIVE}, r.created_at)"


def stamp_of(view: ResultView, by_effective: bool) -> datetime:
    """What `find_results` puts this result in order by: the first half of its cursor."""
    if by_effective:
        return view.effective_at or view.created_at
    return view.updated_at


async def find_results(connection: Connection, filter: ResultFilter, audience: Audience) -> list[ResultView]:
    """A page of the results that the filter asks for and the audience may see, each in its current version."""
    query = _result_query(filter, audience)
    stamp = _EFFECTIVE_ORDER if filter.by_effective else "r.updated_at"
    end = query.page(filter.page, stamp, "r.id", "r.updated_at")
    rows = await connection.fetch(" ".join((_RESULTS, query.conditions, end)), *query.values)
    return [read_result(row, audience) for row in rows]


async def count_results(connection: Connection, filter: ResultFilter, audience: Audience) -> int:
    """How many results `find_results` would find on all its pages."""
    query = _result_query(filter, audience)
    query.between("r.updated_at", filter.page.since, filter.page.until)
    count: int = await connection.fetchval(" ".join((_COUNT, query.conditions)), *query.values)
    return count


async def get_result(connection: Connection, result_id: UUID, audience: Audience) -> ResultView | None:
    """The current version; None when there is no such result or the audience may not see it."""
    found = await find_results(connection, ResultFilter(ids=(result_id,)), audience)
    return found[0] if found else None


async def result_history(connection: Connection, result_id: UUID, audience: Audience) -> list[ResultView]:
    """Every version that the audience may see, oldest first; `updated_at` is when the version was made.

    Nothing of a result that the audience may not see as it stands now, and to an EMR no version that was never current.
    """
    text = " ".join((_HISTORY, "r.id = $1 and", version_visible(audience), "order by v.version, v.id"))
    return [read_result(row, audience) for row in await connection.fetch(text, result_id)]


async def result_as_read(connection: Connection, result_id: UUID, audience: Audience) -> list[tuple[UUID, ResultView]]:
    """The same as an EMR read it, each with its versionId: that its collection was told later is one more."""
    text = " ".join((_AS_READ, "r.id = $1 and", version_visible(audience), "order by v.version, v.id, e.told"))
    return [(row["shown_id"], read_result(row, audience)) for row in await connection.fetch(text, result_id)]


async def results_as_read(connection: Connection, order_id: UUID, audience: Audience) -> list[ResultView]:
    """The same of every result of an order."""
    text = " ".join((_AS_READ, "r.order_id = $1 and", version_visible(audience), "order by r.id, v.version, v.id"))
    return [read_result(row, audience) for row in await connection.fetch(text, order_id)]


async def released_before(
    connection: Connection, result_ids: Iterable[UUID], audience: Audience
) -> dict[UUID, tuple[ResultView, ...]]:
    """Of each of these results the versions before the current one that were released, oldest first; for an EMR.

    `released_at` is when that version was made. What is preliminary was given out as such, and is no former value.
    """
    query = Query()
    query.where("r.id = any(?::uuid[])", list(result_ids))
    query.where(visible(audience, "r"))
    query.where("v.status = any(?::text[]) and v.held = '{}' and v.version < r.version", sorted(RELEASED))
    text = " ".join((_HISTORY, query.conditions, "order by r.id, v.version, v.id"))
    found: dict[UUID, list[ResultView]] = {}
    for row in await connection.fetch(text, *query.values):
        found.setdefault(row["id"], []).append(read_result(row, audience))
    return {id: tuple(views) for id, views in found.items()}


async def explanations(connection: Connection, version_ids: Iterable[UUID]) -> dict[UUID, tuple[Step, ...]]:
    """Why each of these result versions is as it is; versions without an explanation are left out. For staff."""
    rows = await connection.fetch(
        f"""select d.result_version_id, lab.explained(d.steps) as steps, {SENT_COLUMNS} from lab.decision d
            join lab.result_version v on v.id = d.result_version_id where d.result_version_id = any($1::uuid[])""",  # noqa: S608 - names of ours
        list(version_ids),
    )
    return {row["result_version_id"]: as_sent(read_steps(row["steps"]), row) for row in rows}


def _result_query(filter: ResultFilter, audience: Audience) -> Query:
    query = Query()
    query.where(visible(audience))
    query.any("r.id = any(?::uuid[])", filter.ids)
    of_persons(query, "r.patient_id", filter.patient_ids)
    query.any("r.order_id = any(?::uuid[])", filter.order_ids)
    query.any("r.specimen_id = any(?::uuid[])", filter.specimen_ids)
    query.any("v.message_id = any(?::uuid[])", filter.message_ids)
    if filter.barcodes:
        sent = query.bind(list(filter.barcodes))
        query.where(f"r.id = any(array({results_called(sent)})) and v.specimen_as_sent = any({sent}::text[])")
    query.any("r.status = any(?::text[])", filter.statuses)
    if filter.test_codes or filter.loincs:
        condition = "(v.test_code = any(?::text[]) or v.loinc <> '' and v.loinc = any(?::text[]))"
        query.where(condition, list(filter.test_codes), list(filter.loincs))
    if filter.held_only:
        # That a change waits is for staff to know; an EMR sees the released version as if nothing had come.
        staff = audience is Audience.STAFF
        query.where("(r.held <> '{}' or r.pending_version_id is not null)" if staff else "false")
    query.between(_EFFECTIVE, filter.effective_since, filter.effective_until)
    return query


def read_result(row: Record, audience: Audience) -> ResultView:
    view = _view(row, audience)
    if audience is Audience.STAFF:
        return view
    if view.status in TAKEN_BACK:  # why, is for the laboratory to know
        return replace(view, **_WITHHELD, held=(), note="", low=None, high=None, reference="", method="")
    return replace(view, **_WITHHELD) if view.status is ResultStatus.ENTERED_IN_ERROR else view


_WITHHELD: dict[str, Any] = {  # of a result that is one no more, for those who might take it for one
    "value": "", "number": None, "comparator": None, "flags": (), "raw_value": "", "raw_flags": "", "comments": (),
}  # fmt: skip


def _view(row: Record, audience: Audience) -> ResultView:
    return ResultView(
        id=row["id"],
        version=row["version"],
        version_id=row["version_id"],
        status=ResultStatus(row["status"]),
        held=tuple(map(HoldReason, row["held"])),
        updated_at=row["updated_at"],
        created_at=row["created_at"],
        released_at=row["released_at"],
        test_code=row["test_code"],
        test_name=row["test_name"],
        loinc=row["loinc"],
        kind=ValueKind(row["kind"]),
        value=row["value"],
        number=row["number"],
        comparator=Comparator(row["comparator"]) if row["comparator"] else None,
        unit=row["unit"],
        low=row["low"],
        high=row["high"],
        reference=row["reference"],
        flags=tuple(row["flags"]),
        note=row["note"],
        specimen_id=row["specimen_id"],
        barcode=row["specimen_as_sent"],
        patient_id=row["patient_id"],
        order_id=row["order_id"],
        order_item_id=row["order_item_id"],
        analyzer=row["analyzer"],
        message_id=row["message_id"],
        code=row["code"],
        raw_value=row["raw_value"],
        raw_unit=row["raw_unit"],
        raw_flags=row["raw_flags"],
        instrument_time=row["instrument_time"],
        instrument_at=row["instrument_at"],
        comments=tuple(row["comments"]),
        pending=audience is Audience.STAFF and row["pending_version_id"] is not None,
        collected_at=row["collected_at"],
        reportable=row["reportable"],
        origin=Origin(row["origin"]),
        analyzer_id=row["analyzer_id"],
        method=row["method"],
    )


# ---- orders and reports ---------------------------------------------------------------------------------------------

# What an EMR sees of an item whose results it may not see: what was so before any analyzer said anything.
_ITEM_SHOWN = """
    case when i.status not in ('in_progress', 'completed', 'verified') or exists (
        select from lab.result r where r.order_id = i.order_id and r.order_item_id = i.id and {visible}
    ) then i.status
    when exists (select from lab.dispatch d where d.order_item_id = i.id and d.sent_at is not null) then 'in_progress'
    when s.received_at is not null then 'received'
    when s.collected_at is not null then 'collected'
    else 'requested' end
"""


def item_shown(audience: Audience) -> str:
    """An order item's status (`i`, its specimen `s`) as the audience sees it."""
    return "i.status" if audience is Audience.STAFF else _ITEM_SHOWN.format(visible=visible(audience))


_ORDERS = """
with page as (
    select o.*, {stamp} as stamp
    from lab.lab_order o
    where {conditions}
    {end}
)
select o.id, o.version, o.updated_at, o.number, o.placer_number, o.placer_authority, o.priority, o.ordered_at,
       o.patient_id, o.clinical_history, o.cancelled_at, o.cancel_reason, o.ward, o.patient_group, o.pregnant,
       o.gestation_weeks, o.requester_id, q.family as requester_family, q.given as requester_given, (
           select min(n.value) from lab.practitioner_identifier n
           where n.practitioner_id = q.id and n.ended_at is null) as requester_identifier,
       o.stamp, i.id as item_id, s.time_point_min, t.code as test_code, t.name as test_name, t.loinc,
       case when i.status in ('cancelled', 'rejected') then i.reason else '' end as item_reason,
       {item_status} as item_status, i.specimen_id, s.barcode,
       lab.known_by(i.id, i.status, o.placer_number, o.placer_authority) as placers
from page o
left join lab.order_item i on i.order_id = o.id
left join lab.test t on t.id = i.test_id
left join lab.specimen s on s.id = i.specimen_id
left join lab.practitioner q on q.id = o.requester_id
order by o.stamp {direction}, o.id {direction}, i.id
"""
_REPORT_STAMP = """greatest(o.updated_at, (
    select max(r.updated_at) from lab.result r where r.order_id = o.id and {changed}))"""
_ITEM_EXISTS = "exists (select from lab.order_item i where i.order_id = o.id and i.{column} = any(?::uuid[]))"
_SPECIMEN_EXISTS = "exists (select from lab.specimen s where s.order_id = o.id and s.barcode = any(?::text[]))"
_NUMBERED = """o.id in (
    select id from lab.lab_order where number = any(?::text[])
    union all select id from lab.lab_order where placer_number <> '' and placer_number = any(?::text[])
    union all select order_id from lab.placer_order where number = any(?::text[]))"""
_TEST_EXISTS = """exists (
    select from lab.order_item i join lab.test t on t.id = i.test_id
    where i.order_id = o.id and (t.code = any(?::text[]) or t.loinc <> '' and t.loinc = any(?::text[])))"""


async def find_orders(connection: Connection, filter: OrderFilter, audience: Audience) -> list[OrderView]:
    """A page of orders with their items, items in the order in which they were asked for."""
    return [order for order, _ in await _orders(connection, filter, audience, report=False)]


async def get_order(connection: Connection, order_id: UUID, audience: Audience) -> OrderView | None:
    found = await find_orders(connection, OrderFilter(ids=(order_id,)), audience)
    return found[0] if found else None


async def find_reports(connection: Connection, filter: OrderFilter, audience: Audience) -> list[ReportView]:
    """A page of reports: orders, each with its results that the audience may see (perhaps none).

    A report's last change, which the page is about, is the order's or the latest of its results' (`report_changed`).
    """
    orders = await _orders(connection, filter, audience, report=True)
    wanted = ResultFilter(order_ids=tuple(order.id for order, _ in orders))
    query = _result_query(wanted, audience)
    text = " ".join((_RESULTS, query.conditions, "order by r.order_id, r.order_item_id, r.id"))
    rows = await connection.fetch(text, *query.values) if orders else []
    results = {
        order_id: tuple(read_result(row, audience) for row in group)
        for order_id, group in groupby(rows, key=lambda row: row["order_id"])
    }
    return [ReportView(order, results.get(order.id, ()), stamp) for order, stamp in orders]


async def _orders(
    connection: Connection, filter: OrderFilter, audience: Audience, report: bool
) -> list[tuple[OrderView, datetime]]:
    query = Query()
    stamp = _REPORT_STAMP.format(changed=report_changed(audience)) if report else "o.updated_at"
    _order_conditions(query, filter)
    end = query.page(filter.page, stamp, "o.id")
    text = _ORDERS.format(
        stamp=stamp,
        conditions=query.conditions,
        end=end,
        item_status=item_shown(audience),
        direction="desc" if filter.page.newest_first else "asc",
    )
    rows = await connection.fetch(text, *query.values)
    orders: list[tuple[OrderView, datetime]] = []
    for _, group in groupby(rows, key=lambda row: row["id"]):
        lines = list(group)
        items = tuple(_item(line) for line in lines if line["item_id"] is not None)
        orders.append((replace(_order(lines[0]), items=items), lines[0]["stamp"]))
    return orders


def _order_conditions(query: Query, filter: OrderFilter) -> None:
    query.any("o.id = any(?::uuid[])", filter.ids)
    of_persons(query, "o.patient_id", filter.patient_ids)
    query.any(_ITEM_EXISTS.format(column="id"), filter.item_ids)
    query.any(_ITEM_EXISTS.format(column="specimen_id"), filter.specimen_ids)
    query.any(_SPECIMEN_EXISTS, filter.barcodes)
    own, placer = [*filter.numbers, *filter.own_numbers], [*filter.numbers, *filter.placer_numbers]
    if own or placer:
        query.where(_NUMBERED, own, placer, placer)
    if filter.test_codes or filter.loincs:
        query.where(_TEST_EXISTS, list(filter.test_codes), list(filter.loincs))
    if filter.cancelled is not None:
        query.where("(o.cancelled_at is not null) = ?", filter.cancelled)
    query.between("o.ordered_at", filter.ordered_since, filter.ordered_until)


def _order(row: Record) -> OrderView:
    return OrderView(
        id=row["id"],
        version=row["version"],
        updated_at=row["updated_at"],
        number=row["number"],
        placer_number=row["placer_number"],
        priority=Priority(row["priority"]),
        ordered_at=row["ordered_at"],
        patient_id=row["patient_id"],
        clinical_history=row["clinical_history"],
        cancelled=row["cancelled_at"] is not None,
        cancel_reason=row["cancel_reason"],
        requester=_requester(row) if row["requester_id"] else None,
        ward=row["ward"],
        patient_group=row["patient_group"],
        pregnant=row["pregnant"],
        gestation_weeks=row["gestation_weeks"],
        placer_authority=row["placer_authority"],
    )


def _requester(row: Record) -> RequesterView:
    return RequesterView(
        row["requester_id"], row["requester_identifier"], row["requester_family"], row["requester_given"]
    )


def _item(row: Record) -> OrderItemView:
    return OrderItemView(
        id=row["item_id"],
        test_code=row["test_code"],
        test_name=row["test_name"],
        loinc=row["loinc"],
        status=ItemStatus(row["item_status"]),
        specimen_id=row["specimen_id"],
        barcode=row["barcode"] or "",
        time_point_min=row["time_point_min"],
        reason=row["item_reason"],
        placers=known_by(row["placers"]),
    )


# ---- specimens ------------------------------------------------------------------------------------------------------

_SPECIMENS = """
select s.id, s.version, s.updated_at, s.barcode, s.type, s.status, s.patient_id, s.order_id, s.collected_at,
       s.received_at, s.reject_reason, s.state, s.reject_code, s.container, s.time_point_min, s.parent_id,
       s.collected_by, s.received_by, s.rack, s.position
from lab.specimen s
where
"""


def specimen_visible(audience: Audience) -> str:
    """Which specimens (`s`) the audience sees: those of an order, and those of which it sees a result."""
    if audience is Audience.STAFF:
        return "true"
    result = f"select from lab.result r where r.specimen_id = s.id and {visible(audience)}"
    return f"(s.order_id is not null or exists ({result}))"


async def find_specimens(connection: Connection, filter: SpecimenFilter, audience: Audience) -> list[SpecimenView]:
    """A page of specimens. A specimen that no order knows is shown to an EMR once a result of it may be seen: before,
    all that it says is that an analyzer has sent something."""
    query = _specimen_query(filter, audience)
    end = query.page(filter.page, "s.updated_at", "s.id")
    rows = await connection.fetch(" ".join((_SPECIMENS, query.conditions, end)), *query.values)
    return [SpecimenView(**{**dict(row.items()), "state": SpecimenState(row["state"])}) for row in rows]


async def count_specimens(connection: Connection, filter: SpecimenFilter, audience: Audience) -> int:
    """How many specimens `find_specimens` would find on all its pages."""
    query = _specimen_query(filter, audience)
    query.between("s.updated_at", filter.page.since, filter.page.until)
    text = " ".join(("select count(*) from lab.specimen s where", query.conditions))
    count: int = await connection.fetchval(text, *query.values)
    return count


def _specimen_query(filter: SpecimenFilter, audience: Audience) -> Query:
    query = Query()
    query.where(specimen_visible(audience))
    query.any("s.id = any(?::uuid[])", filter.ids)
    query.any("s.barcode = any(?::text[])", filter.barcodes)
    of_persons(query, "s.patient_id", filter.patient_ids)
    query.any("s.order_id = any(?::uuid[])", filter.order_ids)
    query.any("s.type = any(?::text[])", filter.types)
    query.any("s.status = any(?::text[])", filter.statuses)
    query.any("s.state = any(?::text[])", filter.states)
    query.any("s.rack = any(?::text[])", filter.racks)
    query.any("s.parent_id = any(?::uuid[])", filter.parent_ids)
    query.between("s.collected_at", filter.collected_since, filter.collected_until)
    return query
