"""What an analyzer asks for and what it is told: its query read by the driver, looked up in the order book, answered in
the driver's dialect. Each query is answered anew, whatever was answered before it.

Ids are compared, never searched for: a `%` in one is a character of it. An analyzer sees the work that is meant for it,
in its own laboratory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from interface import telemetry
from interface.domain import routing
from interface.domain.model import DecodedMessage, Protocol, Query
from interface.domain.routing import DispatchState
from interface.driver import registry
from interface.driver.defaults import DEFAULT_ANSWERS
from interface.driver.dialogue import Answer, Without, read_queries, write
from interface.driver.manifest import Driver
from interface.errors import DriverError, SegmentError, UnsupportedMessage
from interface.flow import order_book
from interface.flow.context import LinkContext
from interface.flow.message import message_text, storable
from interface.flow.order_book import Book, Draft
from interface.flow.requests import AtOnce, Handler, Reply, Request, Unstored
from interface.flow.speech import Sent, control_id
from interface.store.db import Connection, Database
from interface.store.dispatch_at_once import Arrived, Waiting
from interface.store.ids import instant_of, uuid7, uuid7_floor
from interface.store.stored_messages import StoredMessage, read_message
from interface.wire import hl7

log = structlog.get_logger(__name__)

MOST_ASKED = 500  # specimens that the queries of one message may name, and how many they may be
MOST_ID = 100  # characters of an id that is looked up; no barcode is longer
_MOST_NOTE = 500
_REASONS = frozenset(one.value for one in routing.NoWork)
_UNSUPPORTED_TYPE, _NOT_IN_TABLE = 200, 103  # HL7 table 0357
ANSWERED_WITHIN = timedelta(minutes=10)  # an acknowledgement that comes later is of something else


@dataclass(frozen=True, slots=True)
class Answered:
    """What is to be said. `dispatches[i]`: the work that `texts[i]` orders.

    `settled`, `reason`: what becomes of the query; of one that is answered, why there is no work. `cancels_before`: it
    takes back what was asked before it, which is not to be answered any more. `looked`: what was asked and found.
    """

    texts: tuple[bytes, ...] = ()
    dispatches: tuple[tuple[UUID, ...], ...] = ()
    settled: str = "released"
    reason: str = ""
    cancels_before: bool = False
    looked: tuple[tuple[Query, Book], ...] = ()


def answers(driver: Driver) -> bool:
    """Whether queries of such an analyzer are answered here. IHE LAW is answered by its own messages."""
    return driver.law is None and _dialect(driver) is not None


async def answer(
    connection: Connection, link: LinkContext, message: StoredMessage, sending_id: UUID, now: datetime
) -> Answered:
    """Answer a stored query, in the caller's transaction, who records what is sent. `sending_id`: of the first text.

    Raises DriverError where it cannot be read, or what there is cannot be written.
    """
    text = message_text(message)
    decoded = registry.decode(link.driver, text, link.settings.encoding)
    if not decoded.queries:
        return Answered(settled="")
    # What a message reports beside its query is decided as any result is, which settles it.
    settled = "" if any(one.results for one in decoded.specimens) else "released"
    if all(query.cancels for query in decoded.queries):
        return Answered(settled=settled, reason="the analyzer took its query back", cancels_before=True)
    told = await _answered(_in_transaction(connection, link, now), link, text, decoded, control_id(sending_id), now)
    _log(link, told)
    cancels = any(one.cancels for one in decoded.queries)
    return replace(told, settled=settled, cancels_before=cancels)


async def answer_at_once(
    database: Database, link: LinkContext, message_id: UUID, text: bytes | None, now: datetime
) -> tuple[Sent, ...] | None:
    """Answer a stored query, record it and settle the query, all by one statement. `text`: the query, where it is
    known. None: nothing is written, and it is to be answered in a transaction.

    Raises StoreError, and DriverError as `answer` does.
    """
    if text is None:
        async with database.at_once(link.organization_id) as connection:
            message = await read_message(connection, message_id)
        if message is None or message.settled is not None:
            return None
        text = message_text(message)
    decoded = registry.decode(link.driver, text, link.settings.encoding)
    if not _plain(decoded) or any(one.results for one in decoded.specimens):
        return None
    first = uuid7()
    drafts = _Drafts(database, link, now)
    try:
        told = await _answered(drafts.look, link, text, decoded, control_id(first), now)
    except _NotAtOnce:
        return None
    ids = [first, *(uuid7() for _ in told.texts[1:])]
    said = tuple(
        Sent(id_, each, dispatches, message_id)
        for id_, each, dispatches in zip(ids, told.texts, told.dispatches, strict=True)
    )
    if not await drafts.tell(said, Waiting(message_id, storable(told.reason, _MOST_NOTE))):
        return None
    _log(link, told)
    return said


def _plain(decoded: DecodedMessage) -> bool:
    """Whether it asks for named specimens, once, and for nothing else."""
    return len(decoded.queries) == 1 and not any(
        one.cancels or one.all or one.ranges or not one.specimen_ids for one in decoded.queries
    )


class _NotAtOnce(Exception):
    """What is asked for needs a transaction."""


class _Drafts:
    """What one query is answered from, and then its answer."""

    def __init__(self, database: Database, link: LinkContext, now: datetime) -> None:
        self._database, self._link, self._now = database, link, now
        self._draft: Draft | None = None

    async def look(self, query: routing.Query) -> Book:
        self._draft = await order_book.draft(self._database, self._link, query.specimen_ids, self._now)
        if self._draft is None:
            raise _NotAtOnce
        return self._draft.book

    async def tell(self, said: Sequence[Sent], query: Arrived | Waiting) -> bool:
        draft = self._draft or Draft(Book(), {}, ())
        return await order_book.tell_at_once(self._database, self._link, draft, said, query, self._now)


def takes_back(link: LinkContext, message: StoredMessage) -> bool:
    """Whether a query says only that what was asked before it is not wanted any more (LIS02-A2 Q-13 A)."""
    asked = registry.decode(link.driver, message_text(message), link.settings.encoding).queries
    return bool(asked) and all(query.cancels for query in asked)


# ---- HL7: the answer is the reply -----------------------------------------------------------------------------------


def handler(link: LinkContext) -> Handler | None:
    """What answers a link's HL7 queries."""
    driver = link.driver
    return _REPLY if driver.protocol is Protocol.HL7 and answers(driver) else None


