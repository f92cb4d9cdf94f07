"""`labora simulate`: play a capture or a vector against a host, or be the analyzer of a driver."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interface.cli import EXIT_FAILED, emit
from interface.cli.decode import DRIVER_PATH
from interface.settings import Address, LineFormat, SerialPort

if TYPE_CHECKING:
    from interface.driver.planned import Run
    from interface.simulator import PlayReport

_AUTO = "auto"
_FAULTS = ["none", "checksum", "cut", "repeat", "noise", "slow", "contention"]


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
@click.argument(
    "source", metavar="[FILE]", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--to", "address", type=AddressType(), help="Where the host listens.")
@click.option("--serial", type=click.Path(path_type=Path), metavar="PORT", help="The serial port that leads to it.")
@click.option("--baud", type=click.IntRange(min=1), help="With --serial.  [default: 9600]")
@click.option("--format", "line_format", type=LineFormatType(), metavar="8N1", help="With --serial.  [default: 8N1]")
@click.option(
    "--protocol", type=click.Choice([_AUTO, "astm", "mllp"]), default=_AUTO, show_default=True,
    help="What FILE holds; auto looks at its bytes.",
)  # fmt: skip
@click.option(
    "--driver", "driver_id",
    help="The analyzer to be, where there is no FILE; else the driver that declares its framing, if no standard does.",
)  # fmt: skip
@click.option("--hospital", is_flag=True, help="Be a hospital that orders over HL7 v2, instead of an analyzer.")
@click.option("--orders", type=click.IntRange(min=0), default=1, show_default=True, help="Specimens to be invented.")
@click.option("--specimen", "specimens", multiple=True, metavar="ID", help="A specimen by its id, instead of --orders.")
@click.option("--test", "codes", multiple=True, metavar="CODE", help="What to measure, in the analyzer's codes.")
@click.option("--qc", "controls", is_flag=True, help="Run a control first.")
@click.option("--query", is_flag=True, help="Ask the host what to do with each specimen, and do that.")
@click.option("--reruns", is_flag=True, help="Run each specimen twice.")
@click.option("--seed", type=int, default=0, show_default=True, help="What is invented, and which fault is next.")
@click.option(
    "--at", type=click.DateTime(), help="The analyzer's own clock as it begins.  [default: now]",
)  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=0.0, min_open=True), help="Transmissions per second.")
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(_FAULTS),
    help="What goes wrong on the line, once per transmission; of several one is drawn for each.  [default: none]",
)  # fmt: skip
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Play FILE so many times.")
@click.option(
    "--linger", "linger_s", type=click.FloatRange(min=0.0), default=0.0, metavar="SECONDS",
    help="Stay connected for what the host sends by itself.",
)  # fmt: skip
@click.option(
    "--answer-wait", "answer_wait_s", type=click.FloatRange(min=0.0), default=15.0, show_default=True,
    metavar="SECONDS", help="How long the host has for its answer to a query.",
)  # fmt: skip
@click.option(
    "--listen", type=AddressType(),
    help="Where an analyzer that speaks IHE LAW is told of its work: ask about each --specimen, do that, report it.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@DRIVER_PATH
def simulate(
    source: Path | None,
    address: Address | None,
    serial: Path | None,
    baud: int | None,
    line_format: LineFormat | None,
    driver_id: str | None,
    hospital: bool,
    faults: tuple[str, ...],
    listen: Address | None,
    as_json: bool,
    driver_path: tuple[Path, ...],
    **more: Any,
) -> int:
    """Play FILE, a capture or a driver's *.trace, as the analyzer would; or, without FILE, be the analyzer of a driver
    or, with --hospital, one that orders.

    Of FILE the same bytes are sent each time: a host must take a repetition of patients' results for a resend (of
    controls without a time it is a second measurement). Without it, results are invented in the form that the driver
    and its vectors say, the same for the same --seed and --at. Status 1 unless every message was acknowledged and every
    query answered.
    """
    endpoint = _endpoint(address, serial, baud, line_format)
    if hospital:
        if source is not None or driver_id is not None or listen is not None or not isinstance(endpoint, Address):
            raise click.UsageError("--hospital orders over TCP, without FILE and --driver")
        return _order(endpoint, faults, as_json, more)
    if source is None and driver_id is None:
        raise click.UsageError("give a FILE to play, the --driver of an analyzer to be, or --hospital")
    if listen is not None:
        if source is not None or not isinstance(endpoint, Address) or faults:
            raise click.UsageError("--listen is for an analyzer without FILE, --serial and --fault")
        return _be_law(str(driver_id), endpoint, listen, as_json, driver_path, more)
    if source is None:
        return _be(str(driver_id), endpoint, faults, as_json, driver_path, more)
    _only_without_file(more)
    return _play(source, endpoint, driver_id, faults, as_json, driver_path, more)


def _only_without_file(more: dict[str, Any]) -> None:
    """Raises UsageError for what only an invented analyzer has."""
    for option in ("specimens", "codes", "controls", "query", "reruns"):
        if more[option]:
            raise click.UsageError("--specimen, --test, --qc, --query and --reruns are for an analyzer without FILE")


def _play(
    source: Path, endpoint: Address | SerialPort, driver_id: str | None, faults: tuple[str, ...], as_json: bool,
    driver_path: tuple[Path, ...], more: dict[str, Any],
) -> int:  # fmt: skip
    from interface.driver import registry
    from interface.simulator import Fault, PlayProtocol, load, play

    if len(faults) > 1:
        raise click.UsageError("one --fault at a time goes with a FILE")
    protocol = None if more["protocol"] == _AUTO else PlayProtocol(more["protocol"])
    blocks = registry.load(driver_id, driver_path).blocks if driver_id else None
    playing = play(
        load(source, protocol, blocks), endpoint, rate_per_s=more["rate"], fault=Fault(faults[0] if faults else "none"),
        repeat=more["repeat"], linger_s=more["linger_s"],
    )  # fmt: skip
    return _shown(asyncio.run(playing), {}, as_json)


def _order(endpoint: Address, faults: tuple[str, ...], as_json: bool, more: dict[str, Any]) -> int:
    from interface.simulator import Fault, play
    from interface.simulator.hospital import CODES, Ordering, source, told

    for option in ("controls", "query", "reruns"):
        if more[option]:
            raise click.UsageError("--qc, --query and --reruns are for an analyzer")
    if len(faults) > 1:
        raise click.UsageError("one --fault at a time goes with --hospital")
    ordering = Ordering(
        at=more["at"] or datetime.now().astimezone().replace(tzinfo=None), orders=more["orders"],
        specimens=more["specimens"], codes=more["codes"] or CODES, seed=more["seed"],
    )  # fmt: skip
    playing = play(
        source(ordering), endpoint, rate_per_s=more["rate"], fault=Fault(faults[0] if faults else "none"),
        repeat=more["repeat"], linger_s=more["linger_s"],
    )  # fmt: skip
    report = asyncio.run(playing)
    answers = [
        {"control": one.control, "placer": one.placer, "filler": one.filler, "status": one.status}
        for one in told(report.replies)
    ]
    return _shown(report, {"services": answers}, as_json)


def _be(
    driver_id: str, endpoint: Address | SerialPort, faults: tuple[str, ...], as_json: bool,
    driver_path: tuple[Path, ...], more: dict[str, Any],
) -> int:  # fmt: skip
    from interface.simulator import Fault
    from interface.simulator.analyzer import Worklist, model, simulate

    work = Worklist(
        at=more["at"] or datetime.now().astimezone().replace(tzinfo=None),
        orders=more["orders"],
        specimens=more["specimens"],
        codes=more["codes"],
        seed=more["seed"],
        controls=int(more["controls"]),
        query=more["query"],
        reruns=more["reruns"],
        faults=tuple(map(Fault, faults)),
        rate_per_s=more["rate"],
        answer_wait_s=more["answer_wait_s"],
        linger_s=more["linger_s"],
    )
    made = asyncio.run(simulate(model(driver_id, driver_path), work, endpoint))
    answers = [
        {"specimen_id": one.specimen_id, "answered": one.heard, "tests": list(one.tests), "text": one.text}
        for one in made.answers
    ]
    for one in made.answers:
        says = " ".join(one.tests) or ("no work" if one.heard else "no answer from the host")
        click.echo(f"{one.specimen_id}: {says}", err=True)
    status = _shown(made.report, {"queries": answers, "specimens": [_measured(run) for run in made.runs]}, as_json)
    return status if all(one.heard for one in made.answers) else EXIT_FAILED


def _be_law(
    driver_id: str, host: Address, listen: Address, as_json: bool, driver_path: tuple[Path, ...], more: dict[str, Any]
) -> int:
    from interface.driver import registry
    from interface.simulator.law import Worked, law_analyzer, work_through

    if registry.load(driver_id, driver_path).law is None:
        raise click.UsageError(f"{driver_id} does not speak IHE LAW: its driver has no [law]")
    if not more["specimens"]:
        raise click.UsageError("name the specimens that it has: --specimen")

    async def day() -> list[Worked]:
        async with law_analyzer(host, listen) as analyzer:
            wait_s = more["answer_wait_s"]
            return await work_through(analyzer, more["specimens"], seed=more["seed"], answer_wait_s=wait_s)

    made = asyncio.run(day())
    for one in made:
        says = " ".join(one.tests) or ("no work" if one.heard else "no answer from the host")
        click.echo(f"{one.specimen_id}: {says}", err=True)
    shown = [
        {
            "specimen_id": one.specimen_id, "answered": one.heard, "tests": list(one.tests), "acknowledged": one.answer,
            "results": [{"code": each.code, "value": each.value, "work_id": each.step_id} for each in one.results],
        }
        for one in made
    ]  # fmt: skip
    emit({"specimens": shown} if as_json else {"specimens": len(made)}, as_json)
    return 0 if all(one.heard and one.answer in ("", "AA") for one in made) else EXIT_FAILED


def _measured(run: Run) -> dict[str, object]:
    return {
        "specimen_id": run.specimen_id,
        "role": str(run.role),
        "results": [
            {
                "code": one.code,
                "value": one.value.text,
                "comparator": str(one.value.comparator) if one.value.comparator else None,
                "unit": one.unit,
                "flags": list(one.flags),
            }
            for one in run.results
        ],
    }


def _shown(report: PlayReport, more: dict[str, object], as_json: bool) -> int:
    shown: dict[str, object] = {
        "messages": report.messages, "acknowledged": report.acknowledged, "rejections": report.rejections,
        "seconds": round(report.seconds, 3),
    }  # fmt: skip
    if as_json:
        shown["replies"] = [reply.decode("utf-8", "backslashreplace") for reply in report.replies]
        shown["faults"] = list(report.faults)
        shown |= more
    emit(shown, as_json)
    for problem in report.faults:
        click.echo(problem, err=True)
    return 0 if report.complete else EXIT_FAILED
