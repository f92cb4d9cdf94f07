"""The type in which pictures and reports are set: how wide a text is, and where the font is.

Arimo, which the package fontpkg-arimo brings (SIL Open Font License 1.1). Its letters are as wide as those of Arial,
Helvetica and Liberation Sans, one of which a viewer without it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from unicodedata import combining, normalize

FAMILY = "Arimo, 'Liberation Sans', Arial, Helvetica, sans-serif"
DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ASCENT, DESCENT = 0.906, 0.212  # of the size, above and below the base line: Arimo's hhea table

# Advance widths in 2048ths of the size, as Arimo's hmtx table has them; a test compares them with the font.
_ASCII = """
569 569 727 1139 1139 1821 1366 391 682 682 797 1196 569 682 569 569 1139 1139 1139 1139 1139 1139 1139 1139
1139 1139 569 569 1196 1196 1196 1139 2079 1366 1366 1479 1479 1366 1251 1593 1479 569 1024 1366 1139 1706 1479
1593 1366 1593 1479 1366 1251 1479 1366 1933 1366 1366 1251 569 569 569 961 1139 682 1139 1139 1024 1139 1139
569 1139 1139 455 455 1024 455 1706 1139 1139 1139 1139 682 1024 569 1139 1024 1479 1024 1024 1024 684 532 684
1196"""
_LATIN_1 = """
569 682 1139 1139 1139 1139 532 1139 682 1509 758 1139 1196 682 1509 1131 819 1124 682 682 682 1180 1100 682 682
682 748 1139 1708 1708 1708 1251 1366 1366 1366 1366 1366 1366 2048 1479 1366 1366 1366 1366 569 569 569 569
1479 1479 1593 1593 1593 1593 1593 1196 1593 1479 1479 1479 1479 1366 1366 1251 1139 1139 1139 1139 1139 1139
1821 1024 1139 1139 1139 1139 569 569 569 569 1139 1139 1139 1139 1139 1139 1139 1124 1251 1139 1139 1139 1139
1024 1139 1024"""
_MORE = {
    "\N{GREEK SMALL LETTER MU}": 1180, "\N{GREEK SMALL LETTER SIGMA}": 1264, "\N{GREEK SMALL LETTER GAMMA}": 1024,
    "β": 1178, "Δ": 1368, "Ω": 1531, "⁰": 682, "⁴": 682, "⁵": 682, "⁶": 682, "⁷": 682, "⁸": 682, "⁹": 682,
    "≥": 1124, "≤": 1124, DASH: 1139, "—": 2048, "…": 2048, "\N{LEFT SINGLE QUOTATION MARK}": 455,
    "\N{RIGHT SINGLE QUOTATION MARK}": 455, "“": 682, "”": 682, "•": 717, "→": 2048, "←": 2048, "↑": 1024, "↓": 1024,
    MINUS: 1196, "\N{LATIN SMALL LETTER DOTLESS I}": 569, "ł": 455, "Ł": 1139, "đ": 1139, "Đ": 1479,
}  # fmt: skip
_WIDTHS = (
    {chr(32 + at): int(width) for at, width in enumerate(_ASCII.split())}
    | {chr(160 + at): int(width) for at, width in enumerate(_LATIN_1.split())}
    | _MORE
)
_ACCENT, _WIDEST = 272, 2731  # what an accent adds to a letter at most; what is not in the table at most


def exact(text: str) -> bool:
    """Whether every letter's width is known, and not only what it is at most."""
    return all(letter in _WIDTHS for letter in text)


def width(text: str, size: float) -> float:
    """How wide `text` is in the unit of `size`, at most where it is not `exact`."""
    return sum(map(_advance, text)) * size / 2048


@lru_cache(maxsize=4096)
def _advance(letter: str) -> int:
    known = _WIDTHS.get(letter)
    if known is not None:
        return known
    parts = [_WIDTHS.get(part, _WIDEST) for part in normalize("NFD", letter) if not combining(part)]
    return sum(parts) + _ACCENT if parts else 0


def clean(text: str) -> str:
    """What can be set on one line: no control characters, line ends as blanks."""
    spaced = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(spaced.split())


def cut(text: str, size: float, room: float) -> str:
    """As much of `text` as there is room for, with an ellipsis where it is cut; empty if not even that fits."""
    said = clean(text)
    if width(said, size) <= room:
        return said
    left = room * 2048 / size - _WIDTHS["…"]
    if left < 0:
        return ""
    for at, letter in enumerate(said):
        left -= _advance(letter)
        if left < 0:
            return said[:at].rstrip() + "…"
    return said


def wrap(text: str, size: float, room: float, most: int) -> list[str]:
    """`text` on at most `most` lines, between its words where that goes; the last one is cut."""
    lines = [""]
    words = list(_pieces(clean(text).split(" "), size, room))
    for at, word in enumerate(words):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width(longer, size) <= room:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = cut(" ".join([lines[-1], *words[at:]]), size, room)
            break
    return lines


def _pieces(words: Iterable[str], size: float, room: float) -> Iterable[str]:
    """Words, those that are wider than a line in pieces."""
    for word in words:
        piece = ""
        for letter in word:
            if piece and width(piece + letter, size) > room:
                yield piece
                piece = ""
            piece += letter
        yield piece


def font_file() -> str:
    """Where the font is, for who draws letters. Imports its package."""
    import fontpkg_arimo

    return str(fontpkg_arimo.ROOT / "files" / "Arimo[wght].ttf")
