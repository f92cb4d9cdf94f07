"""The audit trail as a chain of segments, one chain for each organization (DESIGN §5).

Rows are written by whoever has something to say, in transactions of their own, at the same time; nothing orders them
and nobody waits. A row's `position` is the number of its transaction (`pg_current_xact_id`). When every transaction
below a number has ended (`pg_snapshot_xmin`), no row below it can come any more: what is there is final. So a pass,
beside the writers, seals what lies between the last seal and that number: it hashes each row, and then the hashes, the
bounds and the seal before into the segment's digest.

What that proves: a row that is sealed cannot be changed, taken away, added in its place or moved, and no segment, by
anybody, the owner of the schema included, without `verify` finding it; unless all segments from there on are made
anew. That is found by comparing with a head (number and digest of a segment) that was printed or logged and is kept
elsewhere. Not proved: what happens to a row before it is sealed, a few seconds. What a crash leaves is whole: a row is
sealed or not yet.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import orjson

from interface.domain.times import earlier
from interface.store.db import Connection

SEGMENT_ROWS: Final = 1000
_AT_ONCE: Final = 50  # rows, of which the digests are made
LATE: Final = timedelta(minutes=10)  # longer than a transaction takes, and than clocks are set back by
FORMAT: Final = "labora audit segment 1"

_ENTRY_BYTES: Final = 48  # 16 of the id, 32 of the digest
_START: Final = (0, UUID(int=0))
_NO_DIGEST: Final = b""

_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('labora audit ' || $1::text, 0))"
# Not its entries, which are 48 bytes of each row: what comes after it needs none of them.
_LAST = """select number, digest, ended_position, ended_id from lab.audit_segment where number <= $1
    order by number desc limit 1"""
_NOW = """select pg_snapshot_xmin(pg_current_snapshot())::text::bigint + lab.audit_offset() as settled,
    clock_timestamp() as at"""
_COLUMNS = """id, position, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, address, outcome,
    detail::text as detail"""
_ROWS = f"""select {_COLUMNS} from lab.audit_event
    where (position, id) >= ($1, $2) and (position, id) < ($3, $4) order by position, id limit $5"""  # noqa: S608
# Of positions that no transaction there has been can have given: no segment would ever begin before the first, or reach
# the others. One's own transaction may be newer than what its snapshot knows of.
_NEVER = f"""select {_COLUMNS} from lab.audit_event where position < 0
    union all select {_COLUMNS} from lab.audit_event where $1 and position >= greatest(
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
        coalesce(pg_current_xact_id_if_assigned()::text::bigint + 1, 0)) + lab.audit_offset()
    limit $2"""  # noqa: S608
# Whether a trail of which nothing was deleted lacks its first rows: that of the laboratory's founding, which is written
# with it, and all of the time after it.
_HEADLESS = """select coalesce(e.action, '') <> 'create' or e.entity_kind <> 'organization'
    from lab.organization o
    left join lateral (select action, entity_kind, at from lab.audit_event order by position, id limit 1) e on true
    where coalesce(e.at, clock_timestamp()) > o.created_at + $1"""
_SEGMENTS = "select * from lab.audit_segment where number > $1 order by number limit 50"
_ANCHOR = (
    "select number, digest, ended_position, ended_id, sealed_at from lab.audit_anchor order by number desc limit 1"
)
_TOLD = """select exists (select from lab.audit_event where action = 'delete' and entity_kind = 'audit_event'
    and detail ->> 'anchor' = $1)"""
_BEFORE = "select id from lab.audit_event where (position, id) < ($1, $2) limit 1"
_INSERT = """insert into lab.audit_segment (organization_id, number, began_position, began_id, ended_position, ended_id,
    sealed_at, rows, entries, previous, digest) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"""


class Tampering(StrEnum):
    """What can be wrong with an audit trail."""

    CHANGED = "changed"  # a row says something else than when it was sealed
    DELETED = "deleted"  # a sealed row is gone
    INSERTED = "inserted"  # a row stands where others were sealed without it
    BACKDATED = "backdated"  # a row was written long after rows that say they are younger
    MISSING = "missing"  # a segment is gone
    BROKEN = "broken"  # a segment is not the one that was sealed, or does not follow on the one before
    HEAD = "head"  # the head that was kept elsewhere is not in the chain


@dataclass(frozen=True, slots=True)
class Head:
    """A segment and its digest: who keeps them elsewhere can tell later whether the chain still has it."""

    number: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """`segment` 0: none in particular. `row`: the id of the audit row."""

    what: Tampering
    segment: int
    row: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class SetBack:
    """The server's clock was put back, so far, before a segment was sealed."""

    segment: int
    by: timedelta


