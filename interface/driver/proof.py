"""Whether a driver is right and counts (DESIGN §7): vectors however the bytes arrive, evidence, answers. Pure.

A vector is `NAME.trace` with `NAME.expected.json`; a host query also has `NAME.work.json`, the worklist from which the
host's lines in the trace are to be written again, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from interface.domain.model import DecodedMessage, HoldReason, ObservedPatient, Priority, Protocol, Sex
from interface.driver import law, registry
from interface.driver.capture import CaptureError, read_capture
from interface.driver.describe import describe
from interface.driver.dialogue import Answer, Ordered, Work, answer, read_queries
from interface.driver.manifest import Driver, Feature, LinkFraming
from interface.driver.receiving import received, split_places
from interface.driver.registry import Vector
from interface.errors import LaboraError
from interface.wire import declared, hl7, mllp
from interface.wire.trace import Direction, Trace, escape, parse_trace

# DESIGN §7: what every driver shows, but for what its analyzer lacks. A file's name begins with it.
CASES: dict[str, Feature | None] = {
    "result": None,
    "qc": Feature.QC,
    "rerun": Feature.RERUN,
    "query-with-orders": Feature.QUERY,
    "query-without-orders": Feature.QUERY,
    "retransmission": Feature.RETRANSMISSION,
}
# Records that a driver lays out itself come one way and say of a run what they say.
DECLARED_CASES = ("result", "retransmission")
_NEAR_BYTES = 12


@dataclass(frozen=True, slots=True)
class VectorOutcome:
    """One vector's run, or (`vector` -) what is asked of the driver as a whole. `difference`: "" when it passed."""

    driver: str
    vector: str
    difference: str = ""

    @property
    def passed(self) -> bool:
        return not self.difference


def run_vectors(driver_id: str, site: Sequence[Path] = ()) -> list[VectorOutcome]:
    """Every vector of a driver, and the driver itself. One without vectors fails: it proves nothing.

    Raises DriverError when there is no such driver or it cannot be used.
    """
    driver = registry.load(driver_id, tuple(site))
    found = registry.vectors(driver_id, tuple(site))
    if not found:
        return [VectorOutcome(driver_id, "-", "the driver has no vectors")]
    outcomes = [VectorOutcome(driver_id, vector.name, next(vector_faults(driver, vector), "")) for vector in found]
    faults = [] if driver.generic else list(driver_faults(driver, found, site))
    return [VectorOutcome(driver_id, "-", fault) for fault in faults] + outcomes


# ---- one vector -----------------------------------------------------------------------------------------------------


def vector_faults(driver: Driver, vector: Vector) -> Iterator[str]:
    """What is wrong with a vector, in words, the first first."""
    try:
        trace = parse_trace(vector.trace.read_text(encoding="utf-8"))
        expected = json.loads(vector.expected.read_text(encoding="utf-8"))
        captured = registry.read(vector.trace.read_bytes(), driver)
    except (OSError, ValueError, LaboraError) as error:
        yield str(error)
        return
    described = [describe(registry.decode(driver, message.text), message.problems) for message in captured]
    if found := difference(expected, described):
        yield found
    data = trace.bytes_of(Direction.ANALYZER)
    messages = received(driver, [data])
    over_link = [describe(registry.decode(driver, message)) for message in messages]
    if found := difference([without_envelope(one) for one in expected], over_link):
        yield f"over its link: {found}"
    if place := cut_differs(driver, data, messages):
        yield f"the messages are others when the bytes come {place}"
    yield from host_faults(driver, trace)
    yield from answer_faults(driver, vector, trace)


def cut_differs(driver: Driver, data: bytes, whole: list[bytes]) -> str:
    """Where a cut of the analyzer's bytes makes other messages of them; "" when nowhere."""
    if received(driver, (data[at : at + 1] for at in range(len(data)))) != whole:
        return "byte by byte"
    for at in split_places(data):
        if received(driver, (data[:at], data[at:])) != whole:
            near = escape(data[max(at - _NEAR_BYTES, 0) : at]), escape(data[at : at + _NEAR_BYTES])
            return f"cut at byte {at}, between {near[0]} and {near[1]}"
    return ""


def without_envelope(message: dict[str, Any]) -> dict[str, Any]:
    """A capture also tells of frames and blocks that a link refuses without a word to the decoder."""
    problems = [one for one in message["problems"] if not one["location"].startswith(("frame ", "block "))]
    return message | {"problems": problems}


