"""People's names as they are compared: words without accents and case, in any order. Pure.

The letters that fold to two in one country's spelling and to one in another's (ü: ue, u) have both, on either side, so
that Müller, Mueller and Muller find Müller, and Müller finds Mueller.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Letters that are no base letter with a mark, so that NFKD leaves them alone.
_LETTERS = str.maketrans(
    {
        "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ł": "l", "ŋ": "n", "þ": "th", "ŧ": "t",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i", "ə": "e", "ĸ": "k",
    }
)  # fmt: skip
# How passports spell these letters where marks cannot be printed (ICAO Doc 9303-3, section 6 A).
_TWO = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_INSIDE = frozenset("'\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`-\N{HYPHEN}\N{EN DASH}.")
LAST_LETTER = chr(0x10FFFF)  # after every letter: a word begins with `x` when it is from `x` to `x` and this


def fold(text: str) -> str:
    """Without accents and case: `Łukasz` is `lukasz`, `Ærø` is `aero`. For comparing only, never to be shown."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return bare.casefold().translate(_LETTERS)


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """The folded words of a name in their order: `O'Brien-Müller, Eva` is o, brien, muller, eva."""
    return tuple(_split(fold(text)))


def spellings(word: str) -> tuple[str, ...]:
    """The folded spellings of one word as written: `Müller` is muller and mueller."""
    composed = unicodedata.normalize("NFC", word.casefold())
    return tuple(dict.fromkeys((fold(composed), fold(composed.translate(_TWO)))))


def index_words(text: str) -> frozenset[str]:
    """Every word by which a name is found: its words in all spellings, and what an apostrophe or a hyphen parts also
    in one (`O'Brien`: o, brien, obrien)."""
    found: set[str] = set()
    for part in text.split():
        for spelling in spellings(part):
            found.update(_split(spelling))
            found.update(_split("".join(letter for letter in spelling if letter not in _INSIDE)))
    return frozenset(found)


def search_words(text: str) -> tuple[tuple[str, ...], ...]:
    """What somebody typed: a group for each word, of which any spelling may be found; all groups must be."""
    groups: list[tuple[str, ...]] = []
    for part in text.split():
        ways = [_split(spelling) for spelling in spellings(part)]
        groups += [tuple(dict.fromkeys(pieces)) for pieces in zip(*ways, strict=True)]
    return tuple(dict.fromkeys(groups))


def _split(folded: str) -> list[str]:
    """Letters, digits and the marks that belong to them; everything else parts words."""
    return "".join(letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in folded).split()
