"""What a search parameter looks at in a row: conditions for the values that are asked for (FHIR R4 search.html).

A field is made of SQL expressions of ours over the row of its `Kind`; a value asked for is always bound, never text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from interface.domain.names import LAST_LETTER, search_words
from interface.domain.search import Amount, Label, Match, Moment, Phrase, Prefix, Token, Value
from interface.domain.systems import UCUM, authority_of, placer_authority_of

Bind = Callable[[object], str]  # the place of a value in the statement


class Field(Protocol):
    """`type` is FHIR's search-param-type, `modifiers` those that it takes beside `:missing`; `selective`: one value of
    it is few rows, which an index finds."""

    @property
    def type(self) -> str: ...
    @property
    def modifiers(self) -> tuple[str, ...]: ...
    @property
    def selective(self) -> bool: ...

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        """It has one of the values; false or null where it has not."""
        ...

    def missing(self) -> str: ...


def either(conditions: Iterable[str]) -> str:
    """SQL's or; false without any."""
    found = tuple(dict.fromkeys(conditions))
    return found[0] if len(found) == 1 else f"({' or '.join(found)})" if found else "false"


# As `folded`: without accents and case. PostgreSQL's own functions, because an extension may not be there.
_FOLDED = r"lower(regexp_replace(normalize({}, NFKD), '[\u0300-\u036f]', '', 'g'))"
_COMPARED = {
    Match.STARTS: "starts_with({folded}, {value})",
    Match.CONTAINS: "position({value} in {folded}) > 0",
    Match.EXACT: "{expression} = {value}",
}


def folded(text: str) -> str:
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not "\u0300" <= one <= "\u036f")
    return bare.lower()


def _like(expression: str, text: str, how: Match, bind: Bind) -> str:
    value = bind(text if how is Match.EXACT else folded(text))
    return _COMPARED[how].format(expression=expression, folded=_FOLDED.format(expression), value=f"{value}::text")


@dataclass(frozen=True, slots=True, init=False)
class Coded:
    """A token. `codings`: (system URI, "" for none; expression of the code); `label`: expression of the text beside it.

    `inside`: a template with {} where the codes are in another table. Without codings it is never there.
    """

    codings: tuple[tuple[str, str], ...]
    label: str
    inside: str
    selective: bool
    type: ClassVar[str] = "token"

    @property
    def modifiers(self) -> tuple[str, ...]:
        return ("not", "text") if self.label else ("not",)

    def __init__(self, *codings: tuple[str, str], label: str = "", inside: str = "{}", selective: bool = False) -> None:
        object.__setattr__(self, "codings", codings)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "inside", inside)
        object.__setattr__(self, "selective", selective)

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        tokens = [one for one in value if isinstance(one, Token)]
        found = []
        for system, expression in self.codings:
            codes = [one.code for one in tokens if one.code is not None and one.system in (None, system)]
            if codes:
                found.append(f"{expression} = any({bind(codes)}::text[])")
            if any(one.code is None and one.system == system for one in tokens):
                found.append(f"{expression} <> ''")
        if self.label:
            found += [_like(self.label, one.text, Match.STARTS, bind) for one in value if isinstance(one, Label)]
        return self.inside.format(either(found)) if found else "false"

    def missing(self) -> str:
        there = [f"coalesce({each}, '') <> ''" for each in (*(code for _, code in self.codings), self.label) if each]
        return f"not ({self.inside.format(either(there))})"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of one kind: a select of the ids of what they name, and the number in a row of it. They are of one
    `system`, or of whatever placer's, whose `authority` is in the row."""

    select: str
    number: str
    system: str = ""
    authority: str = ""

    def of(self, tokens: Sequence[Token], bind: Bind) -> list[str]:
        """A select for the tokens of each system that numbers of this kind may be of."""
        found = []
        for system in dict.fromkeys(one.system for one in tokens):
            if system == "" or (system is not None and self.system not in ("", system)):
                continue  # what we show has a system
            mine = [one.code for one in tokens if one.system == system]
            whose = f" and {self.authority} = {bind(placer_authority_of(system))}" if system and self.authority else ""
            if codes := [code for code in mine if code]:
                found.append(f"{self.select} where {self.number} = any({bind(codes)}::text[]){whose}")
            if None in mine:
                found.append(f"{self.all}{whose}")
        return found

    @property
    def all(self) -> str:
        return f"{self.select} where {self.number} <> ''"


