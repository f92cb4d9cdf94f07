"""IHE LAW as its Analyzer Manager: a query is answered at once, its work goes over the connection that we make.

LAB-27 comes by one link of an analyzer and is kept in the transaction that answers it (`law_query`). The other link of
the same analyzer, the one that dials, takes it from there and says LAB-28: what there is to do at that moment, each
step by a work id that was never sent before, or that there is nothing. What it says without being asked is what the
order book owes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from interface.domain.routing import DispatchKind, DispatchState, Query
from interface.driver import law
from interface.driver.law import Control, LawDialect, Order, Parties, Step
from interface.driver.law_read import Asking, Judged, LawQuery, Place, Verdict, judge, read_answer, read_query
from interface.errors import SegmentError
from interface.flow import order_book, queries
from interface.flow.context import LinkContext
from interface.flow.order_book import BookWork
from interface.flow.queries import ANSWERED_WITHIN, MOST_ASKED
from interface.flow.requests import AtOnce, Handler, Refused, Reply, Request
from interface.flow.speech import Said, Sent, Speech, Word, control_id
from interface.settings import TransportType
from interface.store import dispatch
from interface.store import law as store
from interface.store.db import Connection
from interface.store.dispatch import DispatchRow
from interface.store.ids import uuid7
from interface.store.law import LawAsked, LawOwed, LawParties
from interface.wire import hl7, hl7_ack
from interface.wire.hl7_ack import APPLICATION_ERROR, Outcome

log = structlog.get_logger(__name__)

# What stands in a place is so for as long as its rack stays in the analyzer; an answer that comes later would order one
# patient's work on the tube of another.
PLACE_S = 60.0


# ---- LAB-27 ----------------------------------------------------------------------------------------------------------


def handler(link: LinkContext) -> Handler | None:
    """What answers a QBP^Q11 on a link whose analyzer speaks LAW; None on others."""
    return _answer if link.driver.law is not None else None


async def _answer(request: Request) -> Reply:
    """RSP^K11; what was asked for is kept for LAB-28."""
    link, dialect = request.link, _dialect(request.link)
    now = request.received_at.astimezone(ZoneInfo(link.settings.timezone))
    try:
        query = read_query(request.message)
        asked = _asked(link, query)
        if not await store.has_other_link(request.connection, link.analyzer_id, link.link_id):
            raise SegmentError(
                "no link leads to this analyzer, so that it cannot be told of work", "", APPLICATION_ERROR
            )
    except SegmentError as fault:
        said = law.refusal(request.message, fault, now, request.control_id, dialect)
        raise Refused(Reply(said, reason=f"{fault.slug}: {fault.text}")) from fault
    parties = law.parties_of(request.message)
    named = LawParties(parties.application, parties.facility, parties.peer_application, parties.peer_facility)
    await store.add(
        request.connection, link.organization_id, link.analyzer_id, link.link_id, request.message_id, asked, named
    )
    return Reply(law.response(request.message, query, now, request.control_id, dialect))


def _asked(link: LinkContext, query: LawQuery) -> tuple[LawAsked, ...]:
    """What is to be answered, each by a message of its own (LAB28-007). Raises SegmentError for what is no id."""
    place = query.place
    where = (place.rack, place.rack_position, place.tray, place.tray_position, place.location)
    if query.asking is not Asking.SPECIMEN:
        return (LawAsked(query.asking, "", *where),)
    if len(query.specimen_ids) > MOST_ASKED:  # each is told by a message of its own, one after the other
        raise SegmentError(f"more than {MOST_ASKED} specimens are asked for", "QPD^1^3", APPLICATION_ERROR)
    asked = []
    for raw in query.specimen_ids:
        read, wrong = link.driver.specimen_ids.take(raw)
        if wrong or not read:
            raise SegmentError(wrong or "no specimen is named", "QPD^1^3", hl7.REQUIRED_MISSING)
        asked.append(LawAsked(query.asking, read, *where))
    return tuple(asked)


def _dialect(link: LinkContext) -> LawDialect:
    return link.driver.law or LawDialect()


# ---- on one connection -----------------------------------------------------------------------------------------------


def handler_of_acknowledgements(link: LinkContext) -> Handler | None:
    """What hears how an analyzer took orders that it did not get as the reply alone, by an ACK: its own word for it
    (Mindray), or in the place of ORL^O34, as of what cannot be processed (HL7 v2.5.1 2.13.1)."""
    heard = queries.handler_of_acknowledgements(link)
    if heard is None:
        return None

    async def within(request: Request) -> Reply:
        reply = await heard.within(request)
        answered = await _order_answered(request) if reply.reason else reply
        return reply if answered.reason else answered

    return AtOnce(heard.alone, within)


def handler_of_answers(link: LinkContext) -> Handler | None:
    """What hears how an analyzer takes orders that went behind the reply to its query, on the connection that it made:
    ORL^O34 to the OML^O33 of a driver's `[answer]`."""
    return _order_answered if queries.handler_of_acknowledgements(link) is not None else None


