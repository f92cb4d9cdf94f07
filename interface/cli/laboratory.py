"""What the commands about a laboratory's records share: which laboratory, who asks, and the way to the database."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import click

from interface.domain.permissions import Permission
from interface.domain.times import OUT_OF_RANGE, in_range
from interface.domain.views import Actor, ActorKind
from interface.errors import LaboraError

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.db import Connection, Database

ENVIRONMENT = """Environment: LABORA_ORGANIZATION, LABORA_PASSWORD (of the --as user), LABORA_TOKEN (in place of --as),
LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

organization_option = click.option(
    "--organization", envvar="LABORA_ORGANIZATION", show_envvar=True, metavar="NAME",
    help="The laboratory.  [default: the only one in the configuration]",
)  # fmt: skip
as_option = click.option(
    "--as", "username", metavar="USER", help="The Labora user who does it; the password is asked for."
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
INSTANT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"])


_OF_TODAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class _Moment(click.ParamType[datetime | time]):
    """What INSTANT reads, or the hour and minute of today, which only the laboratory's zone makes an instant."""

    name = "moment"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | time:
        if not isinstance(value, str):
            return cast("datetime | time", value)
        text = value.strip()
        if _OF_TODAY.fullmatch(text):
            return time.fromisoformat(text)
        with suppress(click.BadParameter):
            return INSTANT.convert(text.replace(" ", "T", 1), param, ctx)
        shown = "2026-11-27, 2026-11-27T08:30, 2026-11-27T08:30+07:00 or 08:30"
        raise click.BadParameter(f"{value!r} is no time; say it as {shown}", ctx, param)


MOMENT = _Moment()


def instant_of(said: datetime | time, zone: tzinfo, now: datetime) -> datetime:
    """What MOMENT read: a time of day is today's in the zone, a date or time without an offset is UTC.

    Raises UsageError for what is still to come.
    """
    if isinstance(said, time):
        said = datetime.combine(now.astimezone(zone).date(), said, zone)
    at = aware(said) or said
    if at > now:
        raise click.UsageError(f"{at.isoformat(timespec='minutes')} is still to come")
    return at


def laboratory_options(command: _Command) -> _Command:
    """`--organization`, `--as` and `--json`."""
    return organization_option(as_option(json_option(command)))


def aware(instant: datetime | None) -> datetime | None:
    """What INSTANT read; without an offset it is UTC. Raises UsageError for what UTC has not."""
    if instant is not None and instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    if instant is not None and not in_range(instant):
        raise click.UsageError(f"{instant.isoformat(timespec='minutes')} {OUT_OF_RANGE}")
    return instant


class CommandError(LaboraError):
    """A command that cannot be carried out, in one sentence."""

    slug = "command"


@dataclass(frozen=True, slots=True)
class Desk:
    """One laboratory's database and the one who works at it. `token`: by which they are known, if by one."""

    database: Database
    actor: Actor
    token: str = field(default="", repr=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Raises CommandError where who works here does not any more: a command may have waited long for an answer, or
        goes on for hours, and what is asked over HTTP is asked by a token that is looked up each time."""
        from interface.flow.actors import is_gone

        async with self.database.transaction(self.actor.organization_id) as connection:
            if self.actor.id is not None and await is_gone(connection, self.actor, self.token):
                ended = "LABORA_TOKEN is valid no more" if self.token else "your account has been disabled"
                raise CommandError(f"{ended}; nothing more is done")
            yield connection

    async def still(self) -> None:
        """The same, before something that has transactions of its own."""
        async with self.transaction():
            pass

    async def note_read(
        self,
        connection: Connection,
        action: str,
        entity_kind: str,
        entity_id: UUID | None = None,
        patients: Iterable[UUID | None] = (),
        detail: Mapping[str, str] | None = None,
    ) -> None:
        """The audit rows of a read: one of what was asked, and one per patient whose data is shown."""
        from interface.store import audit

        await audit.record(connection, self.actor, action, entity_kind, entity_id, detail)
        for patient_id in dict.fromkeys(patients):
            if patient_id is not None:
                seen = {"by": f"{action} {entity_kind}"}
                await audit.record(connection, self.actor, "disclose", "patient", patient_id, seen)

    def require(self, permission: Permission) -> None:
        """Raise unless the user has the permission. Who asks without a name has got at the database itself."""
        if self.actor.kind is not ActorKind.SETUP and permission not in self.actor.scopes:
            raise CommandError(f"this needs the permission {permission}")


@asynccontextmanager
async def desk(
    settings: Settings, organization: str | None, username: str | None, *, named: bool
) -> AsyncIterator[Desk]:
    """Open the database for one command.

    `named`: only for a Labora user, by `--as` and a password or by LABORA_TOKEN. Else who gives no name is audited as
    `setup` "command line": whoever can run this on the machine reaches the database without us.
    """
    from interface.flow.actors import authenticate, find_organization
    from interface.store.embedded import opened_database

    name = organization or only_organization(settings)
    token = os.environ.get("LABORA_TOKEN", "")
    if named and not (username or token):
        raise click.UsageError("say who does it, with --as USER or LABORA_TOKEN")
    password = "" if token or not username else password_of(username)
    async with opened_database(settings) as database:
        organization_id = await find_organization(database, name)
        if token:
            yield Desk(database, await _token_actor(database, token, username, name), token)
        elif username:
            yield Desk(database, await authenticate(database, name, username, password))
        else:
            yield Desk(database, Actor(ActorKind.SETUP, None, "command line", organization_id))


def only_organization(settings: Settings) -> str:
    """The one laboratory of the configuration. Raises UsageError when it has another number of them."""
    names = settings.laboratories
    if len(names) != 1:
        known = f" ({', '.join(names)})" if names else ""
        raise click.UsageError(f"say which laboratory, with --organization{known}")
    return names[0]


def password_of(username: str) -> str:
    """LABORA_PASSWORD, or what the person types."""
    given = os.environ.get("LABORA_PASSWORD")
    return given if given is not None else str(click.prompt(f"Password of {username}", hide_input=True, err=True))


async def _token_actor(database: Database, token: str, username: str | None, organization: str) -> Actor:
    from interface.flow.actors import find_organization, token_actor

    actor = await token_actor(database, token)
    if actor is None or actor.kind is not ActorKind.USER:
        raise CommandError("LABORA_TOKEN is not a user's valid token")
    if username and username != actor.name:
        raise CommandError(f"LABORA_TOKEN is not a token of {username}")
    if await find_organization(database, organization) != actor.organization_id:
        raise CommandError("LABORA_TOKEN is a token of another laboratory")
    return actor
