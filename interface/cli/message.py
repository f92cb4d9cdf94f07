"""`labora message`: what the analyzers sent, as it is in the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import (
    ENVIRONMENT,
    INSTANT,
    CommandError,
    aware,
    desk,
    json_option,
    laboratory_options,
    organization_option,
)
from interface.cli.link_wire import wire_json, wire_text
from interface.cli.message_replay import replay
from interface.cli.trace import control_line
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.domain.qc_views import ControlView
    from interface.flow.conformance import Checked
    from interface.flow.wire_log import Conversation
    from interface.settings import Settings
    from interface.store.stored_messages import StoredMessage

_LIST = """
select m.id, m.received_at, l.name as link, m.protocol, m.control_id, m.message_type, m.state,
       coalesce(m.settled, '') as settled, m.reply, m.bytes, m.attempts, m.reason
from lab.message m join lab.link l on l.id = m.link_id
where ($1::text is null or l.name = $1) and ($2::text is null or m.state = $2)
  and ($3::text is null or m.settled = $3) and ($4::text is null or m.control_id = $4)
  and ($5::timestamptz is null or m.received_at >= $5) and ($6::timestamptz is null or m.received_at < $6)
order by m.received_at desc, m.id desc limit $7
"""
STATES = ("receiving", "complete", "incomplete")
SETTLED = ("released", "held", "duplicate", "rejected", "parked")


@dataclass(frozen=True, slots=True)
class MessageLine:
    """One message without what it says. `bytes`: the size of its text."""

    id: UUID
    received_at: datetime
    link: str
    protocol: str
    control_id: str
    message_type: str
    state: str
    settled: str
    reply: str
    bytes: int
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages; None asks nothing."""

    link: str | None
    state: str | None
    settled: str | None
    control_id: str | None
    since: datetime | None
    until: datetime | None
    limit: int


@click.group()
def message() -> None:
    """List, show, check and replay the messages in the journal."""


message.add_command(replay)


