"""A driver's vectors in the simulator, both ways: played by an analyzer to the link's own receiver, and their host's
side played back to the analyzer. In memory; nothing is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from interface.cli.loopback import MemoryIntake, loop_back
from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.describe import describe
from interface.driver.dialogue import ordered_code
from interface.driver.manifest import Driver, LinkFraming
from interface.driver.proof import VectorOutcome, difference, without_envelope
from interface.errors import LaboraError
from interface.link.base import LinkSpec
from interface.link.clock import LoopClock
from interface.link.stream import null_modem
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.simulator import Fault, PlayProtocol, Source, load, parse_source
from interface.simulator.analyzer import told
from interface.simulator.hosting import AstmHost, MllpHost
from interface.simulator.playing import player_for
from interface.wire import lis01
from interface.wire.datalink_events import Leniency
from interface.wire.trace import Direction, parse_trace

_ANSWER_WAIT_S = 10.0
_FASTER = 20  # where nothing but silence divides a driver's blocks


class _FastClock(LoopClock):
    """Time in which seconds are short."""

    def now(self) -> float:
        return super().now() * _FASTER

    def timeout_at(self, when: float | None) -> AbstractAsyncContextManager[object]:
        return super().timeout_at(None if when is None else when / _FASTER)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / _FASTER)


def rehearse(driver_id: str, site: Sequence[Path] = ()) -> list[VectorOutcome]:
    """What differs, of each vector of a driver. Raises DriverError when there is no such driver."""
    driver = registry.load(driver_id, site)
    outcomes = []
    for vector in registry.vectors(driver_id, site):
        try:
            said = asyncio.run(_tried(driver, vector))
        except (LaboraError, OSError, ValueError) as error:
            said = str(error)
        outcomes.append(VectorOutcome(driver_id, vector.name, said))
    return outcomes


async def _tried(driver: Driver, vector: registry.Vector) -> str:
    expected = json.loads(vector.expected.read_text(encoding="utf-8"))
    source = load(vector.trace, grammar=driver.blocks)
    if driver.blocks is None and not source.transmissions:
        return "there is nothing to play in it"
    if said := await _to_receiver(driver, source, expected):
        return f"played to its receiver: {said}"
    host = parse_trace(vector.trace.read_text(encoding="utf-8")).bytes_of(Direction.HOST)
    asked = [one for message in expected for query in message["queries"] for one in query["specimen_ids"]]
    if not asked or driver.blocks is not None:
        return ""
    answers = _answers(driver, host)
    if not answers:
        return ""
    file = vector.trace.with_suffix(".work.json")
    work = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    said = await _from_host(driver, source, answers, asked, work)
    return f"its host played back: {said}" if said else ""


async def _to_receiver(driver: Driver, source: Source, expected: list[Any]) -> str:
    framed_hl7 = driver.protocol is Protocol.HL7 and driver.link is LinkFraming.LIS01
    intake = MemoryIntake(framed_hl7, Leniency.NO_TERMINATOR_RECORD in driver.leniencies)
    kind = TransportType.MLLP_LISTEN if source.protocol is PlayProtocol.MLLP else TransportType.TCP_LISTEN
    link = LinkSettings("rehearsal", "main", driver.id, Transport(kind, Address("127.0.0.1", 0)))
    silent = driver.blocks is not None and driver.blocks.ends_in_silence
    report = await loop_back(LinkSpec(link, intake, driver), intake, source, _FastClock() if silent else None)
    if not report.complete:
        return "; ".join(report.faults) or "not every message was acknowledged"
    actual = [describe(registry.decode(driver, text)) for text in intake.messages]
    return difference([without_envelope(one) for one in expected], actual)


def _answers(driver: Driver, host: bytes) -> Source | None:
    """What the host says by itself, or None: acknowledgements of frames alone are no answer."""
    protocol = PlayProtocol.MLLP if driver.link is LinkFraming.MLLP else PlayProtocol.ASTM
    if (b"\x0b" if protocol is PlayProtocol.MLLP else b"\x02") not in host:
        return None
    return parse_source(host, protocol)


async def _from_host(
    driver: Driver, source: Source, answers: Source, asked: Sequence[str], work: dict[str, Any] | None
) -> str:
    clock, options = LoopClock(), lis01.LinkOptions(leniencies=frozenset(map(Leniency, driver.leniencies)))
    analyzer, end = null_modem()
    parts = answers.transmissions
    host = (
        MllpHost(end, [part for (part,) in parts]) if answers.protocol is PlayProtocol.MLLP
        else AstmHost(end, parts, options, clock)
    )  # fmt: skip
    serving = asyncio.create_task(host.serve())
    player = player_for(source, analyzer, Fault.NONE, lis01.LinkOptions(), clock)
    try:
        for each in source.transmissions:
            problem = await player.play(each)
            if problem and not problem.startswith("the host answered A"):
                return problem
        wanted = len(parts) if answers.protocol is PlayProtocol.MLLP else 1
        while len(player.replies) < wanted:
            before = len(player.replies)
            await player.listen(_ANSWER_WAIT_S, once=True)
            if len(player.replies) == before:
                return "the answer did not arrive"
    finally:
        await player.hang_up()
        await serving
    if work is None:
        return ""
    ordered = {
        one["specimen_id"]: [_ordered(driver, test) for test in one.get("tests", [])]
        for one in work.get("specimens", [])
    }
    for specimen in asked:
        heard, meant = set(told(driver, player.replies, specimen)), set(ordered.get(specimen, []))
        if heard != meant:
            return f"of {specimen} the analyzer understands {sorted(heard)}, not {sorted(meant)}"
    return ""


def _ordered(driver: Driver, test: str | dict[str, str]) -> str:
    code = test if isinstance(test, str) else test["code"]
    return ordered_code(driver.answer, code) if driver.answer else code
