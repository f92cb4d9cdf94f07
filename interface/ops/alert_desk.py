"""Alerts while the database does not take them: kept here and in a file, told directly, stored when it does.

Told once on entry and once on recovery, whichever of both the database was there for: what was told directly is stored
with who was told, so that the usual way knows whom to tell that it is over. The file (`alerts-unstored.json` in the
state directory) is for a daemon that is killed meanwhile; where it cannot be written (a full disk) memory is all there
is.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from interface.domain.alert_words import Line
from interface.domain.alerts import SEVERITY, AlertKind, Phase, Severity, Subject
from interface.domain.roster import Roster
from interface.errors import DeliveryError, DeliveryTransient
from interface.flow import alerting
from interface.ops.alert_sender import LONGEST, wait_s
from interface.ops.alert_teller import Lines, address, messages_of
from interface.ops.channels import Outgoing, send
from interface.render.json import dumps
from interface.settings import ChannelSettings
from interface.store import alert_messages as rows
from interface.store import alerts as store
from interface.store.alert_messages import NewMessage, Receiver
from interface.store.db import Connection
from interface.store.ids import uuid7

FILE = "alerts-unstored.json"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Unstored:
    """An alert the database does not know. `told`: who was told of each phase, by which message."""

    organization_id: UUID
    kind: AlertKind
    subject: Subject
    note: str
    entered_at: datetime
    recovered_at: datetime | None = None
    told: list[UUID] = field(default_factory=list)
    recovery_told: list[UUID] = field(default_factory=list)
    step: int = 0

    @property
    def key(self) -> tuple[UUID, AlertKind, Subject]:
        return self.organization_id, self.kind, self.subject

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.kind]


@dataclass(slots=True)
class Direct:
    """A message that goes out without a row. The first organization it speaks of stores it."""

    id: UUID
    receiver: Receiver
    about: str
    severity: Severity
    title: str
    body: str
    due_at: datetime
    attempts: int = 0
    sent_at: datetime | None = None


class AlertDesk:
    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.alerts: dict[tuple[UUID, AlertKind, Subject], Unstored] = {}
        self.messages: dict[UUID, Direct] = {}
        self._load()

    def settle(
        self, organization_id: UUID, kind: AlertKind, found: Mapping[Subject, str], standing: set[Subject], at: datetime
    ) -> None:
        """As `flow.alerting.settle`, of what cannot be stored. `standing`: what the database knew to stand already."""
        before = len(self.alerts)
        for subject, note in found.items():
            key = organization_id, kind, subject
            there = self.alerts.get(key)
            if there is not None:
                there.recovered_at = None if not there.recovery_told else there.recovered_at
            elif subject not in standing:
                self.alerts[key] = Unstored(organization_id, kind, subject, note, at)
        changed = before != len(self.alerts)
        for one in list(self.alerts.values()):
            if (one.organization_id, one.kind) == (organization_id, kind) and one.subject not in found:
                changed |= one.recovered_at is None
                one.recovered_at = one.recovered_at or at
        if changed:
            self.save()

    def holds(self, organization_id: UUID) -> set[tuple[AlertKind, Subject]]:
        """What is told from here, and not by what the database has of it."""
        return {(kind, subject) for of, kind, subject in self.alerts if of == organization_id}

    async def tell(
        self, channels: Mapping[str, ChannelSettings], names: Mapping[UUID, str], roster: Roster, now: datetime
    ) -> None:
        """Tell directly what was not told, one message for each person and channel, and try again what failed."""
        self._compose(names, roster, now)
        for one in [one for one in self.messages.values() if one.sent_at is None and _due(one.due_at, now)]:
            one.attempts += 1
            try:
                channel = channels.get(one.receiver.channel)
                if channel is None:
                    raise DeliveryTransient(f"there is no channel {one.receiver.channel}")
                await send(channel, Outgoing(one.id, one.receiver.address, one.title, one.body, one.severity))
            except DeliveryError as error:
                one.due_at = now + timedelta(seconds=wait_s(one.attempts))
                log.warning("alert not told", action="alert.wait", channel=one.receiver.channel, error=error.slug,
                            attempts=one.attempts)  # fmt: skip
            else:
                one.sent_at = now
                log.info("alert told without the database", action="alert.direct", channel=one.receiver.channel)
            self.save()

    def _compose(self, names: Mapping[UUID, str], roster: Roster, now: datetime) -> None:
        fresh: dict[str, list[tuple[Unstored, Phase]]] = defaultdict(list)
        for one in self.alerts.values():
            name = names.get(one.organization_id, "")
            if one.recovered_at is None and not one.told:
                fresh[name].append((one, Phase.ENTERED))
            elif one.recovered_at is not None and one.told and not one.recovery_told:
                fresh[name].append((one, Phase.RECOVERED))
        for name, units in fresh.items():
            lines: Lines = defaultdict(list)
            of: dict[Line, tuple[Unstored, Phase]] = {}
            for one, phase in units:
                over = phase is Phase.RECOVERED
                line = Line(phase, one.kind.value, one.subject, one.severity, "" if over else one.note, one.entered_at,
                            one.recovered_at if over else None)  # fmt: skip
                of[line] = one, phase
                if phase is Phase.ENTERED:
                    one.step, people = roster.first_told(name, one.kind, one.severity, now)
                    address(lines, people, line)
                else:
                    for id in one.told:
                        lines[self.messages[id].receiver].append(line)
            for made in messages_of(name, lines, roster):
                direct = Direct(uuid7(), made.receiver, made.about, made.severity, made.title, made.body, now)
                self.messages[direct.id] = direct
                for line in lines[made.receiver]:
                    one, phase = of[line]
                    (one.told if phase is Phase.ENTERED else one.recovery_told).append(direct.id)
            if lines:
                self.save()

    async def store(self, connection: Connection, organization_id: UUID, now: datetime) -> list[Unstored]:
        """Write what is here of one organization, with who was told, in the caller's transaction; `forget` what it
        returns once that is committed."""
        mine = [one for one in self.alerts.values() if one.organization_id == organization_id]
        by_message: dict[UUID, list[tuple[UUID, str]]] = defaultdict(list)
        over: list[UUID] = []
        for one in mine:
            id = await alerting.enter(
                connection, organization_id, one.kind, one.subject, one.note, at=one.entered_at
            ) or await store.standing_id(connection, one.kind, one.subject)
            if id is None:
                continue
            for message_id in one.told:
                by_message[message_id].append((id, Phase.ENTERED.value))
            if one.told:
                await rows.note_told(connection, {id: one.step}, now)
            if one.recovered_at is not None:
                await alerting.recover(connection, organization_id, one.kind, one.subject, at=one.recovered_at)
                for message_id in one.recovery_told:
                    by_message[message_id].append((id, Phase.RECOVERED.value))
                if one.recovery_told:
                    over.append(id)
        made = [self._new(message_id, told) for message_id, told in by_message.items()]
        await rows.insert(connection, alerting.watch_actor(organization_id), made, now)
        if over:
            await rows.note_recovery_told(connection, over, now)
        return mine

    def _new(self, id: UUID, told: Sequence[tuple[UUID, str]]) -> NewMessage:
        one = self.messages[id]
        return NewMessage(one.receiver, one.about, one.severity, one.title, one.body, tuple(told), id, one.sent_at)

    def forget(self, stored: Sequence[Unstored]) -> None:
        for one in stored:
            self.alerts.pop(one.key, None)
        used = {id for one in self.alerts.values() for id in (*one.told, *one.recovery_told)}
        self.messages = {id: one for id, one in self.messages.items() if id in used}
        if stored:
            self.save()

    # ---- the file ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        try:
            if not self.alerts:
                self._path.unlink(missing_ok=True)
                return
            content = {
                "alerts": [asdict(one) for one in self.alerts.values()],
                "messages": [asdict(one) for one in self.messages.values()],
            }
            beside = self._path.with_suffix(".new")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(dumps(content))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("alerts are kept in memory only", action="alert.unstored", error=type(error).__name__)

    def _load(self) -> None:
        try:
            content = orjson.loads(self._path.read_bytes())
            alerts = [_unstored(one) for one in content["alerts"]]
            messages = [_direct(one) for one in content["messages"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("unstored alerts cannot be read", action="alert.unstored", error=type(error).__name__)
            return
        self.alerts = {one.key: one for one in alerts}
        self.messages = {one.id: one for one in messages}


def _due(at: datetime, now: datetime) -> bool:
    return at <= now or at > now + LONGEST  # by a clock that has been put back since


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _unstored(of: dict[str, Any]) -> Unstored:
    return Unstored(
        UUID(of["organization_id"]), AlertKind(of["kind"]), Subject(**of["subject"]), of["note"],
        datetime.fromisoformat(of["entered_at"]), _at(of["recovered_at"]), [UUID(id) for id in of["told"]],
        [UUID(id) for id in of["recovery_told"]], of["step"],
    )  # fmt: skip


def _direct(of: dict[str, Any]) -> Direct:
    return Direct(
        UUID(of["id"]), Receiver(**of["receiver"]), of["about"], Severity(of["severity"]), of["title"], of["body"],
        datetime.fromisoformat(of["due_at"]), of["attempts"], _at(of["sent_at"]),
    )  # fmt: skip
