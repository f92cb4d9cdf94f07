"""`labora check`: what would keep the daemon from starting, found without starting it."""

from __future__ import annotations

import asyncio
import errno
import http.client
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from interface.cli import EXIT_CONFIG, EXIT_FAILED, Context, emit, explain, pass_context
from interface.cli.laboratory import CommandError
from interface.errors import ConfigError, LaboraError
from interface.settings import Address, ApiSettings, Folder, SerialPort, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `status` is the exit status it asks for: 0 fine, 1 failed, 78 configuration."""

    subject: str
    status: int
    text: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@pass_context
def check(context: Context, as_json: bool) -> int:
    """Check the configuration, drivers, ports and database.

    Changes nothing, and may be run beside the daemon. Status 0 when it could start, 78 when the configuration is wrong,
    1 when something else stands in the way of it or of a link.
    """
    settings = context.settings
    findings = [Finding(str(settings.source), 0, "read")]
    if not as_json:
        _say(findings[0])
    for finding in _look(settings):
        findings.append(finding)
        if not as_json:
            _say(finding)
    if as_json:
        emit(findings, True)
    statuses = {finding.status for finding in findings}
    return EXIT_CONFIG if EXIT_CONFIG in statuses else EXIT_FAILED if EXIT_FAILED in statuses else 0


def _say(finding: Finding) -> None:
    click.echo(f"{'problem' if finding.status else 'ok     '}  {finding.subject}: {finding.text}")


def _look(settings: Settings) -> Iterator[Finding]:
    yield _state_dir(settings)
    yield from _drivers(settings)
    yield from _ports(settings)
    yield from _certificates(settings)
    yield from asyncio.run(_database(settings))


def _state_dir(settings: Settings) -> Finding:
    """Whether this user could keep files there, and the embedded server's account reach them."""
    state_dir = settings.state_dir
    at = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
        return Finding("state_dir", EXIT_CONFIG, f"{state_dir} cannot be written by this user, see {at}")
    if settings.database.url == "embedded":
        from interface.store.programs import server_account

        account = server_account(state_dir / "pg" / "data")
        blocked = account.blocked_at(at)
        if blocked is not None:
            text = f"PostgreSQL runs as {account.name}, who may not pass through {blocked}"
            return Finding("state_dir", EXIT_CONFIG, text)
    return Finding("state_dir", 0, f"{state_dir}" if at == state_dir else f"{state_dir} will be created")


def _drivers(settings: Settings) -> Iterator[Finding]:
    """What the links' drivers are; that they can be used was part of reading the configuration."""
    from interface.driver import registry

    for name in dict.fromkeys(link.driver for link in settings.links):
        driver = registry.load(name, settings.driver_path)
        yield Finding(f"driver {name}", 0, f"revision {driver.revision}, {driver.tier}")


def _ports(settings: Settings) -> Iterator[Finding]:
    ours = daemon_answers(settings.api)
    yield _address("api.listen", settings.api.listen, ours)
    for index, link in enumerate(settings.links):
        endpoint = link.transport.endpoint
        if not isinstance(endpoint, Address):
            key = "port" if isinstance(endpoint, SerialPort) else "path"
            yield look_at(f"link[{index}].transport.{key}", endpoint, ours)
        elif link.transport.type.dials:  # not tried: an analyzer may take one connection, and the daemon has it
            yield Finding(f"link[{index}].transport.dial", 0, f"{endpoint} will be dialled")
        else:
            yield look_at(f"link[{index}].transport.listen", endpoint, ours)


def _certificates(settings: Settings) -> Iterator[Finding]:
    """When they end; nothing of a link is stopped by one that has expired, and its peers may refuse it."""
    from interface.domain.alerts import Severity
    from interface.ops.machine import certificates

    for found in certificates(settings):
        late = found.severity is not None and found.severity.rank >= Severity.URGENT.rank
        yield Finding(str(found.subject), EXIT_FAILED if late else 0, found.text)


def look_at(subject: str, endpoint: Address | SerialPort | Folder, ours: bool) -> Finding:
    """Whether it can be opened, listened on or used; `ours`: a Labora runs here, which may hold it."""
    if isinstance(endpoint, SerialPort):
        return _serial(subject, endpoint, ours)
    if isinstance(endpoint, Folder):
        return _folder(subject, endpoint)
    return _address(subject, endpoint, ours)


def _address(subject: str, address: Address, ours: bool) -> Finding:
    try:
        _bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and ours:
            return Finding(subject, 0, f"{address} is in use; a Labora runs here")
        if error.errno == errno.EADDRINUSE:
            return Finding(subject, EXIT_FAILED, f"{address} is in use by another program")
        return Finding(subject, EXIT_FAILED, f"{address} cannot be listened on: {error.strerror or error}")
    return Finding(subject, 0, f"{address} is free")


def _serial(subject: str, port: SerialPort, ours: bool) -> Finding:
    """Whether the port can be opened. The daemon would start without it and wait for it, but its link would be down."""
    from interface.link.serial import PortBusy, open_port

    try:
        asyncio.run(open_port(port).close())
    except PortBusy as error:
        if ours:
            return Finding(subject, 0, f"{port.path} is in use; a Labora runs here")
        return Finding(subject, EXIT_FAILED, str(error))
    except LaboraError as error:
        return Finding(subject, EXIT_FAILED, str(error))
    return Finding(subject, 0, f"{port} can be opened")


