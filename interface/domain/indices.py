"""Haemolysis, icterus and lipaemia: what an index of the specimen does to a result. `[[index]]` of a rule set. Pure.

An index is a result of its own on the same specimen, of the test the rule names. From where on it disturbs an assay the
reagent's instructions for use say, so a rule may be for one analyzer or method only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from interface.domain import scope
from interface.domain.exact import in_unit, measurable
from interface.domain.facts import Facts, Finding, Sibling, Verdict
from interface.domain.flags import side
from interface.domain.model import HoldReason, Value, ValueKind
from interface.domain.scope import EVERYTHING, Scope
from interface.domain.table import Table
from interface.domain.verdicts import Memo, said
from interface.errors import UnknownUnit

CHECK = "index"
_HOLDS = (HoldReason.INTERFERENCE,)
_SUPPRESSED = (*_HOLDS, HoldReason.SUPPRESSED)
# The laboratory's tests for the indices, unless a rule names its own.
TESTS: Mapping[str, str] = {"H": "H_INDEX", "I": "I_INDEX", "L": "L_INDEX"}
_NAMES = {"H": "haemolysis", "I": "icterus", "L": "lipaemia"}


class Action(StrEnum):
    HOLD = "hold"
    COMMENT = "comment"  # the result stands, with the comment
    SUPPRESS = "suppress"  # held with the comment, and nobody can release the value


@dataclass(frozen=True, slots=True)
class Index:
    """`limit`: an index above it interferes. `words`: those of an index that is no number which interfere.

    `required`: a result without its index is held; else the rule does not speak of it.
    """

    name: str
    test: str
    index: str  # H, I or L
    action: Action
    index_test: str
    limit: Decimal | None = None
    unit: str = ""  # of the limit; "" is the index's own
    words: frozenset[str] = frozenset()
    harmless: frozenset[str] = frozenset()
    required: bool = False
    comment: str = ""
    scope: Scope = EVERYTHING
    source: str = ""
    tests: tuple[str, ...] = field(init=False)
    memo: Memo = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", (self.test,))


def parse(entry: Table) -> Index:
    """One `[[index]]`. Says what is wrong to the table; what comes back then is of no use."""
    test, index = entry.text("test", None), entry.word("index", tuple(TESTS))
    if not index and not entry.raw.get("index"):
        entry.say(entry.at("index"), "is missing: H, I or L")
    limit, words = entry.decimal("limit"), frozenset(map(_plain, entry.texts("words")))
    harmless = frozenset(map(_plain, entry.texts("harmless")))
    if limit is None and not words and "limit" not in entry.raw:
        entry.say(entry.path, "says neither limit nor words")
    if words & harmless:
        entry.say(entry.at("harmless"), "names a word that is in words")
    action = Action(entry.word("action", tuple(Action)) or Action.HOLD)
    comment = entry.text("comment")
    if action is not Action.HOLD and not comment:
        entry.say(entry.at("comment"), f"is missing: {action.value} needs one")
    return Index(
        name=entry.text("name") or f"{test} {index}",
        test=test,
        index=index,
        action=action,
        index_test=entry.text("index_test") or TESTS.get(index, ""),
        limit=limit,
        unit=entry.text("unit"),
        words=words,
        harmless=harmless,
        required=entry.flag("required"),
        comment=comment,
        scope=scope.parse(entry),
        source=entry.text("source"),
    )


def check(rules: tuple[Index, ...], facts: Facts, version: str = "") -> tuple[Verdict, ...]:
    """Each rule of the test on the result; of several on one index each speaks."""
    return tuple([_checked(rule, facts, version) for rule in rules])


def _checked(rule: Index, facts: Facts, version: str) -> Verdict:
    if rule.scope is not EVERYTHING:
        applies = rule.scope.applies(facts)
        if applies is None:
            return _unknown(rule, version, "what the rule asks for is not known of this result")
        if not applies:
            return said(rule.memo, CHECK, Finding.NOT_APPLICABLE, "not of such a result", rule.name, version)
    sibling = facts.siblings.get(rule.index_test)
    if sibling is None:
        if rule.required:
            return _unknown(rule, version, f"no {_NAMES[rule.index]} index for this specimen")
        return said(rule.memo, CHECK, Finding.NOT_APPLICABLE, "no index for this specimen", rule.name, version)
    if sibling.suspect:
        return _unknown(rule, version, f"the {_NAMES[rule.index]} index was released before its control failed")
    above = None if sibling.holds else _interferes(rule, sibling)  # a held one may be another tube's, or not so
    if above is None:
        return _unknown(rule, version, f"the {_NAMES[rule.index]} index cannot be judged")
    inputs = {rule.index_test: sibling.value.text or str(sibling.value.number)}
    if not above:
        return Verdict(CHECK, Finding.PASS, f"no {_NAMES[rule.index]} that interferes", rule.name, version, inputs)
    text = f"{_NAMES[rule.index]} interferes with this test"
    if rule.action is Action.COMMENT:
        return Verdict(CHECK, Finding.PASS, text, rule.name, version, inputs, comment=rule.comment)
    holds = _SUPPRESSED if rule.action is Action.SUPPRESS else _HOLDS
    return Verdict(CHECK, Finding.HOLD, text, rule.name, version, inputs, holds, comment=rule.comment)


def _interferes(rule: Index, sibling: Sibling) -> bool | None:
    """None when it cannot be said: a word in neither list, another unit, `<x` across the limit, a failed index."""
    value = sibling.value
    if value.kind is not ValueKind.NUMERIC:
        word = _plain(value.text)
        return True if word in rule.words else False if word in rule.harmless else None
    if rule.limit is None or value.number is None or not measurable(value.number):
        return None
    if rule.unit not in ("", sibling.unit):
        try:
            value = Value(value.kind, "", in_unit(value.number, sibling.unit, rule.unit), value.comparator)
        except UnknownUnit:
            return None
    found = side(value, None, rule.limit)
    return None if found is None else found == 1


def _plain(word: str) -> str:
    return " ".join(word.split()).casefold()


def _unknown(rule: Index, version: str, text: str) -> Verdict:
    return said(rule.memo, CHECK, Finding.UNKNOWN, text, rule.name, version, _HOLDS)
