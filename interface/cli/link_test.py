"""`labora link test`: what is proved of a configured link, what is not, and what failed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, CommandError, laboratory_options
from interface.errors import LaboraError, LinkError
from interface.settings import Address, DialTls, Folder, ListenTls

if TYPE_CHECKING:
    from interface.driver.manifest import Driver
    from interface.driver.registry import Vector
    from interface.settings import LinkSettings, Settings

CONNECT_WAIT_S = 5.0


class Verdict(StrEnum):
    PROVED = "proved"
    NOT_PROVED = "not proved"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `text`: what was seen, or why it could not be."""

    subject: str
    verdict: Verdict
    text: str


@click.command(epilog=ENVIRONMENT)
@click.argument("link_id", metavar="LINK")
@click.option(
    "--loopback/--no-loopback", default=True, show_default=True,
    help="Play a vector of the driver to this link's receiver, in memory. Nothing is stored.",
)  # fmt: skip
@laboratory_options
@pass_context
def test(
    context: Context, link_id: str, loopback: bool, organization: str | None, username: str | None, as_json: bool
) -> int:
    """Say what is proved of LINK: configuration, driver, receiver, port, and what the daemon says of it.

    Sends nothing to an analyzer and stores nothing. Status 1 when a check failed; what is not proved is no failure.
    """
    checks = []
    for check in _look(context.settings, link_id, loopback, organization, username):
        checks.append(check)
        if not as_json:
            click.echo(f"{check.verdict.value:10}  {check.subject}: {check.text}")
    if as_json:
        emit(checks, True)
    return EXIT_FAILED if any(check.verdict is Verdict.FAILED for check in checks) else 0


def _look(
    settings: Settings, link_id: str, loopback: bool, organization: str | None, username: str | None
) -> Iterator[Check]:
    from interface.driver import registry

    link = next((one for one in settings.links if one.id == link_id), None)
    if link is None:
        known = ", ".join(one.id for one in settings.links) or "none"
        raise CommandError(f"there is no link {link_id!r} in {settings.source}; known are {known}")
    yield Check(
        "configuration", Verdict.PROVED, f"{settings.source} is right, {link_id} is {link.transport.type} "
        f"at {link.transport.endpoint}"
    )  # fmt: skip
    driver = registry.load(link.driver, settings.driver_path)
    yield _vectors(driver, settings)
    if loopback:
        yield _loopback(link, driver, settings)
    running = _running(settings, link, organization, username)
    yield running.check
    yield _endpoint(link, running)
    if isinstance(link.tls, ListenTls):
        yield _certificate(link.tls)
    yield _heard(running)


def _vectors(driver: Driver, settings: Settings) -> Check:
    from interface.driver.proof import run_vectors

    outcomes = run_vectors(driver.id, settings.driver_path)
    wrong = [outcome for outcome in outcomes if not outcome.passed]
    subject = f"driver {driver.id} {driver.revision}"
    if wrong:
        names = ", ".join(outcome.vector for outcome in wrong)
        return Check(subject, Verdict.FAILED, f"decodes differently from what is expected: {names}")
    how = f"its {len(outcomes)} vectors decode as expected; it is known as {driver.tier}"
    return Check(subject, Verdict.PROVED, how)


# ---- the receiver ---------------------------------------------------------------------------------------------------


def _loopback(link: LinkSettings, driver: Driver, settings: Settings) -> Check:
    """The driver's vector through this link's own receiver, with its leniencies and limits."""
    from interface.driver import registry

    subject = "receiver"
    for vector in registry.vectors(driver.id, settings.driver_path):
        expected = json.loads(vector.expected.read_text(encoding="utf-8"))
        if not any(message["specimens"] for message in expected) or any(message["problems"] for message in expected):
            continue  # a query, or a conversation in which something goes wrong
        try:
            fault = asyncio.run(_played(link, driver, vector, expected))
        except LaboraError as error:
            fault = str(error)
        if fault:
            return Check(subject, Verdict.FAILED, f"{vector.name} in memory: {fault}")
        allowed = ", ".join(sorted(link.leniencies | driver.leniencies)) or "no leniency"
        count = f"{len(expected)} message{'s' if len(expected) > 1 else ''}"
        text = f"took {count} of the vector {vector.name} in memory, with {allowed}; nothing was stored"
        return Check(subject, Verdict.PROVED, text)
    return Check(subject, Verdict.NOT_PROVED, f"{driver.id} has no vector of a result that could be played")