def _folder(subject: str, folder: Folder) -> Finding:
    """Whether files can be taken and moved. The daemon would start without it and wait for it, as for a port."""
    from interface.link.folder import DONE, FAILED

    if not folder.path.is_dir():
        return Finding(subject, EXIT_FAILED, f"{folder.path} is not a folder")
    if not os.access(folder.path, os.R_OK | os.W_OK | os.X_OK):
        return Finding(subject, EXIT_FAILED, f"{folder.path} cannot be read and written by this user")
    if folder.pattern.startswith("."):
        return Finding(subject, EXIT_FAILED, f"{folder} fits only names that begin with a dot, which are left alone")
    for name in (DONE, FAILED):
        if obstacle := moving_obstacle(folder.path, name):
            return Finding(subject, EXIT_FAILED, f"no file can be moved to {folder.path / name}: {obstacle}")
    return Finding(subject, 0, f"{folder} can be used")


def moving_obstacle(folder: Path, name: str) -> str:
    """Why a file of the folder cannot be moved to its subfolder `name`; "" where it can, or the daemon makes it."""
    target = folder / name
    if not os.path.lexists(target):
        return ""
    if target.is_symlink() or not target.is_dir():
        return "it is a link" if target.is_symlink() else "it is not a folder"
    if target.stat().st_dev != folder.stat().st_dev:
        return "it is on another file system"
    return "" if os.access(target, os.W_OK | os.X_OK) else "this user may not write there"


def _bind(address: Address) -> None:
    """Bind and let go. Raises OSError."""
    for family, kind, proto, _, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon will, past TIME_WAIT
            probe.bind(where)
            probe.listen(1)  # with SO_REUSEADDR it is listen that finds the other listener


def daemon_answers(api: ApiSettings) -> bool:
    """Whether something at the API's address answers as Labora does."""
    from interface.ops.machine import to_daemon

    connection = to_daemon(api, 2.0)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status == 200 and answer.getheader("Server") == "Labora"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _database(settings: Settings) -> list[Finding]:
    subject = "database"
    try:
        if settings.database.url != "embedded":
            said = await _external(settings.database.url)
        else:
            said = await _embedded(settings)
        return [Finding(subject, 0, said), *await _organizations(settings, said)]
    except ConfigError as error:
        return [Finding(subject, EXIT_CONFIG, line) for line in explain(error)]
    except (LaboraError, OSError) as error:
        return [Finding(subject, EXIT_FAILED, line) for line in explain(error)]


async def _embedded(settings: Settings) -> str:
    from interface.store.embedded import attach
    from interface.store.programs import choose_programs
    from interface.store.schema import OWNER_ROLE

    base = settings.state_dir / "pg"
    if not (base / "data" / "PG_VERSION").exists():
        # Not started: a check by another user than the daemon's would leave a data directory the daemon cannot enter.
        programs = choose_programs(base / "data", settings.database.bin_dir)
        return f"PostgreSQL {programs.version} will be set up in {base} at the first start"
    async with attach(settings) as server:
        if server.pid is None and not daemon_answers(settings.api):
            raise CommandError(f"another Labora runs on {settings.state_dir}, and not at {settings.api.listen}")
        return await _schema(server.url(OWNER_ROLE))


async def _organizations(settings: Settings, said: str) -> list[Finding]:
    """What is of organizations that are not there. A database that has none yet is given them at the first start."""
    from interface.store.db import Database
    from interface.store.embedded import login_url
    from interface.store.migrate import has_organizations, may_upgrade

    if not said.startswith("reached") or "will upgrade" in said:
        return []
    async with login_url(settings) as url:
        if await may_upgrade(url) and not await has_organizations(url):
            return []
        database = await Database.connect(url)
        try:
            known = {name: await database.find_organization(name) for name in settings.laboratories}
        finally:
            await database.close()
    named = [(f"link[{at}].organization", link.organization) for at, link in enumerate(settings.links)]
    named += [(f"organizations[{at}]", name) for at, name in enumerate(settings.organizations)]
    return [
        Finding(key, EXIT_CONFIG, f"there is no organization {name}; create it with `labora organization create`")
        for key, name in named
        if known[name] is None
    ]


async def _external(url: str) -> str:
    from interface.store.db import Database, open_connection
    from interface.store.server_checks import check_server

    said = await _schema(url)
    if "will upgrade" in said:  # the application's role is made by that upgrade
        owner = await open_connection(url)
        try:
            await check_server(owner, administering=True)
        finally:
            await owner.close()
        return said
    database = await Database.connect(url)
    try:
        async with database.system() as connection:
            await check_server(connection)
    finally:
        await database.close()
    return said


async def _schema(url: str) -> str:
    """What is to be said about the database's schema. Raises ConfigError when the daemon could not use it."""
    from interface.store import migrate

    found = await migrate.status(url)
    if not found.pending and not found.newer:
        return f"reached, schema {found.current}"
    refusal = migrate.mismatch(found)
    if refusal is not None and (found.newer or not await migrate.may_upgrade(url)):
        raise refusal
    return f"reached, schema {found.current or 'none'}; the daemon will upgrade it to {found.head} when it starts"