def host_faults(driver: Driver, trace: Trace) -> Iterator[str]:
    """Whether what the host says in a trace is itself framed rightly and readable."""
    said = trace.bytes_of(Direction.HOST)
    if driver.blocks is not None and driver.protocol is Protocol.DECLARED:
        grammar = driver.blocks
        heard = (grammar.ready, grammar.busy, grammar.good, grammar.bad)
        if not all(step.data in heard for step in trace.steps if step.direction is Direction.HOST):
            yield "the host says what the framing does not have"
        return
    try:
        for reply in host_messages(driver, said):
            if driver.protocol is Protocol.HL7:
                hl7.check_syntax(reply)
    except LaboraError as error:
        yield f"what the host says cannot be read: {error}"


def host_messages(driver: Driver, said: bytes) -> list[bytes]:
    """The messages of the host's side of a trace. Raises CaptureError for frames that are not right."""
    if driver.blocks is not None:
        events = declared.Decoder(driver.blocks, max(len(said), 1)).receive(said)
        return [event.text for event in events if isinstance(event, declared.BlockReceived)]
    if driver.link is LinkFraming.MLLP:
        return [e.block for e in mllp.Decoder().receive(said) if isinstance(e, mllp.BlockReceived)]
    if b"\x02" not in said:
        return []
    found = read_capture(said[said.index(b"\x05") :] if b"\x05" in said else said)
    for problem in (problem for message in found for problem in message.problems):
        raise CaptureError(f"{problem.location}: {problem.text}")
    return [message.text for message in found]


# ---- answers to queries ---------------------------------------------------------------------------------------------


def answer_faults(driver: Driver, vector: Vector, trace: Trace) -> Iterator[str]:
    """Whether the host's lines of a query are what the driver's `[answer]` writes from the vector's worklist."""
    file = vector.trace.with_suffix(".work.json")
    try:
        said = host_messages(driver, trace.bytes_of(Direction.HOST))
    except LaboraError:
        return  # which has been said
    if not file.is_file():
        if (driver.answer or driver.law) and vector.name.startswith("query-with") and said:
            yield f"{file.name} is missing: the worklist from which the host's answer is written"
        return
    if driver.answer is None and driver.law is None:
        yield f"{file.name} is there, and the driver has no [answer]"
        return
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        query = received(driver, [trace.bytes_of(Direction.ANALYZER)])[0]
        written = _answered(driver, query, raw)
    except (OSError, ValueError, KeyError, IndexError, LaboraError) as error:
        yield f"{file.name}: {error!r}"
        return
    if driver.link is LinkFraming.MLLP:
        said = said[: len(written)]  # what follows acknowledges what the analyzer says after it
    if difference(list(map(escape, said)), list(map(escape, written))):
        pairs = zip([*map(escape, said), "nothing"], [*map(escape, written), "nothing"], strict=False)
        expected, got = next((e, g) for e, g in pairs if e != g)
        at = next((at for at, (e, g) in enumerate(zip(expected, got, strict=False)) if e != g), len(expected))
        pair = f"{expected[at : at + 40]!r} in the trace, {got[at : at + 40]!r} written"
        yield f"the answer differs at character {at}: {pair}"


def _answered(driver: Driver, query: bytes, raw: dict[str, Any]) -> tuple[bytes, ...]:
    worklist = [_work(one) for one in raw.get("specimens", [])]
    now, control_id = datetime.fromisoformat(raw["now"]), raw.get("control_id", "")
    if driver.law is not None:
        return law.answer(driver.law, query, worklist, now, control_id)
    queries = registry.decode(driver, query).queries
    known = {one.specimen_id for one in worklist}
    missing = [name for one in queries for name in one.specimen_ids if name not in known]
    asked = read_queries(driver.protocol, query, driver.encoding, queries, driver.query.specimen_id)[0]
    return answer(driver.answer or Answer(), asked, worklist, now, control_id, missing, driver.encoding)


def _work(raw: dict[str, Any]) -> Work:
    patient = raw.get("patient", {})
    tests = [{"code": one} if isinstance(one, str) else one for one in raw.get("tests", [])]
    return Work(
        raw["specimen_id"],
        tuple(Ordered(one["code"], one.get("item_id", "")) for one in tests),
        ObservedPatient(
            patient.get("patient_id", ""),
            patient.get("name", ""),
            date.fromisoformat(patient["birth_date"]) if "birth_date" in patient else None,
            Sex(patient["sex"]) if "sex" in patient else None,
        ),
        Priority(raw.get("priority", "routine")),
        raw.get("type", ""),
        datetime.fromisoformat(raw["collected"]) if "collected" in raw else None,
        raw.get("order_id", ""),
    )


