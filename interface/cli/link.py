"""`labora link`: the links that are configured, known to the database, and up; and what went over them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import (
    ENVIRONMENT,
    CommandError,
    json_option,
    laboratory_options,
)
from interface.cli.link_doctor import doctor
from interface.cli.link_test import test
from interface.cli.link_wire import wire
from interface.cli.running import Daemon, known_links

if TYPE_CHECKING:
    from interface.settings import Settings

STATUS_COLUMNS = ("name", "role", "driver", "transport", "listen", "up", "connections", "leniencies", "text")
_KNOWN = """
select l.name, l.driver_revision, a.name as analyzer,
       (select max(m.received_at) from lab.message m where m.link_id = l.id) as last_message_at
from lab.link l join lab.analyzer a on a.id = l.analyzer_id
"""


@dataclass(frozen=True, slots=True)
class LinkLine:
    """One link. `configured`: it is in the configuration; what it was in an earlier one is kept by the database."""

    id: str
    organization: str
    role: str
    driver: str
    driver_revision: str  # that it runs; "" before the daemon has first run with it
    transport: str
    listen: str
    analyzer: str
    last_message_at: datetime | None
    configured: bool
    owner: str = ""  # the daemon that has it; "": none at the moment
    owned_since: datetime | None = None
    offered_revision: str = ""  # what the driver's folder has; `labora driver diff` says what is other in it


@click.group()
def link() -> None:
    """List links and their state, look at the lines they are on."""


link.add_command(doctor)
link.add_command(test)
link.add_command(wire)


@link.command("list", epilog=ENVIRONMENT)
@json_option
@pass_context
def list_links(context: Context, as_json: bool) -> None:
    """List the links of the configuration, and those that the database remembers; whose each is, and since when."""
    found = asyncio.run(_list(context.settings))
    emit(found, as_json)
    if not found:
        click.echo("no links", err=True)


@link.command("ports")
@json_option
def ports(as_json: bool) -> None:
    """List this machine's serial ports, by the names to configure."""
    from interface.link.serial import list_ports

    found = list_ports()
    emit(found, as_json)
    if not found:
        click.echo("no serial ports", err=True)


@link.command("status", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def status(context: Context, organization: str | None, username: str | None, as_json: bool) -> int:
    """Ask the running daemon how it is, and for a user (--as) how each link is. Status 1 when it is not ready."""
    settings = context.settings
    daemon = Daemon(settings.api)
    answer = daemon.ask("GET", "/ready")
    if not isinstance(answer.get("ready"), bool):
        raise CommandError(f"what answers on {settings.api.listen} is not Labora's daemon")
    links = known_links(daemon, settings, organization, username)
    if as_json:
        emit(answer if links is None else {**answer, "links": links}, True)
    elif links is not None:
        emit([_in_words(link) for link in links], False, STATUS_COLUMNS)
    database, all_links = ("ready" if answer.get(key) is True else "not ready" for key in ("database", "links"))
    words = answer.get("text") or ("" if links is not None else "--as USER shows each link")
    click.echo(f"database {database}, links {all_links}" + (f": {words}" if words else ""), err=True)
    return 0 if answer["ready"] else EXIT_FAILED


def _in_words(link: object) -> object:
    """The counts of leniencies as one cell of a table."""
    if not isinstance(link, dict) or not isinstance(link.get("leniencies"), dict):
        return link
    return link | {"leniencies": ", ".join(f"{name} {count}" for name, count in link["leniencies"].items())}


async def _list(settings: Settings) -> list[LinkLine]:
    from interface.driver import registry
    from interface.store import leases
    from interface.store.embedded import opened_database

    lines: list[LinkLine] = []
    async with opened_database(settings) as database:
        for organization in dict.fromkeys(one.organization for one in settings.links):
            organization_id = await database.find_organization(organization)
            rows, owners = [], dict[str, leases.Owner]()
            if organization_id is not None:
                async with database.transaction(organization_id) as connection:
                    rows = await connection.fetch(_KNOWN + " order by l.name")
                    owners = {one.link: one for one in await leases.owners(connection)}
            known = {row["name"]: row for row in rows}
            for one in settings.links:
                if one.organization != organization:
                    continue
                row, owner = known.pop(one.id, None), owners.get(one.id)
                lines.append(
                    LinkLine(
                        one.id, organization, one.role.value, one.driver, row["driver_revision"] if row else "",
                        one.transport.type.value, str(one.transport.endpoint), one.analyzer or one.id,
                        row["last_message_at"] if row else None, True, owner.daemon if owner else "",
                        owner.since if owner else None,
                        registry.load(one.driver, settings.driver_path).revision,
                    )
                )  # fmt: skip
            for name, row in known.items():
                owner = owners.get(name)
                lines.append(
                    LinkLine(
                        name, organization, "", "", row["driver_revision"], "", "", row["analyzer"],
                        row["last_message_at"], False, owner.daemon if owner else "", owner.since if owner else None,
                    )
                )  # fmt: skip
    return lines
