"""The rule bench: cases on both sides of every bound of a rule set, and the people's own, judged. Pure.

For each rule and test, a case is looked for that is released. From it each fact of the rule is changed: each number to
just below, on and just above each bound (by one unit of the test's decimals) and to "below" and "above" the bound
as a set, each word to each of those that the rules name and to another, each fact to not known. What each leaf must say
is told by a second, slower reckoning (`_oracle`), and no such case may be released that leaves a leaf unknown.
What neither these nor the people's cases reach is said: a branch that nothing proves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from itertools import islice, pairwise, product
from typing import Any

from interface.domain import consistency, delta, indices, ranges
from interface.domain.conditions import Bounds, Condition, Is, Words
from interface.domain.facts import Finding, QcState, Verdict
from interface.domain.model import Comparator, LabTest, Value, ValueKind
from interface.domain.predicates import PREDICATES, Case, Predicate, shown
from interface.domain.rule_cases import WrittenCase, blank
from interface.domain.rule_set import RuleSet
from interface.domain.rules import Action, AutoVerdict, Judgement, Leaf, Rule, evaluate, judge
from interface.domain.values import numeric

MAX_TRIED = 1000  # combinations of facts, when looking for a case that is released
OTHER = "another"  # a word that no rule names
_ORDER = {key: place for place, key in enumerate(PREDICATES)}  # some facts are said in terms of others
FactKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One case as it came out. `fact` and `value`: what was changed, or "case" and its name; `wrong`: why it fails."""

    rule: str  # whose boundary it is of, "" of a case
    test: str
    fact: str
    value: str
    action: Action
    against: tuple[str, ...] = ()
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What the bench found. `uncovered`: branches that no case reached."""

    version: str
    rows: tuple[Row, ...]
    vectors: int
    cases: int
    failures: tuple[str, ...]
    uncovered: tuple[str, ...]
    branches: int

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(slots=True)
class _Coverage:
    """Which answers each leaf gave, and what each rule found."""

    answers: dict[tuple[str, int], set[bool | None]] = field(default_factory=dict)
    findings: dict[str, set[Finding]] = field(default_factory=dict)
    known: set[tuple[str, int]] = field(default_factory=set)  # leaves whose fact is never unknown

    def note(self, rule: Rule, judged: Judgement) -> None:
        self.findings.setdefault(rule.name, set()).add(judged.finding)
        for place, answer in enumerate(judged.answers):
            self.answers.setdefault((rule.name, place), set()).add(answer)


def run(rule_set: RuleSet, tests: Mapping[str, LabTest], cases: Sequence[WrittenCase] = ()) -> Report:
    """Judge the vectors of every test that a rule names, and the people's cases. `tests` by the laboratory's code."""
    on = _switched_on(rule_set)
    coverage = _Coverage()
    rows: list[Row] = []
    named = sorted({code for rule in on.rules for code in rule.tests} & tests.keys())
    for rule in on.rules:  # one for every test is the same for each of them
        for code in [code for code in rule.tests if code in tests] if rule.tests else named[:1]:
            rows += _vectors(on, rule, tests[code], tests, coverage)
    vectors = len(rows)
    rows += [_written(on, case, tests, coverage) for case in cases]
    failures = [f"there is no test {code!r}" for code in sorted((on.tests() | on.named_beside()).difference(tests))]
    failures += on.never_made()
    failures += [f"{row.test}: {row.fact} {row.value}: {row.wrong}" for row in rows if row.wrong]
    uncovered, branches = _uncovered(on, coverage)
    return Report(
        rule_set.version, tuple(rows), vectors, len(cases), tuple(failures), tuple(uncovered), branches
    )  # fmt: skip


def _switched_on(rule_set: RuleSet) -> RuleSet:
    """Rules are proved before they are switched on."""
    return replace(rule_set, autoverification=True)


# ---- people's cases -------------------------------------------------------------------------------------------------


def _written(rule_set: RuleSet, case: WrittenCase, tests: Mapping[str, LabTest], coverage: _Coverage) -> Row:
    test = tests.get(case.test)
    if test is None:
        return Row("", case.test, "case", case.name, Action.HOLD, (), f"there is no test {case.test!r}")
    made = _checked(rule_set, case.of(test))
    said = _judged(rule_set, made, coverage)
    wrong = ""
    if said.action is not case.expect:
        why = f" ({', '.join(said.against)})" if said.against else ""
        wrong = f"expected {case.expect.value}, it is {said.action.value}{why}"
    elif case.rule and f"rule {case.rule}" not in said.against:
        wrong = f"the rule {case.rule} does not keep it back ({', '.join(said.against) or 'nothing does'})"
    return Row("", case.test, "case", case.name, said.action, said.against, wrong)


def _checked(rule_set: RuleSet, case: Case) -> Case:
    """With what the document's own checks say of it, but of those of which the case says that itself."""
    part = rule_set.of(case.facts.test.code)
    said = {verdict.check for verdict in case.verdicts}
    made = list(case.verdicts)
    if "delta" not in said:
        made += delta.check(part.deltas, case.facts, part.version)
    if "index" not in said:
        made += indices.check(part.indices, case.facts, part.version)
    if "range" not in said:
        made += ranges.check(part.ranges, case.facts, part.version)
    if "consistency" not in said:
        made += consistency.check(part.consistency, case.facts, part.version)
    return Case(case.facts, tuple(made))


