"""`labora link wire`: what went over a link, messages or not; and the text of a conversation, for `labora message`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, Desk, aware, desk, laboratory_options
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.flow.wire_log import WireLine
    from interface.settings import Settings
    from interface.store.db import Connection

FOLLOW_S = 1.0
ROWS_AT_ONCE = 200


def wire_text(line: WireLine) -> str:
    """One line: the instant in UTC, `>` analyzer or `<` host or `#` for what is no byte, the bytes as in a trace."""
    from interface.wire.trace import escape

    at = f"{line.at:%Y-%m-%dT%H:%M:%S.%f}Z"
    peer = f" {line.peer}" if line.peer else ""
    if line.direction is None:
        return f"{at}{peer} # {line.note}"
    if not line.data:
        return f"{at}{peer} # {line.direction} {line.note}"
    again = f"\n{at}{peer} # repeated: frame {(line.frame or 0) + 1} once more" if line.again else ""
    return f"{at}{peer} {line.direction} {escape(line.data)}{again}"


def wire_json(line: WireLine) -> dict[str, object]:
    from interface.wire.trace import escape

    return {
        "at": line.at,
        "peer": line.peer,
        "direction": line.direction.value if line.direction else None,
        "wire": escape(line.data),
        "note": line.note,
        "message_id": line.message_id,
        "frame": line.frame,
        "again": line.again,
    }


@click.command("wire", epilog=ENVIRONMENT)
@click.argument("link_id", metavar="LINK")
@click.option("--since", type=INSTANT, help="Said at or after; a date is UTC.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="The newest lines.")
@click.option("--follow", is_flag=True, help="Go on with what is said from now on, until Ctrl-C.")
@laboratory_options
@pass_context
def wire(
    context: Context, link_id: str, since: datetime | None, limit: int, follow: bool, organization: str | None,
    username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what went over a link in both directions, whether it made a message or not.

    Times are UTC; > is the analyzer, < the host, # what is no byte. The log is a few seconds behind, and keeps as much
    as the link's wire_log_mb allows. For a Labora user; it is audited.
    """
    if follow and as_json:
        raise click.UsageError("--follow has no JSON, which ends")
    asyncio.run(_wire(context.settings, organization, username, link_id, aware(since), limit, follow, as_json))


async def _wire(
    settings: Settings, organization: str | None, username: str | None, link_id: str, since: datetime | None,
    limit: int, follow: bool, as_json: bool,
) -> None:  # fmt: skip
    async with desk(settings, organization, username, named=True) as at:
        at.require(Permission.MESSAGE_READ)
        async with at.transaction() as connection:
            row_id = await connection.fetchval("select id from lab.link where name = $1", link_id)
            if row_id is not None:
                lines, last = await _newest(connection, row_id, since, limit)
                asked = {"lines": str(len(lines)), "follow": "yes" if follow else "no"}
                await at.note_read(connection, "read_payload", "link", row_id, detail=asked)
        if row_id is None:
            raise CommandError(f"no link {link_id} has ever run in this laboratory")
        emit([wire_json(line) for line in lines] if as_json else "\n".join(map(wire_text, lines)), as_json)
        if not lines:
            click.echo("nothing in the log", err=True)
        elif len(lines) == limit:
            click.echo(f"the newest {limit} lines; --limit shows more", err=True)
        async for more in _following(at, row_id, last) if follow else _nothing():
            click.echo("\n".join(map(wire_text, more)))


async def _newest(
    connection: Connection, row_id: UUID, since: datetime | None, limit: int
) -> tuple[list[WireLine], UUID | None]:
    """The newest lines in order, and the newest row."""
    from interface.flow.wire_log import traffic
    from interface.store.wire_log import newest_rows

    found: list[WireLine] = []
    last = before = None
    while len(found) < limit:
        rows = await newest_rows(connection, row_id, ROWS_AT_ONCE, since, before)
        if not rows:
            break
        before, last = rows[0].id, last or rows[-1].id
        found += await traffic(connection, rows)
    found = [line for line in found if since is None or line.at >= since]
    return sorted(found, key=lambda line: line.at)[-limit:], last


async def _following(at: Desk, row_id: UUID, last: UUID | None) -> AsyncGenerator[Sequence[WireLine], None]:
    from interface.flow.wire_log import traffic
    from interface.store.wire_log import rows_after

    while True:
        async with at.transaction() as connection:
            rows = await rows_after(connection, row_id, last, ROWS_AT_ONCE)
            lines = await traffic(connection, rows)
            if rows:
                followed = {"lines": str(len(lines)), "follow": "on"}
                await at.note_read(connection, "read_payload", "link", row_id, detail=followed)
        if rows:
            last = rows[-1].id
            yield lines
        else:
            await asyncio.sleep(FOLLOW_S)


async def _nothing() -> AsyncGenerator[Sequence[WireLine], None]:
    return
    yield
