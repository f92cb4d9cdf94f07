"""`labora run`: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from interface.cli import Context, pass_context


@click.command(epilog="Environment: LABORA_CONFIG, LABORA_DATABASE_URL, LABORA_STATE_DIR.")
@pass_context
def run(context: Context) -> int:
    """Run the daemon in the foreground.

    SIGTERM and Ctrl-C drain and stop it, SIGHUP reads the configuration again. Logs are JSON lines on stderr.
    """
    with _absent("rich"):
        settings = context.settings  # before the daemon is imported: a faulty file is reported at once
        from interface.daemon import run_daemon

    return run_daemon(settings)


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Import without an optional package: structlog takes rich where the tests' tools brought it, a tenth of a start
    for consoles that a daemon does not write to."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
