"""Records compare, hash and replace as frozen dataclasses do; that nobody changes one is for the type checker."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
