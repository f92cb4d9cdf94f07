"""A result that says what one before it said is not read once more, and comes out as if it had been."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.decode_hl7 import decode
from interface.driver.manifest import Driver
from interface.driver.rules import FieldPath
from interface.wire.trace import Direction, parse_trace

DRIVERS = {one.id: one for one in registry.find_all() if one.protocol is Protocol.HL7}
HEAD = b"MSH|^~\\&|A|B|||20260101||ORU^R01|1|P|2.5.1\rOBR|1||S1|P^Panel\r"
RESULT = ["OBX", "1", "NM", "GLU^Glucose^L", "", "5.6", "mmol/L", "4-6", "H", "", "", "F", "", "", "20260102030405"]


def afresh(driver: Driver) -> Driver:
    """The same driver, which has seen nothing."""
    return replace(driver)


@cache
def messages(driver_id: str) -> list[bytes]:
    """Every HL7 message that the driver's vectors have of the analyzer."""
    found = []
    for vector in registry.vectors(driver_id):
        sent = parse_trace(vector.trace.read_text()).bytes_of(Direction.ANALYZER)
        found += [one for part in sent.split(b"\x1c\r") if (one := part.strip(b"\x0b")).startswith(b"MSH")]
    return found


@pytest.mark.parametrize("driver_id", sorted(DRIVERS))
def test_it_is_as_if_read_anew_whatever_field_differs(driver_id: str) -> None:
    warm = afresh(DRIVERS[driver_id])
    for message in messages(driver_id):
        before = decode(warm, message)
        assert decode(warm, message) == before == decode(afresh(warm), message)
        lines = message.split(b"\r")
        head = [line for line in lines if line[:3] not in (b"OBX", b"NTE")]
        results = {line.split(b"|")[2]: line for line in lines if line[:3] == b"OBX" and len(line) < 300}
        for line in results.values():  # one of each type
            decode(warm, b"\r".join([*head, line]))
            fields = line.split(b"|")
            for number in range(1, 20):
                changed = fields + [b""] * (number + 1 - len(fields))
                changed[number] = b"9" if changed[number] != b"9" else b"8^7"
                other = b"\r".join([*head, b"|".join(changed)])
                assert decode(warm, other) == decode(afresh(warm), other), (other, number)


def message(fields: list[str], *others: str) -> bytes:
    return HEAD + "\r".join(["|".join(fields), *others, ""]).encode()


def test_what_is_said_again_is_found_and_has_its_own_place_and_time() -> None:
    driver = afresh(DRIVERS["generic_hl7"])
    again = [*RESULT[:1], "2", *RESULT[2:14], "20270102030405"]
    (one,) = decode(driver, message(RESULT)).specimens[0].results
    (_, other) = decode(driver, message(RESULT, "|".join(again))).specimens[0].results
    assert len(driver.seen) == 1
    assert (other.location, other.instrument_time, other.occurrence) == ("OBX^2", "20270102030405", 1)
    assert replace(other, location=one.location, instrument_time=one.instrument_time, occurrence=0) == one
    assert other.value is one.value


def test_a_comment_below_it_is_no_other_results() -> None:
    driver = afresh(DRIVERS["generic_hl7"])
    (noted,) = decode(driver, message(RESULT, "NTE|1||haemolysed")).specimens[0].results
    (plain,) = decode(driver, message(RESULT)).specimens[0].results
    (again,) = decode(driver, message(RESULT, "NTE|1||lipaemic")).specimens[0].results
    assert (noted.comments, plain.comments, again.comments) == (("haemolysed",), (), ("lipaemic",))


def test_another_charset_or_other_delimiters_are_read_by_themselves() -> None:
    driver = afresh(DRIVERS["generic_hl7"])
    fields = [*RESULT[:3], "GLU&X", "", "a\\XC4\\", *RESULT[6:]]
    for encoding in ("utf-8", "latin-1", "cp1251"):
        for mark in (b"&", b"$"):
            sent = message(fields).replace(b"~\\&", b"~\\" + mark, 1)
            assert decode(driver, sent, encoding) == decode(afresh(driver), sent, encoding)


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({}, (1, 19, 14)),
        ({"unit": (FieldPath("OBR", 4),)}, None),
        ({"method": (FieldPath("OBR", 4, 2),)}, None),
        ({"name": (FieldPath("OBX", 14, 2),)}, None),
        ({"instrument_time": (FieldPath("OBR", 7),)}, (1,)),
        ({"instrument_time": (FieldPath("OBX", 5, 2),)}, None),
    ],
)
def test_only_what_depends_on_its_own_segment_alone_is_kept(
    changes: dict[str, object], own: tuple[int, ...] | None
) -> None:
    driver = DRIVERS["generic_hl7"]
    changed = replace(driver, paths=replace(driver.paths, **changes))  # type: ignore[arg-type]
    assert changed.own_fields == own
    decode(changed, message(RESULT))
    assert len(changed.seen) == (own is not None)


def test_a_time_that_stands_beside_the_result_is_its_own_message_s_too() -> None:
    driver = DRIVERS["generic_hl7"]
    warm = replace(driver, paths=replace(driver.paths, instrument_time=(FieldPath("TQ1", 8),)))
    times = ["20260102030405", "20260102040506"]
    sent = [HEAD + f"TQ1|1|||||||{time}\r{'|'.join(RESULT)}\r".encode() for time in times]
    assert [decode(warm, one).specimens[0].results[0].instrument_time for one in sent] == times


@pytest.mark.parametrize("driver_id", ["generic_hl7", "ihe_law", "mindray_bc5150", "roche_liat"])
def test_what_ends_as_the_one_before_is_cut_at_the_same_field_only(driver_id: str) -> None:
    warm = afresh(DRIVERS[driver_id])
    time = RESULT[-1]
    others = [
        RESULT,
        [*RESULT[:-1], "", time],  # the same end, a field later
        [*RESULT[:-2], time],  # and a field earlier
        [*RESULT[:-1], "", *RESULT[-3:]],
        RESULT[:12],
        [*RESULT, "", "operator", "^Method", "device", time],
        [*RESULT[:12], "", "", "20270102030405", "", "operator", "^Method", "device", time],
        RESULT[:2],
        RESULT[:1],
        ["obx", *RESULT[1:]],
        ["OBX", "1~2", *RESULT[2:]],
        RESULT,
    ]
    for one in others:
        for two in others:
            sent = message(one, "|".join(two))
            assert decode(warm, sent) == decode(afresh(warm), sent), (one, two)
