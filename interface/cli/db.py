"""`labora db`: the database's schema and how to reach it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.db_hold import hold
from interface.settings import Settings

_ENVIRONMENT = "Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR, PGPASSWORD."


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What `labora db status` shows. `usable`: the schema is exactly this program's."""

    database: str
    server: str
    schema: str | None
    program: str
    pending: tuple[str, ...]
    usable: bool


@click.group()
def db() -> None:
    """Upgrade the database, show its state, delete what was kept long enough."""


db.add_command(hold)


@db.command(epilog=_ENVIRONMENT)
@pass_context
def upgrade(context: Context) -> None:
    """Bring the schema to this program's version.

    Makes the roles labora_owner and labora_app and the schema where they are missing. Everything happens in one
    transaction; a database that is up to date is left as it is.
    """
    applied = asyncio.run(_upgrade(context.settings))
    click.echo(f"upgraded to {applied[-1]}" if applied else "nothing to upgrade", err=True)


async def _upgrade(settings: Settings) -> list[str]:
    from interface.store.embedded import login_url
    from interface.store.migrate import upgrade

    async with login_url(settings) as url:
        return await upgrade(url)


@db.command(epilog=_ENVIRONMENT)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@pass_context
def status(context: Context, as_json: bool) -> int:
    """Show the schema's version and what is pending. Status 1 when the daemon could not use it as it is."""
    state = asyncio.run(_status(context.settings))
    emit(state, as_json)
    return 0 if state.usable else EXIT_FAILED


async def _status(settings: Settings) -> DatabaseState:
    from interface.store.db import open_connection
    from interface.store.driver_errors import store_errors
    from interface.store.embedded import login_url
    from interface.store.migrate import mismatch, status

    async with login_url(settings) as url:
        found = await status(url)
        connection = await open_connection(url)
        try:
            with store_errors():
                server = str(await connection.fetchval("select current_setting('server_version')"))
        finally:
            await connection.close()
    return DatabaseState(
        without_password(settings.database.url),
        server,
        found.current,
        found.head,
        found.pending,
        mismatch(found) is None,
    )


@db.command(epilog=_ENVIRONMENT)
@click.option(
    "--role", type=click.Choice(["app", "owner"]), default="app", show_default=True, help="Embedded: as whom."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@pass_context
def url(context: Context, role: str, as_json: bool) -> None:
    """Print the URL with which psql reaches the database, without its password.

    The embedded server answers while the daemon runs, to the daemon's user and root.
    """
    from interface.store.embedded import EmbeddedPostgres
    from interface.store.schema import APP_ROLE, OWNER_ROLE

    settings = context.settings
    if settings.database.url == "embedded":
        server = EmbeddedPostgres(settings.state_dir, settings.database.bin_dir)
        found = server.url(OWNER_ROLE if role == "owner" else APP_ROLE)
    else:
        found = without_password(settings.database.url)
    emit({"url": found} if as_json else found, as_json)


@db.command(epilog=_ENVIRONMENT)
@click.option("--dry-run", is_flag=True, help="Only say what `[retention]` would delete.")
@click.option("--keep", is_flag=True, help="Delete nothing that `[retention]` names: before a backup is made.")
@pass_context
def maintain(context: Context, dry_run: bool, keep: bool) -> None:
    """Make the partitions of the coming months, bring the links' wire logs back to their bounds, delete what
    patient-based quality control counted more than 400 days ago, and what was kept as long as `[retention]` says.

    Says each step when it is done; killed in the middle, it goes on the next time. The daemon does it where it may; a
    timer may too. See docs/retention.md for what is never deleted.
    """
    done = asyncio.run(_maintain(context.settings, dry_run, keep))
    click.echo("" if done else "nothing to do", err=True, nl=not done)


async def _maintain(settings: Settings, dry_run: bool, keep: bool) -> bool:
    """Whether anything was done, or would be. `keep`: without what `[retention]` names."""
    from datetime import UTC, datetime

    from interface.ops.retention import deleted
    from interface.store.embedded import login_url
    from interface.store.migrate import maintain
    from interface.store.upkeep import prune_counted, prune_wire_log

    said = 0

    def say(text: str) -> None:
        nonlocal said
        said += 1
        click.echo(text, err=True)

    async with login_url(settings) as url:
        if not dry_run:
            if made := await maintain(url):
                say(f"made {', '.join(made)}")
            if pruned := await prune_wire_log(settings, url):
                say(f"deleted {pruned} rows of wire log")
            if counted := await prune_counted(url):
                say(f"deleted {counted} counted values")
        if keep:
            return bool(said)
        async for one in deleted(url, settings.retention, datetime.now(UTC), dry_run=dry_run):
            done = "would delete" if dry_run else "deleted"
            kept = f", kept {one.kept}" if one.kept else ""
            say(f"{one.name}: {one.why or f'{done} {one.rows} rows{kept}'}")
    return bool(said)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    login, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("password", "sslpassword")]
    query = f"?{urlencode(kept, safe='/', quote_via=quote)}" if kept else ""
    return f"{parts.scheme}://{login.partition(':')[0]}{at}{host}{parts.path}{query}"
