"""Tells wards and practitioners of their orders, as the roster's `[[notice]]` has it: each order's end once.

A notice says that there is something to look at, and by `notice_content` (of a critical result `critical_content`)
whose: never a name, a value or an identifier of the patient, and in its title nothing at all. It is not how a critical
result is told: that is a call, which is read back (docs/review.md).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from interface.domain.alerts import Severity
from interface.domain.roster import NoticeKind, Roster
from interface.flow.alerting import watch_actor
from interface.ops.alert_watch import note_of
from interface.settings import AlertSettings
from interface.store import alert_messages, notices
from interface.store.alert_messages import NewMessage, Receiver
from interface.store.db import Connection
from interface.store.notices import Happened

_TITLES: Final = {
    NoticeKind.FINAL: "An order is reported",
    NoticeKind.CANCELLED: "An order was cancelled",
    NoticeKind.REJECTED: "A specimen was rejected",
    NoticeKind.CRITICAL: "URGENT: please call the laboratory",
}
_TEXTS: Final = {
    NoticeKind.FINAL: "All results of an order are there.",
    NoticeKind.CANCELLED: "An order was cancelled: nothing more is reported of it.",
    NoticeKind.REJECTED: "The laboratory cannot use a specimen. A new one may be needed: please look at the order.",
    NoticeKind.CRITICAL: "There is a result that the laboratory must tell you. Please call; do not wait to be called.",
}


async def tell_of_orders(
    connection: Connection, organization_id: UUID, laboratory: str, alerts: AlertSettings, roster: Roster, now: datetime
) -> int:
    """One pass, in the caller's transaction; returns how many messages were made."""
    await _put_right(connection, laboratory, roster, now)
    if not roster.wishes:
        await notices.nobody_asks(connection)
        return 0
    found = await notices.happened(connection, organization_id)
    made = [message for one in found for message in _messages(laboratory, alerts, roster, one)]
    await alert_messages.insert(connection, watch_actor(organization_id), made, now)
    return len(made)


async def _put_right(connection: Connection, laboratory: str, roster: Roster, now: datetime) -> None:
    """What waits to be told goes to the contacts of now, to each once, and to nobody who is none any more."""
    for former in await alert_messages.waiting_notices(connection):
        known = [
            Receiver(contact.channel, former.person, contact.to)
            for wish in roster.wishes
            if (wish.ward or wish.practitioner) == former.person and wish.organization in ("", laboratory)
            for contact in wish.contacts
        ]
        if former not in known:
            alike = sorted(known, key=lambda one: one.channel != former.channel)
            await alert_messages.readdress(connection, former, alike, now)


def _messages(laboratory: str, alerts: AlertSettings, roster: Roster, one: Happened) -> list[NewMessage]:
    critical = one.what is NoticeKind.CRITICAL
    severity = Severity.URGENT if critical else Severity.NOTICE
    content = alerts.critical_content if critical else alerts.notice_content
    note = note_of(content, one.order_number, ", ".join(one.tests))
    body = _TEXTS[one.what] + (f"\n\n{note[:1].upper()}{note[1:]}" if note else "")
    title = f"[{laboratory}] {_TITLES[one.what]}"
    receivers = {
        Receiver(contact.channel, wish.ward or wish.practitioner, contact.to): None
        for wish in roster.wishes
        if any(wish.of(laboratory, ward, practitioners, one.what) for ward, practitioners in one.asked)
        for contact in wish.contacts
        if severity.rank >= contact.least.rank
    }
    return [NewMessage(receiver, "notice", severity, title, body) for receiver in receivers]
