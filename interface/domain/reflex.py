"""What a result makes the laboratory do next: add a test, run again, dilute. `[[reflex]]` of a rule set. Pure.

Facts and verdicts in, requests out; asking twice is asking once: a request is known by the result and the rule. A chain
of reruns and dilutions ends at `max_depth`: what a rule has led to so often already is left to a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from interface.domain import scope
from interface.domain.exact import in_unit_of
from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.flags import ABNORMAL, CRITICAL, HIGH, LOW, NORMAL, plain, side
from interface.domain.model import HoldReason, ValueKind
from interface.domain.scope import EVERYTHING, Scope
from interface.domain.table import Table
from interface.domain.values import signed
from interface.errors import UnknownUnit

CHECK = "reflex"
MAX_DEPTH = 5
_NO_WORD = frozenset({ValueKind.EMPTY, ValueKind.FAILED, ValueKind.IMAGE})
_OF_INTERVAL = frozenset({NORMAL, LOW, HIGH, ABNORMAL})
_HOLDING = frozenset({Finding.HOLD, Finding.UNKNOWN})


class ReflexKind(StrEnum):
    REFLEX = "reflex"  # another test on the same specimen
    RERUN = "rerun"  # the same test again
    DILUTION = "dilution"  # the same test again, diluted


@dataclass(frozen=True, slots=True)
class Reflex:
    """All conditions that are named must hold; of one that names several, any.

    `below`, `above`: strictly, of all the value may stand for. A reflex is asked for only where nothing holds the
    result, a rerun and a dilution always. `factor`: of a dilution; None leaves it to the analyzer.
    """

    name: str
    test: str
    kind: ReflexKind
    add: tuple[str, ...] = ()
    factor: Decimal | None = None
    below: Decimal | None = None
    above: Decimal | None = None
    unit: str = ""
    flags: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    holds: frozenset[HoldReason] = frozenset()
    max_depth: int = 1
    scope: Scope = EVERYTHING
    reason: str = ""
    source: str = ""
    tests: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", (self.test,))


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to do, known by the result's id and `rule`. `depth`: how many follow-ups led here, this one counted."""

    kind: ReflexKind
    rule: str
    tests: tuple[str, ...]
    depth: int
    reason: str
    factor: Decimal | None = None

    def key(self, result_id: str) -> tuple[str, str]:
        return result_id, self.rule


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdicts`: a rerun that was asked for holds the result; so does a condition that could not be judged."""

    requests: tuple[Request, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


_NOTHING = Outcome()


def parse(entry: Table) -> Reflex:
    """One `[[reflex]]`. Says what is wrong to the table; what comes back then is of no use."""
    kind = entry.choice("kind", ReflexKind, ReflexKind.REFLEX)
    test, add = entry.text("test", None), entry.texts("add")
    if (kind is ReflexKind.REFLEX) != bool(add):
        entry.say(entry.at("add"), "names the tests a reflex adds" + ("" if add else ", and is missing"))
    if test in add:
        entry.say(entry.at("add"), "names the test itself: that is a rerun")
    factor = entry.decimal("factor")
    if factor is not None and (kind is not ReflexKind.DILUTION or factor <= 1):
        entry.say(entry.at("factor"), "is of a dilution, and above 1")
    conditions = {"below", "above", "flags", "words", "holds"}
    if not conditions & entry.raw.keys():
        entry.say(entry.path, f"names no condition: {', '.join(sorted(conditions))}")
    depth = entry.whole("max_depth", 1)
    if not 1 <= depth <= MAX_DEPTH:
        entry.say(entry.at("max_depth"), f"is not from 1 to {MAX_DEPTH}")
    return Reflex(
        name=entry.text("name", None),
        test=test,
        kind=kind,
        add=add,
        factor=factor,
        below=entry.decimal("below"),
        above=entry.decimal("above"),
        unit=entry.text("unit"),
        flags=frozenset(entry.texts("flags")),
        words=frozenset(map(plain, entry.texts("words"))),
        holds=_reasons(entry),
        max_depth=depth,
        scope=scope.parse(entry),
        reason=entry.text("reason", None),
        source=entry.text("source"),
    )


def _reasons(entry: Table) -> frozenset[HoldReason]:
    made = [entry.made("holds", HoldReason, word) for word in entry.texts("holds")]
    return frozenset(one for one in made if one is not None)


def evaluate(
    rules: tuple[Reflex, ...], facts: Facts, verdicts: Iterable[Verdict], version: str = "",
    accepted: frozenset[HoldReason] = frozenset(),
) -> Outcome:  # fmt: skip
    """What is to be done about a result of which the other checks have said `verdicts`. `accepted`: what held it until
    a person released it; a rule may ask for that, and it keeps nothing back any more."""
    if not rules:
        return _NOTHING
    holds = set(facts.holds)
    for verdict in verdicts:
        if verdict.finding in _HOLDING:
            holds.update(verdict.holds)
    requests: list[Request] = []
    said: list[Verdict] = []
    for rule in rules:
        answer = _asked(rule, facts, frozenset(holds), accepted, version, requests)
        if answer is not None:
            said.append(answer)
    return Outcome(tuple(requests), tuple(said)) if requests or said else _NOTHING


def _asked(
    rule: Reflex, facts: Facts, holds: frozenset[HoldReason], accepted: frozenset[HoldReason], version: str,
    requests: list[Request],
) -> Verdict | None:  # fmt: skip
    """Append the request that the rule makes; what there is to say about it."""
    if rule.scope is not EVERYTHING and rule.scope.applies(facts) is False:
        return None
    if rule.kind is ReflexKind.REFLEX and holds:
        # A result that may be wrong orders nothing, and what it added would show through its order that it exists
        # (DESIGN §1.4). It is asked again when a person releases it.
        return None
    met = _met(rule, facts, holds | accepted)
    if met is False:
        return None
    if met is None or (rule.scope is not EVERYTHING and rule.scope.applies(facts) is None):
        text = f"whether a {rule.kind.value} is due is not certain"
        return Verdict(CHECK, Finding.UNKNOWN, text, rule.name, version, holds=(HoldReason.RULE,))
    if facts.follow_ups >= rule.max_depth:
        text = f"{facts.follow_ups} follow-ups led to this result: no further {rule.kind.value}"
        if rule.kind is ReflexKind.REFLEX:
            return Verdict(CHECK, Finding.NOT_APPLICABLE, text, rule.name, version)
        # What a rule would have measured once more is no value that rules release: nobody has compared the runs.
        return Verdict(CHECK, Finding.HOLD, f"{text}, a person decides", rule.name, version, holds=(HoldReason.RULE,))
    tests = tuple(code for code in rule.add if code not in facts.siblings) if rule.add else (rule.test,)
    if not tests:
        return Verdict(CHECK, Finding.NOT_APPLICABLE, "what it adds is there already", rule.name, version)
    requests.append(Request(rule.kind, rule.name, tests, facts.follow_ups + 1, rule.reason, rule.factor))
    if rule.kind is ReflexKind.REFLEX:
        return Verdict(CHECK, Finding.PASS, f"adds {' '.join(tests)}: {rule.reason}", rule.name, version)
    text = f"a {rule.kind.value} was asked for: {rule.reason}"
    return Verdict(CHECK, Finding.HOLD, text, rule.name, version, holds=(HoldReason.RERUN,))


def _met(rule: Reflex, facts: Facts, holds: frozenset[HoldReason]) -> bool | None:
    """Whether every condition holds; None when one is not certain and none is false."""
    said: list[bool | None] = []
    if rule.flags:
        said.append(_flagged(rule.flags, facts))
    if rule.holds:
        said.append(not rule.holds.isdisjoint(holds))
    if rule.words:
        value = facts.value  # a grade or a titre that is sent as a number is a word as the lists of intervals have it
        said.append(value.kind not in _NO_WORD and plain(signed(value.comparator, value.text)) in rule.words)
    if rule.below is not None or rule.above is not None:
        said.append(_beyond(rule, facts))
    return False if False in said else None if None in said else True


def _flagged(flags: frozenset[str], facts: Facts) -> bool | None:
    """None where a limit decides of one of them, and which limit that is depends on what is not known of the person."""
    if not (flags.isdisjoint(facts.flags) and flags.isdisjoint(facts.instrument_flags)):
        return True
    unsure = (facts.interval_unsure and not flags.isdisjoint(_OF_INTERVAL)) or (
        facts.critical_unsure and not flags.isdisjoint(CRITICAL)
    )
    return None if unsure else False


def _beyond(rule: Reflex, facts: Facts) -> bool | None:
    """With both limits: outside them."""
    if facts.value.kind is not ValueKind.NUMERIC:
        return None if facts.value.kind in (ValueKind.FAILED, ValueKind.EMPTY) else False
    low, high = rule.below, rule.above
    if rule.unit not in ("", facts.unit):
        try:
            low = low if low is None else in_unit_of(facts.test, low, rule.unit, facts.unit)
            high = high if high is None else in_unit_of(facts.test, high, rule.unit, facts.unit)
        except UnknownUnit:
            return None
    found = side(facts.value, low, high)
    return None if found is None else found != 0
