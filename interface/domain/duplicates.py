"""Whether two records of patients may be one person: points for what agrees, and what each is for. Pure.

It proposes and never decides: a person looks at both records and merges them, or does not. Points are whole numbers;
`SHOWN` and more are worth looking at, `LIKELY` and more are the same person unless something else says no.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import permutations

from interface.domain.model import Sex
from interface.domain.names import words
from interface.domain.views import IdentifierView

SHOWN, LIKELY = 55, 80
MOST_WORDS = 4  # of one name that are compared in every order

# What each finding is worth. A name alone never reaches SHOWN: people share names. Twins share everything but the given
# name and the number, so that another given name weighs as much against as the same birth date weighs for.
POINTS = {
    "same name": 45,
    "family and given name exchanged": 40,
    "similar name": 35,
    "same family name": 15,
    "same given name": 10,
    "another name": -30,
    "another given name": -40,
    "same birth date": 40,
    "birth date with day and month exchanged": 30,
    "birth date one digit off": 25,
    "birth date two digits exchanged": 25,
    "birth date one day off": 25,
    "another birth date": -40,
    "same sex": 5,
    "another sex": -15,
    "same number of another authority": 40,
    "same number": 60,
}
_ALIKE = Fraction(88, 100)  # of two words: Anna and Ana, Meyer and Meier, Mohammed and Mohamed; not Anna and Anja


@dataclass(frozen=True, slots=True)
class Demographics:
    family: str = ""
    given: str = ""
    birth_date: date | None = None
    sex: Sex = Sex.UNKNOWN
    identifiers: tuple[IdentifierView, ...] = ()


@dataclass(frozen=True, slots=True)
class Likeness:
    """`reasons`: the findings, of `POINTS`, that make up the score."""

    score: int
    reasons: tuple[str, ...]

    @property
    def likely(self) -> bool:
        return self.score >= LIKELY


def compare(one: Demographics, other: Demographics) -> Likeness:
    """How alike two records are; the same both ways round."""
    reasons = (*_name(one, other), *_birth(one.birth_date, other.birth_date), *_sex(one, other), *_numbers(one, other))
    return Likeness(sum(POINTS[reason] for reason in reasons), reasons)


# ---- names -----------------------------------------------------------------------------------------------------------


def _name(one: Demographics, other: Demographics) -> Iterator[str]:
    mine, theirs = (words(one.family), words(one.given)), (words(other.family), words(other.given))
    if not any(mine) or not any(theirs):
        return
    if all(map(_same, mine, theirs)):
        yield "same name"
    elif all(map(_same, mine, reversed(theirs))):
        yield "family and given name exchanged"
    elif all(map(_similar, mine, theirs)) or all(map(_similar, mine, reversed(theirs))):
        yield "similar name"
    elif _similar(mine[0], theirs[0]):
        yield "same family name"
        if mine[1] and theirs[1]:
            yield "another given name"
    elif mine[1] and _similar(mine[1], theirs[1]):
        yield "same given name"  # a married name, perhaps
    else:
        yield "another name"


def _same(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    return sorted(mine) == sorted(theirs)


def _similar(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether each word of the shorter name has one of the longer that is like it, or that it is the initial of."""
    if not mine or not theirs:
        return False
    fewer, more = sorted((mine[:MOST_WORDS], theirs[:MOST_WORDS]), key=len)
    if alike("".join(mine), "".join(theirs)):
        return True
    return any(all(map(alike, fewer, order)) for order in permutations(more, len(fewer)))


def alike(one: str, other: str) -> bool:
    """Two folded words that may be one: by Jaro and Winkler, or one the initial of the other, or written ue for u."""
    if 1 in (len(one), len(other)):
        return one[:1] == other[:1]
    return similarity(one, other) >= _ALIKE or _simple(one) == _simple(other)


def _simple(word: str) -> str:
    for two in ("ae", "oe", "ue"):
        word = word.replace(two, two[0])
    return word