async def _played(link: LinkSettings, driver: Driver, vector: Vector, expected: list[Any]) -> str:
    """What went wrong; "" when nothing."""
    from interface.cli.loopback import MemoryIntake, drop_file, loop_back
    from interface.domain.model import Protocol
    from interface.driver import registry
    from interface.driver.describe import describe
    from interface.driver.manifest import LinkFraming
    from interface.driver.proof import difference
    from interface.link.base import LinkSpec
    from interface.simulator import load

    intake = MemoryIntake(hl7_in_frames=driver.protocol is Protocol.HL7 and driver.link is LinkFraming.LIS01)
    spec = LinkSpec(replace(link, id="loopback"), intake, driver)
    source = load(vector.trace, grammar=driver.blocks)
    if isinstance(link.transport.endpoint, Folder):
        if refusal := await drop_file(spec, link.transport.endpoint, intake, source):
            return refusal
    else:
        report = await loop_back(spec, intake, source)
        if report.faults or not report.complete:
            return "; ".join(report.faults) or "not every message was acknowledged"
    actual = [describe(registry.decode(driver, text, link.encoding)) for text in intake.messages]
    return difference(expected, actual)


# ---- the daemon -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Running:
    """What the daemon says: whether it runs, and of the link, to a user of its laboratory, how it is."""

    check: Check
    runs: bool
    status: dict[str, Any] | None = None

    @property
    def up(self) -> bool:
        return self.status is not None and self.status.get("up") is True


def _running(settings: Settings, link: LinkSettings, organization: str | None, username: str | None) -> _Running:
    from interface.cli.check import daemon_answers
    from interface.cli.running import Daemon, known_links

    subject = "daemon"
    if not daemon_answers(settings.api):
        text = f"it does not run: no Labora answers on {settings.api.listen}"
        return _Running(Check(subject, Verdict.NOT_PROVED, text), False)
    daemon = Daemon(settings.api)
    links = known_links(daemon, settings, organization or link.organization, username)
    if links is None:
        text = f"it runs, and says of {link.id} only to a user how it is: --as USER"
        return _Running(Check(subject, Verdict.NOT_PROVED, text), True)
    status = next((one for one in links if isinstance(one, dict) and one.get("name") == link.id), None)
    if status is None:
        text = f"it runs without {link.id}: the configuration has changed since it started"
        return _Running(Check(subject, Verdict.FAILED, text), True)
    if status.get("up") is not True:
        text = f"it says that {link.id} is down: {status.get('text') or 'no reason given'}"
        return _Running(Check(subject, Verdict.FAILED, text), True, status)
    return _Running(Check(subject, Verdict.PROVED, f"it says that {link.id} is up"), True, status)


def _heard(running: _Running) -> Check:
    """Whether the analyzer has been there. Only what it sends proves that both are set alike."""
    subject, advice = "analyzer", "`labora link doctor` explains what it sends"
    status = running.status
    if status is None:
        return Check(subject, Verdict.NOT_PROVED, f"that it sends what this link expects; {advice}")
    if messages := status.get("messages"):
        return Check(subject, Verdict.PROVED, f"{messages} messages since the daemon started")
    connected = f"{status.get('connections', 0)} connections now, " if status.get("connections") else ""
    return Check(subject, Verdict.NOT_PROVED, f"{connected}no message since the daemon started; {advice}")


# ---- the port -------------------------------------------------------------------------------------------------------


