"""What one link says of itself: answers to the queries that came by it, then what its `Speech` has to say.

A message is recorded, with the work it speaks of, before the bytes leave (DESIGN §1: nothing is lost), and what became
of it is recorded after. In between nobody knows whether it arrived: such a message goes again byte for byte under its
id, also after a restart, unless part of it is not to be done any more. What arrived is never said again of itself.

An answer is worth something while its analyzer waits. A query that was not answered in time, or whose connection went,
is settled as not answered by the worker, which gets it a while after it was sealed (`QUERY_HELD_S`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog

from interface import telemetry
from interface.domain.routing import ENDED, DispatchKind, DispatchState
from interface.errors import LaboraError, StoreError
from interface.flow import order_book, waking
from interface.flow.context import LinkContext
from interface.flow.message import storable
from interface.flow.queries import answer, answer_at_once, takes_back
from interface.flow.requests import append_of, request_row
from interface.flow.speech import Sent, Speech
from interface.link.intake import Outgoing, Sending
from interface.settings import TransportType
from interface.store import dispatch, results
from interface.store.db import Connection, Database
from interface.store.driver_errors import translate
from interface.store.ids import uuid7
from interface.store.journal import Append, append_within
from interface.store.results import AlreadySettled, Outcome
from interface.store.stored_messages import StoredMessage, read_message
from interface.wire import hl7

log = structlog.get_logger(__name__)

POLL_S = 2.0  # after which work is found that nobody has told of
ANSWER_S = 60.0  # what an analyzer asked longer ago is not answered any more: it asks again
MOST_QUERIES = 64  # that wait for their answers on one connection; of more the oldest are not answered
# What counts as an attempt: the analyzer had the message before it and did not take it. A line that is busy, cut or
# silent says nothing about the message.
COUNTED = frozenset({"refused", "timeout", "reply"})


class Answered(Protocol):
    """What is said to a query. `dispatches[i]`: the work that `texts[i]` speaks of.

    `settled`: what becomes of the query's message, "" leaves it to the worker; `reason`: why it is not answered.
    `cancels_before`: what waits of the queries before it on its connection is not wanted any more.
    """

    @property
    def texts(self) -> tuple[bytes, ...]: ...

    @property
    def dispatches(self) -> tuple[tuple[UUID, ...], ...]: ...

    @property
    def settled(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def cancels_before(self) -> bool: ...


Answer = Callable[[Connection, LinkContext, StoredMessage, UUID, datetime], Awaitable[Answered]]


@dataclass(slots=True)
class _Message:
    """One that is recorded. `asked_at`: of an answer; `tries`: attempts that count; `reply`: one is waited for;
    `again`: it did not arrive before; `waited`: that, or another was said before it; `until`: its last moment."""

    sent: Sent
    reply: bool
    asked_at: datetime | None = None
    tries: int = 0
    again: bool = False
    waited: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Fate:
    """What became of a message. `kept`: the rows of its reply, the same when it has to be committed again."""

    message: _Message
    delivered: bool
    reply: bytes | None = None
    reason: str = ""
    kept: Append | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was committed of it. `answer`: to the reply."""

    delivered: bool
    answer: bytes | None = None
    given_up: bool = False


@dataclass(slots=True)
class _Asked:
    """A query that waits for its answer. `text`: it, where it is short."""

    message_id: UUID
    at: datetime
    text: bytes | None


@contextmanager
def _next_of(waiting: deque[_Message]) -> Iterator[_Message]:
    """What is next; where the database is away meanwhile it waits as before. A fault of ours with it keeps no other."""
    message = waiting.popleft()
    try:
        yield message
    except (StoreError, asyncio.CancelledError):
        waiting.appendleft(message)
        raise


def _utc() -> datetime:
    return datetime.now(UTC)


