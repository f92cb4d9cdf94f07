"""Replacements for what tells a person: the same for the same text and key, of the same length and form. Pure.

Ids and names are permuted within their own form (digits stay digits, capitals capitals, consonants consonants), so two
that differ stay two, none stays itself, and padding and columns stay where they are. The permutation is a Feistel
network keyed by HMAC-SHA-256, walked until it falls within the form (the way of NIST SP 800-38G); it cannot be turned
back without the key. Dates move by one number of days that follows from the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from hashlib import sha256
from hmac import HMAC

_ROUNDS = 8
_DIGITS = "0123456789"
_SETS = (_DIGITS, "AEIOUY", "BCDFGHJKLMNPQRSTVWXZ", "aeiouy", "bcdfghjklmnpqrstvwxz")
_RUN = re.compile(r"\d+|[^\W\d_]+")
_ID_SETS = (_DIGITS, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
# Day 0 of the shift is at least a year away: what happened this week does not stay this week.
_LEAST_DAYS, _DAYS = 366, 3650
_STAMP = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([01][0-9])([0-3][0-9])(?=(?:[0-2][0-9][0-5][0-9](?:[0-5][0-9])?)?(?![0-9]))"
)
_WHOLE = re.compile(r"(?:19|20)[0-9]{6}(?:[0-9]{4}(?:[0-9]{2})?)?(?:\.[0-9]+)?(?:[+-][0-9]{4})?")
_DIVIDED = re.compile(r"(?<![0-9])([0-9]{4}|[0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(?![0-9])")
_ORDERS = ("YMD", "DMY", "MDY")


class Pseudonyms:
    """One key's replacements. `order`: how dates with two-digit years or slashes are written, YMD, DMY or MDY."""

    def __init__(self, key: bytes, order: str = "DMY") -> None:
        self._key, self.order = key, order
        self.days = -(_LEAST_DAYS + int.from_bytes(self._digest("days")[:4], "big") % _DAYS)

    def _digest(self, *parts: str) -> bytes:
        return HMAC(self._key, "\x1f".join(parts).encode("utf-8", "surrogateescape"), sha256).digest()

    def identifier(self, text: str, encoding: str = "utf-8") -> str:
        """Another id of the same form; leading zeros of a number stay, and its first digit is none."""
        return self._permuted(text, "id", _ID_SETS, encoding)

    def name(self, text: str, encoding: str = "utf-8") -> str:
        """Other names of the same lengths, each word for itself, so that it is the same in another place."""
        return _RUN.sub(lambda run: self._permuted(run[0], "id" if run[0].isdigit() else "name", _SETS, encoding), text)

    def words(self, text: str, encoding: str = "utf-8") -> str:
        """Addresses and the like, which may hold dates."""
        bare = text.strip()
        moved = self.dates(text) if _WHOLE.fullmatch(bare) or _DIVIDED.fullmatch(bare) else text
        return moved if moved != text else self.name(text, encoding)

    def free(self, text: str, encoding: str = "utf-8") -> str:
        """Words whose sense nobody can vouch for: only how long they are is left."""
        made = []
        for one in text:
            size = len(_encoded(one, encoding))
            made.append("0" if one.isdigit() and size == 1 else "X" if one.isupper() else "x" if one.isalnum() else one)
            made[-1] *= size if one.isalnum() else 1
        return "".join(made)

    def dates(self, text: str) -> str:
        """Every date in the text moved; what is no date of the calendar stays."""
        return _DIVIDED.sub(self._divided, _STAMP.sub(self._stamp, text))

    def _moved(self, year: int, month: int, day: int) -> date | None:
        try:
            return date(year, month, day) + timedelta(days=self.days)
        except (ValueError, OverflowError):
            return None

    def _stamp(self, match: re.Match[str]) -> str:
        moved = self._moved(int(match[1]), int(match[2]), int(match[3]))
        return match[0] if moved is None else f"{moved:%Y%m%d}"

    def _divided(self, match: re.Match[str]) -> str:
        parts, mark = (match[1], match[3], match[4]), match[2]
        order = _order_of(parts, self.order)
        at = {letter: place for place, letter in enumerate(order)}
        year = int(parts[at["Y"]])
        century = 0 if len(parts[at["Y"]]) == 4 else 2000 if year < 70 else 1900
        moved = self._moved(century + year, int(parts[at["M"]]), int(parts[at["D"]]))
        if moved is None:
            return match[0]
        values = {"Y": moved.year if not century else moved.year % 100, "M": moved.month, "D": moved.day}
        made = [f"{values[letter]:0{len(parts[at[letter]])}d}" for letter in order]
        text = mark.join(made)
        return text if len(text) == len(match[0]) else self.free(match[0])

    def _permuted(self, text: str, kind: str, sets: Sequence[str], encoding: str) -> str:
        """The text with its letters and digits permuted together, all else as it is."""
        zeros = len(text) - len(text.lstrip("0")) if text.isdigit() and kind == "id" else 0
        alphabets: list[str] = []
        places: list[int] = []
        for place, one in enumerate(text):
            alphabet = _alphabet(one, sets, encoding) if place >= zeros else ""
            if not places and alphabet == _DIGITS and text.isdigit():
                alphabet = _DIGITS[1:]
            if len(alphabet) > 1 and one in alphabet:
                alphabets.append(alphabet)
                places.append(place)
        if not places:
            return text
        size, value = 1, 0
        for alphabet, place in zip(alphabets, places, strict=True):
            size, value = size * len(alphabet), value * len(alphabet) + alphabet.index(text[place])
        form = "\x1e".join(alphabets)
        made, out = self._next(value, size, f"{kind}\x1d{form}"), list(text)
        for alphabet, place in zip(reversed(alphabets), reversed(places), strict=True):
            made, digit = divmod(made, len(alphabet))
            out[place] = alphabet[digit]
        return "".join(out)

    def _next(self, value: int, size: int, form: str) -> int:
        """A permutation of range(size) in one cycle: nothing stays itself."""
        walked = self._walk(value, size, form, back=False)
        return self._walk((walked + 1) % size, size, form, back=True)

    def _walk(self, value: int, size: int, form: str, *, back: bool) -> int:
        half = max((size - 1).bit_length() + 1, 2) // 2
        while True:
            value = self._feistel(value, half, form, back=back)
            if value < size:
                return value

    def _feistel(self, value: int, half: int, form: str, *, back: bool) -> int:
        mask = (1 << half) - 1
        left, right = value >> half, value & mask
        for number in reversed(range(_ROUNDS)) if back else range(_ROUNDS):
            if back:
                left, right = right ^ (self._round(left, number, form) & mask), left
            else:
                left, right = right, left ^ (self._round(right, number, form) & mask)
        return (left << half) | right

    def _round(self, value: int, number: int, form: str) -> int:
        digest = b""
        for block in range(1 + value.bit_length() // 256):
            digest += self._digest(form, str(number), str(block), str(value))
        return int.from_bytes(digest, "big")


def date_order(texts: Iterable[str]) -> str:
    """How dates with slashes or dots are written, from all that there are: the order in which each is a date and which
    puts them closest together; DMY where several do."""
    found = [match for text in texts for match in _DIVIDED.finditer(text)]
    best: tuple[int, str] | None = None
    for order in ("DMY", "MDY", "YMD"):
        days = [_read((match[1], match[3], match[4]), order) for match in found]
        known = [day for day in days if day is not None]
        if known and len(known) == len(days):
            span = (max(known) - min(known)).days
            if best is None or span < best[0]:
                best = span, order
    return best[1] if best else "DMY"


def _order_of(parts: tuple[str, str, str], preferred: str) -> str:
    if len(parts[0]) == 4:
        return "YMD"
    if len(parts[2]) == 4 and preferred == "YMD":
        preferred = "DMY"
    others = [order for order in _ORDERS if not (len(parts[2]) == 4 and order == "YMD")]
    return next((order for order in (preferred, *others) if _read(parts, order) is not None), preferred)


def _read(parts: tuple[str, str, str], order: str) -> date | None:
    at = {letter: int(parts[place]) for place, letter in enumerate(order)}
    if (len(parts[0]) == 4) != (order == "YMD") and (len(parts[0]) == 4 or len(parts[2]) == 4):
        return None
    year = at["Y"] if at["Y"] >= 100 else at["Y"] + (2000 if at["Y"] < 70 else 1900)
    try:
        return date(year, at["M"], at["D"])
    except ValueError:
        return None


def _encoded(one: str, encoding: str) -> bytes:
    try:
        return one.encode(encoding, "surrogateescape")
    except (UnicodeEncodeError, LookupError):
        return one.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def _alphabet(one: str, sets: Sequence[str], encoding: str) -> str:
    """The characters that may stand for this one; "" for what is neither letter nor digit."""
    for known in sets:
        if one in known:
            return known
    if not one.isalpha():
        return ""
    size, begin = len(_encoded(one, encoding)), ord(one) & ~0x3F
    near = [c for c in map(chr, range(begin, begin + 0x40)) if c.isalpha() and c.isupper() == one.isupper()]
    return "".join(c for c in near if len(_encoded(c, encoding)) == size)