def handler_of_acknowledgements(link: LinkContext) -> AtOnce | None:
    """What hears how an analyzer took orders that it did not get as the reply alone (Mindray's ACK^Q03 to DSR^Q03)."""
    dialect = _dialect(link.driver) if handler(link) else None
    return _ACKNOWLEDGED if dialect is not None and len(dialect.found) > 1 else None


async def _reply(request: Request) -> Reply:
    link = request.link
    decoded = _decoded(link, request.message, request.block)
    look = _in_transaction(request.connection, link, request.received_at)
    told = await _answered(look, link, request.block, decoded, request.control_id, request.received_at)
    for sent in _to_record(told, request.message_id):
        await order_book.record_sent(
            request.connection, link, sent.id, sent.dispatches, sent.data, request.message_id, request.received_at
        )
    _log(link, told)
    return Reply(told.texts[0], told.texts[1:], note=told.reason)


async def _reply_alone(query: Unstored) -> Reply | None:
    link, now = query.link, query.row.received_at
    decoded = _decoded(link, query.message, query.block)
    if not _plain(decoded):
        return None
    drafts = _Drafts(query.database, link, now)
    try:
        told = await _answered(drafts.look, link, query.block, decoded, query.control_id, now)
    except _NotAtOnce:
        return None
    said = _to_record(told, query.row.id)
    if not await drafts.tell(said, Arrived(query.row, query.block, storable(told.reason, _MOST_NOTE))):
        return None
    _remember(link, query.row.control_id, said)
    _log(link, told)
    return Reply(told.texts[0], told.texts[1:], note=told.reason)


_REPLY = AtOnce(_reply_alone, _reply)


def _decoded(link: LinkContext, message: hl7.Message, block: bytes) -> DecodedMessage:
    """A query that is taken. Raises UnsupportedMessage, SegmentError."""
    if message.type not in link.driver.query.message_types:
        raise UnsupportedMessage("this link does not take this event", "MSH^1^9^1^2", _UNSUPPORTED_TYPE)
    orc = message.first("ORC")
    if message.type == "ORM^O01" and (orc is None or orc.value(1) != "RF"):
        # HL7 table 0119: RF asks for what was ordered; anything else would place or change an order.
        raise UnsupportedMessage("an analyzer orders nothing: only ORC-1 RF is taken", "ORC^1^1", _NOT_IN_TABLE)
    decoded = registry.decode(link.driver, block, link.settings.encoding)
    if not decoded.queries:
        raise SegmentError("there is no query in it", "MSH^1^9", _UNSUPPORTED_TYPE)
    return decoded


