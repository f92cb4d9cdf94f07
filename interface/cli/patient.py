"""`labora patient`: find, add, change, merge and split patients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from interface.cli import Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, laboratory_options
from interface.domain.model import Sex
from interface.domain.permissions import Permission
from interface.domain.times import day_after
from interface.domain.views import Actor, IdentifierView, PatientView

if TYPE_CHECKING:
    from interface.flow.people import Duplicate
    from interface.settings import Settings
    from interface.store.db import Connection

_Command = TypeVar("_Command", bound=Callable[..., Any])
DAY = click.DateTime(["%Y-%m-%d"])
_reason = click.option("--reason", required=True, help="Why; it is kept.")


@click.group()
def patient() -> None:
    """Find, add, change and merge patients."""


def identifier_of(text: str) -> IdentifierView:
    """`AUTHORITY|VALUE`, or a value of the laboratory's own."""
    authority, _, value = text.rpartition("|")
    return IdentifierView(authority, value)


def _named(command: _Command) -> _Command:
    """What is said of a patient."""
    for option in (
        click.option("--sex", type=click.Choice([sex.value for sex in Sex])),
        click.option("--birth-at", type=INSTANT, help="With the hour; its day is the birth date."),
        click.option("--birth-date", type=DAY),
        click.option("--given"),
        click.option("--family"),
    ):
        command = option(command)
    return command


# ---- reading ---------------------------------------------------------------------------------------------------------


