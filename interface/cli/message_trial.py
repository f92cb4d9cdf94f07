"""What `labora message replay --dry-run` tries in place of what is in force: files and names as they were given."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interface.cli import EXIT_FAILED, emit
from interface.cli.laboratory import Desk
from interface.domain.map_files import FileFaults

if TYPE_CHECKING:
    from interface.driver.manifest import Driver
    from interface.flow.context import LinkContext
    from interface.flow.trial import Trial, TrialError
    from interface.settings import Settings

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


async def prepared(
    at: Desk, settings: Settings, organization: str, links: Collection[LinkContext], map_file: Path | None,
    driver: str | None, rules: str | None, link: str | None,
) -> Trial:  # fmt: skip
    """What is to be tried, checked as when it would be put in force. Raises TrialError, UsageError, CommandError."""
    from interface.cli.map_change import read_file
    from interface.cli.rule import read_text
    from interface.errors import DriverError
    from interface.flow.map_facts import analyzers_of
    from interface.flow.trial import Offered, TrialError, prepare

    text, rules_file, rule_set = "", "", None
    if rules is not None and _is_file(rules):
        text, rules_file = read_text(Path(rules)), rules
    elif rules is not None:
        rule_set = _revision(rules)
    faults: list[str] = []
    rows = of = None
    try:
        rows = None if map_file is None else read_file(map_file)
    except FileFaults as error:
        faults += map(str, error.faults)
    try:
        of = None if driver is None else await _driver(at, settings, driver)
    except DriverError as error:
        faults.append(str(error))
    if faults:
        raise TrialError(faults)
    offered = Offered(rows, of, text, rules_file, rule_set, link or "")
    trial = await prepare(at.database, at.actor, offered, analyzers_of(settings, organization), links)
    for note in trial.notes:
        click.echo(note, err=True)
    return trial


def refuse(error: TrialError, as_json: bool) -> int:
    """Say every fault of what was to be tried; the exit status."""
    if as_json:
        emit({"done": False, "faults": list(error.faults)}, True)
    for fault in error.faults:
        click.echo(f"labora: {fault}", err=True)
    click.echo("labora: nothing was tried", err=True)
    return EXIT_FAILED


def _is_file(text: str) -> bool:
    return "/" in text or text.endswith(".toml") or Path(text).is_file()


def _revision(text: str) -> tuple[str, int]:
    name, _, number = text.partition("@")
    if not name or not (number.isascii() and number.isdigit()):
        raise click.UsageError("--rules is a file, or NAME@REVISION such as default@3")
    return name, int(number)


async def _driver(at: Desk, settings: Settings, text: str) -> Driver:
    """The driver of a file; else of its folder, or as it was at a revision that a link has run. Raises DriverError."""
    from interface.cli.rule import read_text
    from interface.driver import registry
    from interface.driver.parse import parse_manifest
    from interface.driver.revisions import split_pin
    from interface.errors import DriverError
    from interface.flow.pinning import read_manifest

    if _is_file(text):
        return parse_manifest(read_text(Path(text)), text)
    name, revision = split_pin(text)
    folder = registry.load(name, settings.driver_path)
    if revision in ("", folder.revision):
        return folder
    async with at.transaction() as connection:
        kept = await read_manifest(connection, at.actor.organization_id, name, revision)
    if kept is None:
        raise DriverError(f"there is no revision {revision!r} of {name}: its folder has {folder.revision!r}")
    return parse_manifest(kept, text, name)
