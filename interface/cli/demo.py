"""`labora demo`: the whole way once, and the table of what an EMR reads."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, EXIT_INTERRUPTED, emit, table

if TYPE_CHECKING:
    from interface.demo.run import Pass


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop after the pass instead of running until Ctrl-C.")
@click.option("--tamper", is_flag=True, help="Play one value otherwise than expected, to see that it is found.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False),
    help="Where the demo's database is kept between runs.  [default: demo in the state directory]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
def demo(leave: bool, tamper: bool, state_dir: Path | None, as_json: bool) -> int:
    """Run the whole way once, from analyzers to an EMR.

    Starts the daemon on a database of its own, places orders over REST, plays the drivers' recorded conversations as
    the analyzers, releases what nothing holds, reads it back over FHIR as an EMR and compares it with what was sent.
    Touches no other configuration or database. Status 1 when anything differs.

    Environment: LABORA_STATE_DIR.
    """
    from interface import telemetry
    from interface.demo import run, site

    telemetry.configure_logs(logging.WARNING)
    started = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - started:6.1f} s  {text}", err=True)

    def show(done: Pass) -> None:
        if as_json:
            emit({"outcomes": done.outcomes, "base_url": done.base_url, "seconds": round(done.seconds, 1)}, True)
        else:
            _show(done, stay=not leave)

    folder = (state_dir or site.state_dir(os.environ)).absolute()
    try:
        done = asyncio.run(run.demo(folder, tamper, say, show, stay=not leave))
    except asyncio.CancelledError:  # SIGTERM before there was anything to show
        return EXIT_INTERRUPTED
    return EXIT_FAILED if done.differences else 0


def _show(done: Pass, stay: bool) -> None:
    rows = [row for outcome in done.outcomes for row in outcome.rows]
    held = [one for outcome in done.outcomes for one in outcome.held]
    cells = [(row.specimen, row.test, row.value, row.unit, row.flag, row.status) for row in rows]
    click.echo("\n" + table(("specimen", "test", "value", "unit", "flag", "status"), cells))
    click.echo(f"\n{len(rows)} results read over FHIR, {len(held)} held and seen by no EMR.")
    if held:
        one = next((each for each in held if each.reasons == ("no_such_specimen",)), held[0])  # the plainest reason
        click.echo(f"Held: specimen {one.specimen}, code {one.code}, {one.raw_value!r}: {', '.join(one.reasons)}")
    for difference in done.differences:
        click.echo(f"DIFFERENCE  {difference}")
    verdict = "What was read is not what was sent." if done.differences else "What was read is what was sent."
    click.echo(f"{verdict}  ({done.seconds:.1f} s)")
    _say_where(done, stay)


def _say_where(done: Pass, stay: bool) -> None:
    ends = "The daemon keeps running; Ctrl-C stops it." if stay else "The daemon stops now; without --exit it stays."
    who = done.credentials
    click.echo(
        f"""
  FHIR     {done.base_url}/fhir/metadata
  health   {done.base_url}/health  {done.base_url}/ready  {done.base_url}/metrics
  REST     {done.base_url}/api/results  (POST /api/login: organization {who.organization}, user {who.username},
           password {who.password})

curl -H 'Authorization: Bearer {done.emr_token}' '{done.base_url}/fhir/Observation?patient={done.patient_id}'

{ends}"""
    )
