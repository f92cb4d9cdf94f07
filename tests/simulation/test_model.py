"""The model of the database against the real PostgreSQL: the same operations, the same answers, the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import repeat
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from interface.store import journal, journal_sql, results, stored_messages
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.results import Outcome
from tests.conftest import Organization
from tests.simulation import statements
from tests.simulation.tables import Tables, Transaction, View
from tests.store.journals import Owner, make_link

STEPS = 260
WINDOW = timedelta(hours=1)
BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UNDONE = (asyncpg.UniqueViolationError, asyncpg.CardinalityViolationError)


@dataclass(slots=True)
class Model:
    """A connection to the model, as far as the functions below use one: a statement by itself, or in a transaction."""

    tables: Tables = field(default_factory=Tables)
    open: Transaction | None = None

    async def fetch(self, text: str, *arguments: Any) -> list[Any]:
        transaction = self.open or Transaction()
        view = View(self.tables, transaction)
        try:
            rows = statements.find(text)(view, datetime.now(UTC), *arguments)
        except BaseException:
            view.undo()
            if self.open is None:
                self.tables.end(transaction)
            raise
        if self.open is None:
            self.tables.commit(transaction)
        return list(rows)

    async def execute(self, text: str, *arguments: Any) -> None:
        await self.fetch(text, *arguments)

    async def fetchval(self, text: str, *arguments: Any) -> Any:
        rows = await self.fetch(text, *arguments)
        return rows[0][0] if rows else None

    def transaction(self) -> Model:
        return self

    async def __aenter__(self) -> None:
        self.open = Transaction()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        transaction, self.open = self.open, None
        assert transaction is not None
        (self.tables.commit if kind is None else self.tables.end)(transaction)


class _Back(Exception):
    """Roll back."""


class Operations:
    """What a daemon does with the journal and the queue, in any order; the same on both by the same dice."""

    def __init__(self, organization_id: UUID, links: Sequence[UUID], seed: int) -> None:
        self.organization_id, self.links, self.dice = organization_id, links, Random(seed)  # noqa: S311
        self.messages: list[journal.MessageRow] = []
        self.frames: list[journal.FrameRow] = []
        self.blocks: list[journal.BlockRow] = []
        self.at = BEGIN

    def next(self) -> tuple[str, tuple[Any, ...]]:
        """An operation's name and arguments."""
        self.at += timedelta(seconds=self.dice.choice((1, 60, 5000)))
        name = self.dice.choice(
            "begin begin go_on seal seal blocks blocks again seal_cut recover replies taken taken claim claim give_back"
            " free_all free_lost settle settle rolled_back read".split()
        )
        arguments: tuple[Any, ...] = getattr(self, f"_{name}")()
        return name, arguments

    def _some(self) -> list[UUID]:
        known = [row.id for row in self.messages] + [row.id for row in self.blocks]
        return self.dice.sample(known, min(len(known), self.dice.randint(0, 4))) if known else []

    def _digest(self) -> bytes:
        return blake2b(b"%d" % self.dice.randrange(6), digest_size=32).digest()

    def _opened(self) -> journal.MessageRow:
        row = journal.MessageRow(
            journal.new_message_id(), self.dice.choice(self.links), "lis2", "receiving", self.at, peer="p"
        )
        self.messages.append(row)
        return row

    def _frame(self, row: journal.MessageRow) -> journal.FrameRow:
        ordinal = sum(one.message_id == row.id for one in self.frames)
        frame = journal.FrameRow(row.id, ordinal, 0, ordinal % 8, b"%d" % self.dice.randrange(999), self.at)
        self.frames.append(frame)
        return frame

    def _begin(self) -> tuple[Any, ...]:
        row = self._opened()
        return ((row,), (self._frame(row),))

    def _go_on(self) -> tuple[Any, ...]:
        return ((), (self._frame(self.dice.choice(self.messages)),)) if self.messages else ((), ())

    def _sealed(self, row: journal.MessageRow) -> journal.MessageRow:
        state = self.dice.choice(("complete", "complete", "incomplete"))
        return row._replace(
            state=state, sealed_at=self.at, control_id="c", message_type="result", bytes=7,
            digest=self._digest() if state == "complete" and self.dice.random() < 0.8 else None,
            again=self.dice.random() < 0.3, asks=self.dice.random() < 0.1,
            settled="rejected" if self.dice.random() < 0.1 else None,
        )  # fmt: skip

    def _seal(self) -> tuple[Any, ...]:
        row = self.dice.choice(self.messages) if self.messages and self.dice.random() < 0.8 else self._opened()
        return ((self._sealed(row),), (self._frame(row),) if self.dice.random() < 0.7 else ())

    def _blocks(self) -> tuple[Any, ...]:
        made = []
        for _ in range(self.dice.randint(1, 2)):
            block = b"%d" % self.dice.randrange(6)
            digest = blake2b(block, digest_size=32).digest()
            made.append(journal.BlockRow(
                journal.new_message_id(), self.dice.choice(self.links), "c", "ORU^R01", digest, self.at, "p", block
            ))  # fmt: skip
        self.blocks += made
        if self.dice.random() < 0.1:
            made.append(self.dice.choice(self.blocks))  # it is there already
        return tuple(made)

    def _again(self) -> tuple[Any, ...]:
        return tuple(self.dice.sample(self.blocks, min(2, len(self.blocks))))

    def _seal_cut(self) -> tuple[Any, ...]:
        return ([(id, "c", "result", "lost", 3, self.at) for id in self._some()],)

    def _recover(self) -> tuple[Any, ...]:
        return ()

    def _replies(self) -> tuple[Any, ...]:
        some = self._some()
        return (some, [self.dice.choice(("sent", "unsent")) for _ in some])

    def _taken(self) -> tuple[Any, ...]:
        return (self._some(),)

    def _claim(self) -> tuple[Any, ...]:
        return (self.dice.choice((1, 2, 64)), [self.dice.choice(self.links)] if self.dice.random() < 0.2 else [])

    def _give_back(self) -> tuple[Any, ...]:
        return (self._some(), self.dice.choice((0, 1, 3)), self.dice.random() < 0.5)

    def _free_all(self) -> tuple[Any, ...]:
        return (list(self.links[:1]),)

    def _free_lost(self) -> tuple[Any, ...]:
        return ()

    def _settle(self) -> tuple[Any, ...]:
        return ([(id, self.dice.choice(("released", "held", "parked")), uuid7()) for id in self._some()],)

    _rolled_back = _settle

    def _read(self) -> tuple[Any, ...]:
        return (self._some(),)

    # ---- done, on whichever connection

    async def do(self, connection: Any, name: str, arguments: tuple[Any, ...]) -> object:
        """What it answers, or the error's name."""
        try:
            return await getattr(self, f"do_{name}")(connection, *arguments)
        except UNDONE as error:
            return type(error).__name__

    async def _append(
        self, connection: Any, messages: Sequence[journal.MessageRow], frames: Sequence[journal.FrameRow]
    ) -> object:
        framed = journal._framed(self.organization_id, frames)
        if not messages:
            return await self._ids(connection, journal_sql.APPEND_FRAMES, *framed)
        return await self._ids(connection, journal_sql.APPEND, *framed, *journal._sealed(messages), WINDOW)

    @staticmethod
    async def _ids(connection: Any, text: str, *arguments: Any) -> list[UUID]:
        return sorted(row[0] for row in await connection.fetch(text, *arguments))

    do_begin = do_go_on = do_seal = _append

    async def do_blocks(self, connection: Any, *rows: journal.BlockRow) -> object:
        return await self._ids(
            connection, journal_sql.APPEND_BLOCKS, self.organization_id, *zip(*rows, strict=True), WINDOW
        )

    async def do_again(self, connection: Any, *rows: journal.BlockRow) -> object:
        """Some of it is stored, as after a commit whose answer was lost."""
        appends = [row.in_general() for row in rows]
        messages = [one for append in appends for one in append.messages]
        return await self._append(connection, messages, [one for append in appends for one in append.frames])

    async def do_seal_cut(self, connection: Any, rows: Sequence[tuple[Any, ...]]) -> object:
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
        return await connection.fetchval(journal_sql.SEAL_CUT, self.organization_id, *columns)

    async def do_recover(self, connection: Any) -> object:
        return await connection.fetchval(journal_sql.RECOVER, self.organization_id, list(self.links))

    async def do_replies(self, connection: Any, ids: Sequence[UUID], replies: Sequence[str]) -> object:
        return await self._ids(connection, journal_sql.NOTE_REPLIES, ids, replies)

    async def do_taken(self, connection: Any, ids: Sequence[UUID]) -> object:
        return await connection.fetch(journal_sql.NOTE_TAKEN, ids)

    async def do_claim(self, connection: Any, most: int, not_of: Sequence[UUID]) -> object:
        claims = await results.claim(connection, most, [self.organization_id], not_of)
        return [(one.message_id, one.link_id, one.attempts) for one in claims]

    async def do_give_back(self, connection: Any, ids: Sequence[UUID], refund: int, at_once: bool) -> None:
        await results.give_back(connection, ids, refund=refund, at_once=at_once)

    async def do_free_all(self, connection: Any, answering: Sequence[UUID]) -> None:
        await results.free_all(connection, [self.organization_id], answering)

    async def do_free_lost(self, connection: Any) -> None:
        await results.free_lost(connection, [self.organization_id])

    async def do_settle(self, connection: Any, settled: Sequence[tuple[UUID, str, UUID]]) -> object:
        """By `results._SETTLE`; as `results.commit`, with audit ids that are the same on both."""
        outcomes = []
        for id, how, audit_id in settled:
            row = results._settling(Outcome(id, how, self.links[0], "link", reason="why"))
            outcomes.append((audit_id, *row[1:]))
        columns = zip(*outcomes, strict=True) if outcomes else repeat((), 12)
        return await self._ids(connection, results._SETTLE, self.organization_id, *columns)

    async def do_rolled_back(self, connection: Any, settled: Sequence[tuple[UUID, str, UUID]]) -> object:
        try:
            async with connection.transaction():
                await self.do_settle(connection, settled)
                raise _Back
        except _Back:
            return "rolled back"

    async def do_read(self, connection: Any, ids: Sequence[UUID]) -> object:
        found = await stored_messages.read_messages(connection, ids)
        return {
            id: (one.state, one.settled, one.reason, one.reply, one.attempts, one.duplicate_of, one.frames)
            for id, one in found.items()
        }