def _to_record(told: Answered, message_id: UUID) -> list[Sent]:
    """The texts that order work; where none does, the first, which says so."""
    recorded = [pair for pair in zip(told.texts, told.dispatches, strict=True) if pair[1]]
    return [Sent(uuid7(), text, dispatches, message_id) for text, dispatches in recorded or [(told.texts[0], ())]]


# ---- and acknowledged -----------------------------------------------------------------------------------------------

# What was said last to a query, by link and the query's control id, until it is acknowledged: only a shorter way, where
# that is one message.
MOST_REMEMBERED = 1024
_unacknowledged: dict[tuple[UUID, str], Sent] = {}


def _remember(link: LinkContext, control_id_: str, said: Sequence[Sent]) -> None:
    if handler_of_acknowledgements(link) is None:
        return
    _unacknowledged.pop((link.link_id, control_id_), None)
    if len(said) == 1 and said[0].dispatches:
        if len(_unacknowledged) >= MOST_REMEMBERED:
            _unacknowledged.clear()
        _unacknowledged[link.link_id, control_id_] = said[0]


async def _acknowledged_alone(answer: Unstored) -> Reply | None:
    link, msa = answer.link, answer.message.first("MSA")
    if msa is None or msa.value(1) != "AA":
        return None
    sent = _unacknowledged.pop((link.link_id, storable(msa.value(2))), None)
    if sent is None or answer.row.received_at - instant_of(sent.id) > ANSWERED_WITHIN:
        return None
    arrived, now = Arrived(answer.row, answer.block), answer.row.received_at
    if await order_book.taken_at_once(answer.database, link, sent, _words(msa), arrived, now):
        return Reply(b"")
    return None


def _words(msa: hl7.Segment) -> str:
    return " ".join(filter(None, (msa.value(1), msa.value(6))))


async def _acknowledged(request: Request) -> Reply:
    """An acknowledgement is never answered; a no is a refusal of the work."""
    msa = request.message.first("MSA")
    code = msa.value(1) if msa else ""
    if msa is None or code not in ("AA", "AE", "AR"):
        return Reply(b"", reason="it acknowledges nothing that is known")
    # The vendor's answers have the query's own control id, so has what acknowledges them: of the last query of that id
    # the first answer of which nothing was heard yet is meant.
    rows = await request.connection.fetch(
        """SELECT DISTINCT d.id FROM lab.dispatch_event e
             JOIN lab.dispatch d ON d.id = e.dispatch_id AND d.sending_id = e.sending_id WHERE e.sending_id = (
               SELECT s.id FROM lab.sending s JOIN lab.message m ON m.id = s.query_id
                CROSS JOIN LATERAL (SELECT EXISTS (
                    SELECT FROM lab.dispatch_event v JOIN lab.dispatch w ON w.id = v.dispatch_id
                     WHERE v.sending_id = s.id AND w.sending_id = s.id AND w.state = 'sent') AS waits) o
               WHERE s.id > $1 AND s.link_id = $2 AND m.control_id = $3
               ORDER BY m.id DESC, o.waits DESC, CASE WHEN o.waits THEN s.id END, s.id DESC LIMIT 1)""",
        uuid7_floor(request.received_at - ANSWERED_WITHIN), request.link.link_id, storable(msa.value(2)),
    )  # fmt: skip
    if not rows:
        return Reply(b"", reason="it acknowledges nothing that is known")
    dispatches = [row["id"] for row in rows]
    state = DispatchState.ACCEPTED if code == "AA" else DispatchState.REFUSED
    await order_book.answered(request.connection, request.link, dispatches, state, _words(msa), request.received_at)
    return Reply(b"")


_ACKNOWLEDGED = AtOnce(_acknowledged_alone, _acknowledged)


# ---- what there is to say -------------------------------------------------------------------------------------------


def _dialect(driver: Driver) -> Answer | None:
    return driver.answer or DEFAULT_ANSWERS.get(driver.protocol)


Look = Callable[[routing.Query], Awaitable[Book]]


def _in_transaction(connection: Connection, link: LinkContext, now: datetime) -> Look:
    return lambda query: order_book.work_for(connection, link, query, now)


