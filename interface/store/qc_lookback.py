"""Look-back: the patients' results that were released since the last acceptable control, as lists for a person.

A list begins when a control fails and is bounded when one is acceptable again. Which results are in it is asked of the
results themselves, by when they were measured; what it has it keeps, and each is decided by a person.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Record

from interface.domain.model import ResultStatus
from interface.domain.qc import Stream
from interface.domain.times import CLOCK_AHEAD, CLOCK_BEHIND
from interface.domain.views import Actor
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.qc_gate import MEASURED_ON
from interface.store.versions import versions_of

_COVERS_NO_MORE = """(not $7 and from_at is not distinct from $5 and reagent_lot = $8
    and (to_at is null or coalesce($6 <= to_at, false)))"""
_AGAIN = f"""
update lab.qc_lookback set to_at = $6, from_at = $5, reagent_lot = $8,
    filled_at = case when {_COVERS_NO_MORE} then filled_at end,
    state = case when {_COVERS_NO_MORE} then state else 'open' end,
    closed_at = case when {_COVERS_NO_MORE} then closed_at end
where analyzer_id = $1 and test_id = $2 and module = $3 and qc_result_id is not distinct from $4
  and (qc_result_id is not null or (state = 'open' and to_at is null))
"""  # noqa: S608 - put together of constants


async def begin(
    connection: Connection, organization_id: UUID, stream: Stream, qc_result_id: UUID | None, reagent_lot: str,
    since: datetime | None, until: datetime | None, reason: str = "", *, anew: bool = False,
) -> None:  # fmt: skip
    """The list of a failure, by the point that failed first (of what a wrong control vouched for, by that one); where
    there is one, what it covers is what it is now.

    `reagent_lot`: that failed; "" of any, and where several did.
    `anew`: the stream had not failed before. A control that came late, or counts no more, may take back that a failure
    was made good: what was released meanwhile is put on its list, which is open again.
    """
    done = await connection.execute(
        _AGAIN, stream.analyzer_id, stream.test_id, stream.module, qc_result_id, since, until, anew, reagent_lot
    )
    if done.endswith(" 0"):
        await connection.execute(
            """insert into lab.qc_lookback (id, organization_id, analyzer_id, module, test_id, qc_result_id,
                   reagent_lot, from_at, to_at, state, reason)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open', $10)""",
            uuid7(), organization_id, stream.analyzer_id, stream.module, stream.test_id, qc_result_id, reagent_lot,
            since, until, reason,
        )  # fmt: skip


async def bound(
    connection: Connection, stream: Stream, first: UUID, first_at: datetime, reagent_lot: str,
    since: datetime | None, until: datetime, *, unknown: bool = False,
) -> None:  # fmt: skip
    """A failure was made good: what was measured from then on is not looked at, by whichever of its points a list began
    (one that came late may have failed before the one that was first until then). That of the first one begins where it
    does now: what vouched before it may count no more. `unknown`: whether anything did; it begins where it was said."""
    await connection.execute(
        """update lab.qc_lookback set from_at = case when $5 then from_at else $2 end, reagent_lot = $4,
               filled_at = null, state = 'open', closed_at = null
           where qc_result_id = $1
           and (not $5 and from_at is distinct from $2 or to_at is distinct from $3 or reagent_lot <> $4)""",
        first, since, until, reagent_lot, unknown,
    )  # fmt: skip
    await connection.execute(
        """update lab.qc_lookback set to_at = $5 where to_at is distinct from $5 and qc_result_id in (
               select qc_result_id from lab.qc_point
               where analyzer_id = $1 and test_id = $2 and module = $3 and measured_at between $4 and $5)""",
        stream.analyzer_id, stream.test_id, stream.module, first_at, until,
    )  # fmt: skip


