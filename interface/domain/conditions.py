"""What a leaf of a rule asks of one fact: a range, one of some words, yes or no, words among words. Pure.

A condition answers true, false, or None for what cannot be said. A value below or above a limit (`<5`) is a set of
numbers: the answer is true or false where it is so for every number of the set, and None where the set straddles.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from interface.domain.model import Comparator, Value
from interface.domain.table import Table

_BELOW = frozenset({Comparator.LT, Comparator.LE})
_NUMBERS, _SEVERAL = (Decimal, int), (tuple, frozenset)


@dataclass(frozen=True, slots=True)
class Bounds:
    """`min` and `max` belong to the range, `above` and `below` do not; None is open."""

    min: Decimal | None = None
    above: Decimal | None = None
    max: Decimal | None = None
    below: Decimal | None = None

    def judge(self, observed: object) -> bool | None:
        if isinstance(observed, Value):
            if observed.number is None:
                return None
            return self._number(observed.number) if observed.comparator is None else self._set(observed)
        return self._number(observed) if isinstance(observed, _NUMBERS) else None

    def _number(self, number: Decimal | int) -> bool:
        return (
            (self.min is None or number >= self.min)
            and (self.max is None or number <= self.max)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _set(self, value: Value) -> bool | None:
        """Of an interval of numbers and another one: apart as soon as they are apart at one of the bounds."""
        limit, comparator = value.number, value.comparator
        if limit is None or comparator is None:
            return None
        to_the_left = comparator in _BELOW
        open_end = comparator in (Comparator.LT, Comparator.GT)
        answers: list[bool | None] = []
        for bound, closed in ((self.min, True), (self.above, False)):
            if bound is not None:  # true when all of a set to the right is inside, false when all to the left is out
                reach = limit > bound or (limit == bound and (open_end or (closed and not to_the_left)))
                out = limit < bound or (limit == bound and (open_end or not closed))
                answers.append(False if to_the_left and out else True if not to_the_left and reach else None)
        for bound, closed in ((self.max, True), (self.below, False)):
            if bound is not None:
                reach = limit < bound or (limit == bound and (open_end or (closed and to_the_left)))
                out = limit > bound or (limit == bound and (open_end or not closed))
                answers.append(False if not to_the_left and out else True if to_the_left and reach else None)
        if False in answers:
            return False
        return None if None in answers else True

    @property
    def text(self) -> str:
        words = (("from", self.min), ("above", self.above), ("to", self.max), ("below", self.below))
        return " ".join(f"{word} {bound:f}" for word, bound in words if bound is not None)

    @property
    def empty(self) -> bool:
        """No number is inside."""
        lows = [low for low in (self.min, self.above) if low is not None]
        highs = [high for high in (self.max, self.below) if high is not None]
        if not lows or not highs:
            return False
        low, high = max(lows), min(highs)
        return low > high or (low == high and (low == self.above or high == self.below))


@dataclass(frozen=True, slots=True)
class Words:
    """One of these."""

    words: tuple[str, ...]

    def judge(self, observed: object) -> bool | None:
        return observed in self.words if isinstance(observed, str) else None

    @property
    def text(self) -> str:
        return " or ".join(self.words)


@dataclass(frozen=True, slots=True)
class Is:
    expected: bool

    def judge(self, observed: object) -> bool | None:
        return observed is self.expected if isinstance(observed, bool) else None

    @property
    def text(self) -> str:
        return "yes" if self.expected else "no"


@dataclass(frozen=True, slots=True)
class Tags:
    """Of the words there are: at least one of `any_of`, all of `all_of`, none of `none_of`, no other than `only`."""

    any_of: frozenset[str] | None = None
    all_of: frozenset[str] | None = None
    none_of: frozenset[str] | None = None
    only: frozenset[str] | None = None

    def judge(self, observed: object) -> bool | None:
        if not isinstance(observed, _SEVERAL):
            return None
        return (
            (self.only is None or self.only.issuperset(observed))
            and (self.none_of is None or self.none_of.isdisjoint(observed))
            and (self.any_of is None or not self.any_of.isdisjoint(observed))
            and (self.all_of is None or self.all_of.issubset(observed))
        )

    @property
    def text(self) -> str:
        parts = (("any of", self.any_of), ("all of", self.all_of), ("none of", self.none_of), ("only", self.only))
        return ", ".join(f"{word} {' '.join(sorted(tags)) or 'nothing'}" for word, tags in parts if tags is not None)

    @property
    def named(self) -> tuple[str, ...]:
        """Every word it names."""
        several = (self.any_of, self.all_of, self.none_of, self.only)
        return tuple(sorted(set[str]().union(*(tags for tags in several if tags))))


Condition = Bounds | Words | Is | Tags


# ---- from a rule set's document -------------------------------------------------------------------------------------


def parse_bounds(table: Table) -> Bounds:
    """Of a table with `min`, `above`, `max`, `below`; the caller finishes the table."""
    bounds = Bounds(*(table.decimal(key) for key in ("min", "above", "max", "below")))
    if bounds == Bounds():
        table.say(table.path, "has no bound: min, above, max or below")
    if (bounds.min is not None and bounds.above is not None) or (bounds.max is not None and bounds.below is not None):
        table.say(table.path, "has two bounds on one side")
    elif bounds.empty:
        table.say(table.path, f"no number is {bounds.text}")
    return bounds


def parse_words(table: Table, key: str, allowed: Collection[str]) -> Words:
    """A word or several; `allowed`: the only ones there are, none for any."""
    words = table.texts(key)
    if not words or not all(words):
        table.say(table.at(key), "names no word, or an empty one")
    for word in words:
        if allowed and word not in allowed:
            table.say(table.at(key), f"{word!r} is not one of {', '.join(allowed)}")
    return Words(words)


def parse_tags(table: Table) -> Tags:
    keys = ("any_of", "all_of", "none_of", "only")
    tags = Tags(*(frozenset(table.texts(key)) if key in table.raw else None for key in keys))
    if tags == Tags():
        table.say(table.path, f"asks for nothing: {', '.join(keys)}")
    for key in keys[:3]:
        if table.raw.get(key) == []:
            table.say(table.at(key), "names nothing")
    return tags
