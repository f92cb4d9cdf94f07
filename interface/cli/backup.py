"""`labora backup`: make backups of the database, prove that they can be restored, restore them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import json_option

if TYPE_CHECKING:
    from interface.ops.backup import BackupInfo

_ENVIRONMENT = """Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR, PGPASSWORD; for the upload
LABORA_S3_ACCESS_KEY and LABORA_S3_SECRET_KEY."""


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
@json_option
@pass_context
def create(context: Context, as_json: bool) -> None:
    """Make a backup, beside a daemon that may be running, and delete those kept long enough.

    Prints its name. It is consistent, compressed, and encrypted where `[backup]` names recipients.
    """
    from interface.ops.backup import create

    made = asyncio.run(create(context.settings))
    info, manifest = made.info, made.manifest
    if as_json:
        emit({"name": info.name, "path": info.path, "taken_at": info.taken_at, "bytes": info.bytes,
              "sha256": manifest.stored.sha256, "encryption": info.encryption, "schema": info.schema,
              "seconds": round(made.seconds, 1), "deleted": made.deleted}, True)  # fmt: skip
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


@backup.command("list", epilog=_ENVIRONMENT)
@json_option
@pass_context
def list_all(context: Context, as_json: bool) -> None:
    """List the backups, the newest first."""
    from interface.ops.backup import directory, found

    now = datetime.now(UTC)
    infos = found(context.settings)
    emit([_row(one, now) for one in infos], as_json)
    if not infos:
        click.echo(f"no backups in {directory(context.settings)}", err=True)


def _row(info: BackupInfo, now: datetime) -> _Row:
    state = "whole" if info.whole else "cut"
    return _Row(info.name, info.taken_at, _span(now - info.taken_at), info.bytes, info.encryption, info.schema, state)


def _span(span: timedelta) -> str:
    """A time as a person says it."""
    seconds = max(0, int(span.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


@backup.command(epilog=_ENVIRONMENT)
@click.argument("name", required=False)
@click.option(
    "--identity", type=click.Path(path_type=Path, dir_okay=False), envvar="LABORA_BACKUP_IDENTITY", show_envvar=True,
    help="File of the private key, for a backup encrypted with age.",
)  # fmt: skip
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