def _judged(rule_set: RuleSet, case: Case, coverage: _Coverage) -> AutoVerdict:
    for rule in rule_set.of(case.facts.test.code).rules:
        coverage.note(rule, judge(rule, case))
    return _evaluated(rule_set, case)


def _evaluated(rule_set: RuleSet, case: Case) -> AutoVerdict:
    """With what the daemon holds whatever a case says of its ranges."""
    part = rule_set.of(case.facts.test.code)
    held = ranges.unmeasurable(part.ranges, case.facts, part.version)
    return evaluate(rule_set, case.facts, (*case.verdicts, *held))


# ---- vectors --------------------------------------------------------------------------------------------------------


def _vectors(
    rule_set: RuleSet, rule: Rule, test: LabTest, tests: Mapping[str, LabTest], coverage: _Coverage
) -> Iterator[Row]:
    """From a case in which the rule passes, each of its facts changed."""
    part = rule_set.of(test.code)
    values, predicates = _to_try(part, test, tests)
    base = _released(rule_set, rule, _start(part, test), predicates, values)
    yield _row(rule_set, rule, base, ("all facts", "in order"), None, coverage)
    for key in dict.fromkeys((leaf.predicate.key, leaf.argument) for leaf in rule.leaves):
        predicate, name = predicates[key], " ".join(filter(None, key))
        for value in values[key]:
            case = predicate.write(base, key[1], value)
            yield _row(rule_set, rule, case, (name, shown(value)), key, coverage)
        gone = predicate.write(base, key[1], None)
        if predicate.read(gone, key[1]) is None:
            yield _row(rule_set, rule, gone, (name, shown(None)), key, coverage)
        else:
            places = [place for place, leaf in enumerate(rule.leaves) if (leaf.predicate.key, leaf.argument) == key]
            coverage.known.update((rule.name, place) for place in places)


def _to_try(
    part: RuleSet, test: LabTest, tests: Mapping[str, LabTest]
) -> tuple[dict[FactKey, list[Any]], dict[FactKey, Predicate]]:
    """The values of every fact that the rules for a test ask about."""
    asked: dict[FactKey, list[Leaf]] = {}
    for rule in part.rules:
        for leaf in rule.leaves:
            asked.setdefault((leaf.predicate.key, leaf.argument), []).append(leaf)
    values = {key: list(_values(leaves, test, tests)) for key, leaves in asked.items()}
    return values, {key: leaves[0].predicate for key, leaves in asked.items()}


def _row(
    rule_set: RuleSet, rule: Rule, case: Case, told: tuple[str, str], varied: FactKey | None, coverage: _Coverage
) -> Row:
    judged = [(one, judge(one, case)) for one in rule_set.of(case.facts.test.code).rules]
    said = _judged(rule_set, case, coverage)
    return Row(rule.name, case.facts.test.code, *told, said.action, said.against, _wrong(judged, said, varied))