async def until(connection: Connection, stream: Stream, first: UUID) -> datetime | None:
    """Up to when the list of a failure goes, as it is written; None: there is none, or it has no end."""
    found: datetime | None = await connection.fetchval(
        """select to_at from lab.qc_lookback
           where analyzer_id = $1 and test_id = $2 and module = $3 and qc_result_id = $4 for update""",
        stream.analyzer_id, stream.test_id, stream.module, first,
    )  # fmt: skip
    return found


async def ask_again(connection: Connection, stream: Stream, first: UUID, since: datetime | None) -> list[UUID]:
    """Let what stands by a person's word, and was measured since (None: all of the list), wait again: they did not know
    of a control that failed. The results."""
    rows = await connection.fetch(
        _ASK_AGAIN, first, stream.analyzer_id, CLOCK_BEHIND, CLOCK_AHEAD, since, stream.test_id, stream.module
    )  # fmt: skip
    for list_id in {row["lookback_id"] for row in rows}:
        await connection.execute(
            "update lab.qc_lookback set state = 'open', closed_at = null, version = version + 1 where id = $1", list_id
        )
    return [row["result_id"] for row in rows]


async def bound_alarm(connection: Connection, stream: Stream, until: datetime) -> None:
    """The same of an alarm that the patients' own results gave."""
    await connection.execute(
        """update lab.qc_lookback set to_at = $4
           where analyzer_id = $1 and test_id = $2 and module = $3 and qc_result_id is null and state = 'open'
           and to_at is null""",
        stream.analyzer_id, stream.test_id, stream.module, until,
    )  # fmt: skip


async def bound_unvouched(connection: Connection, stream: Stream, until: datetime) -> None:
    """The same of what controls had vouched for that count no more: another vouches now. A list that a control which
    failed began is bounded by `bound`."""
    await connection.execute(
        """update lab.qc_lookback k set to_at = $4 from lab.qc_point p
           where k.analyzer_id = $1 and k.test_id = $2 and k.module = $3 and k.state = 'open' and k.to_at is null
           and p.qc_result_id = k.qc_result_id and p.verdict in ('accept', 'warn') and p.measured_at < $4""",
        stream.analyzer_id, stream.test_id, stream.module, until,
    )  # fmt: skip


async def of_unvouched(connection: Connection, stream: Stream, after: UUID) -> list[UUID]:
    """The controls that count no more, or did, by which a stream's lists of what they vouched for begin, oldest
    first; of lists that go on after a control."""
    rows = await connection.fetch(
        """select p.qc_result_id from lab.qc_lookback k join lab.qc_point p on p.qc_result_id = k.qc_result_id
           where k.analyzer_id = $1 and k.test_id = $2 and k.module = $3 and p.verdict in ('accept', 'warn')
             and (k.to_at is null or k.to_at > (select measured_at from lab.qc_point where qc_result_id = $4))
           order by p.measured_at, p.qc_result_id""",
        stream.analyzer_id, stream.test_id, stream.module, after,
    )  # fmt: skip
    return [row["qc_result_id"] for row in rows]


async def cover_nothing(connection: Connection, qc_result_id: UUID) -> None:
    """Something vouches for all that was on the list of this control."""
    await connection.execute(
        "update lab.qc_lookback set to_at = from_at where qc_result_id = $1 and to_at is distinct from from_at",
        qc_result_id,
    )


# ---- the results of a list -------------------------------------------------------------------------------------------

