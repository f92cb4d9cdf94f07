"""`labora link`: the links that are configured, known to the database, and up."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, json_option

if TYPE_CHECKING:
    from interface.settings import Address, Settings

ASK_WAIT_S = 5.0
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
    driver_revision: str  # "" before the daemon has first run with it
    transport: str
    listen: str
    analyzer: str
    last_message_at: datetime | None
    configured: bool


@click.group()
def link() -> None:
    """List links and their state."""


@link.command("list", epilog=ENVIRONMENT)
@json_option
@pass_context
def list_links(context: Context, as_json: bool) -> None:
    """List the links of the configuration, and those that the database remembers."""
    found = asyncio.run(_list(context.settings))
    emit(found, as_json)
    if not found:
        click.echo("no links", err=True)


@link.command("status", epilog=ENVIRONMENT)
@json_option
@pass_context
def status(context: Context, as_json: bool) -> int:
    """Ask the running daemon how its links are. Status 1 when it is not ready or does not run."""
    ready, answer = _ask(context.settings.api.listen)
    if as_json:
        emit(answer, True)
    else:
        links = answer.get("links")
        rows = [{"id": name, "state": state} for name, state in links.items()] if isinstance(links, dict) else []
        emit(rows, False)
        click.echo(f"database {answer.get('database')}; {answer.get('text') or 'ready'}", err=True)
    return 0 if ready else EXIT_FAILED


def _ask(address: Address) -> tuple[bool, dict[str, object]]:
    """What the daemon says of itself at /ready. Raises CommandError when none answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104  asked, not bound
    connection = http.client.HTTPConnection(host, address.port, timeout=ASK_WAIT_S)
    try:
        connection.request("GET", "/ready", headers={"Accept": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except ConnectionRefusedError:
        raise CommandError(f"the daemon does not run: nothing listens on {address}") from None
    except TimeoutError:
        raise CommandError(f"the daemon does not answer on {address}") from None
    except (OSError, http.client.HTTPException, ValueError):
        raise CommandError(f"what answers on {address} is not Labora's daemon") from None
    finally:
        connection.close()
    if not isinstance(answer, dict) or "ready" not in answer:
        raise CommandError(f"what answers on {address} is not Labora's daemon")
    return answer["ready"] is True, answer


async def _list(settings: Settings) -> list[LinkLine]:
    from interface.store.embedded import opened_database

    lines: list[LinkLine] = []
    async with opened_database(settings) as database:
        for organization in dict.fromkeys(one.organization for one in settings.links):
            organization_id = await database.find_organization(organization)
            rows = []
            if organization_id is not None:
                async with database.transaction(organization_id) as connection:
                    rows = await connection.fetch(_KNOWN + " order by l.name")
            known = {row["name"]: row for row in rows}
            for one in settings.links:
                if one.organization != organization:
                    continue
                row = known.pop(one.id, None)
                lines.append(
                    LinkLine(
                        one.id, organization, one.role.value, one.driver, row["driver_revision"] if row else "",
                        one.transport.type.value, str(one.transport.listen), one.analyzer or one.id,
                        row["last_message_at"] if row else None, True,
                    )
                )  # fmt: skip
            for name, row in known.items():
                lines.append(
                    LinkLine(
                        name, organization, "", "", row["driver_revision"], "", "", row["analyzer"],
                        row["last_message_at"], False,
                    )
                )  # fmt: skip
    return lines
