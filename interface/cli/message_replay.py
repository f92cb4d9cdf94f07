"""`labora message replay`: results that wait are decided anew, once it has been shown what would become of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import (
    ENVIRONMENT,
    MOMENT,
    CommandError,
    Desk,
    desk,
    instant_of,
    laboratory_options,
    only_organization,
)
from interface.cli.message_trial import FILE, prepared, refuse
from interface.domain.permissions import Permission

if TYPE_CHECKING:
    from interface.flow.context import LinkContext
    from interface.flow.replay import Change, Decided, Replayed
    from interface.flow.replay_controls import ControlChange
    from interface.flow.trial import Trial
    from interface.settings import Settings
    from interface.store.db import Connection


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One result before and after."""

    message: UUID
    specimen: str
    location: str
    code: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What --limit left out. `messages`: how many, where that is known; `since`: from when to go on with them."""

    messages: int | None = None
    since: str | None = None


@click.command("replay", epilog=ENVIRONMENT)
@click.argument("message_ids", type=click.UUID, nargs=-1, metavar="[MESSAGE_ID]...")
@click.option("--unmapped", metavar="CODE", help="Of all messages, the results that are held because CODE had no test.")
@click.option("--link", metavar="ID", help="With --unmapped or --since: only of this link.")
@click.option(
    "--since", type=MOMENT, help="All messages received since then of which a result waits: a date, or a date and "
    "time, in UTC unless it has an offset; or HH:MM of today in the laboratory's time zone.",
)  # fmt: skip
@click.option(
    "--map", "map_file", type=FILE, metavar="FILE", help="With --dry-run: as if `map import` had taken this file."
)
@click.option(
    "--driver", metavar="FILE|NAME[@REVISION]", help="With --dry-run: read by this driver.toml, or by this driver as "
    "its folder or a revision that a link has run says.",
)  # fmt: skip
@click.option(
    "--rules", metavar="FILE|NAME@REVISION", help="With --dry-run: by this document, or by this revision of a rule "
    "set, in force or not.",
)  # fmt: skip
@click.option(
    "--released", is_flag=True, help="With --dry-run: also what was released, where something else would be said now."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Messages, oldest first."
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--dry-run", is_flag=True, help="Only show what would become of each result.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in each result's explanation.")
@laboratory_options
@pass_context
def replay(
    context: Context, /, message_ids: tuple[UUID, ...], unmapped: str | None, link: str | None,
    since: datetime | time | None, map_file: Path | None, driver: str | None, rules: str | None, released: bool,
    limit: int, yes: bool, dry_run: bool, reason: str, organization: str | None, username: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Decide results that wait anew: with the maps, orders, lots and rules of now.

    First shows what would become of each, then asks. Only what waits is decided, and only where nothing newer has been
    said about it; what was released stays as it is. What the rules in force release, the rule set releases. Controls
    that made no point are judged in their place; those that are points stay. Status 1 when a message could not be
    replayed.

    With --dry-run, --map, --driver and --rules try what is not in force, once it has been checked as when it would be:
    on the links that it concerns, or on --link. Nothing is written. With --since all their messages are looked at, and
    of what was released it is shown what would be said of it. With --released it is what is in force that is tried: it
    finds what was released under a limit or a rule that was wrong, or before what it was compared with was corrected;
    not what is calculated, nor what a person has entered or corrected.
    """
    if [bool(message_ids), bool(unmapped), since is not None].count(True) != 1:
        raise click.UsageError("say which: messages, --unmapped CODE, or --since TIME")
    tries = _Tries(map_file, driver, rules, released)
    if tries.offered and not dry_run:
        raise click.UsageError("--map, --driver and --rules belong to --dry-run: what is not in force decides nothing")
    if released and (tries.offered or unmapped or not dry_run):
        raise click.UsageError("--released belongs to --dry-run without --unmapped: what was released stays as it is, "
                               "and what is tried is tried on it too")  # fmt: skip
    if link and message_ids and not tries:
        raise click.UsageError("--link belongs to --unmapped or --since")
    if not (yes or dry_run) and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("--yes does it, --dry-run only shows it")
    work = _Work(
        context.settings,
        organization,
        username,
        unmapped,
        link,
        limit,
        reason,
        as_json,
        since,
        tries if tries else None,
    )
    return asyncio.run(_run(work, message_ids, yes, dry_run))


