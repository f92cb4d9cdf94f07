"""`labora link doctor`: what an analyzer says and how, before a link is configured for it."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.decode import DRIVER_PATH
from interface.cli.laboratory import CommandError
from interface.cli.simulate import AddressType, LineFormatType
from interface.errors import ConfigError, LinkError
from interface.settings import Address, LineFormat, SerialPort

if TYPE_CHECKING:
    from interface.driver.diagnosis import Heard
    from interface.ops.line_doctor import LineDoctor, ScanStep

DEFAULT_SECONDS = 60.0
DEFAULT_DWELL_S = 20.0  # an analyzer that waits for its host repeats its ENQ every 10 to 15 s


@dataclass(frozen=True, slots=True)
class _Source:
    """Where to listen and how, as the options say it."""

    file: str | None
    listen: Address | None
    dial: Address | None
    serial: Path | None
    baud: int | None
    line_format: LineFormat | None
    scan: bool
    tap: str | None
    host_connects: bool
    probe: bool
    hl7_reply: str | None

    def check(self) -> None:
        """Raises UsageError for what does not go together."""
        places = [one for one in (self.file, self.listen, self.dial, self.serial) if one is not None]
        if len(places) != 1:
            raise click.UsageError("give one of FILE, --listen, --dial and --serial")
        if self.serial is None and (self.baud or self.line_format or self.scan):
            raise click.UsageError("--baud, --format and --scan belong to --serial")
        if self.scan and (self.baud or self.line_format):
            raise click.UsageError("--scan tries every --baud and --format")
        if self.tap and (self.probe or self.scan):
            raise click.UsageError("--tap only listens: it goes with neither --probe nor --scan")
        if self.host_connects and not self.tap:
            raise click.UsageError("--host-connects belongs to --tap")
        if self.hl7_reply and not self.probe:
            raise click.UsageError("--hl7-reply belongs to --probe")
        if self.file is not None and (self.tap or self.probe):
            raise click.UsageError("--tap and --probe need a line, not a FILE")

    @property
    def endpoint(self) -> Address | SerialPort:
        if self.serial is not None:
            default = SerialPort(self.serial)
            return SerialPort(self.serial, self.baud or default.baud, self.line_format or default.format)
        found = self.listen or self.dial
        assert found is not None  # noqa: S101  check() has seen to it
        return found

    def doctor(self) -> LineDoctor:
        from interface.link.clock import LoopClock
        from interface.ops.line_doctor import LineDoctor, Place, Tap
        from interface.ops.refusal import Hl7Refusal

        tap = Tap(_other_side(self.tap, self.endpoint), self.host_connects) if self.tap else None
        return LineDoctor(
            Place(self.endpoint, self.dial is not None), LoopClock(), tap=tap, probe=self.probe,
            hl7=Hl7Refusal(self.hl7_reply or Hl7Refusal.NONE), tell=lambda words: click.echo(words, err=True),
        )  # fmt: skip


def _other_side(text: str, endpoint: Address | SerialPort) -> Address | SerialPort:
    """Where a tap forwards to: HOST:PORT, or the serial port that leads to the host, set as this one is."""
    from interface.config import parse_address

    if text.startswith("/"):
        near = endpoint if isinstance(endpoint, SerialPort) else SerialPort(Path())
        return SerialPort(Path(text), near.baud, near.format)
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"--tap: {error}") from None


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE]")
@click.option("--listen", type=AddressType(), help="Let the analyzer connect here.")
@click.option("--dial", type=AddressType(), help="Call an analyzer that waits to be connected to.")
@click.option("--serial", type=click.Path(path_type=Path), metavar="PORT", help="Listen at a serial port.")
@click.option("--baud", type=click.IntRange(min=1), help="With --serial.  [default: 9600]")
@click.option("--format", "line_format", type=LineFormatType(), metavar="8N1", help="With --serial.  [default: 8N1]")
@click.option("--scan", is_flag=True, help="With --serial: try the usual settings until one gives sense.")
@click.option("--tap", metavar="HOST:PORT", help="Forward to the present host, unchanged; also a serial port.")
@click.option("--host-connects", is_flag=True, help="With --tap: it is the analyzer, and its host connects here.")
@click.option("--probe", is_flag=True, help="ACK every ENQ and NAK every frame: the analyzer keeps its message.")
@click.option(
    "--hl7-reply", type=click.Choice(["none", "ae", "ar"]),
    help="With --probe: answer HL7 negatively.  [default: none, as some senders drop what is answered at all]",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(min=0.0, min_open=True), default=DEFAULT_SECONDS, show_default=True,
    help="Listen for so long; Ctrl-C ends it before.",
)  # fmt: skip
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep what was heard as a trace.")
@click.option("--show-data", is_flag=True, help="Print the traffic too, readable. It holds patient data.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
@pass_context
def doctor(
    context: Context,
    /,
    seconds: float,
    save: Path | None,
    show_data: bool,
    as_json: bool,
    driver_path: tuple[Path, ...],
    **source: Any,
) -> int:
    """Explain what an analyzer sends, and what a link to it needs.

    FILE is a raw capture or a trace, - standard input. On a line it listens and sends nothing, unless --probe is given.
    Framing, checksums, character set, serial settings, the driver that fits, and the smallest set of leniencies under
    which the receiver takes what was sent. Nothing is stored and no message is accepted. No patient data is printed
    without --show-data. Status 1 when no link can be made of what was heard.
    """
    from interface.cli.link_words import Where, report, understood
    from interface.cli.link_words import as_json as plain
    from interface.driver.diagnose import diagnose, read_heard

    chosen = _Source(**source)
    chosen.check()
    steps: Sequence[ScanStep] = ()
    if chosen.file is not None:
        heard = read_heard(sys.stdin.buffer.read() if chosen.file == "-" else Path(chosen.file).read_bytes())
        where = Where()
    else:
        listener, steps = _listen(context, chosen, seconds)
        heard, place = listener.recording.heard(), listener.place
        where = Where(place.endpoint, place.dial)
    if save is not None:
        _save(save, heard, where)
    found = diagnose(heard, site=driver_path, whole=isinstance(where.endpoint, Address))
    if as_json:
        shown = plain(found, where) | {"scan": [_step(step) for step in steps]}
        emit(shown | ({"traffic": _traffic(heard)} if show_data else {}), True)
    else:
        emit("\n".join([*(_traffic(heard) if show_data else ()), report(found, where)]), False)
    return 0 if understood(found) else EXIT_FAILED


def _listen(context: Context, source: _Source, seconds: float) -> tuple[LineDoctor, Sequence[ScanStep]]:
    """Listen to the end of the time or to Ctrl-C. Raises CommandError, LinkError when the line cannot be had."""
    listener = source.doctor()
    steps: list[ScanStep] = []

    async def run() -> None:
        if source.scan:
            steps.extend(await listener.scan(DEFAULT_DWELL_S))
            if not steps[-1].makes_sense:
                return
        await listener.run(seconds)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    except LinkError as error:
        raise _held(context, source.endpoint, error) from error
    return listener, steps


def _held(context: Context, endpoint: Address | SerialPort, error: LinkError) -> LinkError | CommandError:
    """The error, in better words where it is our own daemon that has the port."""
    from interface.cli.check import daemon_answers
    from interface.link.serial import PortBusy

    if not isinstance(error, PortBusy) and getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
        return error
    try:
        settings = context.settings
    except ConfigError:
        return error
    name = _place_name(endpoint)
    ours = [link.id for link in settings.links if _place_name(link.transport.endpoint) == name]
    if not ours or not daemon_answers(settings.api):
        return error
    return CommandError(
        f"{name} is held by the running daemon for the link {ours[0]}: stop the daemon to listen there, or see what it "
        f"hears with `labora link status` and `labora message list`"
    )


def _place_name(endpoint: object) -> str:
    return os.path.realpath(endpoint.path) if isinstance(endpoint, SerialPort) else str(endpoint)


def _save(file: Path, heard: Sequence[Heard], where: object) -> None:
    """A trace that only its owner can read; what is there already is not overwritten."""
    from interface.wire.trace import Trace, TraceStep, format_trace

    steps = tuple(TraceStep(one.direction, one.data) for one in heard)
    text = format_trace(Trace("heard by labora link doctor; it may hold patient data", steps))
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise CommandError(f"{file} is there already") from None
    click.echo(f"saved to {file}; it may hold patient data", err=True)


def _traffic(heard: Sequence[Heard]) -> list[str]:
    """What was said, a line each, control characters by name."""
    from interface.wire.trace import escape

    return [f"{one.at_s:8.3f} {one.direction} {escape(one.data)}" for one in heard]


def _step(step: ScanStep) -> dict[str, object]:
    return {
        "baud": step.port.baud, "format": str(step.port.format), "bytes": step.byte_count,
        "framing": str(step.found.framing), "makes_sense": step.makes_sense,
    }  # fmt: skip
