"""`labora doctor`: what is wrong here, or will be, and the command that mends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context

if TYPE_CHECKING:
    from interface.domain.alerts import Severity
    from interface.ops.findings import Finding
    from interface.settings import Settings


@click.command()
@click.option("--quiet", is_flag=True, help="Say only what is not well.")
@click.option("--alert", is_flag=True, help="Make alerts of what only this user sees: services, backups.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@pass_context
def doctor(context: Context, quiet: bool, alert: bool, as_json: bool) -> int:
    """Look at everything that could go wrong: disks, clock, certificates, services, database, what waits.

    May be run beside the daemon or without it, and changes nothing but alerts, with --alert (a timer runs it so; what
    the daemon sees itself it makes alerts of every minute, and while it does not answer they are told from here).
    Status 1 where something must be seen to; what is only a notice does not count.
    """
    from interface.domain.alerts import Severity
    from interface.ops.findings import worst

    found = asyncio.run(_examined(context.settings, quiet, alert, tell=not as_json))
    if as_json:
        emit(found, True)
    gravest = worst(found)
    return EXIT_FAILED if gravest is not None and gravest.rank >= Severity.WARNING.rank else 0


async def _examined(settings: Settings, quiet: bool, alert: bool, *, tell: bool) -> list[Finding]:
    from interface.config.roster import load_roster
    from interface.ops.doctor import enter_alerts, examine, tell_alerts, unanswered

    found, looked_at = [], []
    async for finding in examine(settings):
        looked_at.append(finding)
        if quiet and finding.severity is None:
            continue
        found.append(finding)
        if tell:
            click.echo(line(finding))
    if alert:
        await enter_alerts(settings, looked_at)
        if unanswered(looked_at):  # who else would say that it is dead
            await tell_alerts(settings, load_roster(settings.alerts))
    return found


def line(finding: Finding) -> str:
    """A finding as it is shown, with its command below it."""
    said = f"{_word(finding.severity)} {finding.subject}: {finding.text}"
    return f"{said}\n{'':9}→ {finding.command}" if finding.command else said


def _word(severity: Severity | None) -> str:
    return click.style(f"{severity or 'ok':8}", fg=_COLOURS[str(severity or "ok")])


_COLOURS = {"ok": "green", "notice": "cyan", "warning": "yellow", "urgent": "red"}
