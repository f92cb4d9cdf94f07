"""`labora audit`: look something up in the audit trail, and prove that it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, Desk, aware, desk, laboratory_options
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.audit_chain import Head, Verdict
    from interface.store.db import Connection

_T = TypeVar("_T")
_LISTED = ("at", "actor_kind", "actor_name", "action", "entity_kind", "entity_id", "outcome", "address", "detail")
_FINDINGS = ("what", "segment", "row", "text")


@click.group()
def audit() -> None:
    """See who did what, and prove that nothing of it was changed or taken away.

    What was committed is sealed every few seconds, in segments that follow on one another. A head, the number and the
    digest of the last one, proves everything before it: keep some where the database's administrator cannot reach them.
    """


@audit.command("list", epilog=ENVIRONMENT)
@click.option("--since", type=INSTANT, help="UTC, unless it says otherwise.")
@click.option("--until", type=INSTANT)
@click.option("--actor", "actors", multiple=True, metavar="NAME", help="A user, client, link or rule set.")
@click.option("--action", "actions", multiple=True, metavar="WORD", help="Such as read, search, login, token, release.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="WORD", help="Of the record: patient, result, user, client, ..."
)
@click.option("--id", "ids", multiple=True, type=click.UUID,
              help="Of the record. A patient's finds also whom data of theirs went to, but not FHIR's $export, "
                   "which is of all patients: --action export finds those.")  # fmt: skip
@click.option("--outcome", "outcomes", multiple=True, metavar="WORD", help="Such as ok or refused.")
@click.option("--address", "addresses", multiple=True, metavar="ADDRESS", help="From where it came.")
@click.option("--request", default="", metavar="ID", help="An answer's X-Request-Id.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_audit(
    context: Context, since: datetime | None, until: datetime | None, actors: tuple[str, ...],
    actions: tuple[str, ...], kinds: tuple[str, ...], ids: tuple[UUID, ...], outcomes: tuple[str, ...],
    addresses: tuple[str, ...], request: str, limit: int, organization: str | None, username: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List audit rows, the newest first."""
    from interface.store.audit_list import AuditFilter, find

    filter = AuditFilter(
        aware(since), aware(until), actors, actions, kinds, outcomes, addresses, ids, request, limit
    )  # fmt: skip

    async def looked_up(at: Desk, connection: Connection) -> Any:
        found = await find(connection, filter)
        await at.note_read(connection, "search", "audit", None, (), {"found": str(len(found))})
        return found

    found = _at_desk(context.settings, organization, username, looked_up)
    emit(found, as_json, () if as_json else _LISTED)
    if not found:
        click.echo("nothing like that is in the audit trail", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


@audit.command("verify", epilog=ENVIRONMENT)
@click.option("--head", "heads", multiple=True, metavar="NUMBER:DIGEST",
              help="A head that was kept elsewhere: the trail must still have it. Repeatable.")  # fmt: skip
@laboratory_options
@pass_context
def verify(
    context: Context, heads: tuple[str, ...], organization: str | None, username: str | None, as_json: bool
) -> int:
    """Compare every row with its seal. Status 1 for any change, loss, insertion or reordering; each is shown with its
    segment and the row's id."""
    from interface.store import audit_chain

    kept = [_head(text) for text in heads]

    async def verified(at: Desk, connection: Connection) -> Verdict:
        verdict = await audit_chain.verify(connection, at.actor.organization_id, kept)
        await at.note_read(connection, "verify", "audit", None, (), {"findings": str(len(verdict.findings))})
        return verdict

    verdict = _at_desk(context.settings, organization, username, verified)
    if as_json:
        emit(_told(verdict), as_json)
    elif verdict.findings:
        emit(list(verdict.findings), as_json, _FINDINGS)
    else:
        click.echo(f"{verdict.rows} rows in {verdict.segments} segments are as they were sealed")
        click.echo(f"head {verdict.head or 'none'}")
        if verdict.anchor is not None:
            click.echo(f"up to segment {verdict.anchor} it was deleted when it had been kept long enough", err=True)
    for each in verdict.set_back:
        click.echo(f"before segment {each.segment} was sealed the clock was put back by {each.by}", err=True)
    if verdict.unsealed:
        click.echo(
            f"{verdict.unsealed} rows since {verdict.oldest} wait for their seal: nothing proves them yet", err=True
        )
    if verdict.findings:
        click.echo(f"the audit trail was tampered with: {len(verdict.findings)} findings", err=True)
    return EXIT_FAILED if verdict.findings else 0


@audit.command("head", epilog=ENVIRONMENT)
@laboratory_options
@pass_context
def head(context: Context, organization: str | None, username: str | None, as_json: bool) -> None:
    """Print the head, to be kept elsewhere. The daemon also writes it to its log, every hour and when it stops."""
    from interface.store import audit_chain

    async def last(at: Desk, connection: Connection) -> Head | None:
        found = await audit_chain.head(connection)
        await at.note_read(connection, "read", "audit_head")
        return found

    found = _at_desk(context.settings, organization, username, last)
    if found is None:
        click.echo("nothing is sealed yet", err=True)
    if as_json:
        emit({"head": str(found) if found else None}, as_json)
    elif found is not None:
        click.echo(str(found))


def _head(text: str) -> Head:
    from interface.store.audit_chain import parse_head

    try:
        return parse_head(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _told(verdict: Verdict) -> dict[str, object]:
    return {
        "whole": not verdict.findings,
        "segments": verdict.segments,
        "rows": verdict.rows,
        "head": str(verdict.head) if verdict.head else None,
        "sealed_last": verdict.sealed_last,
        "anchor": str(verdict.anchor) if verdict.anchor else None,
        "set_back": [{"segment": each.segment, "seconds": each.by.total_seconds()} for each in verdict.set_back],
        "unsealed": verdict.unsealed,
        "unsealed_since": verdict.oldest,
        "findings": verdict.findings,
    }


def _at_desk(
    settings: Settings,
    organization: str | None,
    username: str | None,
    work: Callable[[Desk, Connection], Awaitable[_T]],
) -> _T:
    async def run() -> _T:
        async with desk(settings, organization, username, named=False) as at:
            at.require(Permission.AUDIT_READ)
            async with at.transaction() as connection:
                return await work(at, connection)

    return asyncio.run(run())