@dataclass(frozen=True, slots=True)
class Verdict:
    """`unsealed` rows wait for their seal, the oldest since `oldest`: that is no fault, nor is a long time between, nor
    a clock that was `set_back` by more than LATE."""

    segments: int
    rows: int
    head: Head | None
    sealed_last: datetime | None
    unsealed: int
    oldest: datetime | None
    findings: tuple[Finding, ...]
    anchor: Head | None = None  # what lies before it was deleted when it had been kept long enough: `store.retention`
    set_back: tuple[SetBack, ...] = ()


def parse_head(text: str) -> Head:
    """`number:digest`, as it is printed. ValueError, with a text for the reader."""
    number, _, digest = text.partition(":")
    try:
        head = Head(int(number), bytes.fromhex(digest))
    except ValueError:
        head = Head(0, b"")
    if head.number < 1 or len(head.digest) != hashlib.sha256().digest_size:
        raise ValueError(f"{text!r} is not a head; it reads number:digest, as `labora audit head` prints it")
    return head


def row_digest(row: Any) -> bytes:
    """Of everything that a row of `_COLUMNS` says. Its texts are as PostgreSQL gives them, jsonb included, which is one
    way only."""
    id, position, at, actor_kind, actor_id, actor_name, action, entity_kind, entity_id, *rest = row
    said = [
        id.hex, position, at.isoformat(), actor_kind, _hex(actor_id), actor_name, action, entity_kind, _hex(entity_id),
        *rest,  # address, outcome, detail
    ]  # fmt: skip
    return hashlib.sha256(orjson.dumps(said)).digest()


def _hex(id: UUID | None) -> str:
    return "" if id is None else id.hex


def segment_digest(organization_id: UUID, segment: Any) -> bytes:
    """Of the bounds, the rows and the segment before."""
    head = [
        FORMAT, organization_id.hex, segment["number"], segment["previous"].hex(), segment["began_position"],
        segment["began_id"].hex, segment["ended_position"], segment["ended_id"].hex, segment["sealed_at"].isoformat(),
        segment["rows"],
    ]  # fmt: skip
    return hashlib.sha256(orjson.dumps(head) + b"\n" + segment["entries"]).digest()


# ---- sealing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a pass did. `more`: it stopped at SEGMENT_ROWS, and there are others to seal."""

    head: Head | None
    rows: int
    more: bool


async def seal(connection: Connection, organization_id: UUID, *, most: int = SEGMENT_ROWS) -> Sealed:
    """Seal what is final and not sealed yet, at most `most` rows, in the caller's transaction (read committed).

    Where another process is at it, nothing is done here.
    """
    if not await connection.fetchval(_LOCK, str(organization_id)):
        return Sealed(None, 0, False)
    last = await _last(connection)
    now = await connection.fetchrow(_NOW)
    assert now is not None  # noqa: S101 - a select without a from gives one row
    began = (last["ended_position"], last["ended_id"]) if last else _START
    head = Head(last["number"], last["digest"]) if last else None
    # A statement of its own, after that number was asked: it sees all that ended before.
    rows = await connection.fetch(_ROWS, *began, now["settled"], _START[1], most + 1)
    if not rows:
        return Sealed(head, 0, False)
    more = len(rows) > most
    ended = (rows[most]["position"], rows[most]["id"]) if more else (now["settled"], _START[1])
    rows = rows[:most]
    segment = {
        "organization_id": organization_id, "number": head.number + 1 if head else 1,
        "began_position": began[0], "began_id": began[1], "ended_position": ended[0], "ended_id": ended[1],
        "sealed_at": now["at"], "rows": len(rows),
        "entries": await _entries(rows),
        "previous": head.digest if head else _NO_DIGEST,
    }  # fmt: skip
    digest = segment_digest(organization_id, segment)
    await connection.execute(_INSERT, *segment.values(), digest)
    return Sealed(Head(segment["number"], digest), len(rows), more)


async def _entries(rows: Sequence[Any]) -> bytes:
    """Of each row its id and its digest. Whoever waits for the process meanwhile waits for a few of them only."""
    entries = []
    for at in range(0, len(rows), _AT_ONCE):
        entries += [row["id"].bytes + row_digest(row) for row in rows[at : at + _AT_ONCE]]
        await asyncio.sleep(0)
    return b"".join(entries)


async def _last(connection: Connection, number: int = (1 << 63) - 1) -> Any:
    return await connection.fetchrow(_LAST, number)


async def head(connection: Connection) -> Head | None:
    """The last segment; None before the first."""
    found = await _last(connection)
    return Head(found["number"], found["digest"]) if found else None


async def has(connection: Connection, kept: Head) -> bool:
    """Whether the chain has the segment that was its head once, and that segment seals what it says."""
    found = await _last(connection, kept.number)
    return found is not None and found["number"] == kept.number and found["digest"] == kept.digest


