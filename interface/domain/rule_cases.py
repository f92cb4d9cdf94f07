"""Cases that people write down to prove a rule set: facts, and what must become of the result. TOML or CSV. Pure.

TOML: `[defaults]`, facts of every case that does not say otherwise, and `[[case]]` with `name`, `test`, `expect`
(release, wait or hold), `rule` (optional: the rule that must keep it back) and `facts`.
CSV: the columns `name`, `test`, `expect`, `rule`, the others are facts; an empty cell is a fact that is not known.
A fact is what rules may ask about (`predicates`); of another test's facts the test stands behind: `sibling NA`.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from interface.domain.facts import Facts, Subject
from interface.domain.model import Comparator, LabTest, Value, ValueKind
from interface.domain.predicates import PREDICATES, Case, Kind, Predicate
from interface.domain.rule_files import MAX_BYTES, RuleFileError
from interface.domain.rules import Action
from interface.domain.table import Table, exact
from interface.domain.values import numeric

MAX_CASES = 10_000
_HEAD = ("name", "test", "expect", "rule")
_YES_NO = {"yes": True, "true": True, "no": False, "false": False}
_BY_LENGTH = sorted((one.value for one in Comparator), key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class WrittenCase:
    """`facts`: by predicate and, of another test's, by that test, else ""."""

    name: str
    test: str
    expect: Action
    rule: str = ""
    facts: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def of(self, test: LabTest) -> Case:
        """As a rule sees it; what is not written down is not known."""
        return made(blank(test), self.facts)


def blank(test: LabTest) -> Case:
    """A result of which nothing is known but its test."""
    unknown = Facts(test=test, value=Value(ValueKind.EMPTY), unit=test.unit, subject=Subject())
    return Case(replace(unknown, interval_unsure=True, critical_unsure=True))


def made(case: Case, facts: Mapping[tuple[str, str], Any]) -> Case:
    """The case with these facts; in the table's order, for some are said in terms of others."""
    for key, predicate in PREDICATES.items():
        for (name, argument), value in facts.items():
            if name == key:
                case = predicate.write(case, argument, value)
    return case


def parse_cases(text: str, form: str) -> tuple[WrittenCase, ...]:
    """`form`: toml or csv. Raises RuleFileError with every problem, each with its place."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RuleFileError([f"the file is longer than {MAX_BYTES >> 20} MiB"])
    problems: list[str] = []
    cases = tuple(_of_csv(text, problems) if form == "csv" else _of_toml(text, problems))
    if len(cases) > MAX_CASES:
        problems.append(f"there are more than {MAX_CASES} cases")
    if problems:
        raise RuleFileError(problems)
    return cases


# ---- TOML -----------------------------------------------------------------------------------------------------------


def _of_toml(text: str, problems: list[str]) -> Iterator[WrittenCase]:
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RuleFileError([str(error) or "the file is nested too deep"]) from error
    root = Table(raw, "", problems)
    defaults = _facts(root.table("defaults"))
    for entry in root.tables("case"):
        name, test, rule = entry.text("name", None), entry.text("test", None), entry.text("rule")
        expect = entry.choice("expect", Action, Action.HOLD)
        yield WrittenCase(name, test, expect, rule, {**defaults, **_facts(entry.table("facts"))})
    root.finish()


def _facts(table: Table) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for key in table.keys():
        predicate = PREDICATES.get(key)
        if predicate is None:
            continue  # `finish` says so
        if predicate.argument:
            others = table.table(key)
            for test in others.keys():
                found[key, test] = _read(predicate, others.take(test), others.at(test), table.problems)
        else:
            found[key, ""] = _read(predicate, table.take(key), table.at(key), table.problems)
    return found


# ---- CSV ------------------------------------------------------------------------------------------------------------


def _of_csv(text: str, problems: list[str]) -> Iterator[WrittenCase]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), restkey="")
    columns = list(reader.fieldnames or ())
    missing = [name for name in _HEAD[:3] if name not in columns]
    unknown = [name for name in columns if name not in _HEAD and not _known(name)]
    problems += [f"the column {name} is missing" for name in missing]
    problems += [f"the column {name!r} is no fact that rules know" for name in unknown]
    if missing or unknown:
        return
    for row in reader:
        place = f"line {reader.line_num}"
        if "" in row or None in row.values():
            problems.append(f"{place}: has not as many cells as there are columns")
            continue
        facts = {}
        for column, cell in row.items():
            if column not in _HEAD and cell.strip():
                key, _, argument = column.partition(" ")
                facts[key, argument] = _read(PREDICATES[key], cell.strip(), f"{place}: {column}", problems)
        try:
            expect = Action(row["expect"].strip())
        except ValueError:
            problems.append(f"{place}: expect: {row['expect']!r} is not one of {', '.join(Action)}")
            continue
        yield WrittenCase(row["name"], row["test"], expect, (row.get("rule") or "").strip(), facts)


def _known(column: str) -> bool:
    key, _, argument = column.partition(" ")
    return key in PREDICATES and PREDICATES[key].argument is bool(argument)


# ---- facts ----------------------------------------------------------------------------------------------------------


def _read(predicate: Predicate, value: object, place: str, problems: list[str]) -> Any:
    """What a person wrote, as the predicate takes it; a problem and None for what is none."""
    made = _READERS[predicate.kind](value)
    if made is None or (predicate.words and made not in predicate.words):
        words = f": {', '.join(predicate.words)}" if predicate.words else ""
        problems.append(f"{place}: {value!r} is no {predicate.kind.value}{words}")
        return None
    return made


def _number(value: object) -> Value | Decimal | None:
    text = str(value).strip() if isinstance(value, str) else value
    if isinstance(text, str) and (sign := next((one for one in _BY_LENGTH if text.startswith(one)), None)):
        number = exact(text[len(sign) :].strip())
        return None if number is None else numeric(number, Comparator(sign))
    return exact(text)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _yes_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else _YES_NO.get(value.casefold()) if isinstance(value, str) else None


def _tags(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return tuple(value.split())
    is_list = isinstance(value, Sequence) and all(isinstance(one, str) for one in value)
    return tuple(value) if is_list and isinstance(value, Sequence) else None


_READERS = {Kind.NUMBER: _number, Kind.WORD: _word, Kind.YES_NO: _yes_no, Kind.TAGS: _tags}
