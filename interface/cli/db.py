"""`labora db`: the database's schema and how to reach it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
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
    """Upgrade the database, show its state."""


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
    from interface.store.db import open_connection, store_errors
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
@pass_context
def maintain(context: Context) -> None:
    """Make the partitions of the coming months, bring the links' wire logs back to their bounds, and delete what
    patient-based quality control counted more than 400 days ago.

    The daemon does it where it may; a timer may too.
    """
    made, pruned, counted = asyncio.run(_maintain(context.settings))
    done = [f"made {', '.join(made)}"] if made else []
    done += [f"deleted {pruned} rows of wire log"] if pruned else []
    done += [f"deleted {counted} counted values"] if counted else []
    click.echo("; ".join(done) or "nothing to do", err=True)


async def _maintain(settings: Settings) -> tuple[list[str], int, int]:
    from interface.store.embedded import login_url
    from interface.store.migrate import maintain
    from interface.store.upkeep import prune_counted, prune_wire_log

    async with login_url(settings) as url:
        return await maintain(url), await prune_wire_log(settings, url), await prune_counted(url)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    login, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("password", "sslpassword")]
    query = f"?{urlencode(kept, safe='/', quote_via=quote)}" if kept else ""
    return f"{parts.scheme}://{login.partition(':')[0]}{at}{host}{parts.path}{query}"
