"""Units of measure: the part of UCUM that laboratories use, exactly, on `Fraction` and `Decimal`.

`canonical` turns an analyzer's spelling into a UCUM code (the spellings are data: `mappings/units.toml`), `convert`
moves a number between commensurable units and refuses everything else.

Deliberate departures from UCUM, each stricter than it, because a wrong conversion is worse than a held result:

* `mol`, `eq`, `osm` and `[iU]` are dimensions of their own. UCUM makes `mol` a pure number and `eq` and `osm` one mole,
  but how many moles an equivalent is depends on the ion's valence, which no unit says. Mass, amount and equivalents
  of a substance are converted only where its test names the molar mass or the valence (`Substance`).
* What stands in braces for a unit is a unit of its own: a `{ratio}` is no percentage, `{Log_copies}/mL` is not
  `{copies}/mL`, and mL/min is not mL/min/{1.73_m2}. UCUM has all of them as 1. Only counted things are 1 (`{cells}`).
  Behind a unit braces change nothing, except for fibrinogen equivalents: `ng/mL{FEU}` is about twice `ng/mL{DDU}`.
* Mass over mass and amount over amount do not cancel to a pure number. HbA1c in mmol/mol (IFCC) and in % (NGSP) are
  related by a regression, not by a power of ten; albumin per creatinine in mg/g is no percentage either.
* Special units with an offset or a logarithm (`Cel`, `[pH]`) take no prefix and convert to nothing but themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

from interface.errors import UnknownUnit

MAX_UNIT_CHARS = 80  # longer text is no unit; bounds the parser's work
MAX_EXPONENT = 30
INEXACT_DIGITS = 34  # significant digits kept when a quotient has no finite decimal form

Dimensions = tuple[tuple[str, int], ...]

# Only those that laboratories use: `Mg/dL` and `MMOL/L` are capitals of mg and mmol, never megagrams and megamoles.
PREFIXES: Mapping[str, Fraction] = MappingProxyType(
    {
        name: Fraction(10) ** power
        for name, power in {"k": 3, "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18}.items()
    }
)

# What does not cancel against itself: the exponents above and below the line are counted apart.
_KEPT_APART = frozenset({"g", "mol", "eq", "osm"})


@dataclass(frozen=True, slots=True)
class Unit:
    """A parsed unit: `factor` of the coherent base units whose exponents are `dimensions`, sorted by name."""

    factor: Fraction
    dimensions: Dimensions = ()

    def times(self, other: Unit) -> Unit:
        exponents = dict(self.dimensions)
        for name, power in other.dimensions:
            exponents[name] = exponents.get(name, 0) + power
        return Unit(self.factor * other.factor, tuple(sorted((k, v) for k, v in exponents.items() if v)))

    def power(self, exponent: int) -> Unit:
        if exponent >= 0:
            dimensions = tuple((name, power * exponent) for name, power in self.dimensions if exponent)
        else:
            flipped = ((_flip(name), power, name) for name, power in self.dimensions)
            dimensions = tuple(sorted((f, p * (-exponent if f != n else exponent)) for f, p, n in flipped))
        return Unit(self.factor**exponent, dimensions)


def _flip(name: str) -> str:
    """The name of a kept-apart dimension on the other side of the line; every other name is its own."""
    if name.endswith("'"):
        return name[:-1]
    return name + "'" if name in _KEPT_APART else name


_ONE = Unit(Fraction(1))
# In braces: what is only counted, and what says how much of it there is (D-dimer: fibrinogen equivalents or D-dimers).
_COUNTED = frozenset({"cells", "cell", "#", "count", "rbc", "wbc", "rbcs", "wbcs", "particles"})
_SPECIFIC = frozenset({"feu", "ddu"})


@dataclass(frozen=True, slots=True)
class Substance:
    """What a conversion may know of the substance measured: g/mol, and equivalents per mole. None: not known."""

    molar_mass: Decimal | None = None
    valence: int | None = None


UNKNOWN_SUBSTANCE = Substance()


def _base(name: str, factor: Fraction | int = 1) -> Unit:
    return Unit(Fraction(factor), ((name, 1),))


_METRE, _SECOND, _GRAM, _MOLE = _base("m"), _base("s"), _base("g"), _base("mol")
_LITRE = Unit(Fraction(1, 1000), (("m", 3),))
_MINUTE = Unit(Fraction(60), (("s", 1),))
_PASCAL = Unit(Fraction(1000), (("g", 1), ("m", -1), ("s", -2)))

# Atoms that take a metric prefix. UCUM code, case-sensitive form.
METRIC: Mapping[str, Unit] = MappingProxyType(
    {
        "m": _METRE, "s": _SECOND, "g": _GRAM, "mol": _MOLE, "eq": _base("eq"), "osm": _base("osm"),
        "l": _LITRE, "L": _LITRE, "U": Unit(Fraction(1, 60_000_000), (("mol", 1), ("s", -1))),
        "kat": Unit(Fraction(1), (("mol", 1), ("s", -1))), "[iU]": _base("[iU]"), "[IU]": _base("[iU]"), "Pa": _PASCAL,
        "m[Hg]": Unit(_PASCAL.factor * 133_322, _PASCAL.dimensions),
        "bar": Unit(_PASCAL.factor * 100_000, _PASCAL.dimensions), "S": _base("S"),
    }
)  # fmt: skip
# Atoms that take none.
PLAIN: Mapping[str, Unit] = MappingProxyType(
    {
        "%": Unit(Fraction(1, 100)), "[ppth]": Unit(Fraction(1, 10**3)), "[ppm]": Unit(Fraction(1, 10**6)),
        "[ppb]": Unit(Fraction(1, 10**9)), "min": _MINUTE, "h": _base("s", 3600), "d": _base("s", 86_400),
        "wk": _base("s", 7 * 86_400), "a": _base("s", Fraction(31_557_600)), "Cel": _base("Cel"), "[pH]": _base("[pH]"),
        "[arb'U]": _base("[arb'U]"), "[CFU]": _base("[CFU]"), "[HPF]": _base("[HPF]"), "[LPF]": _base("[LPF]"),
        "[AU]": _base("[AU]"), "[RLU]": _base("[RLU]"), "[GPL'U]": _base("[GPL'U]"), "[MPL'U]": _base("[MPL'U]"),
    }
)  # fmt: skip

_TOKEN = re.compile(
    r"(?P<annotation>\{[^{}]*\})|(?P<ten>10[*^])|(?P<number>\d+)|(?P<mark>[./()])|(?P<sign>[+-])"
    r"|(?P<atom>(?:[A-Za-z%]|\[[^\[\]]*\])+)"
)


@lru_cache(maxsize=1024)
def parse(code: str) -> Unit:
    """A UCUM code as a `Unit`. Raises UnknownUnit for anything that is not one this module knows."""
    if not code or len(code) > MAX_UNIT_CHARS:
        raise UnknownUnit("no unit" if not code else "too long for a unit")
    return _Parser(code).read()


class _Parser:
    """Recursive descent over one code: term = ["/"] component {("." | "/") component}."""

    def __init__(self, code: str) -> None:
        self._code, self._at = code, 0
        self._tokens = self._split(code)

    def _split(self, code: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(code):
            found = _TOKEN.match(code, at)
            if found is None or found.lastgroup is None:
                raise self._unknown()
            tokens.append((found.lastgroup, found.group()))
            at = found.end()
        return tokens

    def _unknown(self) -> UnknownUnit:
        return UnknownUnit(f"unknown unit {self._code!r}")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def read(self) -> Unit:
        unit = self._term()
        bare = all(kind in ("number", "mark") for kind, _ in self._tokens)
        if self._peek()[0] != "end" or (bare and self._code != "1"):  # `1.5` is a value in the wrong field
            raise self._unknown()
        return unit

    def _term(self) -> Unit:
        if self._peek() == ("mark", "/"):
            self._take()
            unit = self._component().power(-1)
        else:
            unit = self._component()
        while self._peek() in (("mark", "."), ("mark", "/")):
            divided = self._take()[1] == "/"
            part = self._component()
            unit = unit.times(part.power(-1) if divided else part)
        return unit

    def _component(self) -> Unit:
        kind, text = self._take()
        if kind == "annotation":
            return _ONE if text[1:-1].casefold() in _COUNTED else _base(text.casefold())
        if (kind, text) == ("mark", "("):
            unit = self._term()
            if self._take() != ("mark", ")"):
                raise self._unknown()
        elif kind == "number":
            if int(text) == 0:
                raise self._unknown()
            unit = Unit(Fraction(int(text)))  # `/100{WBCs}` has an annotation behind it
        elif kind in ("ten", "atom"):
            unit = Unit(Fraction(10)) if kind == "ten" else self._atom(text)
            unit = unit.power(self._exponent())
        else:
            raise self._unknown()
        if self._peek()[0] == "annotation":
            text = self._take()[1].casefold()
            if text[1:-1] in _SPECIFIC:
                unit = unit.times(_base(text))
        return unit

    def _exponent(self) -> int:
        sign = -1 if self._peek() == ("sign", "-") else 1
        signed = self._peek()[0] == "sign"
        if signed:
            self._take()
        if self._peek()[0] != "number":
            if signed:
                raise self._unknown()
            return 1
        exponent = int(self._take()[1])
        if exponent > MAX_EXPONENT:
            raise self._unknown()
        return sign * exponent

    def _atom(self, text: str) -> Unit:
        known = PLAIN.get(text) or METRIC.get(text)
        if known is not None:
            return known
        prefix, atom = PREFIXES.get(text[:1]), METRIC.get(text[1:])
        if prefix is not None and atom is not None:
            return Unit(prefix * atom.factor, atom.dimensions)
        raise self._unknown()


_MICRO = str.maketrans("\u00b5\u03bc", "uu")  # the micro sign and the Greek letter it looks like


@dataclass(frozen=True, slots=True)
class UnitAliases:
    """Analyzers' spellings as data.

    `spellings`: text as sent → UCUM codes, the likeliest first; only commensurability with the test's unit ever chooses
    between them. `refused`: what looks like a unit and is not one to rely on.
    """

    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    revision: int = 0


def canonical(raw_unit: str, aliases: UnitAliases, target: str = "") -> str:
    """The UCUM code for a unit as sent. With `target`, the first reading commensurable with it, if there is one.

    Raises UnknownUnit when the text is neither a known spelling nor UCUM, or is one the table refuses.
    """
    text = raw_unit.strip().translate(_MICRO)
    if text in aliases.refused:
        raise UnknownUnit(f"{text!r} is used for different units")
    readings = aliases.spellings.get(text) or aliases.spellings.get(" ".join(text.split())) or (text,)
    for reading in readings:
        parse(reading)
    if target:
        return next((reading for reading in readings if commensurable(reading, target)), readings[0])
    return readings[0]


def commensurable(first: str, second: str, substance: Substance = UNKNOWN_SUBSTANCE) -> bool:
    """Whether a number can be moved between the two UCUM codes. Raises UnknownUnit when one is not understood."""
    one, other = parse(first), parse(second)
    return one.dimensions == other.dimensions or (
        _amount(one, substance).dimensions == _amount(other, substance).dimensions
    )


def bare(code: str) -> bool:
    """Whether a number in this unit is written without one: 1, `{INR}`, `{ratio}`, `[pH]`. Raises UnknownUnit."""
    unit = parse(code)
    return unit.factor == 1 and all(
        power == 1 and (name == "[pH]" or name.startswith("{")) for name, power in unit.dimensions
    )


def convert(number: Decimal, from_unit: str, to_unit: str, substance: Substance = UNKNOWN_SUBSTANCE) -> Decimal:
    """`number` of `from_unit` in `to_unit`, both UCUM codes. A power of ten only moves the point: the digits stay.

    Exact whenever the result has a finite decimal form, else to 34 significant digits. Raises UnknownUnit when a unit
    is not understood or the dimensions differ (`mmol/mol` and `%`; amount and mass of an unknown substance).
    """
    factor, shift = _factor(from_unit, to_unit, substance)
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise UnknownUnit("not a finite number")
    if shift is not None:
        return Decimal((sign, digits, exponent + shift))
    return _decimal(Fraction(number) * factor)


@lru_cache(maxsize=1024)
def _factor(from_unit: str, to_unit: str, substance: Substance) -> tuple[Fraction, int | None]:
    """What to multiply by, and when that is a power of ten, which."""
    source, target = parse(from_unit), parse(to_unit)
    if source.dimensions != target.dimensions:
        source, target = _amount(source, substance), _amount(target, substance)
    if source.dimensions != target.dimensions:
        raise UnknownUnit(f"{from_unit} cannot be converted to {to_unit}")
    factor = source.factor / target.factor
    return factor, _power_of_ten(factor)


def _amount(unit: Unit, substance: Substance) -> Unit:
    """A mass or equivalents above the line as moles of the substance, where that is known; else the unit itself."""
    powers = dict(unit.dimensions)
    if powers.get("g") == 1 and substance.molar_mass:
        return unit.times(Unit(1 / Fraction(substance.molar_mass), (("g", -1), ("mol", 1))))
    if powers.get("eq") == 1 and substance.valence:
        return unit.times(Unit(Fraction(1, substance.valence), (("eq", -1), ("mol", 1))))
    return unit


def _power_of_ten(factor: Fraction) -> int | None:
    large = max(factor.numerator, factor.denominator)
    if min(factor.numerator, factor.denominator) != 1:
        return None
    text = str(large)
    if text.rstrip("0") != "1":
        return None
    return len(text) - 1 if factor >= 1 else 1 - len(text)


def _decimal(value: Fraction) -> Decimal:
    """Exact when 2 and 5 are the denominator's only primes, else rounded half-even to INEXACT_DIGITS."""
    denominator, twos, fives = value.denominator, 0, 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    if denominator == 1:
        places = max(twos, fives)
        scaled = value.numerator * 10**places // value.denominator
        return Decimal((int(scaled < 0), tuple(map(int, str(abs(scaled)))), -places))
    context = Context(prec=INEXACT_DIGITS, rounding=ROUND_HALF_EVEN)
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))