async def _answered(
    look: Look, link: LinkContext, text: bytes, decoded: DecodedMessage, first_id: str, now: datetime
) -> Answered:
    driver, encoding = link.driver, link.said_in
    dialect = _dialect(driver)
    if dialect is None:
        raise DriverError("the driver has no words for an answer")
    asked = read_queries(driver.protocol, text, encoding, decoded.queries, driver.query.specimen_id)
    texts: list[bytes] = []
    dispatches: list[tuple[UUID, ...]] = []
    looked: list[tuple[Query, Book]] = []
    notes: list[str] = []
    local = now.astimezone(ZoneInfo(link.settings.timezone))
    named = sum(len(query.specimen_ids) + len(query.ranges) for query in decoded.queries)
    if len(decoded.queries) > MOST_ASKED:  # each has an answer of its own, if only that there is nothing
        raise DriverError(f"the message has more than {MOST_ASKED} queries")
    if named > MOST_ASKED:
        log.warning("a query for too many specimens", action="query.too_large", link=link.name,
                    specimens=named, most=MOST_ASKED)  # fmt: skip
    for query, one in zip(decoded.queries, asked, strict=False):
        if query.cancels:
            continue
        book = await _looked_up(look, query, named)
        looked.append((query, book))
        missing = [Without(each.specimen_id, each.reason.value) for each in book.missing]
        own = first_id if not texts else f"{first_id}-{len(texts) + 1}"
        works = [each.work for each in book.works]
        told: set[int] = set()
        for written in write(dialect, one, works, local, own, missing, encoding, book.stale, leave_out=True):
            texts.append(written.text)
            dispatches.append(tuple(id_ for at in written.works for id_ in book.works[at].dispatches))
            told.update(written.works)
        notes += _notes(book, named)
        if left_out := [each.specimen_id for at, each in enumerate(works) if at not in told]:
            log.warning("specimens cannot be written in the analyzer's words", action="query.left_out", link=link.name,
                        specimens=len(left_out))  # fmt: skip
            notes.append(f"cannot be written for this analyzer: {', '.join(left_out)}")
    if not texts:
        raise DriverError("the driver's dialect says nothing")
    reason = "; ".join(dict.fromkeys(notes))[:_MOST_NOTE]
    return Answered(tuple(texts), tuple(dispatches), reason=reason, looked=tuple(looked))


async def _looked_up(look: Look, query: Query, named: int) -> Book:
    """The order book's answer. What cannot be a specimen's id is not looked for. `named`: by the whole message."""
    if named > MOST_ASKED:
        return Book()
    possible = tuple(one for one in query.specimen_ids if _may_be(one))
    ranges = tuple(ends for ends in query.ranges if all(map(_may_be, ends)))
    book = await look(routing.Query(possible, query.all, ranges))
    odd = [one for one in query.specimen_ids if not _may_be(one)]
    missing = (*book.missing, *(routing.Missing(one, routing.NoWork.UNKNOWN_SPECIMEN) for one in odd))
    return Book(book.works, missing, book.problems, book.stale, book.more)


def _may_be(specimen_id: str) -> bool:
    return len(specimen_id) <= MOST_ID and specimen_id.isprintable()


def _log(link: LinkContext, told: Answered) -> None:
    """Once it is certain that this is the answer."""
    for query, book in told.looked:
        reasons = Counter(one.reason.value for one in book.missing)
        telemetry.count_query(link.name, "work" if book.works else "none")
        log.info("query answered", action="query.answered", link=link.name, works=len(book.works),
                 everything=query.all, without=dict(reasons), more=book.more, stale=bool(book.stale))  # fmt: skip
        for problem in book.problems:
            log.warning("a test cannot be ordered", action="query.not_ordered", link=link.name, test=problem.location,
                        problem=problem.text)  # fmt: skip


def _notes(book: Book, named: int) -> Iterator[str]:
    """Why somebody finds less at the analyzer than was expected, for the journal."""
    if named > MOST_ASKED:
        yield f"more than {MOST_ASKED} specimens were asked for: not answered"
    for reason, ids in _by_reason(book.missing):
        yield f"{reason}: {', '.join(ids)}"
    for problem in book.problems:
        yield f"{problem.location}: {problem.text}"
    if book.more:
        yield f"there is more work than for {len(book.works)} specimens"
    if book.stale:
        yield book.stale


def why_nothing(note: str, specimen_id: str) -> str:
    """What the note of a query says of a specimen: a `NoWork`, or ""."""
    for part in note.split("; "):
        reason, _, ids = part.partition(": ")
        if reason in _REASONS and specimen_id in ids.split(", "):
            return reason
    return ""


def _by_reason(missing: Iterable[routing.Missing]) -> Sequence[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for one in missing:
        found.setdefault(one.reason.value, []).append(one.specimen_id)
    return list(found.items())
