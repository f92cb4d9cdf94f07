"""Texts in letters that the font of the reports has: what it lacks is written in Latin letters, never as a box.

By AnyAscii, letter by letter: `王` is `Wang`, `محمد` is `mhmd`. Who needs the name as it is written has it in the
report's content. Beside it stand the patient's numbers and date of birth.
"""

from __future__ import annotations

from functools import lru_cache
from unicodedata import bidirectional, combining, normalize

from interface.render import typeface

NOTHING_KNOWN = "?"  # for a text of which there is nothing in Latin letters
_ALEF = {"\N{ARABIC LETTER ALEF}": "a"}  # which AnyAscii leaves out


def legible(text: str) -> str:
    """`text` on one line, in letters that can be set from left to right one by one."""
    composed = normalize("NFC", text)
    said = composed if composed.isascii() else "".join(map(_letter, composed))
    return typeface.clean(said) or (NOTHING_KNOWN if text.strip() else "")


@lru_cache(maxsize=4096)
def _letter(letter: str) -> str:
    # What is written from right to left would stand in the wrong order, a mark beside the letter it belongs to.
    set_as_it_is = letter in _known() and bidirectional(letter) not in ("R", "AL") and not combining(letter)
    if letter.isascii() or set_as_it_is:
        return letter
    from anyascii import anyascii

    return _ALEF.get(letter) or anyascii(letter)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """What the font has."""
    from reportlab.pdfbase.ttfonts import TTFontFile

    return frozenset(map(chr, TTFontFile(typeface.font_file()).charToGlyph))