def _wrong(judged: Sequence[tuple[Rule, Judgement]], said: AutoVerdict, varied: FactKey | None) -> str:
    """Why the engine is not to be trusted with this case; "" when it is."""
    for rule, one in judged:
        for leaf, answer, observed in zip(rule.leaves, one.answers, one.observed, strict=True):
            if varied in (None, (leaf.predicate.key, leaf.argument)):
                expected = None if observed is None else _oracle(leaf.condition, observed)
                if answer is not expected:
                    return f"rule {rule.name}: {leaf.label} says {answer} of {shown(observed)}, it must be {expected}"
        if said.action is Action.RELEASE and one.finding not in (Finding.PASS, Finding.NOT_APPLICABLE):
            return f"released although rule {rule.name} says {one.finding.value}"
        if one.finding is Finding.PASS and None in one.answers:
            return f"rule {rule.name} passed with something not known"
    return ""


def _start(part: RuleSet, test: LabTest) -> Case:
    """In order in every way that is asked of every result."""
    case = blank(test)
    value = numeric(Decimal(1)) if test.kind is ValueKind.NUMERIC else Value(test.kind, OTHER)
    facts = replace(
        case.facts, value=value, qc=QcState.OK, critical_low=Decimal(0), critical_high=Decimal(1000),
        interval_unsure=False, critical_unsure=False,
    )  # fmt: skip
    return Case(facts, tuple(Verdict(check, Finding.PASS, "passed") for check in part.checks))


def _released(
    rule_set: RuleSet,
    rule: Rule,
    start: Case,
    predicates: Mapping[FactKey, Predicate],
    values: Mapping[FactKey, Sequence[Any]],
) -> Case:
    """A case that is released and that the rule passes; without one the nearest that was found.

    Fact by fact, then by trying combinations.
    """
    in_order = sorted(predicates.items(), key=lambda item: _ORDER[item[0][0]])

    def build(chosen: Mapping[FactKey, Any]) -> Case:
        case = start
        for key, predicate in in_order:
            case = predicate.write(case, key[1], chosen[key])
        return case

    chosen = {key: found[0] for key, found in values.items()}
    best = _score(rule_set, rule, build(chosen))
    for _ in range(3):
        for key, found in values.items():
            for value in found:
                tried = _score(rule_set, rule, build(chosen | {key: value}))
                if tried > best:
                    best, chosen = tried, chosen | {key: value}
    if best[0]:
        return build(chosen)
    for combination in islice(product(*values.values()), MAX_TRIED):
        picked = build(dict(zip(values, combination, strict=True)))
        if _score(rule_set, rule, picked)[0]:
            return picked
    return build(chosen)


def _score(rule_set: RuleSet, focus: Rule, case: Case) -> tuple[bool, int, int, int]:
    """Whether it is released and the rule passes; else how near that is: its leaves, the other rules, their leaves."""
    judged = {rule.name: judge(rule, case) for rule in rule_set.of(case.facts.test.code).rules}
    own = judged[focus.name]
    passes = own.finding is Finding.PASS
    released = passes and _evaluated(rule_set, case).action is Action.RELEASE
    content = sum(one.finding in (Finding.PASS, Finding.NOT_APPLICABLE) for one in judged.values())
    own_leaves = len(own.answers) if passes else own.answers.count(True)
    return released, own_leaves, content, sum(one.answers.count(True) for one in judged.values())


# ---- what a fact is set to ------------------------------------------------------------------------------------------


def _values(leaves: Iterable[Leaf], test: LabTest, tests: Mapping[str, LabTest]) -> Iterator[Any]:
    """Every value worth trying of one fact, each once."""
    seen: dict[str, Any] = {}
    for leaf in leaves:
        for value in _of_leaf(leaf, test, tests):
            seen.setdefault(f"{type(value).__name__} {shown(value)}", value)
    yield from seen.values()


def _of_leaf(leaf: Leaf, test: LabTest, tests: Mapping[str, LabTest]) -> Iterator[Any]:
    condition, predicate = leaf.condition, leaf.predicate
    if isinstance(condition, Bounds):
        yield from _numbers(condition, predicate, tests.get(leaf.argument, test))
    elif isinstance(condition, Words):
        yield from condition.words
        yield from predicate.words or (OTHER,)
    elif isinstance(condition, Is):
        yield from (True, False)
    else:
        tags = ((), *((word,) for word in condition.named), condition.named, (OTHER,))
        yield from tags
        for word in predicate.judging[:1]:  # without one of these the others are not known
            yield from ((*one, word) for one in tags if word not in one)


