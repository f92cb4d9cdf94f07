"""Why a specimen's results are as they are: from the bytes on the wire to what an EMR is owed (DESIGN §1.5).

A trace reads message bytes, so whoever asks for one audits it. It is for staff: it shows what is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

from asyncpg import Record

from interface.domain.model import Comparator, HoldReason, ResultStatus, Step, ValueKind
from interface.domain.qc_views import ControlView
from interface.domain.views import Audience, ResultView, SpecimenView
from interface.flow import queries
from interface.flow.message import frame_text
from interface.store import dispatch_views, follow_ups, lab, stored_messages
from interface.store.as_sent import results_called
from interface.store.db import Connection
from interface.store.dispatch_views import DispatchView
from interface.store.explanations import SENT_COLUMNS, as_sent, read_steps
from interface.store.follow_ups import FollowUp
from interface.store.ids import uuid7_floor
from interface.store.qc_find import ControlFilter, find_controls
from interface.store.stored_messages import StoredMessage
from interface.store.versions import versions_of

MOST_RESULTS = 10_000
QUERY_DAYS = 7  # an analyzer asks when the specimen is there
_RECORD_END = re.compile(rb"[\r\n]+")
_LOCATION = re.compile(r"([A-Z][A-Z0-9]{0,2})[ ^]([0-9]+)")  # `R 3` and `OBX^7`: the kind, and which of its kind


@dataclass(frozen=True, slots=True)
class TracedFrame:
    """Where a frame's bytes are: message id and ordinal. `fn`: frame number, None for an MLLP block."""

    ordinal: int
    fn: int | None
    size_bytes: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class TracedMessage:
    id: UUID
    link: str
    protocol: str
    control_id: str
    state: str
    settled: str
    reply: str
    received_at: datetime
    sealed_at: datetime | None
    settled_at: datetime | None
    frames: tuple[TracedFrame, ...]


@dataclass(frozen=True, slots=True)
class TracedRecord:
    """One record or segment as it was sent. `frames`: the ordinals of those that carry it; `start`, `stop`: where its
    bytes are in the message's text, which is its frames' text one after the other."""

    location: str
    text: str
    start: int
    stop: int
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TracedVersion:
    """One version of a result and why it is so. `record` is None when it is not in the bytes where it is said to be."""

    id: UUID
    version: int
    status: ResultStatus
    held: tuple[HoldReason, ...]
    comparator: Comparator | None  # of a number; words carry theirs
    value: str
    unit: str
    flags: tuple[str, ...]
    made_at: datetime
    made_by: str  # `link hema-1`, `user vera`
    message_id: UUID | None
    record: TracedRecord | None
    driver_revision: str
    map_revision: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Owed:
    """A version an EMR is owed, and where it is in the feed of changes that EMRs follow."""

    version: int
    position: int | None
    since: datetime
    sealed_at: datetime | None


@dataclass(frozen=True, slots=True)
class TracedResult:
    """`asked`: what the result made the laboratory do next."""

    current: ResultView
    versions: tuple[TracedVersion, ...]
    owed: tuple[Owed, ...]
    asked: tuple[FollowUp, ...] = ()


@dataclass(frozen=True, slots=True)
class TracedQuery:
    """A query of the last days that was answered that there is no work on the specimen."""

    message_id: UUID
    link: str
    asked_at: datetime
    reason: str  # of `domain.routing.NoWork`


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that is known of a barcode. All empty: nothing is. `controls`: measured under this id, or told of in
    the same messages. `works`: what analyzers were told to measure, or are to be; `queries`: that had nothing."""

    barcode: str
    specimens: tuple[SpecimenView, ...]
    messages: tuple[TracedMessage, ...]
    results: tuple[TracedResult, ...]
    controls: tuple[ControlView, ...] = ()
    works: tuple[DispatchView, ...] = ()
    queries: tuple[TracedQuery, ...] = ()


_RESULT_IDS = results_called("array[$1]")
_VERSIONS = f"""
select v.id, v.result_id, v.version, v.status, v.held, v.kind, v.comparator, v.value, v.unit, v.flags, v.created_at,
       {SENT_COLUMNS}, v.actor_kind, coalesce(u.username, l.name, g.name || '@' || g.revision, '') as actor_name,
       coalesce(d.driver_revision, '') as driver_revision,
       coalesce(d.map_revision, 0) as map_revision, coalesce(lab.explained(d.steps), '[]') as steps