@dataclass(frozen=True, slots=True)
class Numbered:
    """Identifiers that an index of their own finds; `id`: the expression that is among the ids of `kinds`."""

    id: str
    kinds: tuple[Numbers, ...]
    type: ClassVar[str] = "token"
    selective: ClassVar[bool] = True
    modifiers: ClassVar[tuple[str, ...]] = ("not",)

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        tokens = [one for one in value if isinstance(one, Token)]
        found = [select for kind in self.kinds for select in kind.of(tokens, bind)]
        return f"{self.id} in ({' union all '.join(found)})" if found else "false"

    def missing(self) -> str:
        selects = " union all ".join(kind.all for kind in self.kinds)
        return f"({self.id} in ({selects})) is not true"


@dataclass(frozen=True, slots=True)
class Identified:
    """Identifiers of whatever authority, in a table of their own: expressions of a row of it, within `inside`."""

    authority: str
    value: str
    kind: str
    inside: str
    type: ClassVar[str] = "token"
    selective: ClassVar[bool] = True
    modifiers: ClassVar[tuple[str, ...]] = ("not", "of-type")

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        found = [self._one(one, bind) for one in value if isinstance(one, Token) and one.system != ""]
        return self.inside.format(either(found)) if found else "false"

    def _one(self, token: Token, bind: Bind) -> str:
        parts = []
        if token.code is not None:
            parts.append(f"{self.value} = {bind(token.code)}")
        if token.system is not None:
            parts.append(f"{self.authority} = {bind(authority_of(token.system))}")
        if token.type is not None:
            parts.append(f"{self.kind} = {bind(token.type[1])}")
        return f"({' and '.join(parts)})"

    def missing(self) -> str:
        return f"not ({self.inside.format('true')})"


_BOUNDS = {  # of the instant `e`, which is a point
    Prefix.EQ: "({e} >= {low} and {e} < {high})",
    Prefix.NE: "({e} < {low} or {e} >= {high})",
    Prefix.GT: "{e} >= {high}",
    Prefix.SA: "{e} >= {high}",
    Prefix.GE: "{e} >= {low}",
    Prefix.LT: "{e} < {low}",
    Prefix.EB: "{e} < {low}",
    Prefix.LE: "{e} < {high}",
}


@dataclass(frozen=True, slots=True)
class Instant:
    """A date: an expression of a point in time, or (`day`) of a date; `present`: the condition under which it is shown
    at all."""

    expression: str
    day: bool = False
    present: str = ""
    type: ClassVar[str] = "date"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = ()

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        found = either(self._one(one, bind) for one in value if isinstance(one, Moment))
        return f"({self.present} and {found})" if self.present else found

    def _one(self, moment: Moment, bind: Bind) -> str:
        shape, bounds = _BOUNDS[moment.prefix], {}
        for name, at in (("low", moment.low), ("high", moment.high)):
            if f"{{{name}}}" in shape:
                bounds[name] = f"{bind(at.date())}::date" if self.day else f"{bind(at)}::timestamptz"
        return shape.format(e=self.expression, **bounds)

    def missing(self) -> str:
        return f"({self.present}) is not true" if self.present else f"({self.expression}) is null"


