"""Records compare, hash and replace as frozen dataclasses do; that nobody changes one is for the type checker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interface.domain.model import Step, Value, ValueKind
from interface.domain.record import record


@record
class Pair:
    one: str
    other: tuple[int, ...] = ()


def test_it_is_a_value() -> None:
    assert Pair("a") == Pair("a", ())
    assert {Pair("a"), Pair("a")} == {Pair("a")}
    assert replace(Pair("a"), other=(1,)) == Pair("a", (1,))


def test_it_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        Pair("a").more = 1  # type: ignore[attr-defined]


def test_the_type_checker_refuses_a_change() -> None:
    """Without mypy's complaint each `ignore` would be one to complain of (warn_unused_ignores)."""
    value = Value(ValueKind.TEXT, "x")
    value.text = "y"  # type: ignore[misc]
    step = Step("map", "ok", "x")
    step.text = "y"  # type: ignore[misc]