def similarity(one: str, other: str) -> Fraction:
    """Jaro's measure with Winkler's addition for a common beginning of up to four letters, a tenth for each.

    W. E. Winkler, String Comparator Metrics and Enhanced Decision Rules in the Fellegi-Sunter Model of Record Linkage
    (1990).
    """
    near = jaro(one, other)
    common = 0
    for mine, theirs in zip(one[:4], other[:4], strict=False):
        if mine != theirs:
            break
        common += 1
    return near + Fraction(common, 10) * (1 - near)


def jaro(one: str, other: str) -> Fraction:
    """Letters in common, not further apart than half the longer word, less half of those in another order."""
    if not one or not other:
        return Fraction(int(one == other))
    reach = max(len(one), len(other)) // 2 - 1
    taken: set[int] = set()
    mine: list[str] = []
    for place, letter in enumerate(one):
        for at in range(max(0, place - reach), min(len(other), place + reach + 1)):
            if at not in taken and other[at] == letter:
                taken.add(at)
                mine.append(letter)
                break
    if not mine:
        return Fraction(0)
    theirs = [other[at] for at in sorted(taken)]
    moved = sum(map(str.__ne__, mine, theirs)) // 2
    common = len(mine)
    return (Fraction(common, len(one)) + Fraction(common, len(other)) + Fraction(common - moved, common)) / 3


# ---- the rest --------------------------------------------------------------------------------------------------------


def _birth(one: date | None, other: date | None) -> Iterator[str]:
    if one is None or other is None:
        return
    if one == other:
        yield "same birth date"
    elif (one.year, one.month, one.day) == (other.year, other.day, other.month):
        yield "birth date with day and month exchanged"
    elif abs((one - other).days) == 1:
        yield "birth date one day off"
    else:
        yield _digits(_text(one), _text(other))


def _text(born: date) -> str:
    return born.isoformat().replace("-", "")


def _digits(one: str, other: str) -> str:
    differ = [place for place, (mine, theirs) in enumerate(zip(one, other, strict=True)) if mine != theirs]
    if len(differ) == 1:
        return "birth date one digit off"
    if (
        len(differ) == 2
        and differ[1] == differ[0] + 1
        and (one[differ[0]], one[differ[1]])
        == (
            other[differ[1]],
            other[differ[0]],
        )
    ):
        return "birth date two digits exchanged"
    return "another birth date"


def near_dates(born: date) -> frozenset[date]:
    """Every date that `compare` takes for the same or nearly the same: where candidates are looked for."""
    text = _text(born)
    texts = {text[:4] + text[6:] + text[4:6]}
    for place in range(8):
        texts |= {text[:place] + digit + text[place + 1 :] for digit in "0123456789"}
        if place < 7:
            texts.add(text[:place] + text[place + 1] + text[place] + text[place + 2 :])
    near = (born.toordinal() + days for days in (-1, 0, 1))
    found = {date.fromordinal(day) for day in near if date.min.toordinal() <= day <= date.max.toordinal()}
    for entry in texts:
        try:
            found.add(date(int(entry[:4]), int(entry[4:6]), int(entry[6:])))
        except ValueError:
            continue
    return frozenset(found)


def _sex(one: Demographics, other: Demographics) -> Iterator[str]:
    if Sex.UNKNOWN not in (one.sex, other.sex):
        yield "same sex" if one.sex is other.sex else "another sex"


def _numbers(one: Demographics, other: Demographics) -> Iterator[str]:
    """Two numbers of one authority say nothing: that somebody was registered twice is what is looked for."""
    mine, theirs = _carried(one.identifiers), _carried(other.identifiers)
    if mine & theirs:
        yield "same number"
    elif {value for _, value in mine} & {value for _, value in theirs}:
        yield "same number of another authority"


def _carried(identifiers: Iterable[IdentifierView]) -> set[tuple[str, str]]:
    return {(each.authority.strip().casefold(), each.value.strip().casefold()) for each in identifiers}
