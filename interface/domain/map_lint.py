"""What is wrong or doubtful about the rows of the code maps, beyond what a single change can be refused for. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from interface.domain.loinc import is_loinc
from interface.domain.map_files import unit_problem
from interface.domain.mapping import MapKey, MapRow
from interface.domain.model import LabTest, ValueKind
from interface.domain.units import UnitAliases, bare, canonical, commensurable
from interface.errors import UnknownUnit

LINT_DAYS = 90  # of traffic, whose units and codes the rows are judged by


class Severity(StrEnum):
    ERROR = "error"  # results by this row are held, or go to a test whose code is wrong
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a slug; `row` names the map's row, or the test that several rows share."""

    severity: Severity
    check: str
    row: str
    text: str


@dataclass(frozen=True, slots=True)
class LintFacts:
    """What rows are judged by. `declared` has the drivers that say which codes there are; `units_seen` the units as
    they were sent, by driver and code. By the laboratory's code of a test: `methods_asked` that its intervals are for,
    `methods_said` by a row of any map or of its results."""

    at: datetime
    tests: Mapping[str, LabTest]  # active ones, by the laboratory's code
    with_interval: frozenset[str]
    links: Mapping[str, str]  # link → its driver
    specimen_types: frozenset[str]
    declared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    units_seen: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    methods_asked: Mapping[str, frozenset[str]] = field(default_factory=dict)
    methods_said: Mapping[str, frozenset[str]] = field(default_factory=dict)
    aliases: UnitAliases = field(default_factory=UnitAliases)


def lint(rows: Iterable[MapRow], facts: LintFacts) -> list[Finding]:
    """Every finding, errors first. Rows whose time has passed are left alone."""
    current = [row for row in rows if row.span.end is None or row.span.end > facts.at]
    found = [finding for check in _CHECKS for finding in check(current, facts)]
    return sorted(dict.fromkeys(found), key=lambda one: (one.severity is not Severity.ERROR, one.check, one.row))


def _loinc(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    for code, test in _mapped_tests(rows, facts).items():
        if test.loinc and not is_loinc(test.loinc):
            text = f"{test.loinc!r} is no LOINC code: form or check digit"
            yield Finding(Severity.ERROR, "loinc", f"test {code}", text)


def _mapped_tests(rows: list[MapRow], facts: LintFacts) -> dict[str, LabTest]:
    codes = dict.fromkeys(row.span.target.test for row in rows)
    return {code: facts.tests[code] for code in codes if code in facts.tests}


def _not_in_use(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    for row in rows:
        code = row.span.target.test
        if code and code not in facts.tests:
            yield Finding(Severity.ERROR, "test", str(row.key), f"{code} is not in use: its results are held")


def _unit(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    for row in rows:
        test = facts.tests.get(row.span.target.test)
        if test is None:
            continue
        if problem := unit_problem(row.span.target.unit, test):
            yield Finding(Severity.ERROR, "unit", str(row.key), problem)
        for sent in sorted(facts.units_seen.get((row.key.driver, row.key.code), ())):
            if problem := _sent_problem(sent, row, test, facts.aliases):
                yield Finding(Severity.ERROR, "unit", str(row.key), f"{problem}: such results are held")


def _sent_problem(sent: str, row: MapRow, test: LabTest, aliases: UnitAliases) -> str:
    """Why a unit that the analyzer has sent cannot be reported in the test's; "" when it can."""
    if test.kind is not ValueKind.NUMERIC or not test.unit:
        return ""
    if not sent:
        known = row.span.target.unit or bare(test.unit)
        return "" if known else "the analyzer sends no unit and the row names none"
    try:
        reading = canonical(sent, aliases, test.unit)
        if commensurable(reading, test.unit, test.substance):
            return ""
    except UnknownUnit as error:
        return error.text
    return f"{sent} as sent cannot be converted to the {test.unit} of {test.code}"


def _duplicate(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    by_key: defaultdict[tuple[MapKey, bool], list[MapRow]] = defaultdict(list)
    for row in rows:
        by_key[row.key, row.site].append(row)
    for (key, _), found in by_key.items():
        found.sort(key=lambda row: row.span.start)
        for first, second in pairwise(found):
            if first.span.end is None or second.span.start < first.span.end:
                yield Finding(Severity.ERROR, "duplicate", str(key), "has two rows for the same time")


def _same_test(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    """Two codes of one analyzer that the site has mapped to one test: right for two methods that the rows name, else a
    slip."""
    by_test: defaultdict[tuple[str, str, str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.span.target.test and row.site:
            place = row.key.driver, row.key.link, row.key.specimen_type, row.span.target.test
            by_test[place][row.key.code] = row.span.target.method
    for (driver, link, specimen_type, test), codes in by_test.items():
        if len(codes) > 1 and ("" in codes.values() or len(set(codes.values())) < len(codes)):
            key = MapKey(driver, link, sorted(codes)[0], specimen_type)
            text = f"several codes are {test}: {' '.join(sorted(codes))}"
            yield Finding(Severity.WARNING, "several_codes", str(key), text)


def _unreachable(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    used = set(facts.links.values())
    unused = {row.key.driver for row in rows if row.site} - used
    for driver in sorted(unused):
        yield Finding(Severity.WARNING, "unreachable", driver, "no link has this driver: its rows map nothing")
    for row in rows:
        driver, link, code = row.key.driver, row.key.link, row.key.code
        if link and facts.links.get(link, driver) != driver:
            text = f"the link has another driver now ({facts.links[link]}): the row maps nothing"
            yield Finding(Severity.WARNING, "unreachable", str(row.key), text)
        elif row.site and driver in facts.declared and driver not in unused and code not in facts.declared[driver]:
            if code not in facts.seen.get(driver, frozenset()):
                text = "the driver does not declare this code, and it was never seen"
                yield Finding(Severity.WARNING, "unreachable", str(row.key), text)


def _specimen_type(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    for row in rows:
        kind = row.key.specimen_type
        if kind and kind not in facts.specimen_types:
            text = f"the laboratory has no specimen type {kind}"
            yield Finding(Severity.WARNING, "specimen_type", str(row.key), text)


def _no_interval(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    """Of tests that are measured here: mapped by the site, or by a code that a link's driver declares or has sent."""
    used = set(facts.links.values())

    def measured(row: MapRow) -> bool:
        driver, code = row.key.driver, row.key.code
        known = code in facts.declared.get(driver, ()) or code in facts.seen.get(driver, ())
        return row.site or (driver in used and known)

    for code, test in _mapped_tests([row for row in rows if measured(row)], facts).items():
        if test.kind is ValueKind.NUMERIC and code not in facts.with_interval:
            text = "has no reference interval: its results get no flag"
            yield Finding(Severity.WARNING, "no_interval", f"test {code}", text)


def _method(rows: list[MapRow], facts: LintFacts) -> Iterator[Finding]:
    """An interval for a method that no result of its test will say, as one that is spelt otherwise."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        said[row.span.target.test].add(row.span.target.method)
    for code in _mapped_tests(rows, facts):
        asked = facts.methods_asked.get(code, frozenset())
        for method in sorted(asked - said[code] - facts.methods_said.get(code, frozenset())):
            text = f"an interval is for the method {method}, which no row and no result says"
            yield Finding(Severity.WARNING, "method", f"test {code}", text)


_CHECKS: tuple[Callable[[list[MapRow], LintFacts], Iterator[Finding]], ...] = (
    _loinc,
    _not_in_use,
    _unit,
    _duplicate,
    _same_test,
    _unreachable,
    _specimen_type,
    _no_interval,
    _method,
)
