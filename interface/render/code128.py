"""Code 128 (ISO/IEC 15417): text to symbol characters, as few as there can be, and to the widths of bars and spaces.

Text is ASCII. The extended characters that FNC4 reaches are left alone: whether a reader understands them is a setting
of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interface.errors import LaboraError

QUIET_MODULES = 10  # on either side (ISO/IEC 15417 4.4)
SYMBOL_MODULES, STOP_MODULES = 11, 13

# ISO/IEC 15417 table 1: widths of bar, space, bar, space, bar, space of the values 0 to 105; the stop has a bar more.
_PATTERNS = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222 "
    "123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321 "
    "232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121 "
    "313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224 "
    "111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111 "
    "111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113 "
    "114311 411113 411311 113141 114131 311141 411131 211412 211214 211232"
).split()
_STOP = "2331112"

START = {"A": 103, "B": 104, "C": 105}
SWITCH = {"A": 101, "B": 100, "C": 99}  # to this code set, from either of the others
SHIFT = 98  # the next character is of the other of A and B
_OTHER = {"A": "B", "B": "A"}


class Unprintable(LaboraError):
    """A text that Code 128 has no symbol for, or none that fits."""

    slug = "unprintable"


def encode(text: str, sets: str = "BAC", shift: bool = True) -> tuple[int, ...]:
    """The symbol characters of `text` with start and check character, without the stop: the shortest there is.

    `sets`: the code sets that may be used, on equal lengths the first of them; `shift`: whether one character may be
    of the other set. Raises Unprintable.
    """
    if not text or any(letter > "\x7f" for letter in text):
        raise Unprintable("a bar code is ASCII and not empty")
    best = _best(text, sets, shift)
    start = min(sets, key=lambda name: _cost(best, 0, name))
    if _cost(best, 0, start) >= _NEVER:
        raise Unprintable(f"code set {' and '.join(sets)} has not every character of the bar code")
    values = [START[start], *_path(text, best, start)]
    values.append(sum(value * max(at, 1) for at, value in enumerate(values)) % 103)
    return tuple(values)


def widths(values: Sequence[int]) -> Iterator[int]:
    """Widths in modules, bars and spaces in turn, of what `encode` made and the stop; no quiet zones."""
    for value in values:
        yield from map(int, _PATTERNS[value])
    yield from map(int, _STOP)


def modules(values: Sequence[int]) -> int:
    """The whole width in modules, quiet zones included."""
    return len(values) * SYMBOL_MODULES + STOP_MODULES + 2 * QUIET_MODULES


# ---- the shortest way: from the end, for each place and code set, the fewest symbols and the step that has them -----

_NEVER = 1 << 30
_Step = tuple[int, tuple[int, ...], int, str]  # symbols to the end, the values now, the place and the code set after it
_Best = dict[tuple[int, str], _Step]


def _best(text: str, sets: str, shift: bool) -> _Best:
    best: _Best = {}
    for at in range(len(text) - 1, -1, -1):
        stay = {name: min(_steps(text, at, name, best, shift and _OTHER.get(name, "-") in sets)) for name in sets}
        for name in sets:
            ways = [stay[name]]
            ways += [
                (1 + stay[other][0], (SWITCH[other], *stay[other][1]), *stay[other][2:])
                for other in sets
                if other != name
            ]
            best[at, name] = min(ways, key=lambda way: way[0])
    return best


def _steps(text: str, at: int, name: str, best: _Best, shift: bool) -> Iterator[_Step]:
    """What may be done in this code set at this place; at least one thing, which may cost too much ever to be taken."""
    values = _values(text, at, name)
    taken = 2 if name == "C" else 1
    yield (len(values) + _cost(best, at + taken, name), values, at + taken, name) if values else (_NEVER, (), at, name)
    if shift and (shifted := _values(text, at, _OTHER[name])):
        yield 2 + _cost(best, at + 1, name), (SHIFT, *shifted), at + 1, name


def _cost(best: _Best, at: int, name: str) -> int:
    return best[at, name][0] if (at, name) in best else 0  # behind the last character nothing is left to do


def _path(text: str, best: _Best, name: str) -> Iterator[int]:
    at = 0
    while at < len(text):
        _, values, at, name = best[at, name]
        yield from values


def _values(text: str, at: int, name: str) -> tuple[int, ...]:
    """The value of the character (in C of the two digits) at this place; nothing when the code set has none."""
    if name == "C":
        pair = text[at : at + 2]
        return (int(pair),) if len(pair) == 2 and pair.isdigit() else ()
    code = ord(text[at])
    if name == "A":
        return (code - 32,) if 32 <= code < 96 else (code + 64,) if code < 32 else ()
    return (code - 32,) if code >= 32 else ()
