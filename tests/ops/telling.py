"""A laboratory whose alerts are told to a real mail server and a real web server, with a clock that is set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.domain.roster import Contact, Person, Roster, Shift, Step
from interface.flow import alerting
from interface.ops.alert_sender import AlertSender
from interface.ops.alert_teller import tell
from interface.settings import AlertSettings, ChannelSettings, ChannelType
from interface.store.alerts import AlertEvent, AlertView
from interface.store.db import Connection, Database
from tests.conftest import Organization
from tests.ops.receivers import MailServer, WebServer
from tests.records import user

HEMA = Subject("link", "hema-1")
ANNA = Person("anna", (Contact("mail", "anna@lab.example"), Contact("sms", "+49 1", Severity.URGENT)))
CHIEF = Person("chief", (Contact("mail", "chief@lab.example"),))
ROSTER = Roster(
    people={"anna": ANNA, "chief": CHIEF}, shifts=(Shift("day", ("anna",)),), steps=(Step(900, ("chief",)),)
)


@dataclass
class Telling:
    database: Database
    organization: Organization
    post: MailServer
    web: WebServer
    roster: Roster = ROSTER
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.settings = AlertSettings((self.post.channel(), self.web.channel(ChannelType.SMS, "sms", body="{text}")))
        self.sender = self.new_sender()

    def new_sender(self) -> AlertSender:
        """As of another process."""
        return AlertSender(self.database, lambda: self.channels, lambda: self.now)

    @property
    def channels(self) -> dict[str, ChannelSettings]:
        return {channel.id: channel for channel in self.settings.channels}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.database.transaction(self.organization.id) as connection:
            yield connection

    async def enter(self, kind: AlertKind, subject: Subject = HEMA, note: str = "", **options: Any) -> UUID:
        async with self.transaction() as connection:
            id = await alerting.enter(connection, self.organization.id, kind, subject, note, at=self.now, **options)
        assert id is not None
        return id

    async def recover(self, kind: AlertKind, subject: Subject = HEMA, note: str = "") -> None:
        async with self.transaction() as connection:
            await alerting.recover(connection, self.organization.id, kind, subject, note, at=self.now)

    async def tell(self, after_s: float = 0.0) -> int:
        """One pass, so long from now."""
        self.now += timedelta(seconds=after_s)
        async with self.transaction() as connection:
            return await tell(
                connection, self.organization.id, self.organization.name, self.settings, self.roster, self.now
            )

    async def send(self, after_s: float = 0.0) -> int:
        """Until nothing is due."""
        self.now += timedelta(seconds=after_s)
        sent = 0
        while done := await self.sender.serve(self.organization.id):
            sent += done
        return sent

    async def told(self, after_s: float = 0.0) -> list[tuple[str, str]]:
        """To whom what was said in this pass, without the laboratory's name."""
        before = len(self.post.got), len(self.web.got)
        await self.tell(after_s)
        await self.send()
        prefix = f"[{self.organization.name}] "
        found = [(str(one["To"]), str(one["Subject"]).strip()) for one in self.post.got[before[0] :]]
        found += [("sms", one.body.decode()) for one in self.web.got[before[1] :]]
        assert all(title.startswith(prefix) for _, title in found), found
        return sorted((to, title.removeprefix(prefix)) for to, title in found)

    async def alert(self, id: UUID) -> tuple[AlertView, Sequence[AlertEvent]]:
        async with self.transaction() as connection:
            return await alerting.shown(connection, user(self.organization.id), id)
