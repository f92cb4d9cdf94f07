"""Writing results: claiming messages from the queue, what a decision needs to read, and its one commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias
from uuid import UUID

from interface.domain.flags import CRITICAL
from interface.domain.identity import BEGINNING, KEY_LENGTH
from interface.domain.model import FollowUpKind, HoldReason, ItemStatus, ResultStatus, Step
from interface.domain.record import record
from interface.domain.states import may_become
from interface.store.changes import TELL_RUNS
from interface.store.controls import ControlResult
from interface.store.db import Connection
from interface.store.dispatch_ends import resulted
from interface.store.explanations import comments_of, read_steps
from interface.store.ids import uuid7
from interface.store.journal_sql import QUERY_HELD_S
from interface.store.leases import FENCE
from interface.store.order_changes import count_released
from interface.store.rows import rows_json, without_nul
from interface.store.rules import ShadowRow
from interface.store.turns import in_turns
from interface.store.version_rows import ALIKE, EXPLANATION, MESSAGE, OWN, ResultVersion, VersionRows
from interface.store.versions import was_preliminary

CLAIM_S = 60  # a claimed message that nobody settled is free again after this long: its worker has died


@dataclass(frozen=True, slots=True)
class Claim:
    """A message to work on. `attempts` counts this one and is committed before anything is decoded."""

    message_id: UUID
    organization_id: UUID
    link_id: UUID
    attempts: int


# What an analyzer said of a result: raw value, unit, flags and status, and its comments.
Said: TypeAlias = tuple[str, str, str, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CurrentResult:
    """The current version of a result that has the same natural key as one that arrives."""

    id: UUID
    version_id: UUID
    version: int
    last_version: int  # the highest number any version has, be it current or not
    specimen_id: UUID | None
    status: ResultStatus
    held: frozenset[HoldReason]
    said: Said
    pending_said: Said | None  # the same of the version that waits beside a released one
    by_person: bool = False  # the current version is what a person made of it
    critical: bool = False  # by the laboratory's own limits
    method: str = ""  # of the current version
    pending_method: str = ""  # of the version that waits
    comments: tuple[Step, ...] = ()  # what staff said of the current version
    corrected: int = 0  # the version that waits, where a person's correction does, or what took the place of one


@dataclass(frozen=True, slots=True)
class FollowUpRow:
    """What follows from a result. With a test it is a reflex, whose order item is made with it."""

    id: UUID
    kind: FollowUpKind
    result_id: UUID
    rule: str
    depth: int
    order_item_id: UUID
    dilution: Decimal | None = None
    reason: str = ""
    test_id: UUID | None = None
    order_id: UUID | None = None
    specimen_id: UUID | None = None


@record
class Effects:
    """What follows from versions. `reported`: other runs, and whether they are reported now; `done`: follow-ups whose
    result has come."""

    follow_ups: tuple[FollowUpRow, ...] = ()
    reported: tuple[tuple[UUID, bool], ...] = ()
    done: tuple[UUID, ...] = ()


NOTHING = Effects()
_FINAL = ResultStatus.FINAL


@record
class Outcome:
    """What a message came to. Written by `commit`, in one transaction with those of other messages."""

    message_id: UUID
    settled: str  # released (nothing held), held, rejected, parked
    link_id: UUID
    link_name: str
    versions: tuple[ResultVersion, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    problems: tuple[str, ...] = ()
    reason: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    effects: Effects = NOTHING
    rule_set: str = ""  # whose rules released what is final
    rule_set_id: UUID | None = None
    shadows: tuple[ShadowRow, ...] = ()


# ---- the queue ------------------------------------------------------------------------------------------------------


# What is later than anything waits was written by a clock that has been put back since.
_DUE: Final = f"(not_before <= now() OR not_before > now() + interval '{2 * max(CLAIM_S, QUERY_HELD_S)} s')"


async def claim(
    system: Connection, most: int, organization_ids: Collection[UUID] | None = None, not_of: Collection[UUID] = ()
) -> list[Claim]:
    """Take up to `most` messages that are due, oldest first within their priority. Commits the attempt.

    `organization_ids`: only theirs (None: all); `not_of`: but for those of these links.

    A message that has been tried before is taken alone: when the process ends in the middle of it, nobody else is to
    blame, and none that merely waited beside it comes nearer to being parked.
    """
    rows = await system.fetch(
        f"""WITH due AS (
               SELECT message_id, priority, attempts, row_number() OVER (ORDER BY priority, message_id) AS place FROM (
                   SELECT message_id, priority, attempts FROM lab.queue WHERE {_DUE}
                       AND ($3::uuid[] IS NULL OR organization_id = ANY($3)) AND lane <> ALL($4) AND {FENCE}
                   ORDER BY priority, message_id LIMIT $1 FOR UPDATE SKIP LOCKED) AS locked
           ), taken AS (
               SELECT message_id FROM due
               WHERE place = 1 OR place < coalesce((SELECT min(place) FROM due WHERE attempts > 0), $1 + 1)
           )
           UPDATE lab.queue q SET attempts = attempts + 1, not_before = now() + make_interval(secs => $2)
           FROM taken WHERE q.message_id = taken.message_id
           RETURNING q.priority, q.message_id, q.organization_id, q.lane, q.attempts""",  # noqa: S608  a constant
        most, CLAIM_S, None if organization_ids is None else list(organization_ids), list(not_of),
    )  # fmt: skip
    claimed = sorted(map(tuple, rows), key=lambda row: (row[0], row[1].bytes))  # ids as such are compared slowly
    return [Claim(*row[1:]) for row in claimed]


async def give_back(system: Connection, message_ids: Iterable[UUID], *, refund: int, at_once: bool = True) -> None:
    """Free claimed messages; a daemon that was ended frees none. `refund`: so many attempts do not count, nothing was
    tried; not `at_once`: they are free when their claim ends."""
    await system.execute(
        f"""UPDATE lab.queue SET not_before = CASE WHEN $3 THEN now() ELSE not_before END,
                   attempts = greatest(attempts - $2, 0)
             WHERE message_id = ANY($1) AND {FENCE}""",  # noqa: S608  a constant
        list(message_ids),
        refund,
        at_once,
    )


async def free_lost(system: Connection, organization_ids: Collection[UUID] | None) -> None:
    """What a `claim` took whose answer was lost is due again, and its attempt does not count: else what comes after it
    would be decided before it. Only for who alone decides for these organizations (None: all), and is at work on none.

    Such a claim may still be under way, and then has locked what it takes: that is waited for.
    """
    whose = None if organization_ids is None else list(organization_ids)
    async with system.transaction():
        await system.execute(
            """SELECT FROM lab.queue WHERE $1::uuid[] IS NULL OR organization_id = ANY($1)
                ORDER BY priority, message_id FOR UPDATE""", whose,
        )  # fmt: skip
        await system.execute(
            f"""UPDATE lab.queue SET not_before = now(), attempts = attempts - 1 WHERE not_before > now()
                   AND attempts > 0 AND ($1::uuid[] IS NULL OR organization_id = ANY($1)) AND {FENCE}""",  # noqa: S608
            whose,
        )


async def free_all(system: Connection, organization_ids: Iterable[UUID], answering: Collection[UUID] = ()) -> int:
    """What whoever decided for these before had claimed is due now, and queries that nobody answers any more, which
    links in `answering` do. Returns how many messages wait."""
    await system.execute(
        """UPDATE lab.queue SET not_before = now()
            WHERE not_before > now() AND organization_id = ANY($1) AND (attempts > 0 OR lane <> ALL($2))""",
        list(organization_ids),
        list(answering),
    )
    return await depth(system)


async def depth(system: Connection) -> int:
    """How many messages wait for their decision."""
    waiting: int = await system.fetchval("SELECT count(*) FROM lab.queue")
    return waiting


# ---- what a decision reads ------------------------------------------------------------------------------------------

# The last step of a version that says what a person made of the result; a replay only decides it anew. What its
# controls, or a time of collection that was told later, made of it since is of the same value.
_BY_PERSON = frozenset({"verify", "comment", "correct", *FollowUpKind})
_BESIDE = frozenset({"qc", "match"})


_BEGUN = """
SELECT b.low FROM unnest($1::bytea[], $2::bytea[]) AS b (low, high)
CROSS JOIN LATERAL (
    SELECT FROM lab.result WHERE natural_key >= b.low AND natural_key < b.high ORDER BY natural_key LIMIT 1) r
