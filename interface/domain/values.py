"""What a result field says: numbers with their exact text, comparators, ratios, words, and runs that failed. Pure.

Nothing is guessed: what is not plainly a number is text, what a driver or this module knows as a failed run is FAILED
(never a number, never a negative result), and a decimal comma counts only where the driver says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

from interface.domain.model import Comparator, Value, ValueKind
from interface.domain.record import record

# `----` analysis impossible, `++++` out of the counting range, `****` not reliable: seen on haematology analyzers.
DEFAULT_FAILED_PATTERNS = (r"-{2,}", r"\+{4,}", r"\*{2,}", r"[?]+", r"[.]{2,}")
# The French ones are GeneXpert's (corpus).
DEFAULT_FAILED_WORDS = frozenset(
    "error|err|invalid|no result|failed|fail|aborted|erreur|pas de r\u00e9sultat|nan|inf|-inf|+inf|infinity".split("|")
)

_COMPARATORS = {
    "<": Comparator.LT,
    ">": Comparator.GT,
    "<=": Comparator.LE,
    "=<": Comparator.LE,
    ">=": Comparator.GE,
    "=>": Comparator.GE,
    "\u2264": Comparator.LE,
    "\u2265": Comparator.GE,
}
_SPLIT = re.compile(r"(<=|=<|>=|=>|<|>|\u2264|\u2265)?\s*(.*)", re.DOTALL)
# ASCII digits only: int() and Decimal() would take digits of any script, which no analyzer means.
_POINT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_COMMA = re.compile(r"[+-]?(?:[0-9]+,?[0-9]*|,[0-9]+)")
_EXPONENT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,2}")
_RATIO = re.compile(r"([0-9]+)\s*:\s*([0-9]+)")
_MAX_DIGITS = 40  # longer is not a measurement


@dataclass(frozen=True, slots=True)
class ValueGrammar:
    """How one analyzer writes values."""

    decimal_comma: bool = False
    exponent: bool = False  # `3.26E+05` is a number
    failed_patterns: tuple[str, ...] = DEFAULT_FAILED_PATTERNS  # whole value, regular expressions
    failed_words: frozenset[str] = DEFAULT_FAILED_WORDS  # whole value, any case
    empty_words: frozenset[str] = frozenset()  # whole value, any case: nothing was measured
    not_failed: frozenset[str] = frozenset()  # whole value, any case: a result, whatever the patterns above say
    thousands: str = ""  # stands between groups of three digits before the point: `1,234.5`
    marks: tuple[str, ...] = ()  # before or behind a number, and flags: `?7.412`, `13.2*`
    patterns: tuple[re.Pattern[str], ...] = ()  # groups `value`, `unit`, `comparator`, `flags` of a whole field
    quantified_calls: frozenset[str] = frozenset()  # any case: calls beside which the number is the result
    limit_flags: Mapping[str, Comparator] = field(default_factory=lambda: MappingProxyType({}))  # off-scale by flag
    _grouped: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _failed: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Patterns without groups or flags of their own can be tried as one.
        plain = [f"(?:{pattern})" for pattern in self.failed_patterns if "(" not in pattern]
        others = [pattern for pattern in self.failed_patterns if "(" in pattern]
        compiled = tuple(re.compile(pattern) for pattern in ("|".join(plain), *others) if pattern)
        object.__setattr__(self, "_failed", compiled)
        point, group = "," if self.decimal_comma else r"\.", re.escape(self.thousands)
        grouped = re.compile(rf"[+-]?[0-9]{{1,3}}(?:{group}[0-9]{{3}})+(?:{point}[0-9]+)?") if group else None
        object.__setattr__(self, "_grouped", grouped)

    def fails(self, text: str) -> bool:
        """Whether a whole value, blanks stripped, says that the run failed."""
        if self.not_failed and text.casefold() in self.not_failed:
            return False
        if text.casefold() in self.failed_words:
            return True
        for pattern in self._failed:
            if pattern.fullmatch(text):
                return True
        return False

    def ungrouped(self, text: str) -> str:
        """A number without what stands between its groups of three digits."""
        return text.replace(self.thousands, "") if self._grouped and self._grouped.fullmatch(text) else text


DEFAULT_GRAMMAR = ValueGrammar()
EMPTY = Value(ValueKind.EMPTY)


def parse_value(text: str, grammar: ValueGrammar = DEFAULT_GRAMMAR) -> Value:
    """A value of which the analyzer does not say what kind it is. Blanks around it do not count."""
    text = text.strip()
    if not text or text.casefold() in grammar.empty_words:
        return EMPTY
    if grammar.fails(text):
        return Value(ValueKind.FAILED, text)
    if grammar.thousands != "." and len(text) <= _MAX_DIGITS and _POINT.fullmatch(text):  # what most values are
        number = Decimal(text)
        return Value(ValueKind.NUMERIC, f"{number:f}", number)
    match = _SPLIT.fullmatch(text)
    sign, rest = (match[1], match[2].strip()) if match else (None, text)
    comparator = _COMPARATORS.get(sign or "")
    parsed = parse_number(rest, grammar)
    if parsed is not None:
        return numeric(parsed, comparator)
    if ratio := _RATIO.fullmatch(rest):
        return Value(ValueKind.RATIO, text, None, comparator, Decimal(ratio[1]), Decimal(ratio[2]))
    return Value(ValueKind.TEXT, text)


def parse_number(text: str, grammar: ValueGrammar = DEFAULT_GRAMMAR) -> Decimal | None:
    """A plain decimal number, None for anything else (`NaN`, `1e5` unless the driver allows it, `1,234`)."""
    text = grammar.ungrouped(text.strip())
    if len(text) > _MAX_DIGITS or (grammar.thousands == "." and "." in text):  # a point that groups nothing
        return None
    if _POINT.fullmatch(text) or (grammar.exponent and _EXPONENT.fullmatch(text)):
        return Decimal(text)
    if grammar.decimal_comma and _COMMA.fullmatch(text):
        return Decimal(text.replace(",", "."))
    return None


def signed(comparator: str | None, text: str) -> str:
    """A value as people read it: a number with its sign, which words and ratios have in their text (`<1:10`)."""
    return text if comparator is None or text.startswith(comparator) else f"{comparator}{text}"


def numeric(number: Decimal, comparator: Comparator | None = None) -> Value:
    """A numeric value; its text keeps the digits after the point (`5.10`) and is plain decimal notation."""
    return Value(ValueKind.NUMERIC, format(number, "f"), number, comparator)


@record
class Reading:
    """A field taken apart: its value, and the unit, flags and words that stood with it."""

    value: Value
    unit: str = ""
    flags: tuple[str, ...] = ()
    comment: str = ""


def read_field(text: str, grammar: ValueGrammar = DEFAULT_GRAMMAR, call: str = "") -> Reading:
    """A value with what the grammar says may stand with it; `call`: the words that stand beside it.

    A call that says that the run failed wins over any number. A number counts beside a call only where the driver says
    so: of NOT DETECTED and 0 the words are the result. What does not count is kept as a comment.
    """
    text, call = text.strip(), call.strip()
    if text.casefold() in grammar.empty_words:
        text = ""
    if not call or call.casefold() in grammar.empty_words:
        return _taken_apart(text, grammar)
    if is_failed(call, grammar):
        return Reading(Value(ValueKind.FAILED, call), comment=text)
    if not text:
        return _taken_apart(call, grammar)
    if (comparator := _COMPARATORS.get(call)) is not None:
        number = parse_number(text, grammar)
        return Reading(numeric(number, comparator) if number is not None else Value(ValueKind.TEXT, f"{call} {text}"))
    if is_failed(text, grammar):
        return Reading(Value(ValueKind.FAILED, text), comment=call)
    if call.casefold() in grammar.quantified_calls:
        return replace(_taken_apart(text, grammar), comment=call)
    return replace(_taken_apart(call, grammar), comment=text)


def _taken_apart(text: str, grammar: ValueGrammar) -> Reading:
    if not text or grammar.fails(text):
        return Reading(parse_value(text, grammar))
    for pattern in grammar.patterns:
        if match := pattern.fullmatch(text):
            parts = {name: (said or "").strip() for name, said in match.groupdict().items()}
            value = parse_value(parts.get("comparator", "") + parts["value"], grammar)
            flags = (parts["flags"],) if parts.get("flags") else ()
            return Reading(value, parts.get("unit", ""), flags)
    for mark in grammar.marks:
        bare = text.removeprefix(mark) if text.startswith(mark) else text.removesuffix(mark)
        if bare != text and (value := parse_value(bare, grammar)).kind is ValueKind.NUMERIC:
            return Reading(value, flags=(mark,))
    return Reading(parse_value(text, grammar))


def is_failed(text: str, grammar: ValueGrammar = DEFAULT_GRAMMAR) -> bool:
    """Whether the analyzer says that there is no result."""
    return grammar.fails(text.strip())


def parse_structured(components: Sequence[str], grammar: ValueGrammar = DEFAULT_GRAMMAR) -> Value:
    """HL7 SN: comparator, number, separator, number. `^1^:^128` is a ratio, `^2^-^5` a range, `^2^+` a grade.

    HL7 v2.5.1 2.A.70. What does not follow it is text as sent.
    """
    parts = [part.strip() for part in [*components, "", "", "", ""][:4]]
    sign, first, separator, second = parts
    text = " ".join(part for part in parts if part)
    if not text:
        return EMPTY
    if is_failed(text, grammar):
        return Value(ValueKind.FAILED, text)
    comparator = _COMPARATORS.get(sign)
    low, high = parse_number(first, grammar), parse_number(second, grammar)
    if (sign and sign != "=" and comparator is None) or low is None:
        return Value(ValueKind.TEXT, text)
    if not separator and not second:
        return numeric(low, comparator)
    mark = sign if comparator is not None else ""  # `>1:128`: words carry all that is said, their comparator too
    if high is not None and separator in (":", "/"):
        return Value(ValueKind.RATIO, f"{mark}{first}{separator}{second}", None, comparator, low, high)
    if high is not None and separator == "-" and not mark:
        return Value(ValueKind.RANGE, f"{first}-{second}", None, None, low, high)
    return Value(ValueKind.TEXT, "".join(parts))
