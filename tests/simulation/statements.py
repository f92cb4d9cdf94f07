"""What each statement of the journal and of the queue does, on the model. Found by its text, as the code has it.

A statement that is not here is an error of the simulation: nothing passes unmodelled. `SPECIMENS` and `VERSIONS` stand
in for what deciding reads and writes beside the queue and the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import asyncpg

from interface.store import journal_sql, results, stored_messages
from tests.simulation.tables import Row, View

SPECIMENS: Final = "SIMULATION lock specimens"
VERSIONS: Final = "SIMULATION write versions"

Statement = Callable[..., list[Row]]
_MESSAGE_OF: Final = 24  # low bits of a frame's id
_ID = ("id",)


def _unique(table: str) -> asyncpg.UniqueViolationError:
    return asyncpg.UniqueViolationError(f"duplicate key value violates unique constraint of {table}")


def _rows(columns: Sequence[Sequence[Any]], *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _keyed(view: View, rows: list[dict[str, Any]], window: timedelta) -> dict[tuple[UUID, bytes], dict[str, Any]]:
    """`journal_sql._KEYED`: the key of each message, as it is afterwards."""
    made: dict[tuple[UUID, bytes], dict[str, Any]] = {}
    for row in rows:
        if row["digest"] is None:
            continue
        key = row["link_id"], row["digest"]
        if key in made:
            raise asyncpg.CardinalityViolationError("ON CONFLICT DO UPDATE command cannot affect row a second time")
        view.lock("message_key", key)
        known = view.get("message_key", key)
        mine = {"message_id": row["id"], "sealed_at": row["sealed_at"]}
        if known is None:
            made[key] = mine | {"taken": row["again"], "before_id": None}
        elif abs(known["sealed_at"] - row["sealed_at"]) > window:
            made[key] = mine | {"taken": False, "before_id": None}
        elif (known["taken"] or row["again"]) and known["message_id"] != row["id"]:
            made[key] = mine | {"taken": False, "before_id": known["message_id"]}
        else:
            made[key] = known
        view.put("message_key", key, made[key])
    return made


def _insert_frames(view: View, columns: Sequence[Sequence[Any]], *, again: bool) -> None:
    names = ("id", "message_id", "ordinal", "attempt", "fn", "bytes", "start", "stop", "digest", "received_at")
    for row in _rows(columns, *names):
        if view.get("frame", row["id"]) is None:
            view.put("frame", row["id"], row)
        elif not again:
            raise _unique("frame")


_MESSAGE = (
    "id", "link_id", "protocol", "state", "settled", "control_id", "message_type", "reason", "digest", "bytes",
    "received_at", "sealed_at", "peer", "priority", "again", "asks",
)  # fmt: skip


def append(view: View, now: datetime, organization: UUID, *arguments: Any) -> list[Row]:
    """`journal_sql.APPEND`."""
    _insert_frames(view, arguments[:10], again=True)
    rows, window = _rows(arguments[10:26], *_MESSAGE), arguments[26]
    keyed = _keyed(view, rows, window)
    duplicates = []
    for row in rows:
        key = keyed.get((row["link_id"], row["digest"])) if row["digest"] is not None else None
        resend = key is not None and key["message_id"] != row["id"]
        made = {name: row[name] for name in _MESSAGE[:13]} | {
            "settled": "duplicate" if resend else row["settled"], "reply": "owed", "attempts": 0,
            "settled_at": row["sealed_at"] if row["settled"] is not None or resend else None,
            "duplicate_of": None if key is None else key["message_id"] if resend else key["before_id"],
        }  # fmt: skip
        known = view.get("message", row["id"])
        if known is not None:
            view.lock("message", row["id"])
            if known["state"] != "receiving" or row["state"] == "receiving":
                continue
            kept = {name: known[name] for name in ("link_id", "protocol", "received_at", "peer", "reply", "attempts")}
            made |= kept
        view.put("message", row["id"], made)
        if made["settled"] is None and made["state"] != "receiving":
            _queue(view, made, now + timedelta(seconds=journal_sql.QUERY_HELD_S if row["asks"] else 0), row["priority"])
        if made["settled"] is not None:
            _audit(view, row["id"], made["settled"])
        if made["settled"] == "duplicate":
            duplicates.append(Row(_ID, (row["id"],)))
    return duplicates


def _queue(view: View, message: dict[str, Any], not_before: datetime, priority: int = 5) -> None:
    if view.get("queue", message["id"]) is None:
        row = {"lane": message["link_id"], "priority": priority, "not_before": not_before, "attempts": 0}
        view.put("queue", message["id"], row)


def _audit(view: View, id: UUID, outcome: str) -> None:
    if view.get("audit", id) is None:
        view.put("audit", id, {"message_id": id, "outcome": outcome})


def append_frames(view: View, now: datetime, organization: UUID, *arguments: Any) -> list[Row]:
    """`journal_sql.APPEND_FRAMES`."""
    _insert_frames(view, arguments, again=False)
    return []


def append_blocks(view: View, now: datetime, organization: UUID, *arguments: Any) -> list[Row]:
    """`journal_sql.APPEND_BLOCKS`."""
    names = ("id", "link_id", "control_id", "message_type", "digest", "sealed_at", "peer", "block")
    rows, duplicates = [one | {"again": False} for one in _rows(arguments[:8], *names)], []
    for row in rows:
        if view.get("frame", row["id"]) is not None:
            raise _unique("frame")
        view.put(
            "frame", row["id"],
            {"id": row["id"], "message_id": row["id"], "ordinal": 0, "attempt": 0, "fn": None, "bytes": row["block"],
             "start": None, "stop": None, "digest": row["digest"][:16], "received_at": row["sealed_at"]},
        )  # fmt: skip
    keyed = _keyed(view, rows, arguments[8])
    for row in rows:
        if view.get("message", row["id"]) is not None:
            raise _unique("message")
        key = keyed[row["link_id"], row["digest"]]
        resend = key["message_id"] != row["id"]
        made = {
            "id": row["id"], "link_id": row["link_id"], "protocol": "hl7", "state": "complete",
            "settled": "duplicate" if resend else None, "reply": "owed", "control_id": row["control_id"],
            "message_type": row["message_type"], "reason": "", "digest": row["digest"], "bytes": len(row["block"]),
            "received_at": row["sealed_at"], "sealed_at": row["sealed_at"], "peer": row["peer"], "attempts": 0,
            "settled_at": row["sealed_at"] if resend else None, "duplicate_of": key["message_id"] if resend else None,
        }  # fmt: skip
        view.put("message", row["id"], made)
        if resend:
            _audit(view, row["id"], "duplicate")
            duplicates.append(Row(_ID, (row["id"],)))
        else:
            _queue(view, made, now)
    return duplicates


def seal_cut(view: View, now: datetime, organization: UUID, *arguments: Any) -> list[Row]:
    """`journal_sql.SEAL_CUT`."""
    sealed = 0
    for row in _rows(arguments, "id", "control_id", "message_type", "reason", "bytes", "sealed_at"):
        known = view.get("message", row["id"])
        if known is not None and known["state"] == "receiving":
            view.change("message", row["id"], **row, state="incomplete")
            _queue(view, known, now)
            sealed += 1
    return [Row(("count",), (sealed,))]


def recover(view: View, now: datetime, organization: UUID, link_ids: Sequence[UUID]) -> list[Row]:
    """`journal_sql.RECOVER`, where no daemon has a lease."""
    sealed = 0
    for id, known in view.scan("message"):
        if known["state"] == "receiving":
            view.change("message", id, state="incomplete", reason="restart", sealed_at=now, reply="unsent")
            _queue(view, known, now)
            sealed += 1
    return [Row(("count",), (sealed,))]


def last_waiting(view: View, now: datetime, organization: UUID) -> list[Row]:
    """`journal_sql.LAST_WAITING`."""
    return [Row(_ID, (id,)) for id in sorted(id for id, _ in view.scan("queue"))[-1:]]


def note_replies(view: View, now: datetime, ids: Sequence[UUID], replies: Sequence[str]) -> list[Row]:
    """`journal_sql.NOTE_REPLIES`."""
    noted = []
    for id, reply in zip(ids, replies, strict=True):
        if view.get("message", id) is not None and view.free("message", id):
            view.change("message", id, reply=reply)
            noted.append(Row(_ID, (id,)))
    return noted


def note_taken(view: View, now: datetime, ids: Sequence[UUID]) -> list[Row]:
    """`journal_sql.NOTE_TAKEN`."""
    for id in dict.fromkeys(ids):
        message = view.get("message", id)
        if message is None or message["digest"] is None:
            continue
        key = message["link_id"], message["digest"]
        known = view.get("message_key", key)
        if known is not None and known["message_id"] in (id, message["duplicate_of"]):
            view.change("message_key", key, taken=True)
    return []


def claim(
    view: View, now: datetime, most: int, claim_s: float, organizations: Sequence[UUID] | None, not_of: Sequence[UUID]
) -> list[Row]:
    """`results.claim`."""
    due = [
        (row["priority"], id, row) for id, row in view.scan("queue")
        if row["not_before"] <= now and row["lane"] not in not_of and view.free("queue", id)
    ]  # fmt: skip
    due = sorted(due, key=lambda one: one[:2])[:most]
    tried = next((at for at, (_, _, row) in enumerate(due) if row["attempts"] > 0), len(due))
    taken = []
    for _, id, _ in due:
        view.lock("queue", id)
    for at, (priority, id, row) in enumerate(due):
        if at == 0 or at < tried:
            attempts = row["attempts"] + 1
            view.change("queue", id, attempts=attempts, not_before=now + timedelta(seconds=claim_s))
            names = ("priority", "message_id", "organization_id", "lane", "attempts")
            taken.append(Row(names, (priority, id, ORGANIZATION, row["lane"], attempts)))
    return taken


ORGANIZATION: Final = UUID(int=0x7E57 << 64 | 0x8 << 60 | 1)


def give_back(view: View, now: datetime, ids: Sequence[UUID], refunded: int, at_once: bool) -> list[Row]:
    """`results.give_back`."""
    for id in ids:
        row = view.get("queue", id)
        if row is not None:
            free_at = now if at_once else row["not_before"]
            view.change("queue", id, not_before=free_at, attempts=max(row["attempts"] - refunded, 0))
    return []


def lock_queue(view: View, now: datetime, organizations: Sequence[UUID] | None) -> list[Row]:
    """`results.free_lost`, its first statement."""
    for id, _ in sorted(view.scan("queue"), key=lambda one: (one[1]["priority"], one[0])):
        view.lock("queue", id)
    return []


def free_lost(view: View, now: datetime, organizations: Sequence[UUID] | None) -> list[Row]:
    """Its second."""
    for id, row in view.scan("queue"):
        if row["not_before"] > now and row["attempts"] > 0:
            view.change("queue", id, not_before=now, attempts=row["attempts"] - 1)
    return []


def free_all(view: View, now: datetime, organizations: Sequence[UUID], answering: Sequence[UUID]) -> list[Row]:
    """`results.free_all`."""
    for id, row in view.scan("queue"):
        if row["not_before"] > now and (row["attempts"] > 0 or row["lane"] not in answering):
            view.change("queue", id, not_before=now)
    return []


def depth(view: View, now: datetime) -> list[Row]:
    """`results.depth`."""
    return [Row(("count",), (sum(1 for _ in view.scan("queue")),))]


_READ = (
    "id", "organization_id", "link_id", "protocol", "state", "settled", "control_id", "message_type", "reason", "reply",
    "bytes", "attempts", "received_at", "sealed_at", "settled_at", "peer", "duplicate_of",
)  # fmt: skip


def read_messages(view: View, now: datetime, ids: Sequence[UUID]) -> list[Row]:
    """`stored_messages._READ_MESSAGES`."""
    found = [view.get("message", id) for id in dict.fromkeys(ids)]
    return [
        Row(_READ, tuple((row | {"organization_id": ORGANIZATION})[name] for name in _READ))
        for row in found if row is not None
    ]  # fmt: skip


def read_frames(view: View, now: datetime, low: Sequence[UUID], high: Sequence[UUID]) -> list[Row]:
    """`journal_sql.READ_FRAMES`: by ranges of ids, each within a message."""
    names = ("message_id", "ordinal", "fn", "bytes", "start", "stop", "received_at")
    ranges = list(zip(low, high, strict=True))
    found = [
        (id, row) for id, row in view.scan("frame") if any(a <= id <= b for a, b in ranges)
    ]  # fmt: skip
    return [Row(names, tuple(row[name] for name in names)) for _, row in sorted(found, key=lambda one: one[0].int)]


def settle(view: View, now: datetime, organization: UUID, *columns: Sequence[Any]) -> list[Row]:
    """`results._SETTLE`: the queue's rows are the claims."""
    settled = []
    for audit_id, id, outcome, _, _, _, why, *_ in zip(*columns, strict=True):
        view.lock("queue", id)
        claimed = view.get("queue", id)
        if claimed is None:
            continue
        message = view.get("message", id)
        view.delete("queue", id)
        view.put("audit", audit_id, {"message_id": id, "outcome": outcome})
        if message is not None:
            reason = why or message["reason"]
            view.change("message", id, settled=outcome, settled_at=now, attempts=claimed["attempts"],
                        reason=reason)  # fmt: skip
            settled.append(Row(_ID, (id,)))
    return settled