async def comes_after(connection: Connection) -> bool:
    """Whether what is written now comes after what is sealed: not on a server that the database was moved to, until
    `rebase`."""
    return bool(
        await connection.fetchval(
            "select coalesce(max(ended_position), 0)"
            " <= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + lab.audit_offset() from lab.audit_segment"
        )
    )


async def rebase(connection: Connection) -> int:
    """Let positions go on after the last sealed one, where the database was moved to a server whose transactions have
    lower numbers; the new offset, 0 when there was nothing to do. As the schema's owner, in a transaction."""
    top = 0
    for each in await connection.fetch("select id from lab.organization"):
        await connection.execute("select set_config('labora.org', $1, true)", str(each["id"]))
        top = max(
            top,
            await connection.fetchval(
                "select greatest((select max(ended_position) from lab.audit_segment),"
                " (select max(position) from lab.audit_event), 0)"
            ),
        )
    now = await connection.fetchrow(
        "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as number, lab.audit_offset() as old"
    )
    assert now is not None  # noqa: S101 - a select without a from gives one row
    if top <= now["number"] + now["old"]:
        return 0
    offset: int = top - now["number"] + 1
    await connection.execute(
        "create or replace function lab.audit_offset() returns bigint language sql immutable"
        f" as 'select {offset:d}::bigint'"
    )
    return offset


# ---- verifying ------------------------------------------------------------------------------------------------------


async def verify(
    connection: Connection, organization_id: UUID, kept: Sequence[Head] = (), *, most_findings: int = 1000
) -> Verdict:
    """Read the whole trail of the connection's organization and compare it with its seals, and `kept` heads with it.

    Whoever writes or seals meanwhile does not disturb it, and is not waited for.
    """
    findings: list[Finding] = []
    checked = _Checked()
    anchor = await _anchored(connection, checked, findings)
    async for segment in _segments(connection):
        checked.heads[segment["number"]] = segment["digest"]
        checked.goes_on(segment)
        _follows(checked, organization_id, segment, findings)
        await _compare(connection, segment, checked, findings)
        checked.last = segment
        if len(findings) >= most_findings:
            break
    findings += await _outside(connection, most_findings)
    findings += _held_against(kept, anchor, checked)
    last = checked.last
    ended = (last["ended_position"], last["ended_id"]) if last else _START
    waiting = await connection.fetchrow(
        "select count(*) as rows, min(at) as oldest from lab.audit_event where (position, id) >= ($1, $2)", *ended
    )
    assert waiting is not None  # noqa: S101 - an aggregate gives one row
    return Verdict(
        segments=len(checked.heads) - (anchor is not None),
        rows=checked.rows,
        head=Head(last["number"], last["digest"]) if last else None,
        sealed_last=last["sealed_at"] if last else None,
        unsealed=waiting["rows"],
        oldest=waiting["oldest"],
        findings=tuple(findings[:most_findings]),
        anchor=anchor,
        set_back=tuple(checked.set_back),
    )


def _held_against(kept: Sequence[Head], anchor: Head | None, checked: _Checked) -> list[Finding]:
    """Heads that the chain has not. One whose segment was deleted with what it sealed cannot be compared; where that is
    so of all, they prove nothing: whoever makes a trail anew could say that theirs is what was left."""
    found, compared = list[Finding](), False
    for each in kept:
        if anchor is not None and each.number < anchor.number:
            continue
        compared = True
        if checked.heads.get(each.number) != each.digest:
            text = f"the chain has no segment {each.number} with the digest that was kept elsewhere"
            found.append(Finding(Tampering.HEAD, each.number, None, text))
    if kept and not compared and anchor is not None:
        text = f"all up to segment {anchor.number} was deleted: no head that was given says anything of what is left"
        found.append(Finding(Tampering.HEAD, anchor.number, None, text))
    return found


async def _anchored(connection: Connection, checked: _Checked, findings: list[Finding]) -> Head | None:
    """Where the trail begins: after a segment that was deleted with all before it, which a row of the trail tells of,
    and of which nothing is left."""
    row = await connection.fetchrow(_ANCHOR)
    if row is None:
        if await connection.fetchval(_HEADLESS, LATE):
            text = "it does not begin with the laboratory's founding: what came first is gone"
            findings.append(Finding(Tampering.MISSING, 1, None, text))
        return None
    anchor = Head(row["number"], row["digest"])
    checked.last, checked.heads[anchor.number] = row, anchor.digest
    if not await connection.fetchval(_TOLD, str(anchor)):
        text = f"segments up to {anchor.number} are gone, and no row says who deleted them"
        findings.append(Finding(Tampering.MISSING, anchor.number, None, text))
    if left := await connection.fetchval(_BEFORE, row["ended_position"], row["ended_id"]):
        text = "it stands before all that was deleted"
        findings.append(Finding(Tampering.INSERTED, anchor.number, left, text))
    return anchor


