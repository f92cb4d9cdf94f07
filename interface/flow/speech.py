"""What a link says without being asked: who writes its messages, and what an answer to them means.

`flow.outgoing` has the order, the transactions and the repetitions; a `Speech` has the words of one dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from interface.flow.context import LinkContext
from interface.store.db import Connection


@dataclass(frozen=True, slots=True)
class Said:
    """One message to be sent that is not recorded yet, without envelope. `dispatches`: the work it speaks of.

    `query_id`: the message that asked for it. `expects_reply`: HL7, see `link.intake.Sending`. `until`: after that it
    is not said, nor said again: it is given up.
    """

    data: bytes
    dispatches: tuple[UUID, ...] = ()
    query_id: UUID | None = None
    expects_reply: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was recorded, and may have been sent already."""

    id: UUID
    data: bytes
    dispatches: tuple[UUID, ...] = ()
    query_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What a reply came to. Not `delivered`: the same message is sent again, which counts as an attempt.

    `answer`: what the reply itself wants to be answered, unframed.
    """

    delivered: bool = True
    answer: bytes | None = None


class Speech(Protocol):
    """One link's words. Calls come one after the other, each in the caller's transaction."""

    async def next(self, connection: Connection, link: LinkContext, sending_id: UUID, now: datetime) -> Said | None:
        """What is to be said next; None: nothing. It is recorded in the same transaction.

        Its control id is `control_id(sending_id)`, so that a repetition has the same.
        """
        ...

    async def replied(self, connection: Connection, link: LinkContext, sent: Sent, reply: bytes, now: datetime) -> Word:
        """The reply to `sent`: says of each piece of work what became of it (`order_book.answered`)."""
        ...

    async def undelivered(
        self, connection: Connection, link: LinkContext, sent: Sent, reason: str, given_up: bool, now: datetime
    ) -> None:
        """It did not get there. What it spoke of stays sent, or has been marked as failed where it is given up."""
        ...


def control_id(identifier: UUID) -> str:
    """MSH-10 of our own messages: at most 20 characters (HL7 v2.5.1 2.14.9.10), the parts of a UUIDv7 that count up."""
    return f"{identifier.int >> 80:x}{identifier.int >> 32 & 0x3FFF_FFFF:08x}"