@message.command("list", epilog=ENVIRONMENT)
@click.option("--link", metavar="ID")
@click.option("--state", type=click.Choice(STATES))
@click.option("--settled", type=click.Choice(SETTLED), help="What it came to.")
@click.option("--control-id", metavar="TEXT")
@click.option("--since", type=INSTANT, help="Received at or after; a date is UTC.")
@click.option("--until", type=INSTANT, help="Received before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@organization_option
@json_option
@pass_context
def list_messages(
    context: Context,
    link: str | None,
    state: str | None,
    settled: str | None,
    control_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    organization: str | None,
    as_json: bool,
) -> None:
    """List messages, newest first, without what they say."""
    wanted = Wanted(link, state, settled, control_id, aware(since), aware(until), limit)
    found = asyncio.run(_list(context.settings, organization, wanted))
    emit(found, as_json)
    if not found:
        click.echo("no messages", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit and --until show more", err=True)


@message.command("show", epilog=ENVIRONMENT)
@click.argument("message_id", type=click.UUID)
@click.option("--wire", is_flag=True, help="All that was said, both ways, control characters as <STX>.")
@laboratory_options
@pass_context
def show(
    context: Context, message_id: UUID, wire: bool, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Show what a message says: its records; or with --wire the conversation that it came in.

    There each line has its time in UTC and > for the analyzer, < for the host or # for what is no byte: what was
    refused and why, repeats, what became of the session. For a Labora user; it is audited.
    """
    from interface.wire.trace import escape

    stored, said, controls = asyncio.run(_show(context.settings, organization, username, message_id, wire))
    if as_json:
        frames = [
            {"ordinal": one.ordinal, "fn": one.fn, "received_at": one.received_at, "wire": escape(one.bytes)}
            for one in stored.frames
        ]
        whole = {} if said is None else {"wire": [wire_json(line) for line in said.lines], "logged": said.logged}
        whole |= {"controls": controls} if controls else {}
        emit(_head(stored) | {"frames": frames, "records": _records(stored)} | whole, True)
        return
    emit("\n".join(_records(stored) if said is None else map(wire_text, said.lines)), False)
    if said is not None and not said.logged:
        click.echo("the wire log does not have this message any more, or not yet: its frames alone", err=True)
    for control in controls:
        click.echo(control_line(control), err=True)
    head = " ".join(f"{name}={value}" for name, value in _head(stored).items() if value not in ("", None))
    click.echo(head, err=True)


@message.command("validate", epilog=ENVIRONMENT)
@click.argument("source", metavar="FILE|MESSAGE_ID")
@laboratory_options
@pass_context
def validate(context: Context, source: str, organization: str | None, username: str | None, as_json: bool) -> int:
    """Check HL7 messages against the structures of their version.

    Of a file, which may hold several messages, MLLP blocks or batches, or of a message in the journal (for a Labora
    user; it is audited). Status 1 when anything is found, or a structure could not be checked. Z segments are not
    checked and named on stderr.
    """
    checked = asyncio.run(_validate(context, source, organization, username))
    if as_json:
        emit(checked, True)
    else:
        for number, one in enumerate(checked, 1):
            for finding in one.findings:
                emit(f"message {number}: {finding}", False)
            for note in one.notes:
                click.echo(f"message {number}: {note}", err=True)
    return EXIT_FAILED if any(one.findings for one in checked) else 0


async def _validate(context: Context, source: str, organization: str | None, username: str | None) -> list[Checked]:
    from interface.domain.model import Protocol
    from interface.driver.capture import read_capture
    from interface.flow.conformance import validate as conforms

    try:
        message_id = UUID(source)
    except ValueError:
        try:
            data = await asyncio.to_thread(Path(source).read_bytes)
        except OSError as error:
            raise CommandError(f"cannot read {source}: {(error.strerror or 'unknown').lower()}") from error
    else:
        stored, *_ = await _show(context.settings, organization, username, message_id, wire=False)
        data = b"".join(frame.bytes for frame in stored.frames)
    messages = read_capture(data)
    if any(one.protocol is not Protocol.HL7 for one in messages):
        raise CommandError("only HL7 messages have structures to check")
    return await conforms([one.text for one in messages])


def _head(stored: StoredMessage) -> dict[str, object]:
    return {
        "id": stored.id,
        "protocol": stored.protocol,
        "control_id": stored.control_id,
        "state": stored.state,
        "settled": stored.settled,
        "reply": stored.reply,
        "received_at": stored.received_at,
        "reason": stored.reason,
    }


def _records(stored: StoredMessage) -> list[str]:
    """The message's records or segments, one a line, other control characters spelt out."""
    from interface.flow.message import message_text
    from interface.wire.trace import escape

    return [escape(line) for line in message_text(stored).replace(b"\n", b"\r").split(b"\r") if line]


async def _list(settings: Settings, organization: str | None, wanted: Wanted) -> list[MessageLine]:
    async with desk(settings, organization, None, named=False) as at, at.transaction() as connection:
        rows = await connection.fetch(
            _LIST,
            wanted.link,
            wanted.state,
            wanted.settled,
            wanted.control_id,
            wanted.since,
            wanted.until,
            wanted.limit,
        )
        await at.note_read(connection, "search", "message", detail={"found": str(len(rows))})
    return [MessageLine(**dict(row.items())) for row in rows]


async def _show(
    settings: Settings, organization: str | None, username: str | None, message_id: UUID, wire: bool
) -> tuple[StoredMessage, Conversation | None, list[ControlView]]:
    """The message, with `wire` its conversation, and what became of its controls."""
    from interface.flow.wire_log import conversation_of
    from interface.store.qc_find import ControlFilter, find_controls
    from interface.store.stored_messages import read_message

    async with desk(settings, organization, username, named=True) as at:
        at.require(Permission.MESSAGE_READ)
        async with at.transaction() as connection:
            stored = await read_message(connection, message_id)
            said = await conversation_of(connection, stored) if stored and wire else None
            controls = await find_controls(connection, ControlFilter(message_ids=(message_id,)))
            found = {"found": "yes" if stored else "no"}
            await at.note_read(connection, "read_payload", "message", message_id, detail=found)
    if stored is None:
        raise CommandError("there is no such message")
    return stored, said, controls