def model_rows(tables: Tables, now: datetime) -> dict[str, list[Any]]:
    rows = tables.rows
    return {
        "frame": sorted((id, row["message_id"], row["bytes"], row["digest"]) for id, row in rows["frame"].items()),
        "message": sorted(
            (id, row["state"], row["settled"], row["reply"], row["reason"], row["digest"], row["bytes"],
             row["attempts"], row["duplicate_of"], row["settled_at"] is not None)
            for id, row in rows["message"].items()
        ),
        "key": sorted(
            (*key, row["message_id"], row["sealed_at"], row["taken"], row["before_id"])
            for key, row in rows["message_key"].items()
        ),
        "queue": sorted(
            (id, row["lane"], row["priority"], row["attempts"], row["not_before"] <= now)
            for id, row in rows["queue"].items()
        ),
        "audit": sorted((row["message_id"], row["outcome"]) for row in rows["audit"].values()),
    }  # fmt: skip


async def real_rows(owner: Owner, organization_id: UUID) -> dict[str, list[Any]]:
    asked = {
        "frame": "select id, message_id, bytes, digest from lab.frame where organization_id = $1",
        "message": "select id, state, settled, reply, reason, digest, bytes, attempts, duplicate_of,"
        " settled_at is not null from lab.message where organization_id = $1",
        "key": "select link_id, digest, message_id, sealed_at, taken, before_id from lab.message_key"
        " where organization_id = $1",
        "queue": "select message_id, lane, priority, attempts, not_before <= now() from lab.queue"
        " where organization_id = $1",
        "audit": "select entity_id, outcome from lab.audit_event where organization_id = $1",
    }
    return {name: sorted(map(tuple, await owner.fetch(text, organization_id))) for name, text in asked.items()}


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_model_is_no_nicer_than_the_real_database(
    database: Database, owner: Owner, organization: Organization, seed: int
) -> None:
    links = [await make_link(owner, organization) for _ in range(2)]
    operations, model = Operations(organization.id, links, seed), Model()
    done: set[str] = set()
    async with database.organization(organization.id) as connection:
        for step in range(STEPS):
            name, arguments = operations.next()
            mine = await operations.do(model, name, arguments)
            real = await operations.do(connection, name, arguments)
            assert mine == real, f"seed {seed}, step {step}: {name}"
            done.add(f"{name} {real}" if isinstance(real, str) else name)
            if step % 20 == 19 or step == STEPS - 1:
                assert model_rows(model.tables, datetime.now(UTC)) == await real_rows(owner, organization.id), name
    assert {"blocks UniqueViolationError", "rolled_back rolled back"} <= done


