"""`labora alert`: what is wrong, who sees to it, what is not told for a while, and whether the channels work."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, json_option, laboratory_options
from interface.domain.alerts import AlertKind, Subject

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.alerts import AlertEvent, AlertView, SilenceView

_SHOWN = ("id", "severity", "kind", "thing", "subject", "note", "entered_at", "recovered_at", "step",
          "acknowledged_name")  # fmt: skip
_EVENTS = ("at", "what", "channel", "person", "note", "actor")
_SILENCES = ("id", "kind", "thing", "subject", "begins_at", "ends_at", "reason", "by", "ended_by")
_KIND = click.Choice([kind.value for kind in AlertKind])
_SPAN = re.compile(r"([0-9]{1,5})(min|m|h|d)")
_UNITS = {"min": 1, "m": 1, "h": 60, "d": 24 * 60}


class Span(click.ParamType[timedelta]):
    """`30m`, `2h`, `1d`."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = _SPAN.fullmatch(str(value))
        if match is None or not int(match[1]):
            self.fail(f'"{value}" is not a time such as 30m, 2h or 1d', param, ctx)
        return timedelta(minutes=int(match[1]) * _UNITS[match[2]])


@click.group()
def alert() -> None:
    """See what is wrong, see to it, have it not told for a while, try the channels."""