@dataclass(frozen=True, slots=True)
class _Tries:
    """What is to be tried, as it was given. `released`: what is in force, on what was released."""

    map_file: Path | None
    driver: str | None
    rules: str | None
    released: bool = False

    @property
    def offered(self) -> bool:
        return bool(self.map_file or self.driver or self.rules)

    def __bool__(self) -> bool:
        return self.offered or self.released


@dataclass(frozen=True, slots=True)
class _Work:
    settings: Settings
    organization: str | None
    username: str | None
    code: str | None
    link: str | None
    limit: int
    reason: str
    as_json: bool
    since: datetime | time | None = None
    tries: _Tries | None = None


async def _run(work: _Work, message_ids: Sequence[UUID], yes: bool, dry_run: bool) -> int:
    from interface.flow.trial import TrialError

    name = work.organization or only_organization(work.settings)
    async with desk(work.settings, name, work.username, named=True) as at:
        at.require(Permission.MESSAGE_REPLAY)
        links = await _contexts(at, work.settings, name, keep=not dry_run)
        try:
            trial = None if work.tries is None else await _trial(at, work, work.tries, name, links.values())
        except TrialError as error:
            return refuse(error, work.as_json)
        of = [one for one, link in links.items() if work.link in (None, link.name)] if trial is None else trial.links
        chosen, left_out = list(dict.fromkeys(message_ids)), None
        if not chosen:
            chosen, left_out = await _waiting(at, work, of, every=trial is not None)
        shown, failed = await _each(at, work, chosen, links.get, dry_run=True, trial=trial)
        if not yes or dry_run:
            _show(shown, left_out, work.as_json, False)
            if dry_run or not any(one.changed for one in shown):
                return EXIT_FAILED if failed else 0
            if not click.confirm("Decide them anew?", err=True):
                click.echo("nothing was changed", err=True)
                return EXIT_FAILED if failed else 0
        good = [one.message_id for one in shown if one.changed]
        done, failures = await _each(at, work, good, links.get, dry_run=False)
        _show(done, left_out, work.as_json, True)
        return EXIT_FAILED if failed or failures else 0


async def _trial(at: Desk, work: _Work, tries: _Tries, organization: str, links: Collection[LinkContext]) -> Trial:
    from interface.flow.trial import what_is_in_force

    if not tries.released:
        given = tries.map_file, tries.driver, tries.rules, work.link
        return await prepared(at, work.settings, organization, links, *given)
    return await what_is_in_force(at.database, at.actor, [one for one in links if work.link in (None, one.name)])


async def _waiting(at: Desk, work: _Work, links: Collection[UUID], *, every: bool) -> tuple[list[UUID], LeftOut | None]:
    """The messages of these links to look at, and what of those that wait is not among them. `every`: also messages of
    which nothing waits."""
    from interface.store.catalogue import read_zone
    from interface.store.map_traffic import messages_waiting
    from interface.store.replay import waiting_since

    async with at.transaction() as connection:
        if work.since is not None:
            zone = ZoneInfo(await read_zone(connection, at.actor.organization_id))
            since = instant_of(work.since, zone, datetime.now(UTC))
            click.echo(f"since {since.astimezone(zone).isoformat(timespec='seconds')}", err=True)
            only = links if every or work.link is not None else None
            waits = await waiting_since(connection, since, work.limit + 1, links=only, every=every)
            ids = [message_id for message_id, _ in waits[: work.limit]]
            if len(waits) == len(ids):
                return ids, None
            # In the whole seconds that --since reads. What waits as before waits on: the same run would take it again.
            next_s = waits[-1][1].astimezone(zone).isoformat(timespec="seconds")
            more = f"go on with --since {next_s}, or --limit takes more"
            what = "there are more" if every else "more wait"
            click.echo(f"the oldest {work.limit} messages, and {what}; {more}", err=True)
            return ids, LeftOut(since=next_s)
        found = await messages_waiting(connection, work.code or "", work.link)
    if len(found) <= work.limit:
        return [one.id for one in found], None
    click.echo(f"the oldest {work.limit} of {len(found)} messages; --limit and another run take more", err=True)
    return [one.id for one in found[: work.limit]], LeftOut(messages=len(found) - work.limit)


class _Looked(Exception):
    """Ends the transaction of a dry run."""


async def _contexts(at: Desk, settings: Settings, organization: str, *, keep: bool) -> dict[UUID, LinkContext]:
    """The links of the configuration as the database knows them, each with the revision of its driver that it runs.

    `keep`: what a revision says is kept at its first use, which a dry run is not.
    """
    known: dict[UUID, LinkContext] = {}
    with suppress(_Looked):
        async with at.transaction() as connection:
            known = await _known(connection, at, settings, organization)
            if not keep:
                raise _Looked
    return known