def _numbers(bounds: Bounds, predicate: Predicate, test: LabTest) -> Iterator[Decimal | Value]:
    limits = [one for one in (bounds.min, bounds.above, bounds.max, bounds.below) if one is not None]
    of_test = predicate.of_value or predicate.argument
    for limit in limits:
        exponent = limit.as_tuple().exponent
        own = exponent if isinstance(exponent, int) and exponent < 0 else 0
        decimals = test.decimals if of_test and test.decimals is not None else 0
        step = Decimal(1).scaleb(min(own, -decimals))
        for number in (limit + step, limit, limit - step):
            if of_test or number >= 0:  # an age or a number of hours is never below zero
                yield number
    if of_test:
        yield from (numeric(limit, sign) for limit in limits for sign in (Comparator.LT, Comparator.GT))


# ---- the second reckoning -------------------------------------------------------------------------------------------


def _oracle(condition: Condition, observed: Any) -> bool | None:
    """What a leaf must say, reckoned from the definition: numbers as fractions, sets number by number."""
    if isinstance(condition, Bounds):
        return _range(condition, observed)
    if isinstance(condition, Words):
        return str(observed) in [str(word) for word in condition.words]
    if isinstance(condition, Is):
        return bool(observed) == condition.expected
    there = sorted(observed)
    wanted = (
        condition.only is None or [word for word in there if word not in condition.only] == [],
        condition.none_of is None or [word for word in there if word in condition.none_of] == [],
        condition.any_of is None or [word for word in there if word in condition.any_of] != [],
        condition.all_of is None or [word for word in sorted(condition.all_of) if word not in there] == [],
    )
    return False not in wanted


def _range(bounds: Bounds, observed: Any) -> bool | None:
    if not isinstance(observed, Value) or observed.comparator is None:
        number = observed.number if isinstance(observed, Value) else observed
        return None if number is None else _inside(bounds, Fraction(number))
    limit = Fraction(observed.number or 0)
    limits = [Fraction(one) for one in (bounds.min, bounds.above, bounds.max, bounds.below) if one is not None]
    marks = sorted({limit, *limits})
    # Every number that can differ from its neighbours: the marks, a number between each two, and one beyond each end.
    numbers = [marks[0] - 1, *marks, *((a + b) / 2 for a, b in pairwise(marks)), marks[-1] + 1]
    said = {_inside(bounds, number) for number in numbers if _stands_for(observed.comparator, number, limit)}
    return said.pop() if len(said) == 1 else None


def _stands_for(comparator: Comparator, number: Fraction, limit: Fraction) -> bool:
    if comparator in (Comparator.LT, Comparator.LE):
        return number < limit or (number == limit and comparator is Comparator.LE)
    return number > limit or (number == limit and comparator is Comparator.GE)


def _inside(bounds: Bounds, number: Fraction) -> bool:
    return not (
        (bounds.min is not None and number < Fraction(bounds.min))
        or (bounds.above is not None and number <= Fraction(bounds.above))
        or (bounds.max is not None and number > Fraction(bounds.max))
        or (bounds.below is not None and number >= Fraction(bounds.below))
    )


# ---- coverage -------------------------------------------------------------------------------------------------------


def _uncovered(rule_set: RuleSet, coverage: _Coverage) -> tuple[list[str], int]:
    """The branches that no case reached, and how many branches there are."""
    missing: list[str] = []
    branches = 0
    for rule in rule_set.rules:
        found = coverage.findings.get(rule.name, set())
        possible = [Finding.PASS, Finding.HOLD, *([Finding.NOT_APPLICABLE] if rule.first else [])]
        branches += len(possible)
        words = {Finding.PASS: "passes", Finding.HOLD: "holds", Finding.NOT_APPLICABLE: "does not apply"}
        missing += [f"rule {rule.name}: no case in which it {words[one]}" for one in possible if one not in found]
        for place, leaf in enumerate(rule.leaves):
            answers = coverage.answers.get((rule.name, place), set())
            known = (rule.name, place) in coverage.known
            wanted: list[bool | None] = [True, False, *([] if known else [None])]
            branches += len(wanted)
            says = {True: "true", False: "false", None: "unknown"}
            missing += [f"rule {rule.name}: {leaf.label}: never {says[one]}" for one in wanted if one not in answers]
    return missing, branches