# ---- the driver as a whole ------------------------------------------------------------------------------------------


def driver_faults(driver: Driver, vectors: Sequence[Vector], site: Sequence[Path] = ()) -> Iterator[str]:
    """Why a driver that is not generic does not count (DESIGN §7)."""
    if not driver.document and not driver.evidence:
        yield "it names neither the document nor the capture it is made from"
    names = [vector.name for vector in vectors]
    for case in (case for case in cases(driver) if not any(name.startswith(case) for name in names)):
        yield f"there is no vector {case}, and the driver does not say that the analyzer lacks it"
    if codes := undocumented(driver, vectors):
        yield f"no source is named in [[codes]] for {', '.join(codes)}"
    if not _says_more(driver, vectors):
        yield f"every vector reads the same under {registry.GENERIC.get(driver.protocol, 'a generic driver')}"
    if not driver.named_only:
        yield from _not_recognised(driver, vectors, site)


def cases(driver: Driver) -> tuple[str, ...]:
    """The vectors that a driver must have."""
    if driver.protocol is Protocol.DECLARED:
        return tuple(case for case in DECLARED_CASES if CASES[case] not in driver.lacks)
    return tuple(case for case, feature in CASES.items() if feature not in driver.lacks)


def undocumented(driver: Driver, vectors: Sequence[Vector]) -> list[str]:
    """Codes of the vectors that neither `[[codes]]` nor `[[classify]]` knows."""
    sent = {
        result["code"]
        for vector in vectors
        for message in json.loads(vector.expected.read_text(encoding="utf-8"))
        for specimen in message["specimens"]
        for result in specimen["results"]
        if not result.get("detail")
    }
    return sorted(code for code in sent if code and code not in driver.codes and driver.classify(code) is None)


def _says_more(driver: Driver, vectors: Sequence[Vector]) -> bool:
    """Whether a vector fails under the generic driver: else this one is not needed. What holds a result counts too."""
    for vector in vectors:
        expected = json.loads(vector.expected.read_text(encoding="utf-8"))
        try:
            captured = read_capture(vector.trace.read_bytes())
            generic = registry.load(registry.GENERIC[driver.protocol])
        except (CaptureError, KeyError):
            return True  # without the driver its blocks are no messages at all
        read = [describe(registry.decode(generic, message.text)) | {"problems": []} for message in captured]
        if read != [message | {"problems": []} for message in expected]:
            return True
        meanings = ([_meant(registry.decode(each, message.text)) for message in captured] for each in (driver, generic))
        if next(meanings) != next(meanings):
            return True
    return False


def _meant(message: DecodedMessage) -> list[tuple[frozenset[HoldReason], str | None]]:
    """What of each result the public shape does not show: why it waits, and what its unit means."""
    return [(frozenset(one.holds), one.ucum) for specimen in message.specimens for one in specimen.results]


def _not_recognised(driver: Driver, vectors: Sequence[Vector], site: Sequence[Path]) -> Iterator[str]:
    for vector in vectors:
        for message in registry.read(vector.trace.read_bytes(), driver):
            try:
                found = registry.sniff(driver.protocol, message.text, tuple(site)).id
            except LaboraError as error:
                found = str(error)
            if found != driver.id:
                yield f"{vector.name}: its header is taken for {found}"
                return


def difference(expected: Any, actual: Any, path: str = "") -> str:  # JSON: any of its types
    """The first place where two JSON values differ, in words; "" when nowhere."""
    if type(expected) is not type(actual):
        return f"{path or 'the whole'}: expected {expected!r}, got {actual!r}"
    if isinstance(expected, dict):
        if expected.keys() != actual.keys():
            return f"{path or 'the whole'}: other keys: {', '.join(sorted(expected.keys() ^ actual.keys()))}"
        return next((d for key in expected if (d := difference(expected[key], actual[key], f"{path}.{key}"))), "")
    if isinstance(expected, list):
        if len(expected) != len(actual):
            return f"{path or 'the whole'}: expected {len(expected)} entries, got {len(actual)}"
        pairs = enumerate(zip(expected, actual, strict=True))
        return next((d for index, (e, a) in pairs if (d := difference(e, a, f"{path}[{index}]"))), "")
    return "" if expected == actual else f"{path}: expected {expected!r}, got {actual!r}"