def lock_specimens(view: View, now: datetime, barcodes: Sequence[str]) -> list[Row]:
    """Specimens are locked before anything is read of them; in the model each there is."""
    for barcode in barcodes:
        view.lock("specimen", barcode)
    return []


def write_versions(view: View, now: datetime, message_id: UUID, said: Sequence[tuple[bytes, str, str]]) -> list[Row]:
    """What a message says under each natural key: a version where it says something new."""
    for key, barcode, text in said:
        view.lock("version", key)
        known = view.get("version", key) or {"barcode": barcode, "versions": ()}
        if not known["versions"] or known["versions"][-1][1] != text:
            view.put("version", key, known | {"versions": (*known["versions"], (message_id, text))})
    return []


def nothing(view: View, now: datetime, *arguments: Any) -> list[Row]:
    """Of what the simulated database has none."""
    return []


_BY_TEXT: Final[dict[str, Statement]] = {
    journal_sql.APPEND: append, journal_sql.APPEND_FRAMES: append_frames, journal_sql.APPEND_BLOCKS: append_blocks,
    journal_sql.SEAL_CUT: seal_cut, journal_sql.RECOVER: recover, journal_sql.LAST_WAITING: last_waiting,
    journal_sql.NOTE_REPLIES: note_replies, journal_sql.NOTE_TAKEN: note_taken, journal_sql.READ_FRAMES: read_frames,
    stored_messages._READ_MESSAGES: read_messages, results._SETTLE: settle, SPECIMENS: lock_specimens,
    VERSIONS: write_versions,
}  # fmt: skip
_BY_BEGIN: Final[tuple[tuple[str, Statement], ...]] = (
    ("WITH due AS", claim),
    ("UPDATE lab.queue SET not_before = CASE WHEN $3", give_back),
    ("UPDATE lab.queue SET not_before = now() WHERE not_before > now()", free_all),
    ("SELECT FROM lab.queue WHERE $1::uuid[] IS NULL", lock_queue),
    ("UPDATE lab.queue SET not_before = now(), attempts = attempts - 1", free_lost),
    ("SELECT count(*) FROM lab.queue", depth),
    ("SELECT DISTINCT s.barcode FROM lab.specimen s JOIN lab.lab_order o", nothing),  # no order book, so none is urgent
    ("select t.oid, t.typarray", nothing),
    ("SET ", nothing),
    ("select octet_length(repeat(", nothing),
    ("SELECT pid, backend_start FROM", nothing),
    ("SELECT pg_terminate_backend(pid)", nothing),
)


def find(text: str) -> Statement:
    """What a statement does. Raises LookupError for one that the model does not know."""
    if (found := _BY_TEXT.get(text)) is not None:
        return found
    words = " ".join(text.split())
    for begin, statement in _BY_BEGIN:
        if words.startswith(begin):
            return statement
    raise LookupError(f"the model knows no such statement: {words[:120]}")


def name_of(statement: Statement) -> str:
    """For the trace."""
    return statement.__name__


def digest_of(data: bytes) -> str:
    """For the trace: bytes by what they are."""
    return blake2b(data, digest_size=6).hexdigest()