async def _order_answered(request: Request) -> Reply:
    """An answer is never answered; its refusals are those of the work."""
    connection, link, now = request.connection, request.link, request.received_at
    unknown = Reply(b"", reason="it answers nothing that is known")
    try:
        answer = read_answer(request.block)
    except SegmentError as fault:
        return Reply(b"", reason=f"{fault.slug}: {fault.text}")
    if not answer.control_id:  # which stands in all that was said
        return unknown
    said = await store.said_to_queries(connection, link.link_id, answer.control_id, now - ANSWERED_WITHIN)
    found = [one for one in said if hl7.control_id(one[1]) == answer.control_id]
    if not found:
        return unknown
    sending_id, data = found[0]
    told = await dispatch.by_ids(connection, await dispatch.of_sending(connection, sending_id))
    rows = {str(row.work_id): row for row in told if row.sending_id == sending_id}  # else it was told anew since
    before = await dispatch.taken_before(connection, [row.id for row in rows.values()], sending_id)
    for judged in judge(_steps(data), answer):  # of all that it was told, though some was cancelled since
        if (row := rows.get(judged.step_id)) is None:
            continue
        state, words = _became(row, judged, again=row.id in before)
        await order_book.answered(connection, link, [row.id], state, words, now)
    return Reply(b"")


# ---- LAB-28 ----------------------------------------------------------------------------------------------------------


def speech(link: LinkContext) -> Speech | None:
    """What says LAB-28 on a link that dials an analyzer which speaks LAW; None on others."""
    dials = link.settings.transport.type is TransportType.MLLP_DIAL
    return LawSpeech() if dials and link.driver.law is not None else None


class LawSpeech:
    """What the link that dials says. See `flow.speech.Speech`."""

    async def next(self, connection: Connection, link: LinkContext, sending_id: UUID, now: datetime) -> Said | None:
        """The answer to the oldest query, else what the analyzer is owed without having asked."""
        while (asked := await store.oldest(connection, link.analyzer_id)) is not None:
            asker = link.others(asked.link_id) or link
            if asked.asked.asking == Asking.ALL and await self._spread(connection, asker, asked, now):
                continue
            said = await self._reply(connection, asker, asked, sending_id, now)
            await store.set_sending(connection, asked.id, sending_id)
            return said
        works = await order_book.owed(connection, link, now)
        if not works:
            return None
        work = works[0]
        named = await store.last_parties(connection, link.analyzer_id)
        data = law.order(
            _order(work, Place()), _parties(named), _local(link, now), control_id(sending_id), _dialect(link)
        )
        return Said(data, work.dispatches, None, True)

    async def _spread(self, connection: Connection, link: LinkContext, asked: LawOwed, now: datetime) -> bool:
        """Ask for each specimen with work in the place of asking for all; whether there is any."""
        book = await order_book.work_for(connection, link, Query(all_=True), now, renew=True)
        if not book.works:
            return False
        each = [LawAsked(Asking.OURS, one.work.specimen_id) for one in book.works]
        await store.add(
            connection, link.organization_id, link.analyzer_id, link.link_id, asked.message_id, each, asked.parties
        )
        await store.set_spread(connection, asked.id, now)
        return True

    async def _reply(
        self, connection: Connection, link: LinkContext, asked: LawOwed, sending_id: UUID, now: datetime
    ) -> Said:
        """LAB-28 for one specimen or place that was asked for (LAB27-003), or that there is nothing (LAB27-004)."""
        one = asked.asked
        place = Place(one.rack, one.rack_position, one.tray, one.tray_position, one.location)
        work = await self._work(connection, link, asked, now)
        own, at, parties = control_id(sending_id), _local(link, now), _parties(asked.parties)
        if work is None:
            data = law.nothing(one.specimen_id, place, parties, at, own, _dialect(link))
            return Said(data, (), asked.message_id, True)
        data = law.order(_order(work, place), parties, at, own, _dialect(link))
        return Said(data, work.dispatches, asked.message_id, True, until=_until(asked))

    async def _work(self, connection: Connection, link: LinkContext, asked: LawOwed, now: datetime) -> BookWork | None:
        """The work on what was asked for. Of a place only where the site says that its racks are the analyzer's
        carriers, where one specimen stands there, and in time: another's work would be done on this one."""
        one = asked.asked
        if one.asking == Asking.SPECIMEN:
            query = Query(specimen_ids=(one.specimen_id,))
        elif one.asking == Asking.OURS:
            query = Query(barcodes=(one.specimen_id,))
        elif one.asking == Asking.ALL or not link.settings.racks or ((until := _until(asked)) and now > until):
            return None
        elif one.asking == Asking.RACK:
            query = Query(places=((one.rack, one.rack_position),))
        else:
            query = Query(places=((one.tray, one.tray_position),))
        book = await order_book.work_for(connection, link, query, now, renew=True)
        return book.works[0] if len(book.works) == 1 else None

    async def replied(self, connection: Connection, link: LinkContext, sent: Sent, reply: bytes, now: datetime) -> Word:
        """ORL^O34: what the analyzer does with each step. Its accept acknowledgement, where it wants one, is ours."""
        try:
            answer = read_answer(reply)
        except SegmentError as fault:
            await store.set_told(connection, sent.id, now)
            await order_book.answered(connection, link, sent.dispatches, None, f"{fault.slug}: {fault.text}", now)
            return Word()
        if answer.busy:
            return Word(delivered=False)
        await store.set_told(connection, sent.id, now)
        if not sent.dispatches and not answer.positive:  # LAB28-008
            log.info("an analyzer does not know a specimen that it asked for", action="law.unknown", link=link.name)
        rows = {str(row.work_id): row for row in await dispatch.by_ids(connection, sent.dispatches)}
        steps = [step for step in _steps(sent.data) if step in rows]
        again = await dispatch.times_sent(connection, sent.dispatches, sent.id) > 1
        for judged in judge(steps, answer):
            row = rows[judged.step_id]
            state, words = _became(row, judged, again)
            await order_book.answered(connection, link, [row.id], state, words, now)
        return Word(answer=_acknowledgement(reply, now))

    async def undelivered(
        self, connection: Connection, link: LinkContext, sent: Sent, reason: str, given_up: bool, now: datetime
    ) -> None:
        """The query is answered no more where it is given up: its work is failed, and the analyzer may ask again."""
        if given_up:
            await store.set_told(connection, sent.id, now)