@alert.command("list", epilog=ENVIRONMENT)
@click.option("--kind", type=_KIND, help="Of one kind.")
@click.option("--all", "everything", is_flag=True, help="Also what has recovered.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_alerts(
    context: Context, kind: str | None, everything: bool, limit: int, organization: str | None, username: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List what is wrong, the latest first."""
    found = asyncio.run(_list(context.settings, organization, username, kind, everything, limit))
    if as_json or found:
        emit(found, as_json, () if as_json else _SHOWN)
    if not found:
        click.echo("nothing is wrong" if not everything else "nothing was ever wrong", err=True)


@alert.command(epilog=ENVIRONMENT)
@click.argument("alert_id", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, alert_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show an alert, what happened to it and who was told."""
    found, events = asyncio.run(_show(context.settings, organization, username, alert_id))
    if as_json:
        emit({"alert": found, "events": events}, as_json)
        return
    emit(found, as_json, _SHOWN)
    click.echo()
    emit(events, as_json, _EVENTS)


@alert.command(epilog=ENVIRONMENT)
@click.argument("alert_id", type=click.UUID)
@click.option("--comment", default="")
@laboratory_options
@pass_context
def ack(
    context: Context, alert_id: UUID, comment: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Say that you see to it: nobody else is told."""
    found = asyncio.run(_ack(context.settings, organization, username, alert_id, comment))
    emit(found, as_json, () if as_json else _SHOWN)


@alert.command(epilog=ENVIRONMENT)
@click.option("--kind", type=_KIND, help="Of this kind only.")
@click.option("--subject", default="", metavar="WORDS", help='About this only, as `alert list` says it: "link hema-1".')
@click.option("--for", "span", type=Span(), help="For so long: 30m, 2h, 1d.")
@click.option("--from", "begins_at", type=INSTANT, help="A time without an offset is UTC.  [default: now]")
@click.option("--until", "ends_at", type=INSTANT, help="In place of --for.")
@click.option("--reason", required=True, help="Says why.")
@laboratory_options
@pass_context
def silence(
    context: Context, kind: str | None, subject: str, span: timedelta | None, begins_at: datetime | None,
    ends_at: datetime | None, reason: str, organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Have nothing told for a while, of a maintenance perhaps: what still stands when it ends is told then."""
    begin = aware(begins_at) or datetime.now(UTC)
    end = aware(ends_at) or (begin + span if span else None)
    if end is None or (ends_at and span):
        raise click.UsageError("say until when: --for or --until")
    about = Subject(*[*subject.split(" ", 1), "", ""][:2])
    made = asyncio.run(_silence(context.settings, organization, username, kind, about, begin, end, reason))
    emit(made, as_json, () if as_json else _SILENCES)


@alert.command(epilog=ENVIRONMENT)
@click.option("--all", "everything", is_flag=True, help="Also what is over.")
@laboratory_options
@pass_context
def silences(context: Context, everything: bool, organization: str | None, username: str | None, as_json: bool) -> None:
    """List what is not told now, and what will not be."""
    found = asyncio.run(_silences(context.settings, organization, username, everything))
    if as_json or found:
        emit(found, as_json, () if as_json else _SILENCES)
    if not found:
        click.echo("nothing is silenced", err=True)


@alert.command(epilog=ENVIRONMENT)
@click.argument("silence_id", type=click.UUID)
@laboratory_options
@pass_context
def unsilence(
    context: Context, silence_id: UUID, organization: str | None, username: str | None, as_json: bool
) -> None:
    """End a silence: what stands is told."""
    emit(asyncio.run(_end(context.settings, organization, username, silence_id)), as_json, () if as_json else _SILENCES)


@alert.command(epilog="Environment: LABORA_ALERT_<CHANNEL> (the channel's secret), LABORA_CONFIG.")
@click.argument("channel")
@click.option("--to", default="", metavar="ADDRESS", help="An address or number.  [default: all of the roster by it]")
@json_option
@pass_context
def test(context: Context, channel: str, to: str, as_json: bool) -> None:
    """Send a test message by a channel of the configuration, and say what the server answered."""
    said = asyncio.run(_test(context.settings, channel, to))
    emit(said, as_json)
    if not all(one["taken"] for one in said):
        raise CommandError(f"{channel} did not take it")


async def _list(
    settings: Settings, organization: str | None, username: str | None, kind: str | None, everything: bool, limit: int
) -> list[AlertView]:
    from interface.flow import alerting

    kinds = (AlertKind(kind),) if kind else ()
    async with desk(settings, organization, username, named=False) as at, at.transaction() as connection:
        found = await alerting.listed(connection, at.actor, kinds=kinds, standing=not everything, limit=limit)
        await at.note_read(connection, "search", "alert")
    return found


async def _show(
    settings: Settings, organization: str | None, username: str | None, id: UUID
) -> tuple[AlertView, list[AlertEvent]]:
    from interface.flow import alerting

    async with desk(settings, organization, username, named=False) as at, at.transaction() as connection:
        found = await alerting.shown(connection, at.actor, id)
        await at.note_read(connection, "read", "alert", id)
    return found


async def _ack(settings: Settings, organization: str | None, username: str | None, id: UUID, comment: str) -> AlertView:
    from interface.flow import alerting

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await alerting.acknowledge(connection, at.actor, id, comment)


async def _silence(
    settings: Settings, organization: str | None, username: str | None, kind: str | None, subject: Subject,
    begins_at: datetime, ends_at: datetime, reason: str,
) -> SilenceView:  # fmt: skip
    from interface.flow import alerting

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await alerting.silence(
            connection, at.actor, kind=AlertKind(kind) if kind else None, subject=subject, begins_at=begins_at,
            ends_at=ends_at, reason=reason,
        )  # fmt: skip


async def _silences(
    settings: Settings, organization: str | None, username: str | None, everything: bool
) -> list[SilenceView]:
    from interface.flow import alerting

    async with desk(settings, organization, username, named=False) as at, at.transaction() as connection:
        found = await alerting.silences(connection, at.actor, past=everything)
        await at.note_read(connection, "search", "alert_silence")
    return found


async def _end(settings: Settings, organization: str | None, username: str | None, id: UUID) -> SilenceView:
    from interface.flow import alerting

    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await alerting.end_silence(connection, at.actor, id)


async def _test(settings: Settings, id: str, to: str) -> list[dict[str, object]]:
    from interface.config.roster import load_roster
    from interface.errors import DeliveryError
    from interface.ops.channels import Outgoing, send
    from interface.store.ids import uuid7

    channel = next((one for one in settings.alerts.channels if one.id == id), None)
    if channel is None:
        known = ", ".join(one.id for one in settings.alerts.channels) or "none"
        raise CommandError(f'there is no channel "{id}" in [alerts]; there are: {known}')
    people = load_roster(settings.alerts).people.values()
    addresses = [to] if to else [one.to for person in people for one in person.contacts if one.channel == id]
    if not addresses:
        raise CommandError(f"nobody in the roster is told by {id}: say --to")
    said: list[dict[str, object]] = []
    for address in dict.fromkeys(addresses):
        message = Outgoing(
            uuid7(), address, "[Labora] Test of this channel",
            "Somebody tries whether alerts reach you here. There is nothing to do.",
        )  # fmt: skip
        try:
            said.append({"to": address, "taken": True, "answer": await send(channel, message)})
        except DeliveryError as error:
            said.append({"to": address, "taken": False, "answer": str(error)})
    return said
