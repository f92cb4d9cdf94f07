"""`labora run`: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

import gc

import click

from interface.cli import Context, pass_context
from interface.errors import ConfigError, ConfigProblem
from interface.settings import ROLES, Role


@click.command(epilog="Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR.")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice([role.value for role in Role]),
    help="What this process does; may be given more than once.  [default: all]",
)  # fmt: skip
@pass_context
def run(context: Context, roles: tuple[str, ...]) -> int:
    """Run the daemon in the foreground.

    With --role it does a part: `links` talks to analyzers and hospitals, `workers` decides about what they sent and
    does what goes on beside, `api` serves HTTP. Other processes on the same database do the rest; it must not be the
    embedded one.

    SIGTERM and Ctrl-C drain and stop it. SIGHUP reads the configuration file again and changes the links that differ;
    a file with problems changes nothing.
    Logs are JSON lines on stderr.
    """
    gc.disable()  # until it is ready: what is imported stays, and to look through it costs a tenth of the start
    settings = context.settings  # before the daemon is imported: a faulty file is reported at once
    chosen = frozenset(map(Role, roles)) or ROLES
    if chosen != ROLES and settings.database.url == "embedded":
        text = "must be a server of its own where processes share the work (--role): the embedded one is one daemon's"
        raise ConfigError([ConfigProblem("database.url", text)])
    from interface.daemon import run_daemon

    return run_daemon(settings, chosen)