# When a version was measured, by the rule that puts controls in order (`domain.times.measured_at`).
MEASURED = """
case when v.instrument_at between coalesce(m.received_at, r.created_at) - $3::interval
                              and coalesce(m.received_at, r.created_at) + $4::interval
     then v.instrument_at else coalesce(m.received_at, r.created_at) end
"""
_ASK_AGAIN = f"""
update lab.qc_lookback_item i set state = 'waiting', decided_by = null, decided_by_name = '', decided_at = null,
    reason = ''
from lab.qc_lookback k, lab.result r
cross join lateral (select w.instrument_at, w.message_id
                    from lab.result_version w where w.id = r.version_id offset 0) v
left join lab.message m on m.id = v.message_id
where k.qc_result_id = $1 and k.analyzer_id = $2 and k.test_id = $6 and k.module = $7 and i.lookback_id = k.id
  and i.state = 'stands' and i.decided_by is not null and r.id = coalesce(i.of_result_id, i.result_id)
  and ($5::timestamptz is null or {MEASURED} > $5)
returning i.lookback_id, i.result_id
"""  # noqa: S608 - put together of constants
# A result's current version was made after it was measured: `updated_at` and its index bound what is looked at.
_RELEASED = f"""
select r.id, r.version_id
from lab.result r
cross join lateral (select w.module, w.reagent_lot, w.instrument_at, w.message_id
                    from lab.result_version w where w.id = r.version_id offset 0) v
left join lab.message m on m.id = v.message_id
where r.updated_at >= $5::timestamptz - $4::interval and r.test_id = $2 and {MEASURED_ON} = $1
  and r.status in ('final', 'corrected', 'amended')
  and ($7 in ('', v.module) or v.module = '') and ($8 in ('', v.reagent_lot) or v.reagent_lot = '')
  and {MEASURED} >= $5 and ($9 or {MEASURED} > $5) and ($6::timestamptz is null or {MEASURED} < $6)
order by r.id
"""  # noqa: S608 - put together of constants
# What was calculated of results, by the explanation of the version that is released; of whichever of its versions.
_CALCULATED = f"""
select distinct on (r.id) r.id, r.version_id, k.of from unnest($1::uuid[], $2::uuid[]) as k (id, of)
join lab.result i on i.id = k.id join lab.test t on t.id = i.test_id join lab.specimen s on s.id = i.specimen_id
join lab.specimen f on f.id in (s.id, s.parent_id) or f.parent_id in (s.id, s.parent_id)
join lab.result r on r.specimen_id = f.id
cross join lateral (select * from lab.decision y where y.result_version_id = r.version_id offset 0) d
where r.origin = 'calculation' and r.status in ('final', 'corrected', 'amended') and r.id <> all($1)
  and exists (select from json_array_elements(lab.explained(d.steps)::json) as e (step)
              where e.step ->> 'step' = 'calculation' and e.step -> 'inputs' ->> t.code in (
                  select w.comparator || w.value from {versions_of("= i.id")} w))
order by r.id, k.of
"""  # noqa: S608 - put together of constants


@dataclass(frozen=True, slots=True)
class Lookback:
    """A list. `since`: the last acceptable run before the failure; what was measured in the same instant is in it, as a
    clock may say seconds only. Of an alarm: when the statistic stood at its centre, exclusively; of what a wrong target
    vouched for: when the run before it expired, or the first control that passed by it. `until`: the first
    acceptable run after it, exclusively."""

    id: UUID
    stream: Stream
    analyzer: str
    test: str
    qc_result_id: UUID | None
    reagent_lot: str
    reason: str
    since: datetime | None
    until: datetime | None
    state: str
    version: int
    created_at: datetime
    closed_at: datetime | None
    filled: bool
    waiting: int
    items: int


_LISTS = """
select k.*, a.name as analyzer, t.code as test, i.items, i.waiting
from lab.qc_lookback k join lab.analyzer a on a.id = k.analyzer_id join lab.test t on t.id = k.test_id
cross join lateral (select count(*) as items, count(*) filter (where i.state = 'waiting') as waiting
                    from lab.qc_lookback_item i where i.lookback_id = k.id) i
"""


def _lookback(row: Record) -> Lookback:
    return Lookback(
        row["id"], Stream(row["analyzer_id"], row["test_id"], row["module"]), row["analyzer"], row["test"],
        row["qc_result_id"], row["reagent_lot"], row["reason"], row["from_at"], row["to_at"], row["state"],
        row["version"], row["created_at"], row["closed_at"], row["filled_at"] is not None, row["waiting"],
        row["items"],
    )  # fmt: skip