async def _known(connection: Connection, at: Desk, settings: Settings, organization: str) -> dict[UUID, LinkContext]:
    from interface.driver import registry
    from interface.flow.context import LinkContext
    from interface.flow.pinning import pinned

    configured = {link.id: link for link in settings.links if link.organization == organization}
    known: dict[UUID, LinkContext] = {}
    for row in await connection.fetch("SELECT id, name, analyzer_id, driver, driver_revision FROM lab.link"):
        if (link := configured.get(row["name"])) is None:
            continue
        folder = registry.load(link.driver, settings.driver_path)
        runs = row["driver_revision"] if row["driver"] == link.driver else link.driver_revision
        found = await pinned(connection, at.actor.organization_id, folder, runs)
        known[row["id"]] = LinkContext(
            at.actor.organization_id, row["id"], row["analyzer_id"], link, found.driver, folder.revision, found.changed
        )
    return known


async def _each(
    at: Desk, work: _Work, message_ids: Sequence[UUID], find_link: Callable[[UUID], LinkContext | None], *,
    dry_run: bool, trial: Trial | None = None,
) -> tuple[list[Replayed], int]:  # fmt: skip
    """Every message by itself: one that cannot be replayed is named and keeps none of the others."""
    from interface.flow.replay import ReplayError, replay

    found: list[Replayed] = []
    failed = 0
    gone: CommandError | None = None
    for message_id in message_ids:
        try:
            if not dry_run:
                await at.still()
            one = await replay(
                at.database, at.actor, message_id, find_link, dry_run=dry_run, code=work.code, reason=work.reason,
                trial=trial,
            )  # fmt: skip
        except ReplayError as error:
            failed += 1
            click.echo(f"labora: {message_id}: {error}", err=True)
            continue
        except CommandError as error:
            gone = error
            break
        found.append(one)
    patients = [change.patient_id for one in found for change in one.changes]
    # What was decided is audited also of who has gone meanwhile.
    own = at.transaction() if dry_run else at.database.transaction(at.actor.organization_id)
    async with own as connection:
        await at.note_read(connection, "replay_preview" if dry_run else "replay", "result", None, patients)
    if gone is not None:
        raise CommandError(f"{gone}; {len(found)} of {len(message_ids)} messages were decided anew until then")
    return found, failed


def _show(found: Sequence[Replayed], left_out: LeftOut | None, as_json: bool, done: bool) -> None:
    changes = [change for one in found for change in one.changes]
    controls = [control for one in found for control in one.controls]
    if as_json:
        emit({"done": done, "messages": list(found), "left_out": left_out}, True)
    elif changes or controls:
        emit([*map(_control_line, controls), *map(_line, changes)], False)
    unchanged = sum(one.unchanged for one in found)
    stays = sum(one.stays for one in changes)
    what = "decided anew" if done else "would be decided anew"
    if by := {one.rule_set for one in found if one.rule_set}:
        what += f" by {', '.join(sorted(by))}"
    still = f"; {unchanged} wait as before" if unchanged else ""
    still += f"; {stays} would be said otherwise, and stay as they are" if stays else ""
    if judged := sum(not one.stays for one in controls):
        click.echo(f"{judged} controls {'judged' if done else 'would be judged'} anew", err=True)
    click.echo(f"{len(changes) - stays} results of {len(found)} messages {what}{still}", err=True)


def _line(change: Change) -> ChangeLine:
    after = f"{change.status} {_words(change.after)}".strip() or "it would not be read"
    code = change.code if change.before.code in ("", change.code) else f"{change.before.code} -> {change.code}"
    before = f"{change.before.status} {_words(change.before)}".strip()
    after = f"stays; else {after}" if change.stays else after
    return ChangeLine(change.message_id, change.barcode, change.location, code, before, after)


def _control_line(one: ControlChange) -> ChangeLine:
    return ChangeLine(one.message_id, one.specimen, one.location, one.code, one.before, one.after)


def _words(decided: Decided) -> str:
    said = " ".join(filter(None, (decided.test, decided.value, decided.unit, *decided.flags)))
    said += f" ({decided.reference})" if decided.reference else ""
    said += f" by {decided.method}" if decided.method else ""
    return said + (f" held: {', '.join(decided.held)}" if decided.held else "")