from {versions_of("= any($1::uuid[])")} v
left join lateral (select * from lab.decision y where y.result_version_id = v.id offset 0) d on true
left join lab.app_user u on u.id = v.actor_id
left join lab.link l on l.id = v.actor_id
left join lab.rule_set g on g.id = v.actor_id
order by v.result_id, v.version, v.id
"""  # noqa: S608 - names of ours
_OWED = """
select result_id, version, seq, created_at, sealed_at from (
    select o.entity_id as result_id, o.entity_version as version, o.seq, o.created_at, o.sealed_at, o.place
    from lab.outbox o where o.kind = 'result' and o.entity_id = any($1::uuid[])
    union all
    select v.result_id, v.version, o.seq, o.created_at, o.sealed_at, o.place
    from (select distinct order_id from lab.result where id = any($1::uuid[])) r
    join lab.outbox o on o.entity_id = r.order_id and o.kind = 'order'
    join lab.result_version v on v.id = any(o.versions) and v.result_id = any($1::uuid[])
) owed order by result_id, place, version
"""


_QUERIES = """
select distinct m.id, l.name as link, m.received_at, m.reason
from lab.sending s join lab.message m on m.id = s.query_id join lab.link l on l.id = m.link_id
where s.id > $1 and position($2 in m.reason) > 0
order by m.id
"""


async def trace(connection: Connection, barcode: str) -> Trace:
    """Everything from the bytes to the outbox for one barcode, as the order or as an analyzer has it."""
    staff = Audience.STAFF
    specimens = await lab.find_specimens(connection, lab.SpecimenFilter(barcodes=(barcode,)), staff)
    ids = tuple(row["id"] for row in await connection.fetch(_RESULT_IDS, barcode))
    wanted = lab.ResultFilter(ids=ids, page=lab.Page(limit=MOST_RESULTS))
    results = await lab.find_results(connection, wanted, staff) if ids else []
    rows = await connection.fetch(_VERSIONS, ids)
    message_ids = list(dict.fromkeys(row["message_id"] for row in rows if row["message_id"] is not None))
    messages = await stored_messages.read_messages(connection, message_ids)
    texts = {message.id: _Text(message) for message in messages.values()}
    versions = {
        result_id: tuple(
            TracedVersion(
                id=row["id"],
                version=row["version"],
                status=ResultStatus(row["status"]),
                held=tuple(map(HoldReason, row["held"])),
                comparator=_comparator(row),
                value=row["value"],
                unit=row["unit"],
                flags=tuple(row["flags"]),
                made_at=row["created_at"],
                made_by=" ".join(filter(None, (row["actor_kind"], row["actor_name"]))),
                message_id=row["message_id"],
                record=texts[row["message_id"]].record(row["location"]) if row["message_id"] in texts else None,
                driver_revision=row["driver_revision"],
                map_revision=row["map_revision"],
                steps=as_sent(read_steps(row["steps"]), row),
            )
            for row in group
        )
        for result_id, group in groupby(rows, key=lambda row: row["result_id"])
    }
    owed = await _owed(connection, ids)
    asked = await follow_ups.of_results(connection, ids)
    traced = tuple(
        TracedResult(one, versions.get(one.id, ()), owed.get(one.id, ()), asked.get(one.id, ())) for one in results
    )
    controls = await _controls(connection, barcode, message_ids)
    page = lab.Page(limit=MOST_RESULTS)
    works = await dispatch_views.find(connection, dispatch_views.DispatchFilter(barcodes=(barcode,), page=page))
    return Trace(
        barcode,
        tuple(specimens),
        await _messages(connection, messages.values()),
        traced,
        controls,
        tuple(reversed(works)),
        await _queries(connection, barcode),
    )


async def _queries(connection: Connection, barcode: str) -> tuple[TracedQuery, ...]:
    since = uuid7_floor(datetime.now(UTC) - timedelta(days=QUERY_DAYS))
    rows = await connection.fetch(_QUERIES, since, barcode.replace("\0", ""))
    return tuple(
        TracedQuery(row["id"], row["link"], row["received_at"], reason)
        for row in rows
        if (reason := queries.why_nothing(row["reason"], barcode))
    )


async def _controls(connection: Connection, barcode: str, message_ids: Sequence[UUID]) -> tuple[ControlView, ...]:
    page = lab.Page(limit=MOST_RESULTS)
    found = await find_controls(connection, ControlFilter(specimen_as_sent=barcode, page=page))
    if message_ids:
        found += await find_controls(connection, ControlFilter(message_ids=tuple(message_ids), page=page))
    return tuple({one.id: one for one in found}.values())


def _comparator(row: Record) -> Comparator | None:
    return Comparator(row["comparator"]) if row["comparator"] and row["kind"] == ValueKind.NUMERIC else None


async def _owed(connection: Connection, result_ids: Sequence[UUID]) -> dict[UUID, tuple[Owed, ...]]:
    rows = await connection.fetch(_OWED, result_ids)
    return {
        result_id: tuple(Owed(row["version"], row["seq"], row["created_at"], row["sealed_at"]) for row in group)
        for result_id, group in groupby(rows, key=lambda row: row["result_id"])
    }


async def _messages(connection: Connection, messages: Iterable[StoredMessage]) -> tuple[TracedMessage, ...]:
    links = {row["id"]: row["name"] for row in await connection.fetch("select id, name from lab.link")}
    return tuple(
        TracedMessage(
            id=message.id,
            link=links.get(message.link_id, ""),
            protocol=message.protocol,
            control_id=message.control_id,
            state=message.state,
            settled=message.settled or "",
            reply=message.reply,
            received_at=message.received_at,
            sealed_at=message.sealed_at,
            settled_at=message.settled_at,
            frames=tuple(TracedFrame(f.ordinal, f.fn, len(f.bytes), f.received_at) for f in message.frames),
        )
        for message in sorted(messages, key=lambda message: message.id)
    )


# ---- records in bytes -----------------------------------------------------------------------------------------------


class _Text:
    """A message's text, and which of its bytes came in which frame."""

    def __init__(self, message: StoredMessage) -> None:
        self._hl7 = message.protocol == "hl7"
        self._ends: list[tuple[int, int]] = []  # where each frame's part ends, and the frame's ordinal
        self._bytes = bytearray()
        for frame in message.frames:
            self._bytes += frame_text(frame)
            self._ends.append((len(self._bytes), frame.ordinal))
        self._records = self._index()

    def record(self, location: str) -> TracedRecord | None:
        match = _LOCATION.match(location)
        place = self._records.get((match[1], int(match[2]))) if match else None
        if place is None:
            return None
        start, stop = place
        first = next(at for at, (end, _) in enumerate(self._ends) if start < end)
        last = next(at for at, (end, _) in enumerate(self._ends) if stop <= end)
        frames = tuple(ordinal for _, ordinal in self._ends[first : last + 1])
        text = bytes(self._bytes[start:stop]).decode(errors="backslashreplace")
        return TracedRecord(location, text, start, stop, frames)

    def _index(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Where each record is, by its kind and which of its kind it is."""
        found: dict[tuple[str, int], tuple[int, int]] = {}
        seen: dict[str, int] = {}
        at = 0
        for end in [*_RECORD_END.finditer(self._bytes), None]:
            stop = end.start() if end else len(self._bytes)
            line = bytes(self._bytes[at:stop])
            if line.strip(b"\x00 "):
                kind = line[: 3 if self._hl7 else 1].decode("ascii", errors="replace").upper()
                seen[kind] = seen.get(kind, 0) + 1
                found[kind, seen[kind]] = (at, stop)
            at = end.end() if end else stop
        return found
