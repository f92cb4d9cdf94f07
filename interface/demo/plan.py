"""What the demo plays and what must come of it, from the drivers' recorded conversations and their `expected.json`.

What is expected is worked out from what was sent, the shipped code map and the shipped tests; the daemon is not asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any

from interface import simulator
from interface.demo.site import LINKS, DemoLink
from interface.domain.model import ValueKind
from interface.domain.units import canonical, convert
from interface.driver import registry
from interface.driver.manifest import StatusMeaning
from interface.errors import LaboraError
from interface.simulator import PlayProtocol, Source
from interface.store.catalogue import ShippedTest, shipped_aliases, shipped_code_map, shipped_tests
from interface.wire.frames import parse_frame

ORDERED_SPECIMENS = 5  # at least; one more comes without an order, and its results are held
_NO_RESULT = (ValueKind.EMPTY, ValueKind.FAILED)


class PlanError(LaboraError):
    """The drivers' vectors cannot be played as they are."""

    slug = "demo"


@dataclass(frozen=True, slots=True)
class Sent:
    """One result as an analyzer says it. `value` is exact decimal text for a number; None when there is none."""

    code: str
    value: str | None
    comparator: str
    unit: str
    kind: ValueKind
    raw_value: str
    flags: tuple[str, ...]
    status: str
    comments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """A patient as the analyzer names them; the order is placed for the same one."""

    patient_id: str
    name: str
    birth_date: str | None
    sex: str | None