class LinkOutgoing:
    """Of one link, for all its connections. `answer` writes the answers to its queries, where it answers any."""

    def __init__(
        self,
        link: LinkContext,
        database: Database,
        answer: Answer | None,
        speech: Speech | None,
        now: Callable[[], datetime] = _utc,
    ) -> None:
        self.link, self._database, self._answer, self._speech, self._now = link, database, answer, speech, now
        self._turn = asyncio.Lock()
        self._connections: dict[str, ConnectionOutgoing] = {}
        self._under_way: set[UUID] = set()  # on some connection, or waiting on it for its turn
        self._loose: deque[_Message] = deque()  # undelivered, and the order book does not say that it is to go again
        self._unsaid: list[_Fate] = []  # what could not be committed yet

    @property
    def answers(self) -> bool:
        """Whether queries that come by the link are answered by this."""
        return self._answer is not None

    @property
    def _replied(self) -> bool:
        """Whether its messages are acknowledged by messages."""
        return self.link.settings.transport.type in (TransportType.MLLP_LISTEN, TransportType.MLLP_DIAL)

    @property
    def speaks(self) -> bool:
        """Whether it says anything without being asked."""
        return self._speech is not None

    def of(self, peer: str, due: Callable[[], None]) -> Outgoing | None:
        """A connection was made."""
        if self._answer is None and self._speech is None:
            return None
        connection = self._connections[peer] = ConnectionOutgoing(self, peer, due)
        if self._speech is not None:
            waking.sleep(self.link.organization_id, self.link.analyzer_id, due)
        return connection

    def asked(self, peer: str, message_id: UUID, text: bytes | None) -> None:
        """A query was sealed; it is answered on the connection that it came by. `text`: it, where it is at hand."""
        if (connection := self._connections.get(peer)) is not None:
            connection.ask(_Asked(message_id, self._now(), text))

    def closed(self, connection: ConnectionOutgoing) -> None:
        """A connection is over."""
        waking.leave(self.link.organization_id, connection.due)
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]
        for message in connection.answers:
            self._drop(message, "lost")

    # ---- what is next ----

    async def take(self, connection: ConnectionOutgoing) -> _Message | None:
        """The next message for a connection, recorded. Raises StoreError."""
        async with self._turn:
            await self._say_unsaid()
            message = await self._next_answer(connection) or await self._next_of_ours()
            if message is not None:
                self._under_way.add(message.sent.id)
            else:
                await self._say_unsaid()  # what was dropped meanwhile
            return message

    async def _next_answer(self, connection: ConnectionOutgoing) -> _Message | None:
        while connection.answers or connection.queries:
            await self._take_back(connection)
            if connection.answers:
                with _next_of(connection.answers) as message:
                    so = await self._again(message)
                if so:
                    return message
                continue
            asked = connection.queries[0]
            try:
                made = await self._answered(asked, connection)
            except StoreError:
                raise
            except Exception as error:  # a fault of ours, or a query that cannot be answered: the worker settles it
                if (store_error := translate(error)) is not None:
                    raise store_error from error
                log.error("query not answered", action="query.fault", link=self.link.name,
                          message_id=str(asked.message_id), exc_info=error)  # fmt: skip
                made = []
            connection.drop(asked)
            connection.answers.extend(made)
            self._under_way.update(message.sent.id for message in made)
        return None

    async def _take_back(self, connection: ConnectionOutgoing) -> None:
        """Forget what a later query has taken back while the line was busy: nobody waits for its answer."""
        later = list(connection.queries)[0 if connection.answers else 1 :]
        for asked in reversed(later):
            async with self._database.organization(self.link.organization_id) as database:
                message = await read_message(database, asked.message_id)
            if message is not None and takes_back(self.link, message):
                for unsaid in connection.forget_before(asked):
                    self._drop(unsaid, "late")
                return

    async def _again(self, message: _Message) -> bool:
        """Record that an answer goes now; False for one that nobody waits for any more, or whose work is off in part:
        who asked asks again."""
        late = message.asked_at is not None and self._now() - message.asked_at > timedelta(seconds=ANSWER_S)
        if late or (message.waited and not await self._still_so(message)):
            self._drop(message, "late")
            return False
        return True

    async def _still_so(self, message: _Message) -> bool:
        """Whether all that it says is still to be done; then it is recorded that it goes again."""
        async with self._database.transaction(self.link.organization_id) as connection:
            if not await self._wanted(connection, message.sent):
                return False
            if message.again:  # the first time it was recorded when it was built
                await self._recorded(connection, message.sent)
        return True

    async def _wanted(self, connection: Connection, sent: Sent) -> bool:
        """Whether no part of its work has ended or is to be taken back; it stays so until the transaction ends."""
        rows = await dispatch.lock(connection, sent.dispatches)
        return not any(row.state in ENDED or row.kind is DispatchKind.CANCEL for row in rows)

    def _drop(self, message: _Message, reason: str) -> None:
        """An answer that is not said any more: what it spoke of is to be told when it is asked for again."""
        self._under_way.discard(message.sent.id)
        self._unsaid.append(_Fate(message, False, reason=reason))

    async def _recorded(self, connection: Connection, sent: Sent) -> None:
        await order_book.record_sent(
            connection, self.link, sent.id, sent.dispatches, sent.data, sent.query_id, self._now()
        )

    async def _answered(self, asked: _Asked, connection: ConnectionOutgoing) -> list[_Message]:
        """Build and record the answer to a query, and settle its message, in one transaction."""
        now = self._now()
        if self._answer is None or now - asked.at > timedelta(seconds=ANSWER_S):
            return []
        if self._answer is answer and (said := await self._at_once(asked, now)) is not None:
            return said
        async with self._database.transaction(self.link.organization_id) as database:
            message = await read_message(database, asked.message_id)
            if message is None:
                return []
            first = uuid7()
            answered = await self._answer(database, self.link, message, first, now)
            if message.settled is not None and answered.settled:  # else what it reports beside was decided first
                return []
            made: list[_Message] = []
            for at, (text, dispatches) in enumerate(zip(answered.texts, answered.dispatches, strict=True)):
                sent = Sent(first if not at else uuid7(), text, dispatches, asked.message_id)
                await self._recorded(database, sent)
                made.append(_Message(sent, self._replied, asked.at, waited=bool(made)))
            if answered.settled:
                outcome = Outcome(
                    asked.message_id, answered.settled, self.link.link_id, self.link.name, reason=answered.reason
                )
                try:
                    await results.commit(database, self.link.organization_id, [outcome])
                except AlreadySettled:  # it took so long that the worker has it
                    raise LaboraError("the query was settled before it was answered") from None
        if answered.settled:
            telemetry.count_message(self.link.name, answered.settled)
        if answered.cancels_before:
            for message_of_before in connection.forget_before(asked):
                self._drop(message_of_before, "late")
        return made

    async def _at_once(self, asked: _Asked, now: datetime) -> list[_Message] | None:
        """The same by one statement, where it can be done so."""
        said = await answer_at_once(self._database, self.link, asked.message_id, asked.text, now)
        if said is None:
            return None
        telemetry.count_message(self.link.name, "released")
        return [_Message(sent, self._replied, asked.at, waited=bool(at)) for at, sent in enumerate(said)]

    async def _next_of_ours(self) -> _Message | None:
        """What waits to be said again, then what is new."""
        if self._speech is None:
            return None
        while self._loose:
            with _next_of(self._loose) as message:
                late = message.until is not None and self._now() > message.until
                if late:
                    await self._give_up(self._speech, message.sent)
                so = not late and await self._record_loose(message.sent)
            if so:
                return message
        now = self._now()
        async with self._database.transaction(self.link.organization_id) as connection:
            for one in await order_book.unconfirmed(connection, self.link):
                if one.sending_id not in self._under_way:
                    sent = Sent(one.sending_id, one.data, one.dispatches)
                    await self._recorded(connection, sent)
                    return _Message(sent, self._replied)
            sending_id = uuid7()
            said = await self._speech.next(connection, self.link, sending_id, now)
            if said is None:
                return None
            sent = Sent(sending_id, said.data, said.dispatches, said.query_id)
            await self._recorded(connection, sent)
            return _Message(sent, said.expects_reply, until=said.until)

    async def _give_up(self, speech: Speech, sent: Sent) -> None:
        """Nobody may be told this any more. Its work is queued since it did not arrive, and stays so."""
        async with self._database.transaction(self.link.organization_id) as connection:
            await speech.undelivered(connection, self.link, sent, "late", True, self._now())

    async def _record_loose(self, sent: Sent) -> bool:
        """Record that it goes again; False where part of it is not to be done any more."""
        waiting = (DispatchState.QUEUED, DispatchState.SENT)
        async with self._database.transaction(self.link.organization_id) as connection:
            rows = await dispatch.lock(connection, sent.dispatches)
            if any(row.state not in waiting or row.kind is DispatchKind.CANCEL for row in rows):
                return False
            await self._recorded(connection, sent)
        return True

    # ---- what became of it ----

    async def told(
        self, connection: ConnectionOutgoing, message: _Message, delivered: bool, reply: bytes | None, reason: str
    ) -> bytes | None:
        """See `Outgoing.told`."""
        kept = self._kept(connection.peer, reply) if reply is not None else None
        fate = _Fate(message, delivered, reply, reason, kept)
        async with self._turn:
            self._under_way.discard(message.sent.id)
            outcome = await self._said(fate)
            answer = outcome.answer if outcome is not None else None
            if outcome is not None and not outcome.delivered and delivered:
                fate = _Fate(message, False, reason="reply")
                outcome = await self._said(fate)
            given_up = outcome is not None and outcome.given_up
            if not fate.delivered and not given_up:
                self._keep(fate, connection)
                self._hand_on(message, connection)
        said = "given_up" if given_up else "delivered" if fate.delivered else fate.reason
        telemetry.count_sending(self.link.name, said)
        return answer

    def _kept(self, peer: str, reply: bytes) -> Append:
        """A reply is kept as it came, before it is acknowledged in its turn (DESIGN §1.1)."""
        control_id, kind = storable(hl7.control_id(reply)), storable(hl7.message_type(reply))
        return append_of(request_row(self.link, reply, self._now(), peer, control_id, kind), reply)

    def _keep(self, fate: _Fate, connection: ConnectionOutgoing) -> None:
        """A message that did not arrive waits for its next turn: here, where the order book does not keep it."""
        message = fate.message
        message.again = message.waited = True
        if message.asked_at is not None:
            if fate.reason not in ("lost", "stop"):
                connection.answers.appendleft(message)
                self._under_way.add(message.sent.id)
        elif message.sent.query_id is not None or not message.sent.dispatches:
            self._loose.append(message)

    def _hand_on(self, message: _Message, connection: ConnectionOutgoing) -> None:
        """Have the link's other connections look: an analyzer that was switched off does not hang up, and may be there
        again on one of them. An answer is of the connection that was asked by."""
        for other in list(self._connections.values()) if message.asked_at is None else ():
            if other is not connection:
                other.due()

    async def _said(self, fate: _Fate) -> _Outcome | None:
        """Commit what became of a message; None where that has to wait."""
        try:
            return await self._commit(fate)
        except StoreError as error:
            log.warning("what became of a message is not stored yet", action="sending.waiting", link=self.link.name,
                        error=error.slug)  # fmt: skip
            self._unsaid.append(fate)
            self._under_way.add(fate.message.sent.id)  # or it would be taken for one that nobody knows of
        except Exception as error:
            log.error("reply not understood", action="sending.fault", link=self.link.name,
                      sending_id=str(fate.message.sent.id), exc_info=error)  # fmt: skip
            return _Outcome(delivered=False)
        return None

    async def _say_unsaid(self) -> None:
        """Raises StoreError."""
        while self._unsaid:
            fate = self._unsaid[0]
            try:
                await self._commit(fate)
            except StoreError:
                raise
            except Exception as error:
                log.error("reply not understood", action="sending.fault", link=self.link.name,
                          sending_id=str(fate.message.sent.id), exc_info=error)  # fmt: skip
            self._unsaid.remove(fate)
            self._under_way.discard(fate.message.sent.id)

    async def _commit(self, fate: _Fate) -> _Outcome:
        link, message, now = self.link, fate.message, self._now()
        sent = message.sent
        if fate.delivered and fate.kept is None and sent.dispatches:
            if await order_book.taken_at_once(self._database, link, sent, "", None, now):
                return _Outcome(True)
        async with self._database.transaction(link.organization_id) as connection:
            if fate.kept is not None:
                await append_within(connection, link.organization_id, fate.kept)
            if fate.delivered and fate.reply is not None and self._speech is not None:
                word = await self._speech.replied(connection, link, sent, fate.reply, now)
                return _Outcome(word.delivered, word.answer)
            if fate.delivered:
                await order_book.answered(connection, link, sent.dispatches, DispatchState.ACCEPTED, "", now)
                return _Outcome(True)
            given_up = await self._not_delivered(connection, fate, now)
            if message.asked_at is None and self._speech is not None:
                await self._speech.undelivered(connection, link, sent, fate.reason, given_up, now)
        return _Outcome(False, given_up=given_up)

    async def _not_delivered(self, connection: Connection, fate: _Fate, now: datetime) -> bool:
        """Whether it is given up."""
        link, message = self.link, fate.message
        if fate.reason == "unsendable":
            state = DispatchState.FAILED
            await order_book.answered(connection, link, message.sent.dispatches, state, "it cannot be sent", now)
            return True
        counts, limit = fate.reason in COUNTED, link.settings.send_attempts
        message.tries += counts
        failed = await order_book.not_delivered(
            connection, link, message.sent.dispatches, fate.reason, limit if counts else None, now
        )
        return bool(failed) or message.tries >= limit


