"""Texts in letters that the font of the reports has: what it lacks is written in Latin letters, never as a box."""

from __future__ import annotations

from functools import lru_cache
from unicodedata import bidirectional, combining, normalize

from interface.render import typeface


def legible(text: str) -> str:
    """`text` on one line, in letters that can be set from left to right one by one."""
    cleaned = typeface.clean(normalize("NFC", text))
    return cleaned if cleaned.isascii() else typeface.clean("".join(map(_letter, cleaned)))


@lru_cache(maxsize=4096)
def _letter(letter: str) -> str:
    # What is written from right to left would stand in the wrong order.
    if letter in _known() and bidirectional(letter) not in ("R", "AL") and not combining(letter):
        return letter
    return letter


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    from reportlab.pdfbase.ttfonts import TTFontFile

    return frozenset(map(chr, TTFontFile(typeface.font_file()).charToGlyph))
