"""`labora run`: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

import click

from interface.cli import Context, pass_context


@click.command(epilog="Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR.")
@pass_context
def run(context: Context) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C drain and stop it. SIGHUP reads the configuration file again and changes the links that differ;
    a file with problems changes nothing.
    Logs are JSON lines on stderr.
    """
    settings = context.settings  # before the daemon is imported: a faulty file is reported at once
    from interface.daemon import run_daemon

    return run_daemon(settings)
