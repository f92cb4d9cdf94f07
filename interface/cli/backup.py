"""`labora backup`: make backups of the database, prove that they can be restored, restore them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import INSTANT, json_option
from interface.errors import LaboraError

if TYPE_CHECKING:
    from interface.ops.backup import BackupInfo
    from interface.settings import Settings
    from interface.store.databases import Replaced

_ENVIRONMENT = """Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR, PGPASSWORD; for the upload
LABORA_S3_ACCESS_KEY and LABORA_S3_SECRET_KEY."""


_identity_option = click.option(
    "--identity", type=click.Path(path_type=Path, dir_okay=False), envvar="LABORA_BACKUP_IDENTITY", show_envvar=True,
    help="File of the private key, for a backup encrypted with age.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    taken_at: datetime
    age: str
    bytes: int
    encryption: str
    schema: str
    state: str


@click.group()
def backup() -> None:
    """Make backups of the database, prove that they can be restored, restore them."""


@backup.command(epilog=_ENVIRONMENT)
@click.option(
    "--directory", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where to, in place of `[backup]`."
)
@click.option("--plain", is_flag=True, help="Neither encrypted nor uploaded, whatever `[backup]` says.")
@json_option
@pass_context
def create(context: Context, folder: Path | None, plain: bool, as_json: bool) -> int:
    """Make a backup, beside a daemon that may be running, and delete those kept long enough.

    Prints its name. It is consistent, compressed, and encrypted where `[backup]` names recipients. --plain is for one
    that stays on this machine for an hour, as before an upgrade.
    """
    from interface.ops.backup import create

    made = asyncio.run(create(_as_asked(context.settings, folder, plain)))
    info, manifest = made.info, made.manifest
    if as_json:
        emit({"name": info.name, "path": info.path, "taken_at": info.taken_at, "bytes": info.bytes,
              "sha256": manifest.stored.sha256, "encryption": info.encryption, "schema": info.schema,
              "seconds": round(made.seconds, 1), "uploaded": made.uploaded, "deleted": made.deleted}, True)  # fmt: skip
    else:
        emit(info.name, False)
    rows = manifest.tables
    click.echo(
        f"{rows['message'].rows} messages, {rows['result'].rows} results in {rows['result_version'].rows} versions, "
        f"{rows['audit_event'].rows} audit rows; {info.bytes} bytes in {made.seconds:.1f} s",
        err=True,
    )
    if info.encryption.value == "none":
        click.echo("not encrypted: [backup] names no recipient", err=True)
    for name in made.deleted:
        click.echo(f"deleted {name}", err=True)
    if made.uploaded:
        click.echo(f"copied to {made.uploaded}", err=True)
    if made.problem:
        click.echo(made.problem, err=True)
    return EXIT_FAILED if made.problem else 0


def _as_asked(settings: Settings, folder: Path | None, plain: bool) -> Settings:
    asked = settings.backup
    if folder is not None:
        asked = replace(asked, directory=folder.absolute())
    if plain:
        asked = replace(asked, recipients=(), gpg_recipients=(), upload=None)
    return replace(settings, backup=asked)


@backup.command("list", epilog=_ENVIRONMENT)
@json_option
@pass_context
def list_all(context: Context, as_json: bool) -> None:
    """List the backups, the newest first, and say which replaced database still waits."""
    from interface.ops.backup import directory, found

    now = datetime.now(UTC)
    infos = found(context.settings)
    emit([_row(one, now) for one in infos], as_json)
    if not infos:
        click.echo(f"no backups in {directory(context.settings)}", err=True)
    for one in asyncio.run(_waiting(context.settings)):
        click.echo(
            f"the database {one.name}, replaced at {one.at.isoformat()}, waits: `labora backup confirm` drops it, "
            "`labora backup restore --back` takes the restore back",
            err=True,
        )


async def _waiting(settings: Settings) -> tuple[Replaced, ...]:
    from interface.ops.backup_restore import replaced

    try:
        return await replaced(settings)
    except LaboraError as error:
        click.echo(f"whether a replaced database waits is not known: {error}", err=True)
        return ()


def _row(info: BackupInfo, now: datetime) -> _Row:
    state = "whole" if info.whole else "cut"
    return _Row(info.name, info.taken_at, _span(now - info.taken_at), info.bytes, info.encryption, info.schema, state)


def _span(span: timedelta) -> str:
    """A time as a person says it."""
    if span < -timedelta(hours=1):
        return "not known (dated ahead: a clock was or is wrong)"
    seconds = max(0, int(span.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


@backup.command(epilog=_ENVIRONMENT)
@click.argument("name", required=False)
@_identity_option
@click.option("--checksum", is_flag=True, help="Compare the file with its checksum only; needs no key.")
@json_option
@pass_context
def verify(context: Context, name: str | None, identity: Path | None, checksum: bool, as_json: bool) -> int:
    """Restore a backup into a database made for it, and compare everything. NAME: its name or path; else the newest.

    Every table's rows and digest must be those of the moment it was taken, every audit trail whole. Prints how much
    would be lost now (RPO) and how long the restore took (RTO). Status 1 on any difference. The daemon is not touched.
    """
    from interface.ops.backup_verify import verify

    verdict = asyncio.run(verify(context.settings, name, identity, only_checksum=checksum))
    if as_json:
        emit(verdict, True)
    else:
        emit(verdict.name, False)
    for text in verdict.differences:
        click.echo(text, err=True)
    if verdict.seconds is not None:
        click.echo(f"RPO {_span(timedelta(seconds=verdict.age_s))}: what was stored since is not in it", err=True)
        click.echo(
            f"RTO {verdict.seconds:.1f} s: restored {verdict.rows} rows and compared them in PostgreSQL "
            f"{verdict.server}",
            err=True,
        )
    click.echo("differs from what was backed up" if verdict.differences else "good", err=True)
    return EXIT_FAILED if verdict.differences else 0


@backup.command(epilog=_ENVIRONMENT)
@click.argument("name", required=False)
@_identity_option
@click.option("--back", is_flag=True, help="Take the last restore back: the database that it replaced comes again.")
@json_option
@pass_context
def restore(context: Context, name: str | None, identity: Path | None, back: bool, as_json: bool) -> None:
    """Put a backup into the place of the database. NAME: its name or path; else the newest. The daemon must be stopped.

    It is restored beside the database, compared, brought to this program's schema, and put into its place by renaming,
    all or nothing. The replaced database waits until `labora backup confirm`. Numbers, work ids and positions of the
    feed go on beyond all that can have been given since; nobody is logged in any more. See docs/backup.md for what to
    tell analyzers and EMRs.
    """
    if back:
        _take_back(context.settings, as_json)
        return
    from interface.ops.backup_restore import restore

    done = asyncio.run(restore(context.settings, name, identity))
    emit(done if as_json else done.name, as_json)
    since = done.taken_at.isoformat(timespec="seconds")
    lines = [
        f"RPO {_span(timedelta(seconds=done.age_s))}: what was stored after {since} is not in it",
        f"RTO {done.seconds:.1f} s: checked, restored, compared, in its place",
        *([f"schema upgraded to {done.applied[-1]}"] if done.applied else []),
        f"have analyzers and hospitals send again what they sent since {since}; EMRs read anew (docs/backup.md)",
        "users and clients log in again; those disabled since are enabled again: look at them",
    ]
    if done.replaced:
        lines.append(f"the replaced database waits as {done.replaced}: `labora backup confirm` drops it")
    for line in lines:
        click.echo(line, err=True)


def _take_back(settings: Settings, as_json: bool) -> None:
    from interface.ops.backup_restore import take_back

    found = asyncio.run(take_back(settings))
    emit(found if as_json else found.name, as_json)
    click.echo("it is in its place again; the restored one waits: `labora backup confirm` drops it", err=True)


@backup.command(epilog=_ENVIRONMENT)
@json_option
@pass_context
def confirm(context: Context, as_json: bool) -> None:
    """Drop the databases that restores have replaced. They cannot come again."""
    from interface.ops.backup_restore import confirm

    names = asyncio.run(confirm(context.settings))
    emit(names if as_json else "\n".join(names), as_json) if names or as_json else None
    click.echo(f"dropped {len(names)}" if names else "no replaced database waits", err=True)


@backup.command(epilog=_ENVIRONMENT)
@click.option(
    "--taken-at", required=True, type=INSTANT, help="The moment that the database was brought back to; UTC if unsaid."
)
@pass_context
def adopt(context: Context, taken_at: datetime) -> None:
    """Let a database go on that was brought back to an earlier moment by other means than `labora backup restore`.

    As `scripts/pitr restore` does, or the snapshot of a disk. Before the daemon starts: numbers, work ids and positions
    of the feed go on beyond all that can have been given since; nobody is logged in any more.
    """
    from interface.ops.backup_restore import adopt

    at = taken_at if taken_at.tzinfo else taken_at.replace(tzinfo=UTC)
    asyncio.run(adopt(context.settings, at))
    click.echo(f"it goes on from {at.isoformat()}", err=True)
