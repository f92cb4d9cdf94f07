"""The journal's statements. Each is one round trip and one commit for a whole group.

They are run as generic plans on a connection of their own (`PREPARE_SESSION`): planning them costs more than running
them. Such a plan may have been made while the tables were empty, so it must be right whatever they hold: existing rows
are reached by primary keys only, through ON CONFLICT, and nothing that exists is joined. Those that append are refused
to a daemon that another has ended (`FENCE`).
"""

from __future__ import annotations

from typing import Final

from interface.store.leases import FENCE

PREPARE_SESSION: Final = "SET plan_cache_mode = force_generic_plan"

# The group's whole messages and their keys. `message_key` finds the resend of a message that was completed within the
# window: the key's row names the message that holds it, whoever that is, and a message that does not hold its own is a
# resend: stored, sealed, settled at once. A time that is long to come is of a clock that was put back since: it says
# nothing, else all that says the same would be a resend until then. Where the sender is known to have taken the reply
# to the one before (`taken`), it is none: the key is the later one's, which names the one before, and it is decided as
# what it then can be, the second point of a control (`flow.work.said_again`).
_KEYED: Final = """
), keyed AS (
    INSERT INTO lab.message_key AS k (link_id, digest, organization_id, message_id, sealed_at, taken)
    SELECT link_id, digest, $1, id, sealed_at, %(again)s FROM m_in WHERE digest IS NOT NULL
    ON CONFLICT (organization_id, link_id, digest) DO UPDATE SET (message_id, sealed_at, taken, before_id) = (
        SELECT excluded.message_id, excluded.sealed_at, false, NULL::uuid
        WHERE k.sealed_at NOT BETWEEN excluded.sealed_at - %(window)s::interval
                              AND excluded.sealed_at + %(window)s::interval
        UNION ALL SELECT excluded.message_id, excluded.sealed_at, false, k.message_id
        WHERE (k.taken OR excluded.taken) AND k.message_id <> excluded.message_id
        UNION ALL SELECT k.message_id, k.sealed_at, k.taken, k.before_id LIMIT 1)
    RETURNING link_id, digest, message_id, before_id
"""

# A message that was settled at once, so that no decision will leave its row; the message's id serves as the row's.
_AUDITED: Final = """
    INSERT INTO lab.audit_event (id, organization_id, actor_kind, actor_id, actor_name, action, entity_kind, entity_id,
                                 address, outcome)
    SELECT m.id, $1, 'link', m.link_id, (SELECT l.name FROM lab.link l WHERE l.id = m.link_id), 'message.settle',
           'message', m.id, i.peer, m.settled
    FROM m JOIN m_in i ON i.id = m.id WHERE m.settled IS NOT NULL
"""

# So long a query that its link's own sender answers is not given to the worker, which would settle it as not answered.
QUERY_HELD_S: Final = 120
_QUEUED: Final = f"""
    INSERT INTO lab.queue (message_id, organization_id, lane, priority, not_before)
    SELECT m.id, $1, m.link_id, i.priority,
           now() + CASE WHEN i.asks THEN interval '{QUERY_HELD_S} s' ELSE interval '0' END
    FROM m JOIN m_in i ON i.id = m.id WHERE m.settled IS NULL AND m.state <> 'receiving'
    ON CONFLICT (message_id) DO NOTHING
"""  # noqa: S608  a constant

