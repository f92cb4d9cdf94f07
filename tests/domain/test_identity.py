"""The natural key of a result is for ever: a daemon of before wrote the rows that are found by it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from interface.domain.identity import BEGINNING, KEY_LENGTH, natural_key, natural_keys
from interface.domain.model import Observed, ObservedSpecimen
from interface.domain.values import EMPTY

ANALYZER = "018f0000-0000-7000-8000-000000000001"
GLU = Observed("GLU", EMPTY, code_path="GLU^Glucose", instrument_time="20261126075959")
RESULTS = (
    GLU,
    replace(GLU, occurrence=1),
    replace(GLU, sub_id="1"),
    replace(GLU, instrument_time=""),
    replace(GLU, code_path="", code="µ\0\ud800"),
    GLU,
)


def test_a_key_is_what_it_always_was() -> None:
    whole, odd = ObservedSpecimen(specimen_id="S3-42-0000000-1"), replace(RESULTS[-2], occurrence=3, sub_id="1")
    odd = replace(odd, instrument_time=GLU.instrument_time)
    assert natural_key(ANALYZER, whole, GLU).hex() == "53332d34322d30303030303097589b39ec86554a1de34426b753105b"
    made = natural_key(ANALYZER, ObservedSpecimen(), odd, message="m 1")
    assert made.hex() == "000000000000000000000000da8285103999bde1c0e504bdaafb54b6"


def test_the_keys_of_a_specimen_are_those_of_each_of_its_results() -> None:
    for specimen_id in ("S1", "a specimen of a long name", "\0µ", None):
        for message in ("", "message 1"):
            specimen = ObservedSpecimen(specimen_id=specimen_id, results=RESULTS)
            keys = natural_keys(ANALYZER, specimen, message=message)
            assert keys == [natural_key(ANALYZER, specimen, one, message=message) for one in RESULTS]
            assert len(set(keys)) == len(RESULTS) - 1
    assert natural_keys(ANALYZER, ObservedSpecimen()) == []


def test_what_says_another_result_says_another_key() -> None:
    parts = product(("GLU", "GLU^Glucose", ""), ("", "1", "GLU"), (0, 1, 2), ("", "20260102", "20260103"))
    results = tuple(
        Observed("C", EMPTY, code_path=path, sub_id=sub_id, occurrence=nth, instrument_time=time)
        for path, sub_id, nth, time in parts
    )
    seen: set[bytes] = set()
    for analyzer, specimen_id, message in product(("A1", "A"), (None, "S1", "S12345678901234"), ("", "1")):
        keys = natural_keys(analyzer, ObservedSpecimen(specimen_id=specimen_id, results=results), message=message)
        assert {key[:BEGINNING].rstrip(b"\0") for key in keys} == {(specimen_id or "").encode()[:BEGINNING]}
        assert {len(key) for key in keys} == {KEY_LENGTH}
        assert len(set(keys)) == len(keys)
        assert seen.isdisjoint(keys)
        seen.update(keys)