async def lookbacks(connection: Connection, *, closed: bool = False, limit: int = 200) -> list[Lookback]:
    """The lists, newest first; without `closed` those that are open."""
    where = "" if closed else " where k.state = 'open'"
    rows = await connection.fetch(f"{_LISTS}{where} order by k.created_at desc, k.id limit $1", limit)
    return [_lookback(row) for row in rows]


async def open_of(connection: Connection, stream: Stream) -> list[Lookback]:
    """A stream's lists that are open, oldest first."""
    rows = await connection.fetch(
        _LISTS + " where k.state = 'open' and k.analyzer_id = $1 and k.test_id = $2 and k.module = $3 order by k.id",
        stream.analyzer_id, stream.test_id, stream.module,
    )  # fmt: skip
    return [_lookback(row) for row in rows]


async def lookback(connection: Connection, lookback_id: UUID) -> Lookback | None:
    row = await connection.fetchrow(_LISTS + " where k.id = $1", lookback_id)
    return None if row is None else _lookback(row)


async def lock(connection: Connection, lookback_id: UUID) -> int:
    """One person at a time decides about a list: its version, which stays until the caller's transaction ends."""
    version: int = await connection.fetchval(
        "select version from lab.qc_lookback where id = $1 for update", lookback_id
    )
    return version


async def fill(connection: Connection, organization_id: UUID, of: Lookback, horizon: timedelta) -> int:
    """Add the results that the list covers and has not; how many. Where no control was ever acceptable before, as far
    back as the horizon. Once is enough as long as it covers the same: what was measured then is released by nobody.
    What a control had vouched for that vouches no more waits again."""
    await connection.execute("update lab.qc_lookback set filled_at = now() where id = $1", of.id)
    begin = of.since if of.since is not None else of.created_at - horizon
    found = await connection.fetch(
        _RELEASED, of.stream.analyzer_id, of.stream.test_id, CLOCK_BEHIND, CLOCK_AHEAD, begin, of.until,
        of.stream.module, of.reagent_lot, of.qc_result_id is not None,
    )  # fmt: skip
    if not found:
        return 0
    covered: list[tuple[UUID, UUID, UUID | None]] = [(row["id"], row["version_id"], None) for row in found]
    covered += await _calculated(connection, {row["id"]: row["id"] for row in found})
    done = await connection.execute(
        """insert into lab.qc_lookback_item (id, organization_id, lookback_id, result_id, result_version_id,
               of_result_id)
           select i.id, $1, $2, i.result_id, i.version_id, i.of
           from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[]) as i (id, result_id, version_id, of)
           on conflict (lookback_id, result_id) do update set state = 'waiting', decided_by_name = '',
               decided_at = null, reason = ''
               where qc_lookback_item.state = 'stands' and qc_lookback_item.decided_by is null""",
        organization_id, of.id, [uuid7() for _ in covered], *map(list, zip(*covered, strict=True)),
    )  # fmt: skip
    added = int(done.split()[-1])
    if added:  # who decides about all that waits has not seen these
        await connection.execute("update lab.qc_lookback set version = version + 1 where id = $1", of.id)
    return added


async def _calculated(connection: Connection, of: dict[UUID, UUID]) -> list[tuple[UUID, UUID, UUID]]:
    """What is released and was calculated of these, and of that in turn: result, version, and the measured result that
    it is there for. `of`: each result's measured one."""
    made: list[tuple[UUID, UUID, UUID]] = []
    of = dict(of)
    while found := await connection.fetch(_CALCULATED, list(of), list(of.values())):
        made += [(row["id"], row["version_id"], row["of"]) for row in found]
        of |= {row["id"]: row["of"] for row in found}
    return made


_VOUCHED = f"""
update lab.qc_lookback_item i set state = 'stands', decided_by_name = 'quality control', decided_at = now(),
    reason = 'an acceptable control that came later vouches for it'
from lab.result r
cross join lateral (select w.instrument_at, w.message_id
                    from lab.result_version w where w.id = r.version_id offset 0) v
left join lab.message m on m.id = v.message_id
where i.lookback_id = $1 and i.state = 'waiting' and r.id = coalesce(i.of_result_id, i.result_id)
  and ($2::timestamptz is not null and {MEASURED} < $2 or $5::timestamptz is not null and {MEASURED} >= $5)
"""  # noqa: S608 - put together of constants