"""


async def _begun(connection: Connection, natural_keys: Collection[bytes]) -> Collection[bytes]:
    """Those of the keys that may be there: with whose beginning any is. The keys of a specimen have one beginning, and
    mostly it is measured for the first time."""
    beginnings = {key[:BEGINNING] for key in natural_keys}
    if len(natural_keys) < 2 * len(beginnings):
        return natural_keys
    rows = await connection.fetch(_BEGUN, list(beginnings), [low + b"\xff" * KEY_LENGTH for low in beginnings])
    found = {row[0] for row in rows}
    return [key for key in natural_keys if key[:BEGINNING] in found] if found else ()


async def load_current(connection: Connection, natural_keys: Sequence[bytes]) -> dict[bytes, CurrentResult]:
    """The results that already exist under these natural keys, locked in the order of the keys."""
    keys = await _begun(connection, natural_keys)
    if not keys:
        return {}
    # Key by key, so that the unique index is followed whatever the planner knows of a table that has just grown.
    rows = await connection.fetch(
        """SELECT r.* FROM unnest($1::bytea[]) AS k(key) CROSS JOIN LATERAL (
               SELECT natural_key, id, version_id, pending_version_id, version, specimen_id, status, held
               FROM lab.result WHERE natural_key = k.key FOR UPDATE) r""",
        sorted(set(keys)),
    )
    if not rows:
        return {}
    version_ids = [row[name] for row in rows for name in ("version_id", "pending_version_id") if row[name]]
    versions = await connection.fetch(
        """SELECT v.id, v.raw_value, v.raw_unit, v.raw_flags, v.raw_status, v.comments, v.flags, v.method, v.version,
                  v.held, v.actor_kind, v.actor_kind = 'rule_set' AND v.actor_id IS NULL AS by_controls,
                  CASE WHEN v.actor_kind = 'user' OR (v.actor_kind = 'rule_set' AND v.actor_id IS NULL)
                       OR v.note <> '' THEN (
                      SELECT lab.explained(d.steps) FROM lab.decision d WHERE d.result_version_id = v.id) END AS steps
             FROM lab.result_version v WHERE v.id = ANY($1)""",
        version_ids,
    )
    steps = {row["id"]: read_steps(row["steps"]) for row in versions if row["steps"]}
    by_person = {
        row["id"] for row in versions
        if row["actor_kind"] == "user" or row["by_controls"]
        if next((one.step for one in reversed(steps.get(row["id"], ())) if one.step not in _BESIDE), "") in _BY_PERSON
    }  # fmt: skip
    corrected = {
        row["id"]: row["version"] for row in versions
        if HoldReason.PERSON in row["held"] or any(step.step == "correct" for step in steps.get(row["id"], ()))
    }  # fmt: skip
    methods = {row["id"]: row["method"] for row in versions}
    critical = {row["id"] for row in versions if not CRITICAL.isdisjoint(row["flags"])}
    said: dict[UUID | None, Said] = {
        row["id"]: (row["raw_value"], row["raw_unit"], row["raw_flags"], row["raw_status"], tuple(row["comments"]))
        for row in versions
    }
    last = await connection.fetch(  # of those that have more than the first
        """SELECT result_id, max(version) FROM lab.result_version WHERE result_id = ANY($1) AND id <> result_id
            GROUP BY result_id""",
        [row["id"] for row in rows],
    )
    newest: dict[UUID, int] = dict(map(tuple, last))
    return {
        row["natural_key"]: CurrentResult(
            row["id"], row["version_id"], row["version"], newest.get(row["id"], row["version"]), row["specimen_id"],
            ResultStatus(row["status"]), frozenset(map(HoldReason, row["held"])), said[row["version_id"]],
            said.get(row["pending_version_id"]), row["version_id"] in by_person,
            row["version_id"] in critical, methods[row["version_id"]], methods.get(row["pending_version_id"], ""),
            comments_of(steps.get(row["version_id"], ())), corrected.get(row["pending_version_id"], 0),
        )
        for row in rows
    }  # fmt: skip


# ---- the commit -----------------------------------------------------------------------------------------------------

# What an update is joined with is kept whole beside each row, should that have changed meanwhile: `o` takes no more of
# it than it needs. `g` reads of each result what it was before this statement: preliminary, and seen as such, or taken
# back from who saw it, and now seen as something else. `f` reads which item it answered: one that no result answers any
# more, since its code is another test's now, is to be measured.
# Each row of `$4` has one of `$5` and one of `$6`. A full join of what has no order is made by hashes, whatever the
# session allows; what has no other half has no id, and is refused. The planner thinks all arrays equally long: for a
# condition that is always true it takes these two for the shorter ones, and so keeps the rows of `$4` in their order.
_NEW_VERSIONS = """
WITH alike AS MATERIALIZED (
    {alike} WHERE octet_length(code) >= 0
), messages AS MATERIALIZED (
    {messages} WHERE octet_length(specimen_as_sent) >= 0
), i AS MATERIALIZED (
    SELECT w.id, w.result_id, w.order_item_id, w.natural_key, k.version, k.status, k.held, k.fresh, k.pending,
        k.analyzer_id, k.test_id, k.reportable, k.origin, k.item_status, m.specimen_id, m.patient_id, m.order_id,
        m.message_id, m.effective_at
    FROM ({own}) w FULL JOIN alike k ON k.place = w.alike FULL JOIN messages m ON m.place = w.message
), v AS (
    INSERT INTO lab.result_version (id, organization_id, result_id, version, status, held, message_id, location,
        specimen_as_sent, code, code_path, raw_value, raw_unit, raw_flags, raw_status, raw_reference, instrument_time,
        instrument_at, comments, test_code, test_name, loinc, kind, comparator, number, value, unit, low, high,
        reference, flags, note, actor_kind, actor_id, module, reagent_lot, calibrator_lot, steps, driver_revision,
        map_revision, method)
    SELECT w.id, $1, w.result_id, k.version, k.status, k.held, m.message_id, w.location, m.specimen_as_sent, k.code,
        k.code_path, w.raw_value, k.raw_unit, k.raw_flags, k.raw_status, k.raw_reference, m.instrument_time,
        m.instrument_at, k.comments, k.test_code, k.test_name, k.loinc, k.kind, k.comparator, w.number, w.value, k.unit,
        k.low, k.high, k.reference, k.flags, k.note, k.actor_kind, k.actor_id, k.module, k.reagent_lot,
        k.calibrator_lot, w.explanation, k.driver_revision, k.map_revision, k.method
    FROM ({own}) w FULL JOIN alike k ON k.place = w.alike FULL JOIN messages m ON m.place = w.message
), e AS (
    INSERT INTO lab.explanation (organization_id, id, steps) SELECT $1, id, steps FROM ({explanations}) i
    ON CONFLICT DO NOTHING
), n AS (
    INSERT INTO lab.result (id, organization_id, natural_key, analyzer_id, specimen_id, patient_id, order_id,
        order_item_id, test_id, version_id, version, status, held, reportable, origin, effective_at, released_at)
    SELECT result_id, $1, natural_key, analyzer_id, specimen_id, patient_id, order_id, order_item_id, test_id, id,
        version, status, held, reportable, origin, coalesce(effective_at, now()),
        CASE WHEN status = 'final' THEN now() END FROM i WHERE fresh
), {changed}b AS (
    INSERT INTO lab.outbox (id, organization_id, kind, entity_id, versions)
    SELECT (array_agg(id))[1], $1, 'order', order_id, array_agg(id) FROM i
    WHERE status = 'final' AND order_id IS NOT NULL GROUP BY order_id
), s AS (
    INSERT INTO lab.outbox (id, organization_id, kind, entity_id, entity_version)
    SELECT id, $1, 'result', result_id, version FROM i WHERE status = 'final' AND order_id IS NULL
), m AS (
    INSERT INTO lab.outbox (id, organization_id, kind, entity_id, versions)
    SELECT (array_agg(id))[1], $1, 'preliminary', coalesce(order_id, message_id, result_id), array_agg(id) FROM i
    WHERE status = 'preliminary' AND held = '{{}}' GROUP BY coalesce(order_id, message_id, result_id)
), o AS (
    UPDATE lab.order_item o SET status = t.item_status, updated_at = now()
    FROM (SELECT order_item_id, item_status FROM i WHERE item_status <> '' OFFSET 0) t WHERE o.id = t.order_item_id
        AND (t.item_status = 'completed' AND o.status = ANY($2) OR t.item_status = 'verified' AND o.status = ANY($3))
    RETURNING o.order_id, t.item_status
)
SELECT EXISTS (
    SELECT FROM lab.dispatch d WHERE d.order_item_id = ANY(ARRAY(SELECT order_item_id FROM i))
    AND d.state NOT IN ('resulted', 'cancelled')
), ARRAY(SELECT order_id FROM o WHERE item_status = 'verified')
"""
_CHANGED = """u AS (
    UPDATE lab.result r SET specimen_id = i.specimen_id, patient_id = i.patient_id, order_id = i.order_id,
        order_item_id = i.order_item_id, test_id = i.test_id, version_id = i.id, version = i.version, status = i.status,
        held = i.held, updated_at = now(), reportable = i.reportable,
        effective_at = coalesce(i.effective_at, r.effective_at),
        released_at = CASE WHEN i.status = 'final' THEN now() ELSE r.released_at END
    FROM i WHERE r.id = i.result_id AND NOT i.fresh AND NOT i.pending
), p AS (
    UPDATE lab.result r SET pending_version_id = i.id FROM i WHERE r.id = i.result_id AND i.pending
), f AS (
    UPDATE lab.order_item o SET status = 'in_progress', updated_at = now()
    FROM (SELECT r.order_item_id, r.id FROM i JOIN lab.result r ON r.id = i.result_id WHERE NOT i.fresh
          AND NOT i.pending AND r.order_item_id IS DISTINCT FROM i.order_item_id OFFSET 0) w
    WHERE o.id = w.order_item_id AND o.status = 'completed' AND NOT EXISTS (
        SELECT FROM lab.result q WHERE q.order_id = o.order_id AND q.order_item_id = o.id
        AND q.status NOT IN ('cancelled', 'entered-in-error') AND q.held = '{}'
        AND q.id <> ALL(ARRAY(SELECT result_id FROM i WHERE NOT pending))
    ) AND NOT EXISTS (SELECT FROM i WHERE i.order_item_id = o.id AND i.held = '{}')
), g AS (
    INSERT INTO lab.outbox (id, organization_id, kind, entity_id, versions)
    SELECT (array_agg(i.id))[1], $1, 'preliminary', coalesce(r.order_id, i.order_id, i.message_id, i.result_id),
        array_agg(i.id)
    FROM i CROSS JOIN LATERAL (
        SELECT q.order_id FROM lab.result q WHERE q.id = i.result_id AND (q.status = 'preliminary' AND q.held = '{}'
            OR q.status IN ('registered', 'cancelled') AND q.status <> i.status AND q.released_at IS NULL
            AND WAS_PRELIMINARY) OFFSET 0) r
    WHERE NOT i.fresh AND NOT i.pending AND i.status IN ('registered', 'cancelled') GROUP BY 4
), """.replace("WAS_PRELIMINARY", was_preliminary("q.id"))
_SOURCES = {
    "own": OWN.source(4), "alike": ALIKE.source(5), "messages": MESSAGE.source(6),
    "explanations": EXPLANATION.source(7),
}  # fmt: skip
_NEW = _NEW_VERSIONS.format(**_SOURCES, changed="")  # of results that are new themselves
_ANY = _NEW_VERSIONS.format(**_SOURCES, changed=_CHANGED)

# A rule asks once for each result; what it adds to the order exists only where it was the first to ask.
_FOLLOW_UPS = """
WITH i AS (
    SELECT * FROM jsonb_to_recordset($2::text::jsonb) AS t(
        id uuid, kind text, result_id uuid, rule text, depth int, order_item_id uuid, dilution numeric, reason text,
        test_id uuid, order_id uuid, specimen_id uuid, audit_id uuid)
), f AS (
    INSERT INTO lab.follow_up (id, organization_id, kind, result_id, rule, depth, order_item_id, dilution, reason,
        actor_kind, actor_id)
    SELECT id, $1, kind, result_id, rule, depth, order_item_id, dilution, reason, 'rule_set', $3 FROM i
    ON CONFLICT (organization_id, result_id, rule) DO NOTHING RETURNING id
), a AS (
    INSERT INTO lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 outcome, detail)
    SELECT i.audit_id, $1, 'rule_set', $3::uuid,
        coalesce((SELECT name || ' ' || revision FROM lab.rule_set WHERE id = $3::uuid), ''), 'follow_up', 'result',
        i.result_id, 'ok', jsonb_build_object('kind', i.kind, 'rule', i.rule, 'order_item', i.order_item_id)
    FROM i JOIN f USING (id)
), n AS (
    INSERT INTO lab.order_item (id, organization_id, order_id, test_id, specimen_id, status)
    SELECT i.order_item_id, $1, i.order_id, i.test_id, i.specimen_id, 'received' FROM i JOIN f USING (id)
    WHERE i.test_id IS NOT NULL ON CONFLICT (organization_id, id) DO NOTHING  -- several rules may have added it
), l AS (
    UPDATE lab.lab_order SET version = version + 1, updated_at = now()
    WHERE id IN (SELECT i.order_id FROM i JOIN f USING (id))
)
UPDATE lab.order_item o SET status = 'in_progress', updated_at = now()
FROM i JOIN f USING (id) WHERE o.id = i.order_item_id AND i.test_id IS NULL AND o.status = 'completed'
"""

# Messages are reached by their key alone, through ON CONFLICT, whatever the planner knew of the table when the session
# planned this: joined, all of them are read for each batch where few were there then. One that is not there cannot be
# made here, for no link has its id.
_SETTLE = f"""
WITH i AS (
    SELECT audit_id, message_id, settled, link_id, link_name, reason, detail::jsonb, release_id, rule_set_id, rule_set,
        released::jsonb, CASE WHEN problems = '' THEN '{{}}' ELSE ARRAY(
            SELECT json_array_elements_text(problems::json)) END AS problems
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::uuid[], $11::uuid[], $12::text[], $13::text[])
        AS t(audit_id, message_id, settled, link_id, link_name, problems, reason, detail, release_id, rule_set_id,
             rule_set, released)
    WHERE {FENCE}
), gone AS (
    DELETE FROM lab.queue q USING i WHERE q.message_id = i.message_id RETURNING q.attempts, i.*
), a AS (
    INSERT INTO lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 outcome, detail)
    SELECT audit_id, $1::uuid, 'link', link_id, link_name, 'message.settle', 'message', message_id, settled, detail
    FROM gone
    UNION ALL
    SELECT release_id, $1::uuid, 'rule_set', rule_set_id, rule_set, 'autoverify', 'message', message_id, 'ok', released
    FROM gone WHERE release_id IS NOT NULL
)
INSERT INTO lab.message AS m (id, organization_id, link_id, protocol, state, reply, received_at, settled, settled_at,
    problems, attempts, reason)
