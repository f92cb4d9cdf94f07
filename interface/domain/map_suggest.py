"""Which test an unmapped code may stand for: candidates ranked by evidence, each piece of which is told. Pure.

Nothing here maps anything. A candidate whose unit or kind of value cannot be the code's is no candidate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from interface.domain.model import LabTest, ValueKind
from interface.domain.units import UnitAliases, canonical, commensurable
from interface.errors import UnknownUnit

# What each piece of evidence is worth. A vendor's own statement beats the likeness of names; a unit that fits is no
# evidence by itself, for a hundred tests have it.
LIVD, UNVERIFIED, SAME_CODE, ELSEWHERE, NAME, ORDERED, UNIT = 50, 40, 30, 25, 30, 30, 10
ALIKE = 0.45  # names less alike than this are different words
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A code without a test, with what is known of it. `open_items`: of `specimens`, on how many a test is ordered
    and not answered yet, by the test's code."""

    driver: str
    code: str
    specimen_type: str = ""
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    specimens: int = 0
    open_items: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hints:
    """What others say of codes. `livd`: code → its LOINC codes, with where that stands; `unverified`: driver and code →
    test and reason; `elsewhere`: code → test → the drivers that map it so; `vendors`: driver → vendor."""

    livd: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unverified: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    elsewhere: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    vendors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suggestion:
    test: str
    name: str
    score: int
    reasons: tuple[str, ...]


def suggest(
    code: Unmapped, tests: Iterable[LabTest], hints: Hints, aliases: UnitAliases, most: int = 5
) -> list[Suggestion]:
    """The likeliest tests, best first."""
    found = []
    for test in tests:
        fitting = _units_fit(code, test, aliases)
        if fitting is None or not _kind_fits(code, test):
            continue
        evidence = list(_evidence(code, test, hints))
        if evidence:
            evidence += [(UNIT, f"its unit {', '.join(fitting)} fits {test.unit}")] if fitting else []
            score = sum(points for points, _ in evidence)
            reasons = tuple(text for _, text in sorted(evidence, key=lambda one: -one[0]))
            found.append(Suggestion(test.code, test.name, score, reasons))
    return sorted(found, key=lambda one: (-one.score, one.test))[:most]


def _units_fit(code: Unmapped, test: LabTest, aliases: UnitAliases) -> tuple[str, ...] | None:
    """The units as sent that are of the test's kind; None when one does not convert: the code is another test's."""
    if test.kind is not ValueKind.NUMERIC or not test.unit:
        return ()
    fitting = []
    for sent in filter(None, code.units):
        try:
            unit = canonical(sent, aliases, test.unit)
            if commensurable(unit, test.unit):
                fitting.append(sent)  # of the same kind: a mass, not an amount that would be converted
            elif not commensurable(unit, test.unit, test.substance):
                return None
        except UnknownUnit:
            continue  # it says nothing either way; the result will be held for it
    return tuple(fitting)


def _kind_fits(code: Unmapped, test: LabTest) -> bool:
    """A test with a number is not answered by words only."""
    kinds = set(code.kinds) - {ValueKind.EMPTY.value, ValueKind.FAILED.value}
    return not kinds or test.kind is not ValueKind.NUMERIC or ValueKind.NUMERIC.value in kinds


def _evidence(code: Unmapped, test: LabTest, hints: Hints) -> Iterable[tuple[int, str]]:
    where = hints.livd.get(code.code, {}).get(test.loinc) if test.loinc else None
    if where:
        yield LIVD, f"LIVD maps it to {test.loinc} ({where})"
    shipped = hints.unverified.get((code.driver, code.code))
    if shipped and shipped[0] == test.code:
        yield UNVERIFIED, f"the shipped map has it, unverified: {shipped[1]}"
    yield from _other_drivers(code, test, hints)
    if _letters(code.code) and _letters(code.code) == _letters(test.code):
        yield SAME_CODE, f"the code is the laboratory's own for {test.name}"
    alike, words = max(((_alike(name, test), name) for name in (*code.names, code.code) if name), default=(0.0, ""))
    if alike >= ALIKE:
        yield round(NAME * alike), f"{words!r} is like {test.name!r} ({alike:.0%})"
    ordered = code.open_items.get(test.code, 0)
    if ordered and code.specimens:
        share = ordered / code.specimens
        text = f"{test.code} is ordered and open on {ordered} of {code.specimens} specimens that have this code"
        yield round(ORDERED * share), text


def _other_drivers(code: Unmapped, test: LabTest, hints: Hints) -> Iterable[tuple[int, str]]:
    """What the code is at other analyzers. A number means something only to analyzers of the same vendor."""
    drivers = hints.elsewhere.get(code.code, {}).get(test.code, frozenset()) - {code.driver}
    if not any(letter.isalpha() for letter in code.code):
        vendor = hints.vendors.get(code.driver, "")
        drivers = frozenset(driver for driver in drivers if vendor and hints.vendors.get(driver) == vendor)
    if drivers:
        named = ", ".join(sorted(drivers)[:3]) + (" …" if len(drivers) > 3 else "")
        yield ELSEWHERE + min(len(drivers) - 1, 5), f"{named} has this code for it"


@lru_cache(maxsize=8192)
def _letters(text: str) -> str:
    """Letters and digits, and the mark that tells a percentage from a count (`NEUT%`, `NEUT#`)."""
    return "".join(letter for letter in text.casefold().replace("%", "pct") if letter.isalnum())


@lru_cache(maxsize=65536)
def _alike(name: str, test: LabTest) -> float:
    """How alike a name is to the test's: by pairs of letters (Dice), or by the words of one that are in the other."""
    best = 0.0
    for own in (test.name, test.code):
        first, second = _pairs(name), _pairs(own)
        if first and second:
            best = max(best, 2 * len(first & second) / (len(first) + len(second)))
    words, own_words = _words(name), _words(test.name)
    if own_words and own_words <= words:
        best = max(best, 0.9 if own_words == words else 0.75)
    return best


@lru_cache(maxsize=8192)
def _pairs(text: str) -> frozenset[str]:
    plain = _letters(text)
    return frozenset(plain[at : at + 2] for at in range(len(plain) - 1))


@lru_cache(maxsize=8192)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))
