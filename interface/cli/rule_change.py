"""The commands of `labora rule` that change something: each by a Labora user, with a reason, audited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, Desk, desk, laboratory_options
from interface.domain.autoverify import Scope, Switch
from interface.domain.rule_files import RuleFileError

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.rules import Revision, SwitchView

_Command = TypeVar("_Command", bound=Callable[..., Any])
Change = Callable[["Connection", Desk], Awaitable["Revision"]]


def _changes(command: _Command) -> _Command:
    reason = click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept.")
    return reason(laboratory_options(command))


def _of_what(command: _Command) -> _Command:
    test = click.option("--test", default="", metavar="CODE", help="Only this test.")
    analyzer = click.option("--analyzer", default="", metavar="NAME", help="Only this analyzer.")
    return test(analyzer(command))


def join(group: click.Group) -> None:
    """Put the commands into `labora rule`."""
    for command in (import_, activate, deactivate, off, on, shadow):
        group.add_command(command)


# ---- revisions ------------------------------------------------------------------------------------------------------


@click.command("import", epilog=ENVIRONMENT)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@_changes
@pass_context
def import_(
    context: Context, file: Path | None, organization: str | None, username: str | None, as_json: bool, reason: str
) -> int:
    """Store FILE as the next revision of the name it says; without FILE the one that Labora comes with.

    Nothing is put in force by it.
    """
    from interface.cli.rule import read_text, say_problems
    from interface.flow import rules
    from interface.settings import packaged

    path = file or packaged("mappings") / "rules" / "default.toml"
    body, source = read_text(path), file.name if file else "shipped"

    unknown: list[str] = []

    async def change(connection: Connection, at: Desk) -> Revision:
        made = await rules.import_rules(connection, at.actor, body, source, reason)
        unknown.extend(await rules.unknown_to(connection, made))
        return made

    try:
        made = asyncio.run(_change(context.settings, organization, username, change))
    except RuleFileError as error:
        return say_problems(str(path), error)
    _say(made, as_json, f"stored; `labora rule test {made.version} --as USER` proves it")
    if unknown:
        click.echo(rules.says_of_none(made.version, unknown), err=True)
    return 0


@click.command("activate", epilog=ENVIRONMENT)
@click.argument("version", metavar="NAME@REVISION")
@_changes
@pass_context
def activate(
    context: Context, version: str, organization: str | None, username: str | None, as_json: bool, reason: str
) -> None:
    """Put a revision in force, in place of the one that is. It must have been validated, exactly as it is."""
    made = asyncio.run(_activated(context.settings, organization, username, *_exactly(version), reason))
    _say(made, as_json, "in force")


async def _activated(
    settings: Settings, organization: str | None, username: str | None, name: str, revision: int, reason: str
) -> Revision:
    from interface.flow import recalculation, rules

    async with desk(settings, organization, username, named=True) as at:
        async with at.transaction() as connection:
            made = await rules.activate(connection, at.actor, name, revision, reason)
        await recalculation.put_in_force(at.database, at.actor, name)
    return made


@click.command("deactivate", epilog=ENVIRONMENT)
@click.argument("name")
@_changes
@pass_context
def deactivate(
    context: Context, name: str, organization: str | None, username: str | None, as_json: bool, reason: str
) -> None:
    """Take the active revision out of force: its checks too. `labora rule off` only stops the releasing."""
    from interface.flow import rules

    async def change(connection: Connection, at: Desk) -> Revision:
        return await rules.deactivate(connection, at.actor, name, reason)

    _say(asyncio.run(_change(context.settings, organization, username, change)), as_json, "out of force")


@click.command("shadow", epilog=ENVIRONMENT)
@click.argument("version", metavar="NAME@REVISION")
@click.option("--stop", is_flag=True, help="End it; what it said is kept.")
@_changes
@pass_context
def shadow(
    context: Context,
    version: str,
    stop: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
    reason: str,
) -> None:
    """Let a revision say of every result what it would do, and do nothing. `labora rule report` compares it."""
    from interface.flow import rules

    name, revision = _exactly(version)

    async def change(connection: Connection, at: Desk) -> Revision:
        return await rules.shadow(connection, at.actor, name, revision, reason, on=not stop)

    words = "not in the shadow any more" if stop else "in the shadow"
    _say(asyncio.run(_change(context.settings, organization, username, change)), as_json, words)


def _exactly(text: str) -> tuple[str, int]:
    """A revision by its number: what is put in force is named, never "the newest"."""
    from interface.cli.rule import version_of

    name, revision = version_of(text)
    if revision is None:
        raise click.UsageError(f"say which revision: {name}@NUMBER")
    return name, revision


async def _change(settings: Settings, organization: str | None, username: str | None, change: Change) -> Revision:
    async with desk(settings, organization, username, named=True) as at, at.transaction() as connection:
        return await change(connection, at)


def _say(made: Revision, as_json: bool, words: str) -> None:
    from interface.cli.rule import revision_row

    emit(revision_row(made) if as_json else made.version, as_json)
    click.echo(f"{made.version} is {words}", err=True)


# ---- switches -------------------------------------------------------------------------------------------------------


@click.command("off", epilog=ENVIRONMENT)
@_of_what
@_changes
@pass_context
def off(
    context: Context,
    test: str,
    analyzer: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    reason: str,
) -> None:
    """Release nothing more without a person: of a test, of an analyzer, or at all. At once; who may release may do it.

    When the command returns, nothing that was decided before is still on its way.
    """
    switch = _switch(test, analyzer, reason)
    left = asyncio.run(_switched(context.settings, organization, username, switch, on=False))
    _say_switches(left, as_json, "off")


@click.command("on", epilog=ENVIRONMENT)
@_of_what
@_changes
@pass_context
def on(
    context: Context,
    test: str,
    analyzer: str,
    organization: str | None,
    username: str | None,
    as_json: bool,
    reason: str,
) -> None:
    """Take an `off` back, in the same words."""
    switch = _switch(test, analyzer, reason)
    left = asyncio.run(_switched(context.settings, organization, username, switch, on=True))
    _say_switches(left, as_json, "on")


def _switch(test: str, analyzer: str, reason: str) -> Switch:
    if test and analyzer:
        raise click.UsageError("a test or an analyzer, one at a time")
    scope = Scope.TEST if test else Scope.ANALYZER if analyzer else Scope.ORGANIZATION
    return Switch(scope, test or analyzer, reason)


async def _switched(
    settings: Settings, organization: str | None, username: str | None, switch: Switch, *, on: bool
) -> list[SwitchView]:
    from interface.flow import rules
    from interface.store.rules import drained

    async with desk(settings, organization, username, named=True) as at:
        async with at.transaction() as connection:
            change = rules.switch_on if on else rules.switch_off
            left = await change(connection, at.actor, switch)
        if not on:
            async with at.database.organization(at.actor.organization_id) as connection:
                if not await drained(connection, at.actor.organization_id):
                    text = "what was being decided before has not ended yet: it may still release"
                    click.echo(f"labora: {text}", err=True)
    return left


def _say_switches(left: list[SwitchView], as_json: bool, words: str) -> None:
    from interface.cli.rule import switch_row

    rows = [switch_row(one) for one in left]
    emit(rows, as_json, () if as_json else ("off", "what", "since", "by", "reason"))
    click.echo(f"autoverification is {words}" + ("; nothing is off" if not left else ""), err=True)