# Any group, also one of which some may be stored already.
APPEND: Final = (
    f"""
WITH f AS (
    INSERT INTO lab.frame (id, organization_id, message_id, ordinal, attempt, fn, bytes, start, stop, digest,
                           received_at)
    SELECT id, $1, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at
    FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::smallint[], $6::smallint[], $7::bytea[], $8::int[], $9::int[],
                $10::bytea[], $11::timestamptz[])
        AS t(id, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at)
    WHERE {FENCE}
    ON CONFLICT (id) DO NOTHING
), m_in AS (
    SELECT * FROM unnest($12::uuid[], $13::uuid[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
                         $19::text[], $20::bytea[], $21::int[], $22::timestamptz[], $23::timestamptz[], $24::text[],
                         $25::smallint[], $26::boolean[], $27::boolean[])
        AS t(id, link_id, protocol, state, settled, control_id, message_type, reason,
             digest, bytes, received_at, sealed_at, peer, priority, again, asks)
    WHERE {FENCE}
"""  # noqa: S608  a constant
    + _KEYED % {"window": "$28", "again": "again"}
    + """
), m AS (
    INSERT INTO lab.message AS m (id, organization_id, link_id, protocol, state, settled, reply, control_id,
        message_type, reason, digest, bytes, received_at, sealed_at, settled_at, peer, duplicate_of)
    SELECT i.id, $1, i.link_id, i.protocol, i.state,
           CASE WHEN keyed.message_id <> i.id THEN 'duplicate' ELSE i.settled END,
           'owed', i.control_id, i.message_type, i.reason, i.digest, i.bytes, i.received_at, i.sealed_at,
           CASE WHEN i.settled IS NOT NULL OR keyed.message_id <> i.id THEN i.sealed_at END,
           i.peer, coalesce(nullif(keyed.message_id, i.id), keyed.before_id)
    FROM m_in i LEFT JOIN keyed ON keyed.link_id = i.link_id AND keyed.digest = i.digest
    ON CONFLICT (id) DO UPDATE SET (state, settled, control_id, message_type, reason, digest, bytes, sealed_at,
        settled_at, duplicate_of) = (excluded.state, excluded.settled, excluded.control_id, excluded.message_type,
        excluded.reason, excluded.digest, excluded.bytes, excluded.sealed_at, excluded.settled_at,
        excluded.duplicate_of)
        WHERE m.state = 'receiving' AND excluded.state <> 'receiving'
    RETURNING m.id, m.link_id, m.state, m.settled
), q AS (
"""
    + _QUEUED
    + """
), a AS (
"""
    + _AUDITED
    + """
    ON CONFLICT (id) DO NOTHING
)
SELECT id FROM m WHERE settled = 'duplicate'
"""
)

# What most groups of LIS01-A2 frames are: no message begins or ends, and none of it is stored. Raises UniqueViolation
# where some is, as the next one does: to look first costs a row more than to write it.
APPEND_FRAMES: Final = f"""
INSERT INTO lab.frame (id, organization_id, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at)
SELECT id, $1, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at
FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::smallint[], $6::smallint[], $7::bytea[], $8::int[], $9::int[],
            $10::bytea[], $11::timestamptz[])
    AS t(id, message_id, ordinal, attempt, fn, bytes, start, stop, digest, received_at)
WHERE {FENCE}
"""  # noqa: S608  a constant

# What most groups of HL7 are: whole messages of one block each, nothing about them decided yet, none of them stored.
APPEND_BLOCKS: Final = (
    f"""
WITH m_in AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[], $8::text[],
                         $9::bytea[])
        AS t(id, link_id, control_id, message_type, digest, sealed_at, peer, block)
    WHERE {FENCE}
), f AS (
    INSERT INTO lab.frame (id, organization_id, message_id, ordinal, attempt, bytes, digest, received_at)
    SELECT id, $1, id, 0, 0, block, substr(digest, 1, 16), sealed_at FROM m_in
"""  # noqa: S608  a constant
    + _KEYED % {"window": "$10", "again": "false"}
    + """
), m AS (
    INSERT INTO lab.message (id, organization_id, link_id, protocol, state, settled, reply, control_id, message_type,
                             digest, bytes, received_at, sealed_at, settled_at, peer, duplicate_of)
    SELECT i.id, $1, i.link_id, 'hl7', 'complete', CASE WHEN keyed.message_id <> i.id THEN 'duplicate' END, 'owed',
           i.control_id, i.message_type, i.digest, octet_length(i.block), i.sealed_at, i.sealed_at,
           CASE WHEN keyed.message_id <> i.id THEN i.sealed_at END, i.peer, nullif(keyed.message_id, i.id)
    FROM m_in i JOIN keyed ON keyed.link_id = i.link_id AND keyed.digest = i.digest
    RETURNING id, link_id, settled
), q AS (
    INSERT INTO lab.queue (message_id, organization_id, lane)
    SELECT id, $1, link_id FROM m WHERE settled IS NULL
), a AS (
"""
    + _AUDITED
    + """
)
SELECT id FROM m WHERE settled = 'duplicate'
"""
)