async def vouched(connection: Connection, of: Lookback) -> None:
    """Leave out what the list covers no more: a control that came late was acceptable."""
    await connection.execute(_VOUCHED, of.id, of.since, CLOCK_BEHIND, CLOCK_AHEAD, of.until)


@dataclass(frozen=True, slots=True)
class Item:
    """A result of a list, as it is now. `of_result_id`: of what was calculated, the result by which it is in
    the list; `changed`: it was corrected or retracted since it is in the list."""

    result_id: UUID
    result_version_id: UUID
    of_result_id: UUID | None
    test: str
    patient_id: UUID | None
    barcode: str
    status: ResultStatus
    version: int
    measured_at: datetime
    released_at: datetime | None
    changed: bool
    state: str
    reason: str
    decided_by: str
    decided_at: datetime | None


_ITEMS = f"""
select i.result_id, i.result_version_id, i.of_result_id, t.code, c.patient_id, v.specimen_as_sent as barcode, c.status,
       c.version, c.released_at, i.state, i.reason, i.decided_by_name, i.decided_at, {MEASURED} as measured_at,
       c.version_id <> i.result_version_id and c.status in ('corrected', 'entered-in-error') as changed
from lab.qc_lookback_item i join lab.result c on c.id = i.result_id join lab.test t on t.id = c.test_id
join lab.result r on r.id = coalesce(i.of_result_id, i.result_id)
cross join lateral (select w.specimen_as_sent, w.instrument_at, w.message_id from lab.result_version w
                    where w.id = case when i.of_result_id is null then i.result_version_id else r.version_id end
                    offset 0) v
left join lab.message m on m.id = v.message_id
where i.lookback_id = $1 and ($2::uuid[] is null or i.result_id = any($2))
order by measured_at, i.of_result_id is not null, i.result_id
"""  # noqa: S608 - put together of constants


async def items(connection: Connection, lookback_id: UUID, result_ids: Collection[UUID] | None = None) -> list[Item]:
    """A list's results in the order in which they were measured; all, or those asked for."""
    rows = await connection.fetch(
        _ITEMS, lookback_id, None if result_ids is None else list(result_ids), CLOCK_BEHIND, CLOCK_AHEAD
    )
    return [
        Item(
            row["result_id"], row["result_version_id"], row["of_result_id"], row["code"], row["patient_id"],
            row["barcode"], ResultStatus(row["status"]), row["version"], row["measured_at"], row["released_at"],
            row["changed"], row["state"], row["reason"], row["decided_by_name"], row["decided_at"],
        )
        for row in rows
    ]  # fmt: skip


async def decide(
    connection: Connection, actor: Actor, lookback_id: UUID, result_ids: Collection[UUID], state: str, reason: str
) -> bool:
    """Write what a person decided about results of a list; whether that closed it."""
    await connection.execute(
        """update lab.qc_lookback_item set state = $3, reason = $4, decided_by = $5, decided_by_name = $6,
               decided_at = now() where lookback_id = $1 and result_id = any($2)""",
        lookback_id, list(result_ids), state, reason, actor.id, actor.name,
    )  # fmt: skip
    await connection.execute("update lab.qc_lookback set version = version + 1 where id = $1", lookback_id)
    return await close_if_done(connection, lookback_id)


async def close_if_done(connection: Connection, lookback_id: UUID) -> bool:
    """A list is closed when it is bounded and every result of it was decided about."""
    done = await connection.execute(
        """update lab.qc_lookback k set state = 'closed', closed_at = now() where id = $1 and state = 'open'
           and to_at is not null and not exists (
               select from lab.qc_lookback_item i where i.lookback_id = k.id and i.state = 'waiting')""",
        lookback_id,
    )
    return not done.endswith(" 0")