def _endpoint(link: LinkSettings, running: _Running) -> Check:
    """The port or address. What the daemon has is left alone."""
    from interface.cli.check import look_at

    endpoint = link.transport.endpoint
    subject = f"{link.transport.type}"
    if running.up:
        return Check(subject, Verdict.PROVED, f"the running daemon holds {endpoint} and says that it is up")
    if link.transport.type.dials and isinstance(endpoint, Address):
        if running.runs:
            text = f"the running daemon calls {endpoint}; a second call could disturb it"
            return Check(subject, Verdict.NOT_PROVED, text)
        return _attempt(subject, lambda: _dial(link))
    finding = look_at(subject, endpoint, running.runs)
    if finding.status == 0 and isinstance(endpoint, Folder):
        return _waiting(subject, endpoint, finding.text)
    return Check(subject, Verdict.FAILED if finding.status else Verdict.PROVED, finding.text)


def _waiting(subject: str, folder: Folder, text: str) -> Check:
    """Whether what is there already will be taken."""
    from interface.link.folder import MOST_FILES, fitting

    try:
        files, others = fitting(folder)
    except OSError as error:
        text = f"{folder.path} cannot be read: {(error.strerror or 'unknown').lower()}"
        return Check(subject, Verdict.FAILED, text)
    if unreadable := sum(not os.access(folder.path / seen.name, os.R_OK) for seen in files):
        return Check(subject, Verdict.FAILED, f"this user cannot read files that wait in {folder.path}: {unreadable}")
    if others:
        text = f"{text}; but what fits and is no file will not be taken: {len(others)}"
        return Check(subject, Verdict.NOT_PROVED, text)
    more = " or more" if len(files) == MOST_FILES else ""
    return Check(subject, Verdict.PROVED, f"{text}; files that wait: {len(files)}{more}")


def _certificate(tls: ListenTls) -> Check:
    """What a caller is shown, in a handshake in memory. No caller is at hand whose own certificate could be tried."""
    from interface.link.tls import TlsError, rehearse

    subject = "certificate"
    try:
        asyncio.run(rehearse(tls))
    except TlsError as error:
        text = f"that the certificates in {tls.cert} lead from its first to its last: {error}"
        return Check(subject, Verdict.NOT_PROVED, text)
    except (OSError, ValueError):  # the configuration was right a moment ago
        return Check(subject, Verdict.FAILED, "its certificate or key cannot be used any more")
    text = f"{tls.cert} and its key are taken in a handshake in memory by who trusts the last certificate in it"
    if tls.client_ca is None:
        return Check(subject, Verdict.PROVED, text)
    return Check(subject, Verdict.NOT_PROVED, f"{text}; that the analyzer shows one of {tls.client_ca} is not proved")


def _attempt(subject: str, work: Callable[[], str]) -> Check:
    try:
        return Check(subject, Verdict.PROVED, work())
    except LaboraError as error:
        return Check(subject, Verdict.FAILED, str(error))
    except (OSError, ValueError):  # what reading certificates raises; the configuration was right a moment ago
        return Check(subject, Verdict.FAILED, "its certificate or key cannot be used any more")


def _dial(link: LinkSettings) -> str:
    """Connect and hang up, without a byte. Raises LinkError."""
    from interface.link import tls
    from interface.link.stream import ByteStream
    from interface.link.tcp import connect

    peer, wanted = link.transport.endpoint, link.tls if isinstance(link.tls, DialTls) else None
    if not isinstance(peer, Address):
        raise LinkError(f"{peer} cannot be dialled")

    async def call() -> None:
        stream: ByteStream = await connect(peer)
        try:
            if wanted is not None:
                stream = await tls.call(stream, tls.dial_context(wanted), wanted.server_name or peer.host)
        finally:
            await stream.close()

    async def in_time() -> None:
        try:
            async with asyncio.timeout(CONNECT_WAIT_S):
                await call()
        except TimeoutError:
            raise LinkError(f"{peer} does not answer within {CONNECT_WAIT_S:g} s") from None

    asyncio.run(in_time())
    if wanted is not None:
        return f"{peer} can be connected to and its certificate is accepted; no message was sent"
    return f"{peer} can be connected to; nothing was sent"
