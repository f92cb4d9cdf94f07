"""`labora simulate`: play a capture or a vector against a host, as the analyzer would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from interface.cli import EXIT_FAILED, emit
from interface.cli.decode import DRIVER_PATH
from interface.settings import Address, LineFormat, SerialPort

_AUTO = "auto"


class AddressType(click.ParamType[Address]):
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        from interface.config import parse_address

        if isinstance(value, Address):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LineFormatType(click.ParamType[LineFormat]):
    name = "format"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> LineFormat:
        from interface.config import parse_line_format

        if isinstance(value, LineFormat):
            return value
        try:
            return parse_line_format(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _endpoint(
    address: Address | None, serial: Path | None, baud: int | None, line_format: LineFormat | None
) -> Address | SerialPort:
    """Where to play. Raises UsageError unless there is one such place."""
    if serial is not None and address is None:
        default = SerialPort(serial)
        return SerialPort(serial, baud or default.baud, line_format or default.format)
    if address is None or serial is not None:
        raise click.UsageError("give one of --to and --serial")
    if baud is not None or line_format is not None:
        raise click.UsageError("--baud and --format belong to --serial")
    return address


@click.command()
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "address", type=AddressType(), help="Where the host listens.")
@click.option("--serial", type=click.Path(path_type=Path), metavar="PORT", help="The serial port that leads to it.")
@click.option("--baud", type=click.IntRange(min=1), help="With --serial.  [default: 9600]")
@click.option("--format", "line_format", type=LineFormatType(), metavar="8N1", help="With --serial.  [default: 8N1]")
@click.option(
    "--protocol", type=click.Choice([_AUTO, "astm", "mllp"]), default=_AUTO, show_default=True,
    help="What FILE holds; auto looks at its bytes.",
)  # fmt: skip
@click.option(
    "--driver", "driver_id", help="The driver that declares the framing of FILE, where it is not a standard's."
)
@click.option("--rate", type=click.FloatRange(min=0.0, min_open=True), help="Transmissions per second.")
@click.option(
    "--fault", type=click.Choice(["none", "checksum", "cut", "repeat", "noise"]), default="none", show_default=True,
    help="What goes wrong on the line, once per transmission.",
)  # fmt: skip
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Play FILE so many times.")
@click.option(
    "--linger", "linger_s", type=click.FloatRange(min=0.0), default=0.0, metavar="SECONDS",
    help="Stay connected for what the host sends by itself.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def simulate(
    source: Path,
    address: Address | None,
    serial: Path | None,
    baud: int | None,
    line_format: LineFormat | None,
    protocol: str,
    driver_id: str | None,
    rate: float | None,
    fault: str,
    repeat: int,
    linger_s: float,
    as_json: bool,
    driver_path: tuple[Path, ...],
) -> int:
    """Play FILE, a capture or a driver's *.trace, as the analyzer would.

    The same bytes are sent each time: a host must take a repetition for a resend. Status 1 unless every message
    was acknowledged.
    """
    from interface.driver import registry
    from interface.simulator import Fault, PlayProtocol, load, play

    endpoint = _endpoint(address, serial, baud, line_format)
    blocks = registry.load(driver_id, driver_path).blocks if driver_id else None
    loaded = load(source, None if protocol == _AUTO else PlayProtocol(protocol), blocks)
    playing = play(loaded, endpoint, rate_per_s=rate, fault=Fault(fault), repeat=repeat, linger_s=linger_s)
    report = asyncio.run(playing)
    shown: dict[str, object] = {
        "messages": report.messages, "acknowledged": report.acknowledged, "rejections": report.rejections,
        "seconds": round(report.seconds, 3),
    }  # fmt: skip
    if as_json:
        shown["replies"] = [reply.decode("utf-8", "backslashreplace") for reply in report.replies]
        shown["faults"] = list(report.faults)
    emit(shown, as_json)
    for problem in report.faults:
        click.echo(problem, err=True)
    return 0 if report.complete else EXIT_FAILED