async def _outside(connection: Connection, most: int) -> list[Finding]:
    """Rows at places that no row can have: they would never be sealed. On a server that the database was moved to,
    rows that wait look like ones that come too early, until `rebase`."""
    return [
        Finding(Tampering.INSERTED, 0, row["id"], f"position {row['position']} is that of no transaction")
        for row in await connection.fetch(_NEVER, await comes_after(connection), most)
    ]


class _Checked:
    """What was read so far."""

    def __init__(self) -> None:
        self.heads: dict[int, bytes] = {}
        self.last: Any = None
        self.rows = 0
        self.latest: datetime | None = None  # what the rows so far say is the time
        self.set_back: list[SetBack] = []

    def goes_on(self, segment: Any) -> None:
        """One is sealed after the other: one that says it was sealed before it was so by a clock that had been put back
        (a time server answered). That makes what comes then no later than it says."""
        by = self.last["sealed_at"] - segment["sealed_at"] if self.last else timedelta(0)
        if by > timedelta(0) and self.latest is not None:
            self.latest = earlier(self.latest, by)
        if by > LATE:
            self.set_back.append(SetBack(segment["number"], by))


async def _segments(connection: Connection) -> AsyncIterator[Any]:
    number = -1
    while rows := await connection.fetch(_SEGMENTS, number):
        for row in rows:
            yield row
        number = rows[-1]["number"]


def _follows(checked: _Checked, organization_id: UUID, segment: Any, findings: list[Finding]) -> None:
    """Whether the segment is what was sealed, and follows on the one before."""
    number, last = segment["number"], checked.last
    expected = last["number"] + 1 if last else 1
    before = last["digest"] if last else _NO_DIGEST
    began = (last["ended_position"], last["ended_id"]) if last else _START
    if number < expected:
        findings.append(Finding(Tampering.BROKEN, number, None, "it stands before all that was deleted"))
    elif number != expected:
        gone = f"segment {expected} is" if number == expected + 1 else f"segments {expected} to {number - 1} are"
        findings.append(Finding(Tampering.MISSING, expected, None, f"{gone} gone"))
    elif segment["previous"] != before or (segment["began_position"], segment["began_id"]) != began:
        findings.append(Finding(Tampering.BROKEN, number, None, f"it does not follow on segment {expected - 1}"))
    if segment["digest"] != segment_digest(organization_id, segment):
        findings.append(Finding(Tampering.BROKEN, number, None, "it is not what was sealed"))


async def _compare(connection: Connection, segment: Any, checked: _Checked, findings: list[Finding]) -> None:
    """The rows that are there with those that were sealed."""
    entries = segment["entries"]
    sealed = {
        UUID(bytes=entries[at : at + 16]): entries[at + 16 : at + _ENTRY_BYTES]
        for at in range(0, len(entries) - _ENTRY_BYTES + 1, _ENTRY_BYTES)
    }
    bounds = [segment[name] for name in ("began_position", "began_id", "ended_position", "ended_id")]
    number = segment["number"]
    while rows := await connection.fetch(_ROWS, *bounds, SEGMENT_ROWS):
        for row in rows:
            checked.rows += 1
            digest = sealed.pop(row["id"], None)
            place = f"{row['at'].isoformat()} {row['actor_kind']} {row['action']} {row['entity_kind']}"
            if digest is None:
                findings.append(Finding(Tampering.INSERTED, number, row["id"], f"{place}: was not there when sealed"))
            elif digest != row_digest(row):
                findings.append(Finding(Tampering.CHANGED, number, row["id"], f"{place}: is not what was sealed"))
            _dated(row, place, segment, checked, findings)
        if len(rows) < SEGMENT_ROWS:
            break
        bounds[:2] = rows[-1]["position"], UUID(int=rows[-1]["id"].int + 1)
    findings += (Finding(Tampering.DELETED, number, id, "was sealed and is gone") for id in sealed)


def _dated(row: Any, place: str, segment: Any, checked: _Checked, findings: list[Finding]) -> None:
    """Transactions begin in the order of their numbers: a row that says it is much older than those before it was
    written later than it says."""
    if row["position"] == 0:  # from before there were positions
        return
    if checked.latest is not None and row["at"] < checked.latest - LATE:
        text = f"{place}: was written after rows of {checked.latest.isoformat()}"
        findings.append(Finding(Tampering.BACKDATED, segment["number"], row["id"], text))
        return
    told = min(row["at"], segment["sealed_at"])  # one that is dated ahead does not make the others late
    checked.latest = told if checked.latest is None else max(checked.latest, told)
