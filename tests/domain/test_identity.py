"""When two results are the same: their natural keys."""

from __future__ import annotations

from itertools import product

from interface.domain.identity import BEGINNING, KEY_LENGTH, natural_key, natural_keys
from interface.domain.model import Observed, ObservedSpecimen, Value, ValueKind

VALUE = Value(ValueKind.EMPTY)


def test_what_says_another_result_says_another_key_and_the_keys_of_a_specimen_are_those_of_its_results() -> None:
    parts = product(("GLU", "GLU^Glucose", ""), ("", "1", "GLU"), (0, 1, 2), ("", "20260102", "20260103"))
    results = tuple(
        Observed("C", VALUE, code_path=path, sub_id=sub_id, occurrence=nth, instrument_time=time)
        for path, sub_id, nth, time in parts
    )
    seen: set[bytes] = set()
    for analyzer, specimen_id, message in product(("A1", "A"), (None, "S1", "S12345678901234"), ("", "1")):
        specimen = ObservedSpecimen(specimen_id=specimen_id, results=results)
        keys = natural_keys(analyzer, specimen, message)
        assert keys == [natural_key(analyzer, specimen, one, message=message) for one in results]
        assert {key[:BEGINNING].rstrip(b"\0") for key in keys} == {(specimen_id or "").encode()[:BEGINNING]}
        assert {len(key) for key in keys} == {KEY_LENGTH}
        assert len(set(keys)) == len(keys)
        assert seen.isdisjoint(keys)
        seen.update(keys)