@dataclass(frozen=True, slots=True)
class PlannedSpecimen:
    """A tube in an analyzer. `tests`: what is ordered on it; none: it comes without an order."""

    barcode: str
    link: DemoLink
    person: Person | None
    sent: tuple[Sent, ...]
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Play:
    """A vector, to be played on a link."""

    link: DemoLink
    vector: str
    source: Source
    specimens: tuple[PlannedSpecimen, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """What an EMR must read for a result: a number in the test's unit, or words."""

    test: ShippedTest
    number: Decimal | None
    comparator: str
    text: str


def make_plan(tamper: bool = False) -> tuple[Play, ...]:
    """What to play. With `tamper` one number is played otherwise than it is expected. Raises PlanError."""
    plays = [play for link in LINKS for play in _plays_of(link)]
    if {play.link for play in plays} != set(LINKS) or len(all_specimens(plays)) <= ORDERED_SPECIMENS:
        raise PlanError("the drivers of the demo have too few vectors with results of patients")
    without_order = plays[-1]
    plays[-1] = replace(without_order, specimens=tuple(replace(one, tests=()) for one in without_order.specimens))
    if tamper:
        plays[0] = _tampered(plays[0])
    return tuple(plays)


def _plays_of(link: DemoLink) -> Iterator[Play]:
    """The link's vectors that are plain results of patients, each specimen once."""
    seen: set[str] = set()
    for vector in registry.vectors(link.driver):
        if not vector.name.startswith("result"):
            continue  # controls, queries, reruns, retransmissions: the driver's tests play them
        messages = json.loads(vector.expected.read_text(encoding="utf-8"))
        specimens = tuple(one for message in messages for one in _specimens(link, message))
        barcodes = {specimen.barcode for specimen in specimens}
        if specimens and not barcodes & seen:
            seen |= barcodes
            yield Play(link, vector.name, simulator.load(vector.trace), specimens)


def _specimens(link: DemoLink, message: dict[str, Any]) -> Iterator[PlannedSpecimen]:
    for one in message["specimens"]:
        if one["role"] != "patient" or not one["results"] or not one["specimen_id"]:
            continue
        sent = tuple(_sent(result) for result in one["results"])
        mapped = dict.fromkeys(test.code for result in sent if (test := mapped_test(link, result.code)))
        if mapped:
            person = message["patients"][one["patient"]] if one["patient"] is not None else None
            yield PlannedSpecimen(one["specimen_id"], link, Person(**person) if person else None, sent, tuple(mapped))


def _sent(result: dict[str, Any]) -> Sent:
    return Sent(
        code=result["code"],
        value=result["value"],
        comparator=result["comparator"] or "",
        unit=result["unit"],
        kind=ValueKind(result["kind"]),
        raw_value=result["raw_value"],
        flags=tuple(result["flags"]),
        status=result["status"],
        comments=tuple(result["comments"]),
    )


def _tampered(play: Play) -> Play:
    """One number of a result that would be released, played otherwise."""
    parts = (part for transmission in play.source.transmissions for part in transmission)
    texts = parts if play.source.protocol is PlayProtocol.MLLP else (parse_frame(part)[1] for part in parts)
    records = [record for text in texts for record in text.split(b"\r")]
    for specimen in play.specimens:
        for sent in specimen.sent:
            if sent.kind is not ValueKind.NUMERIC or mapped_test(play.link, sent.code) is None:
                continue
            value, other = sent.raw_value, f"{sent.raw_value[:-1]}{9 - int(sent.raw_value[-1])}"
            for record in records:
                if sent.code.encode() in record and f"|{value}|".encode() in record:
                    tampered = record.replace(f"|{value}|".encode(), f"|{other}|".encode())
                    return replace(play, source=play.source.altered(record, tampered))
    raise PlanError("there is no number to tamper with")


# ---- what must come of it -------------------------------------------------------------------------------------------


@cache
def _map(driver: str) -> dict[str, tuple[ShippedTest, str]]:
    """Code → test and the unit the number is in where the analyzer sends none."""
    tests = {test.code: test for test in shipped_tests()}
    shipped = shipped_code_map(driver)
    codes = shipped.codes if shipped else ()
    return {row.code: (tests[row.test], row.unit) for row in codes if row.verified and row.test in tests}


def mapped_test(link: DemoLink, code: str) -> ShippedTest | None:
    """The test that the shipped map gives an analyzer's code."""
    found = _map(link.driver).get(code)
    return found[0] if found else None


def expected(link: DemoLink, sent: Sent) -> Reported | None:
    """What must be read for `sent`; None when it is no result of a test that the laboratory knows."""
    test = mapped_test(link, sent.code)
    if test is None or sent.value is None or sent.kind in _NO_RESULT:
        return None
    if sent.kind is not ValueKind.NUMERIC:
        return Reported(test, None, "", sent.value)
    unit = canonical(sent.unit, shipped_aliases(), test.unit) if sent.unit else _map(link.driver)[sent.code][1]
    number = convert(Decimal(sent.value), unit or test.unit, test.unit)
    exponent = number.as_tuple().exponent
    if test.decimals is not None and isinstance(exponent, int) and -exponent > test.decimals:
        number = number.quantize(Decimal(1).scaleb(-test.decimals), ROUND_HALF_UP)
    return Reported(test, number, sent.comparator, "")


def justified(specimen: PlannedSpecimen, sent: Sent) -> frozenset[str]:
    """The reasons for which this result may be held; one that is held for another has gone wrong."""
    reasons: set[str] = set()
    test = mapped_test(specimen.link, sent.code)
    if not specimen.tests:
        reasons.add("no_such_specimen")
    if test is None:
        reasons.add("unmapped_code")
    elif specimen.tests and test.code not in specimen.tests:
        reasons.add("not_ordered")
    if sent.kind in _NO_RESULT:
        reasons |= {"no_value", "run_failed"}
    elif sent.kind is not ValueKind.NUMERIC:
        reasons.add("unreadable_value")
    # What the driver's own tables say against a flag, an alarm or a status.
    driver = registry.load(specimen.link.driver)
    reasons |= {hold.value for flag in sent.flags if (hold := driver.flag_hold(flag)) is not None}
    if driver.alarm is not None and not driver.alarm.known.issuperset(sent.comments):
        reasons.add("unknown_flag")
    if driver.status(sent.status) is not StatusMeaning.OK:
        reasons |= {"questionable", "unknown_status"}
    return frozenset(reasons)


def all_specimens(plays: Sequence[Play]) -> tuple[PlannedSpecimen, ...]:
    return tuple(specimen for play in plays for specimen in play.specimens)