# What a link could not seal when its transmission was cut. A message that was never stored, or is sealed, stays so.
SEAL_CUT: Final = """
WITH m AS (
    UPDATE lab.message m SET state = 'incomplete', control_id = t.control_id, message_type = t.message_type,
        reason = t.reason, bytes = t.bytes, sealed_at = t.sealed_at
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::timestamptz[])
        AS t(id, control_id, message_type, reason, bytes, sealed_at)
    WHERE m.id = t.id AND m.state = 'receiving' RETURNING m.id, m.link_id
), q AS (
    INSERT INTO lab.queue (message_id, organization_id, lane) SELECT id, $1, link_id FROM m
    ON CONFLICT (message_id) DO NOTHING
) SELECT count(*) FROM m
"""

# What a former process was still receiving when it ended: over the links in $2, which are this one's from now on, and
# over those that nobody has. What another daemon is receiving is left alone.
_LEFT_OPEN: Final = """m.state = 'receiving' AND (m.link_id = ANY($2) OR NOT EXISTS (
        SELECT FROM lab.lease l JOIN lab.daemon d ON d.id = l.daemon_id
        WHERE l.organization_id = m.organization_id AND l.id = m.link_id AND d.gone_at IS NULL))"""
LEFT_OPEN: Final = f"SELECT m.id FROM lab.message m WHERE m.organization_id = $1 AND {_LEFT_OPEN}"  # noqa: S608
RECOVER: Final = f"""
WITH m AS (
    UPDATE lab.message m SET state = 'incomplete', reason = 'restart', sealed_at = now(), reply = 'unsent'
    WHERE {_LEFT_OPEN}
    RETURNING m.id, m.link_id
), q AS (
    INSERT INTO lab.queue (message_id, organization_id, lane) SELECT id, $1, link_id FROM m
    ON CONFLICT (message_id) DO NOTHING
) SELECT count(*) FROM m
"""  # noqa: S608
RECOVER_ONE: Final = RECOVER.replace(_LEFT_OPEN, f"m.id = $3 AND {_LEFT_OPEN}")

# What came last of what waits to be decided, which is done in the order of ids.
LAST_WAITING: Final = "SELECT message_id FROM lab.queue WHERE organization_id = $1 ORDER BY message_id DESC LIMIT 1"

# Never waits for a decision, which holds its message's row: who is not noted now is noted next time.
NOTE_REPLIES: Final = """
WITH t AS (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS t(id, reply)
), free AS (
    SELECT t.id, t.reply FROM t CROSS JOIN LATERAL (
        SELECT m.id FROM lab.message m WHERE m.id = t.id OFFSET 0 FOR NO KEY UPDATE SKIP LOCKED) AS locked
)
UPDATE lab.message m SET reply = free.reply FROM free WHERE m.id = free.id RETURNING m.id
"""

# Whose sender went on after our reply, to the message or to its resend. A key that another holds by now is left.
NOTE_TAKEN: Final = """
UPDATE lab.message_key k SET taken = true FROM lab.message m
WHERE m.id = ANY($1) AND k.organization_id = m.organization_id AND k.link_id = m.link_id AND k.digest = m.digest
  AND k.message_id IN (m.id, m.duplicate_of)
"""

# Of each message from its lowest id to its highest; one by one, so that the index is followed whatever the planner
# knows of a table that has just grown.
READ_FRAMES = """
SELECT f.message_id, f.ordinal, f.fn, f.bytes, f.start, f.stop, f.received_at
FROM unnest($1::uuid[], $2::uuid[]) AS t(low, high)
CROSS JOIN LATERAL (SELECT * FROM lab.frame WHERE id >= t.low AND id <= t.high OFFSET 0) f ORDER BY f.id
"""