# Of the number `n` with its comparator `c`, which makes it a range without an end: `<5` is everything below 5.
_RANGES = {
    Prefix.EQ: "({c} = '' and {n} >= {low} and {n} < {high})",
    Prefix.NE: "({c} <> '' or {n} < {low} or {n} >= {high})",
    Prefix.GT: "({c} in ('>', '>=') or {n} > {at})",
    Prefix.LT: "({c} in ('<', '<=') or {n} < {at})",
    Prefix.GE: "({c} in ('>', '>=') or {n} > {at} or {n} = {at} and {c} in ('', '<='))",
    Prefix.LE: "({c} in ('<', '<=') or {n} < {at} or {n} = {at} and {c} in ('', '>='))",
    Prefix.SA: "({c} in ('', '>=') and {n} > {at} or {c} = '>' and {n} >= {at})",
    Prefix.EB: "({c} in ('', '<=') and {n} < {at} or {c} = '<' and {n} <= {at})",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a UCUM unit; `present`: the condition under which it is shown at all."""

    number: str
    comparator: str
    unit: str
    present: str
    type: ClassVar[str] = "quantity"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = ()

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        found = either(self._one(one, bind) for one in value if isinstance(one, Amount))
        return f"({self.present} and {found})"

    def _one(self, amount: Amount, bind: Bind) -> str:
        if amount.system not in (None, UCUM):
            return "false"
        shape, places = _RANGES[amount.prefix], {}
        for name, number in (("low", amount.low), ("high", amount.high), ("at", amount.number)):
            if f"{{{name}}}" in shape:
                places[name] = f"{bind(number)}::numeric"
        text = shape.format(n=self.number, c=self.comparator, **places)
        return text if amount.unit is None else f"({text} and {self.unit} = {bind(amount.unit)})"

    def missing(self) -> str:
        return f"({self.present}) is not true"


@dataclass(frozen=True, slots=True)
class Text:
    """A string; an empty one is not there."""

    expression: str
    type: ClassVar[str] = "string"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = ("exact", "contains")

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        each = (_like(self.expression, one.text, one.how, bind) for one in value if isinstance(one, Phrase))
        return f"({self.expression} <> '' and {either(each)})"

    def missing(self) -> str:
        return f"coalesce({self.expression}, '') = ''"


@dataclass(frozen=True, slots=True)
class NoAddress:
    """A URI that no resource of ours has."""

    type: ClassVar[str] = "uri"
    selective: ClassVar[bool] = False
    modifiers: ClassVar[tuple[str, ...]] = ()

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        return "false"

    def missing(self) -> str:
        return "true"


_WORDS = "{id} in (select w.patient_id from lab.patient_word w where {part}({words}))"
_GIVEN = r"regexp_split_to_array(btrim({}, E' \t\n'), '\s+')"


@dataclass(frozen=True, slots=True)
class PatientName:
    """A patient's name; `part`: family, given, or "" for either. Every word that is asked for must begin a word of it
    (`patient_word`, by its index); with `:contains` be within one; with `:exact` be a part of it letter for letter."""

    part: str = ""
    type: ClassVar[str] = "string"
    selective: ClassVar[bool] = True
    modifiers: ClassVar[tuple[str, ...]] = ("exact", "contains")

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        return either(self._one(one, bind) for one in value if isinstance(one, Phrase))

    def _one(self, phrase: Phrase, bind: Bind) -> str:
        if phrase.how is Match.EXACT:
            at = bind(phrase.text)
            parts = {"family": f"p.family = {at}", "given": f"{at} = any({_GIVEN.format('p.given')})"}
            same = either(text for name, text in parts.items() if self.part in ("", name))
            words = search_words(phrase.text)[:1]  # by which the index finds it
            return f"({' and '.join([*(self._group(each, Match.STARTS, bind) for each in words), same])})"
        groups = search_words(phrase.text)
        found = [self._group(group, phrase.how, bind) for group in groups]
        return f"({' and '.join(found)})" if found else "false"  # nothing that a name could begin with

    def _group(self, group: Sequence[str], how: Match, bind: Bind) -> str:
        if how is Match.STARTS:  # comparisons that the index serves under row-level security
            words = [f"w.word >= {bind(word)} and w.word < {bind(word + LAST_LETTER)}" for word in group]
        else:
            words = [f"position({bind(word)}::text in w.word) > 0" for word in group]
        part = f"w.part = {bind(self.part)} and " if self.part else ""
        return _WORDS.format(id="p.id", part=part, words=" or ".join(words))

    def missing(self) -> str:
        shown = {"family": "btrim(p.family) = ''", "given": "btrim(p.given) = ''"}
        return " and ".join(text for name, text in shown.items() if self.part in ("", name))


@dataclass(frozen=True, slots=True)
class Pairs:
    """A reference that stands in another table: a select of `f`, the id of who refers, and `t`, of what to."""

    select: str


@dataclass(frozen=True, slots=True)
class Sometimes:
    """A reference that is one only `where` this holds: a column, which an index finds by itself."""

    column: str
    where: str

    @property
    def expression(self) -> str:
        return f"case when {self.where} then {self.column} end"


@dataclass(frozen=True, slots=True)
class Link:
    """A reference: by type of what it refers to, the expression of its id, or pairs. Without any it is never there.
    `few`: one of what it refers to is referred to by few."""

    targets: Mapping[str, str | Pairs | Sometimes]
    few: bool = True
    type: ClassVar[str] = "reference"
    selective: ClassVar[bool] = True
    modifiers: ClassVar[tuple[str, ...]] = ("identifier",)

    def condition(self, value: Sequence[Value], bind: Bind) -> str:
        raise TypeError("a reference is no value")

    def missing(self) -> str:
        raise TypeError("what a reference refers to is asked of the engine")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of a type. `element`: where the resource has what it looks at (FHIRPath, for documents and
    for the tests, which compare what is found with what is shown)."""

    name: str
    field: Field
    text: str
    element: str = ""
