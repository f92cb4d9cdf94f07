"""Work that an analyzer is told without asking, by its driver's `[download]`: one message for each specimen.

Where the analyzer asks for its work it is told only what is to be done no more. HL7 analyzers answer each message; of
the others, to have taken the frames is all that they say.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from interface.domain.model import Protocol
from interface.domain.routing import DispatchKind, DispatchState
from interface.driver.dialogue import Line
from interface.driver.download import Download, download, download_of
from interface.driver.law_read import read_answer
from interface.driver.manifest import Driver
from interface.errors import DriverError, SegmentError
from interface.flow import order_book
from interface.flow.context import LinkContext
from interface.flow.order_book import BookWork
from interface.flow.speech import Said, Sent, Speech, Word, control_id
from interface.settings import LinkRole, TransportType
from interface.store import dispatch
from interface.store.db import Connection
from interface.wire import hl7, hl7_reply

log = structlog.get_logger(__name__)

ITEMS_AT_ONCE = 50  # looked at for one message, whose specimen is the first one's
_POSITIVE = frozenset({"AA", "CA"})
_UNABLE = frozenset({"UA", "UC", "UD", "UF", "UH", "UM", "UR", "UX"})  # HL7 table 0119: unable to accept, cancel, …
_AGAIN = frozenset({"CE"})  # HL7 table 0008: it could not be kept, not: it will not be done


class Downloads:
    """`flow.speech.Speech` in a driver's dialect."""

    def __init__(self, dialect: Download) -> None:
        self._dialect = dialect

    async def next(self, connection: Connection, link: LinkContext, sending_id: UUID, now: datetime) -> Said | None:
        """See `Speech`. What cannot be written is failed work, and the next is looked at."""
        works = await order_book.owed(connection, link, now, most=ITEMS_AT_ONCE)
        for owed in works:
            work = await order_book.taken_back(connection, link, owed, now) if owed.cancels else owed
            if work is None:
                continue
            try:
                text = self._written(link, work, sending_id, now)
            except DriverError as error:
                log.error("work cannot be said", action="download.fault", link=link.name, error=error)
                await order_book.answered(
                    connection, link, work.dispatches, DispatchState.FAILED, "it cannot be written", now
                )
                continue
            if text is not None:
                return Said(text, work.dispatches, expects_reply=link.driver.protocol is Protocol.HL7)
        return None

    def _written(self, link: LinkContext, work: BookWork, sending_id: UUID, now: datetime) -> bytes | None:
        lines = self._lines(work)
        if not lines:
            raise DriverError("its dialect has no word for it")
        local = now.astimezone(ZoneInfo(link.settings.timezone))
        text = download(link.driver, lines, work.work, local, control_id(sending_id), link.said_in)
        if text is None:
            raise DriverError("its dialect has no word for the specimen's type")
        return text

    def _lines(self, work: BookWork) -> tuple[Line, ...]:
        if work.cancels:
            return self._dialect.cancel
        again = all(step.kind in (DispatchKind.RERUN, DispatchKind.DILUTION) for step in work.steps)
        return self._dialect.again if again else self._dialect.new

    async def replied(self, connection: Connection, link: LinkContext, sent: Sent, reply: bytes, now: datetime) -> Word:
        """See `Speech`. The words of a refusal may name a patient: its codes are kept."""
        found = hl7_reply.verdict(reply)
        code = found.code if found is not None else ""
        if code in _AGAIN:
            return Word(delivered=False)
        if code not in _POSITIVE:
            state, words = DispatchState.REFUSED, _said(code, reply)
            await order_book.answered(connection, link, sent.dispatches, state, words, now)
            return Word()
        unable = _unable(reply)
        rows = {str(row.work_id): row.id for row in await dispatch.by_ids(connection, sent.dispatches)}
        whose = rows.keys() if unable.keys() - rows.keys() else unable.keys()  # all, where nobody knows of which
        refused, words = [rows[work_id] for work_id in whose], " ".join([code, *sorted(set(unable.values()))])
        taken = [one for one in sent.dispatches if one not in refused]
        await order_book.answered(connection, link, refused, DispatchState.REFUSED, words, now)
        await order_book.answered(connection, link, taken, DispatchState.ACCEPTED, "", now)
        return Word()

    async def undelivered(
        self, connection: Connection, link: LinkContext, sent: Sent, reason: str, given_up: bool, now: datetime
    ) -> None:
        """See `Speech`. There is nothing beyond the order book that would have to know."""


def _unable(reply: bytes) -> dict[str, str]:
    """What an analyzer is not able to do of a message that it has understood: ORC-1, by ORC-2 or OBR-2, "" where it
    names none."""
    try:
        said = read_answer(reply).said
    except SegmentError:  # it has no end; MSA-1 stands
        return {}
    return {one.step_id: one.control for one in said if one.control in _UNABLE}


def _said(code: str, reply: bytes) -> str:
    """MSA-1, and the codes of the errors: ERR-3, before version 2.5 in ERR-1. Of a reply without end MSA-1 alone."""
    if not hl7_reply.readable(reply):
        return code
    try:
        errors = [one.value(3) or one.value(1, 4) for one in hl7.parse(reply).segments if one.id == "ERR"]
    except SegmentError:
        errors = []
    return " ".join([code, *(error for error in errors if error.isascii() and error.isalnum())])


def dialect_of(driver: Driver, transport: TransportType) -> Download | None:
    """How the analyzer can be told of its work over such a link; None where it cannot be."""
    dialect = download_of(driver)
    if dialect is None or transport is TransportType.FOLDER:
        return None
    if transport is TransportType.MLLP_LISTEN and not dialect.same_connection:
        return None
    return dialect


def downloads(link: LinkContext) -> Speech | None:
    """For `flow.speeches`. An analyzer that asks is told of what is taken back only where its own driver says how."""
    if link.settings.role is not LinkRole.ANALYZER:
        return None
    dialect = dialect_of(link.driver, link.settings.transport.type)
    if dialect is None or not (link.settings.download or (link.driver.download and dialect.cancel)):
        return None
    return Downloads(dialect)