SELECT message_id, $1::uuid, message_id, '', '', '', now(), settled, now(), problems, attempts, reason FROM gone
ON CONFLICT (id) DO UPDATE SET settled = excluded.settled, settled_at = excluded.settled_at,
    problems = excluded.problems, attempts = excluded.attempts,
    reason = CASE WHEN excluded.reason = '' THEN m.reason ELSE excluded.reason END
RETURNING m.id
"""  # noqa: S608  a constant


class AlreadySettled(Exception):
    """Another worker settled one of the messages first; this transaction must be rolled back."""


async def commit(connection: Connection, organization_id: UUID, outcomes: Sequence[Outcome]) -> None:
    """Write outcomes in the caller's transaction: versions, explanations, audit, the journal settled.

    The queue's rows are the claims: raises AlreadySettled when one is gone, LeaseLost when this daemon was ended.
    """
    settled = await connection.fetch(_SETTLE, organization_id, *zip(*map(_settling, outcomes), strict=True))
    if len(settled) < len(outcomes):
        raise AlreadySettled
    await write_versions(connection, organization_id, [one for outcome in outcomes for one in outcome.versions])
    for rule_set_id in dict.fromkeys(outcome.rule_set_id for outcome in outcomes):
        effects = [outcome.effects for outcome in outcomes if outcome.rule_set_id == rule_set_id]
        await write_effects(connection, organization_id, effects, rule_set_id)


def _json(value: object) -> str:
    """One value as `rows_json` writes it."""
    return rows_json([value])[1:-1]


def _settling(outcome: Outcome) -> tuple[object, ...]:
    """A row of `_SETTLE`. For the audit, each result is named once: in what the rules released, or in what came of the
    message."""
    released: list[str] = []
    rest: list[str] = []
    for version in outcome.versions:
        of = version.alike
        (released if of.status is _FINAL and not of.pending else rest).append(str(version.result_id))
    detail = dict(outcome.detail)
    if rest:
        detail["results"] = " ".join(rest)
    problems = _json(outcome.problems) if outcome.problems else ""
    settling = (
        uuid7(), outcome.message_id, outcome.settled, outcome.link_id, outcome.link_name, problems,
        without_nul(outcome.reason), _json(detail),
    )  # fmt: skip
    if not released:
        return (*settling, None, None, None, None)
    said = _json({"results": " ".join(released)})
    return (*settling, uuid7(), outcome.rule_set_id, outcome.rule_set, said)


async def write_versions(connection: Connection, organization_id: UUID, versions: Sequence[ResultVersion]) -> None:
    """Versions with their explanations, and what follows from them for results and order items."""
    may = (may_become(ItemStatus.COMPLETED), may_become(ItemStatus.VERIFIED))
    released: set[UUID] = set()
    for some, new in _statements(versions):
        rows = VersionRows(organization_id)
        async for part in in_turns(some):
            rows.add(part)
        sql = _NEW if new else _ANY
        told, verified = await connection.fetchrow(sql, organization_id, *may, *rows.arguments()) or (False, ())
        if told:  # an analyzer was given one of the items to measure
            await resulted(connection, organization_id, some)
        # A rerun that is not to be reported verifies its item too: an EMR saw it open since the rerun was asked for.
        released.update(rows.released, verified)
    await count_released(connection, released)


def _statements(versions: Sequence[ResultVersion]) -> list[tuple[Sequence[ResultVersion], bool]]:
    """The versions in statements, and whether all of one are of results that are new themselves. At most one is of each
    result: a statement does not see what it has written."""
    # A new result has the id of its first version.
    if all([one.alike.fresh and not one.alike.pending for one in versions]):
        return [(versions, True)] if versions else []
    turns: dict[UUID, int] = {}
    made: dict[int, list[ResultVersion]] = {}
    for one in versions:
        turn = turns[one.result_id] = turns.get(one.result_id, -1) + 1
        made.setdefault(turn, []).append(one)
    return [(some, all([one.alike.fresh and not one.alike.pending for one in some])) for some in made.values()]


async def write_effects(
    connection: Connection, organization_id: UUID, effects: Sequence[Effects], rule_set_id: UUID | None
) -> None:
    """What follows from versions that have been written in the same transaction."""
    follow_ups = [row for one in effects for row in one.follow_ups]
    if follow_ups:
        asked = [asdict(row) | {"audit_id": uuid7()} for row in follow_ups]
        await connection.execute(_FOLLOW_UPS, organization_id, rows_json(asked), rule_set_id)
    if reported := [pair for one in effects for pair in one.reported]:
        await connection.execute(
            f"""WITH changed AS (
                   UPDATE lab.result r SET reportable = i.reportable, updated_at = now()
                   FROM unnest($1::uuid[], $2::boolean[]) AS i (id, reportable) WHERE r.id = i.id RETURNING r.*
               ) {TELL_RUNS}""",  # noqa: S608  a constant
            *map(list, zip(*reported, strict=True)),
        )
    if done := [follow_up_id for one in effects for follow_up_id in one.done]:
        await connection.execute(
            "UPDATE lab.follow_up SET state = 'done', updated_at = now() WHERE id = ANY($1)", done
        )  # fmt: skip
