"""The statement of support says what the tests show, all of it and nothing else."""

from __future__ import annotations

from tests.e2e.law.assertions import ASSERTIONS, Actor, Assertion
from tests.e2e.law.statement import DOCUMENT, _row, shown, written


def test_the_document_is_what_the_tests_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == written(), "write it anew: python -m tests.e2e.law.statement"


def test_each_assertion_has_a_test_or_a_reason_and_each_test_is_of_one() -> None:
    tests, known = shown(), {one.id: one for one in ASSERTIONS}
    assert len(known) == len(ASSERTIONS)
    assert tests.keys() <= known.keys()
    for one in ASSERTIONS:
        assert bool(tests.get(one.id)) != bool(one.without), one.id


def test_what_nobody_shows_is_said_so() -> None:
    assert "**Not shown**: for a reason" in _row(Assertion("X-1", Actor.BOTH, "Something.", "for a reason"), [])