def _until(asked: LawOwed) -> datetime | None:
    """The last moment at which an answer to it may be said."""
    by_place = asked.asked.asking in (Asking.RACK, Asking.TRAY)
    return asked.asked_at + timedelta(seconds=PLACE_S) if by_place else None


def _steps(data: bytes) -> list[str]:
    """The work ids of a LAB-28 of ours, in its order."""
    return [segment.value(2) for segment in hl7.parse(data).all("OBR")]


def _became(row: DispatchRow, judged: Judged, again: bool) -> tuple[DispatchState | None, str]:
    """The state that an answer means, and the words to keep; None: it says nothing that is certain. `again`: its
    message was sent more than once, or it had taken this work by another one before.

    LAB28-006: an analyzer refuses an id that it has had before, so that its no to what was said twice may mean that it
    took the first: its answer to that one was lost, or it asks for a tube that it has asked for.
    """
    verdict, words = judged.verdict, judged.words
    if row.kind is DispatchKind.CANCEL:
        taken = {
            Verdict.CANCELLED: DispatchState.ACCEPTED,
            Verdict.NOT_CANCELLED: DispatchState.REFUSED,
            Verdict.REFUSED: DispatchState.REFUSED,
        }
        return taken.get(verdict), words
    if verdict is Verdict.REFUSED and again:
        return None, f"refused when it was sent again, and may have been taken before: {words}"
    taken = {Verdict.ACCEPTED: DispatchState.ACCEPTED, Verdict.REFUSED: DispatchState.REFUSED}
    return taken.get(verdict), words


def _order(work: BookWork, place: Place) -> Order:
    of = work.work
    steps = tuple(
        Step(one.work_id, one.code, Control.CANCEL if one.kind is DispatchKind.CANCEL else Control.NEW,
             None if one.kind is DispatchKind.CANCEL else one.dilution)
        for one in work.steps
    )  # fmt: skip
    return Order(of.specimen_id, steps, place, of.patient, of.priority, of.specimen_type, of.collected)


def _parties(named: LawParties) -> Parties:
    return Parties(named.application, named.facility, named.peer_application, named.peer_facility)


def _local(link: LinkContext, now: datetime) -> datetime:
    return now.astimezone(ZoneInfo(link.settings.timezone))


def _acknowledgement(reply: bytes, now: datetime) -> bytes | None:
    """The accept acknowledgement that the analyzer's answer asks for by its MSH-15."""
    code = hl7_ack.due(reply, Outcome.STORED).first
    if code not in hl7_ack.ACCEPTING:
        return None
    return hl7_ack.acknowledge(reply, code, control_id=control_id(uuid7()), now=now)