@dataclass(eq=False)
class ConnectionOutgoing:
    """`link.intake.Outgoing` of one connection."""

    link: LinkOutgoing
    peer: str
    due: Callable[[], None]
    queries: deque[_Asked] = field(default_factory=deque)
    answers: deque[_Message] = field(default_factory=deque)  # recorded, and not said yet
    _on_line: _Message | None = None

    def ask(self, asked: _Asked) -> None:
        """A query came. Of too many, the oldest is forgotten: its analyzer has long stopped waiting."""
        if len(self.queries) == MOST_QUERIES:
            self.queries.popleft()
        self.queries.append(asked)
        self.due()

    def drop(self, asked: _Asked) -> None:
        """It was answered, or will not be."""
        if asked in self.queries:
            self.queries.remove(asked)

    def forget_before(self, asked: _Asked) -> list[_Message]:
        """What was asked before this is taken back; the answers that were not said yet."""
        while self.queries and self.queries[0] is not asked:
            self.queries.popleft()
        unsaid = list(self.answers)
        self.answers.clear()
        return unsaid

    async def take(self) -> Sending | None:
        """See `Outgoing`."""
        self._on_line = await self.link.take(self)
        if self._on_line is None:
            return None
        sent = self._on_line.sent
        return Sending(sent.id, sent.data, self._on_line.reply)

    async def told(self, sending: Sending, delivered: bool, reply: bytes | None, reason: str) -> bytes | None:
        """See `Outgoing`."""
        message, self._on_line = self._on_line, None
        if message is None or message.sent.id != sending.id:
            return None
        return await self.link.told(self, message, delivered, reply, reason)

    def close(self) -> None:
        """See `Outgoing`."""
        self.link.closed(self)


async def watch_work(database: Database) -> None:
    """Wake the links whose analyzers have something to be told, whoever made it so. Does not end."""
    while True:
        await asyncio.sleep(POLL_S)
        for organization_id, analyzers in waking.sleeping().items():
            try:
                async with database.organization(organization_id) as connection:
                    found = await dispatch.analyzers_with_work(connection, analyzers)
            except StoreError as error:
                log.warning("order book not reachable", action="sending.waiting", error=error.slug)
                continue
            except Exception as error:  # what nobody tells of would be found no more, until the next start
                log.error("order book not reachable", action="sending.waiting", exc_info=error)
                continue
            for analyzer_id in found:
                waking.wake(organization_id, analyzer_id)