@patient.command("list", epilog=ENVIRONMENT)
@click.option("--name", default="", help="Beginnings of words of the name, in any order, without accents.")
@click.option("--family", default="")
@click.option("--given", default="")
@click.option("--identifier", metavar="[AUTHORITY|]VALUE")
@click.option("--birth-date", type=DAY)
@click.option("--active/--inactive", default=None, help="Merged into another is inactive too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@laboratory_options
@pass_context
def list_patients(
    context: Context,
    name: str,
    family: str,
    given: str,
    identifier: str | None,
    birth_date: datetime | None,
    active: bool | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """List patients, newest change first."""
    from interface.store.patients import PatientFilter, find_patients
    from interface.store.query import Page

    known = identifier_of(identifier) if identifier else None
    born = birth_date.date() if birth_date else None
    chosen = PatientFilter(
        identifier=known.value if known else "",
        authority=known.authority or None if known else None,
        family=family,
        given=given,
        name=name,
        born_since=born,
        born_until=day_after(born),
        active=active,
        page=Page(newest_first=True, limit=limit),
    )

    async def find() -> list[PatientView]:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.PATIENT_READ)
            async with at.transaction() as connection:
                found = await find_patients(connection, chosen)
                await at.note_read(connection, "search", "patient", None, [view.id for view in found])
        return found

    found = asyncio.run(find())
    _show(found, as_json)
    if not found:
        click.echo("no patients", err=True)
    elif len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


@patient.command("show", epilog=ENVIRONMENT)
@click.argument("patient_id", metavar="ID", type=click.UUID)
@laboratory_options
@pass_context
def show(context: Context, patient_id: UUID, organization: str | None, username: str | None, as_json: bool) -> None:
    """Show a patient, with the identifiers that have ended and what was merged."""
    from interface.store.patients import former_identifiers, get_patient

    async def find() -> Any:
        async with desk(context.settings, organization, username, named=False) as at:
            at.require(Permission.PATIENT_READ)
            async with at.transaction() as connection:
                view = await get_patient(connection, patient_id)
                former = await former_identifiers(connection, patient_id)
                await at.note_read(connection, "read", "patient", patient_id)
        if view is None:
            raise CommandError("there is no patient of this id")
        return {**{name: getattr(view, name) for name in view.__slots__}, "former_identifiers": former}

    found = asyncio.run(find())
    if not as_json:
        found["identifiers"] = tuple(map(_number, found["identifiers"]))
        found["former_identifiers"] = tuple(map(_number, found["former_identifiers"]))
    emit(found, as_json)
    if found["merged_into"]:
        click.echo(f"merged into {found['merged_into']}, which is to be used in its place", err=True)


@patient.command("duplicates", epilog=ENVIRONMENT)
@click.argument("patient_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--since", type=INSTANT, help="Without an id: of the patients added since then.  [default: a week ago]")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="For each patient.")
@laboratory_options
@pass_context
def duplicates(
    context: Context,
    patient_id: UUID | None,
    since: datetime | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Propose who may be registered twice, the likeliest first. Nothing is changed: merge does that."""
    found = asyncio.run(_duplicates(context.settings, organization, username, patient_id, aware(since), limit))
    if as_json:
        emit([{"of": of, **{name: getattr(one, name) for name in one.__slots__}} for of, one in found], True)
    else:
        emit([_pair(of, one) for of, one in found], False)
    if not found:
        click.echo("nobody", err=True)


async def _duplicates(
    settings: Settings,
    organization: str | None,
    username: str | None,
    patient_id: UUID | None,
    since: datetime | None,
    limit: int,
) -> list[tuple[UUID, Duplicate]]:
    from interface.flow import people
    from interface.store.people import added_since

    found: list[tuple[UUID, Duplicate]] = []
    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.PATIENT_READ)
        async with at.transaction() as connection:
            ids = [patient_id] if patient_id else await added_since(connection, since)
            for id in ids:
                found += [(id, one) for one in await people.duplicates_of(connection, id, limit)]
            shown = [each for of, one in found for each in (of, one.patient.id)]
            await at.note_read(connection, "duplicates", "patient", patient_id, shown, {"found": str(len(found))})
    return sorted(found, key=lambda pair: -pair[1].score)


# ---- changing --------------------------------------------------------------------------------------------------------


@patient.command("create", epilog=ENVIRONMENT)
@click.option("--identifier", "identifiers", multiple=True, metavar="[AUTHORITY|]VALUE")
@_named
@laboratory_options
@pass_context
def create(
    context: Context,
    identifiers: tuple[str, ...],
    family: str | None,
    given: str | None,
    birth_date: datetime | None,
    birth_at: datetime | None,
    sex: str | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Add a patient; says on stderr who may be the same."""
    from interface.flow import people

    new = people.NewPatient(
        tuple(map(identifier_of, identifiers)),
        family or "",
        given or "",
        birth_date.date() if birth_date else None,
        Sex(sex or Sex.UNKNOWN),
        aware(birth_at),
    )

    async def add(connection: Connection, actor: Actor) -> tuple[PatientView, list[Duplicate]]:
        view = await people.create_patient(connection, actor, new)
        return view, await people.duplicates_of(connection, view.id, 3)

    view, alike = _change(context, organization, username, add)
    _show(view, as_json)
    for one in alike:
        click.echo(f"may be the same: {one.patient.id} ({one.score}: {', '.join(one.reasons)})", err=True)


@patient.command("update", epilog=ENVIRONMENT)
@click.argument("patient_id", metavar="ID", type=click.UUID)
@_named
@click.option("--no-birth-date", is_flag=True, help="It is not known, after all.")
@click.option("--no-birth-at", is_flag=True, help="The hour is not known, after all.")
@click.option("--active/--inactive", default=None, help="Nothing is ordered for who is inactive.")
@click.option("--add-identifier", "added", multiple=True, metavar="[AUTHORITY|]VALUE")
@click.option("--end-identifier", "ended", multiple=True, metavar="[AUTHORITY|]VALUE", help="Needs --reason.")
@click.option("--reason", default="", help="Why an identifier ends.")
@click.option("--version", type=int, help="What you looked at.  [default: as it is now]")
@laboratory_options
@pass_context
def update(
    context: Context,
    patient_id: UUID,
    family: str | None,
    given: str | None,
    birth_date: datetime | None,
    birth_at: datetime | None,
    sex: str | None,
    no_birth_date: bool,
    no_birth_at: bool,
    active: bool | None,
    added: tuple[str, ...],
    ended: tuple[str, ...],
    reason: str,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Change what is said of a patient; what is not given stays."""
    from interface.flow import people
    from interface.store.patients import get_patient

    cleared = {"birth_date": no_birth_date, "birth_at": no_birth_at}
    change = people.PatientChange(
        family=family,
        given=given,
        birth_date=birth_date.date() if birth_date else None,
        birth_at=aware(birth_at),
        sex=Sex(sex) if sex else None,
        active=active,
        cleared=frozenset(name for name, wanted in cleared.items() if wanted),
    )

    async def apply(connection: Connection, actor: Actor) -> PatientView:
        known = await get_patient(connection, patient_id)
        looked_at = version if version is not None else known.version if known else 0
        view = await people.update_patient(connection, actor, patient_id, change, looked_at)
        for text in ended:
            gone = identifier_of(text)
            view = await people.end_identifier(connection, actor, patient_id, gone.authority, gone.value, reason)
        for text in added:
            view = await people.add_identifier(connection, actor, patient_id, identifier_of(text))
        return view

    _show(_change(context, organization, username, apply), as_json)


@patient.command("merge", epilog=ENVIRONMENT)
@click.argument("prior", type=click.UUID)
@click.argument("survivor", type=click.UUID)
@_reason
@click.option("--accept-differences", is_flag=True, help="Although birth date or sex differ.")
@laboratory_options
@pass_context
def merge(
    context: Context,
    prior: UUID,
    survivor: UUID,
    reason: str,
    accept_differences: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Say that PRIOR is SURVIVOR, who is to be used from now on. No row is moved; unmerge takes it back."""
    from interface.flow import people

    _show(
        _change(
            context,
            organization,
            username,
            lambda connection, actor: people.merge(connection, actor, prior, survivor, reason, accept_differences),
        ),
        as_json,
    )


@patient.command("unmerge", epilog=ENVIRONMENT)
@click.argument("prior", type=click.UUID)
@_reason
@laboratory_options
@pass_context
def unmerge(
    context: Context, prior: UUID, reason: str, organization: str | None, username: str | None, as_json: bool
) -> None:
    """Take back that PRIOR was merged into another: what was of it is of it again.

    Then come the results that were compared with the other person's meanwhile, and the orders that were placed then
    and are the survivor's: look at them again.
    """
    from interface.flow import people

    view = _change(
        context, organization, username, lambda connection, actor: people.unmerge(connection, actor, prior, reason)
    )
    _show(view, as_json)
    if view.look_again and not as_json:
        emit(list(view.look_again), False)
    if view.look_again:
        count = f"{len(view.look_again)} result{'s' * (len(view.look_again) != 1)}"
        click.echo(f"look again: {count} compared with the other person's", err=True)
    if view.ordered_meanwhile and not as_json:
        emit(list(view.ordered_meanwhile), False)
    if view.ordered_meanwhile:
        count = f"{len(view.ordered_meanwhile)} order{'s' * (len(view.ordered_meanwhile) != 1)}"
        click.echo(f"look again: {count} placed on the survivor's record meanwhile, whomever it was for", err=True)


_Made = TypeVar("_Made")


def _change(
    context: Context,
    organization: str | None,
    username: str | None,
    change: Callable[[Connection, Actor], Awaitable[_Made]],
) -> _Made:
    async def run() -> _Made:
        async with desk(context.settings, organization, username, named=True) as at, at.transaction() as connection:
            return await change(connection, at.actor)

    return asyncio.run(run())


# ---- showing ---------------------------------------------------------------------------------------------------------


def _show(views: list[PatientView] | PatientView, as_json: bool) -> None:
    if as_json:
        emit(views, True)
        return
    emit([_line(view) for view in (views if isinstance(views, list) else [views])], False)


def _line(view: PatientView) -> dict[str, object]:
    return {
        "family": view.family,
        "given": view.given,
        "born": view.birth_date,
        "sex": view.sex,
        "identifiers": tuple(map(_number, view.identifiers)),
        "state": f"merged into {view.merged_into}" if view.merged_into else "" if view.active else "inactive",
        "version": view.version,
        "id": view.id,
    }


def _pair(of: UUID, one: Duplicate) -> dict[str, object]:
    return {
        "of": of,
        "score": one.score,
        "likely": "likely" if one.likely else "",
        "why": ", ".join(one.reasons),
        **_line(replace(one.patient, identifiers=())),
    }


def _number(identifier: Any) -> str:
    return f"{identifier.authority}|{identifier.value}" if identifier.authority else str(identifier.value)