async def test_a_row_that_a_transaction_has_settled_is_passed_over_by_notes_and_waited_for_by_a_claims_freeing(
    database: Database, owner: Owner, organization: Organization
) -> None:
    """As the model has it: SKIP LOCKED, and locks until the end of the transaction."""
    operations = Operations(organization.id, [await make_link(owner, organization)], 3)
    block = operations._blocks()[:1]
    model, settled = Model(), [(block[0].id, "released", uuid7())]
    async with database.organization(organization.id) as one, database.organization(organization.id) as other:
        for connection in (model, one):
            await operations.do(connection, "blocks", block)
        async with one.transaction(), model.transaction():
            for connection in (model, one):
                await operations.do(connection, "settle", (settled,))
            second = Model(model.tables)
            for connection in (second, other):
                assert await operations.do(connection, "replies", ([block[0].id], ["sent"])) == []
                assert await operations.do(connection, "claim", (64, [])) == []
                found = await operations.do(connection, "read", ([block[0].id],))
                assert isinstance(found, dict)
                assert found[block[0].id][1] is None  # what is not committed nobody sees
            await other.execute("set lock_timeout = 1")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await operations.do(other, "free_lost", ())
            await other.execute("reset lock_timeout")
        for connection in (second, other):
            found = await operations.do(connection, "read", ([block[0].id],))
            assert isinstance(found, dict)
            assert found[block[0].id][1] == "released"
