"""Autoverification: whether a result may be released without a person. Pure.

A rule is `[[rule]]` of a rule set: for which results it is (`tests` and the rest of its scope, and `when`), and what
it requires of them. Both are conditions on facts of the closed table `predicates`, joined by all, any and not.

What is not known. EVERY leaf of a rule is evaluated, there is no short cut, and each says true, false or unknown.
    joined    all, any, not of leaves one of which is unknown: unknown. (Kleene's weak logic: `unknown or true` is
              unknown, for a rule that was written about a fact was not written for its absence.) Else as ever.
    a rule    when = false    it does not apply, whatever `require` says
              when = unknown  UNKNOWN: holds
              when = true     require: true PASS, false HOLD, unknown UNKNOWN, which holds as HOLD does
So a fact that becomes unknown never turns a rule that holds into one that does not: it can make any condition unknown,
and none of them true or false. Whatever is raised while a rule is evaluated is UNKNOWN too, and so is a rule that
compares numbers in another unit than the result's. There is nothing to wait for and no loop: the time is bounded by
the document (`MAX_LEAVES`), and a fact whose source was not in time is a fact that is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from interface.domain.conditions import Condition, Is, Words, parse_bounds, parse_tags, parse_words
from interface.domain.facts import Facts, Finding, QcState, Verdict
from interface.domain.model import RELEASED, HoldReason, ValueKind
from interface.domain.predicates import PREDICATES, Case, Kind, Predicate, shown
from interface.domain.record import Word, record
from interface.domain.table import Table

if TYPE_CHECKING:
    from interface.domain.rule_set import RuleSet

ENGINE = "rules/3"  # the version of what rules mean: a validation under another one is void
MAX_LEAVES, MAX_DEPTH = 100, 8

_SCOPE = {"analyzers": "analyzer", "wards": "ward", "patient_groups": "patient_group"}
_RULE = (HoldReason.RULE,)
# Facts that hardly two results have in common.
_OF_ONE_ONLY = frozenset(
    {
        "calibration_age_h", "dilution", "age_h", "age_d", "age_y", "specimen_age_h", "transport_h", "previous_value",
        "previous_age_h", "sibling",
    }
)  # fmt: skip
_RELEASABLE = frozenset({ValueKind.NUMERIC, ValueKind.TEXT, ValueKind.CODED, ValueKind.RATIO, ValueKind.RANGE})


# ---- rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """One question to one fact. `argument`: the other test, where the fact is another test's."""

    predicate: Predicate
    condition: Condition
    argument: str = ""
    label: str = field(init=False, default="")

    def __post_init__(self) -> None:
        words = (self.predicate.key, self.argument, self.condition.text)
        object.__setattr__(self, "label", " ".join(filter(None, words)))


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


Node = Leaf | All | Any | Not


def leaves(node: Node) -> Iterator[Leaf]:
    """In the document's order, which is the order in which `_joined` takes their answers."""
    if isinstance(node, Leaf):
        yield node
    elif isinstance(node, Not):
        yield from leaves(node.part)
    else:
        for part in node.parts:
            yield from leaves(part)


def _joined(node: Node, answers: Iterator[bool]) -> bool:
    """Takes every leaf's answer, none of which is unknown."""
    if isinstance(node, Leaf):
        return next(answers)
    if isinstance(node, Not):
        return not _joined(node.part, answers)
    parts = [_joined(part, answers) for part in node.parts]
    return all(parts) if isinstance(node, All) else any(parts)


def joined(node: Node, answers: Sequence[bool | None]) -> bool | None:
    """What the condition says when its leaves say `answers`, in their order."""
    if None in answers:
        return None
    return _joined(node, iter([answer is True for answer in answers]))


class _Mark:
    """What a rule is known by in tables: itself, not what it says."""


_Ask = tuple[Callable[[Case, str], object], str, Callable[[object], bool | None]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`tests` (): for every test, and then it can only hold, never release. `when`: also the rest of the scope."""

    name: str
    tests: tuple[str, ...]
    when: All
    require: All
    unit: str | None = None  # of the test's numbers in it; None: it compares none
    text: str = ""
    leaves: tuple[Leaf, ...] = field(init=False, default=())  # those of `when` first
    labels: tuple[str, ...] = field(init=False, default=())
    asks: tuple[_Ask, ...] = field(init=False, default=(), compare=False, repr=False)  # of each leaf, to be quick
    first: int = field(init=False, default=0)  # where those of `require` begin
    plain: bool = field(init=False, default=False)  # all of them must be true
    again: bool = field(init=False, default=False)  # other results have the same facts
    mark: _Mark = field(init=False, default_factory=_Mark, compare=False, repr=False)  # what it is known by

    def __post_init__(self) -> None:
        when, require = tuple(leaves(self.when)), tuple(leaves(self.require))
        asked = (*when, *require)
        object.__setattr__(self, "leaves", asked)
        object.__setattr__(self, "labels", tuple(leaf.label for leaf in asked))
        asks = tuple((leaf.predicate.read, leaf.argument, leaf.condition.judge) for leaf in asked)
        object.__setattr__(self, "asks", asks)
        object.__setattr__(self, "first", len(when))
        object.__setattr__(self, "again", _OF_ONE_ONLY.isdisjoint(leaf.predicate.key for leaf in asked))
        object.__setattr__(self, "plain", len(self.require.parts) == len(require) and _bare(self.require))


def _bare(node: All) -> bool:
    return all(isinstance(part, Leaf) for part in node.parts)


class Judgement(NamedTuple):
    """What one rule says of one case: each leaf's answer and the fact that it is of, in the order of `Rule.leaves`."""

    finding: Finding
    answers: list[bool | None]
    observed: list[object]
    text: str


def judge(rule: Rule, case: Case) -> Judgement:
    """Every leaf evaluated. Raises nothing that facts can cause; what it should raise is UNKNOWN to `evaluate`."""
    observed: list[object] = []
    answers: list[bool | None] = []
    for read, argument, ask in rule.asks:
        fact = read(case, argument)
        observed.append(fact)
        answers.append(None if fact is None else ask(fact))
    finding, text = _found(rule, case, answers)
    return Judgement(finding, answers, observed, text)


def _found(rule: Rule, case: Case, answers: list[bool | None]) -> tuple[Finding, str]:
    first = rule.first
    if rule.unit is not None and rule.unit != case.facts.unit:
        return Finding.UNKNOWN, f"its numbers are in {rule.unit or 'no unit'}, the result is not"
    if first and joined(rule.when, answers[:first]) is False:
        return Finding.NOT_APPLICABLE, "does not apply"
    if None in answers:
        unknown = ", ".join(leaf.label for leaf, answer in zip(rule.leaves, answers, strict=True) if answer is None)
        return Finding.UNKNOWN, f"not known: {unknown}"
    required = answers[first:]
    if all(required) if rule.plain else joined(rule.require, required):
        return _PASS, "passed"
    return Finding.HOLD, f"not met: {', '.join(_unmet(rule, required))}"


def _unmet(rule: Rule, answers: Sequence[bool | None]) -> Iterator[str]:
    """The parts of `require` that are false."""
    rest = iter([answer is True for answer in answers])
    for part in rule.require.parts:
        labels = [leaf.label for leaf in leaves(part)]
        if not _joined(part, rest):
            yield labels[0] if isinstance(part, Leaf) else f"{type(part).__name__.lower()}({', '.join(labels)})"


# ---- the verdict ----------------------------------------------------------------------------------------------------


class Action(Word):
    """What is to be done with a result, as far as autoverification goes."""

    RELEASE = "release"
    WAIT = "wait"  # for a person; nothing is wrong with it
    HOLD = "hold"  # a rule says so, or could not be evaluated


@record
class AutoVerdict:
    """`verdicts`: steps of the explanation, each rule's and the sum. `against`: why it is not released, by a word.

    `held`: something else than a rule holds the result, so that `action` need not.
    """

    action: Action
    verdicts: tuple[Verdict, ...]
    against: tuple[str, ...] = ()
    held: bool = False

    @property
    def holds(self) -> tuple[HoldReason, ...]:
        return _RULE if self.action is _HOLD else ()


def evaluate(rule_set: RuleSet, facts: Facts, verdicts: Sequence[Verdict]) -> AutoVerdict:
    """One result by itself; `together` adds what the others of its specimen say. `verdicts`: of the checks before it.

    Released only if a rule that names the test passes and every other that is for it passes or does not apply, no check
    holds or says unknown or is missing, quality control is in order or not asked for, there are critical limits or are
    meant to be none, and nothing holds it already. Never raises for what facts say.
    """
    return evaluated(rule_set, Case(facts, tuple(verdicts)))


def evaluated(rule_set: RuleSet, case: Case) -> AutoVerdict:
    """The same of a case."""
    facts, verdicts = case.facts, case.verdicts
    part = rule_set.of(facts.test.code)
    version = part.version
    held = is_held(facts, verdicts)
    if not rule_set.autoverification:
        return _waiting(rule_set, f"autoverification is off in {rule_set.version}", ("off",), held)
    if not part.named:
        return _waiting(rule_set, f"no rule of {rule_set.version} is for {facts.test.code}", ("no rule",), held)
    said: list[Verdict] = []
    against: list[str] = []
    passed = False
    for rule in part.rules:
        one = _verdict(rule, case, version)
        said.append(one)
        if one.finding is _HOLDS or one.finding is _UNKNOWN:
            against.append(f"rule {rule.name}")
        elif one.finding is _PASS and rule.tests:
            passed = True
    failed = bool(against)
    _against(against, part, facts, verdicts, held=held)
    if not failed and not passed:
        against.append("no rule")
    action = _HOLD if failed else Action.WAIT if against else _RELEASE
    said.append(_sum(part, action, against))
    return AutoVerdict(action, tuple(said), tuple(against), held)


def is_held(facts: Facts, verdicts: tuple[Verdict, ...]) -> bool:
    """Whether something holds the result before any rule is asked."""
    if facts.holds:
        return True
    for verdict in verdicts:
        if verdict.finding is _HOLDS or verdict.finding is _UNKNOWN:
            return True
    return False


_PASS, _HOLDS, _UNKNOWN = Finding.PASS, Finding.HOLD, Finding.UNKNOWN
_FAILED = (_HOLDS, _UNKNOWN)
_RELEASE, _HOLD = Action.RELEASE, Action.HOLD
_ANSWERS: dict[bool | None, str] = {True: ": true", False: ": false", None: ": unknown"}


_SAID: dict[tuple[object, ...], Verdict] = {}
_MOST_SAID = 16_384  # less than a kilobyte each


def _verdict(rule: Rule, case: Case, version: str) -> Verdict:
    """What the rule says of the case: of the same facts the same, which is made once where they come again."""
    try:
        if not rule.again:
            return _judged(rule, case, version)
        asked: list[object] = [rule.mark, version, case.facts.unit]
        for read, argument, _ in rule.asks:
            asked.append(read(case, argument))
        key = tuple(asked)
        known = _SAID.get(key)
        if known is None:
            if len(_SAID) >= _MOST_SAID:
                _SAID.clear()
            known = _SAID[key] = _judged(rule, case, version)
        return known
    except Exception as error:  # a fault of ours holds this result, and says where without its text (patient data)
        text = f"could not be evaluated: {type(error).__name__}"
        return Verdict("rule", Finding.UNKNOWN, text, rule.name, version, holds=_RULE)


def _judged(rule: Rule, case: Case, version: str) -> Verdict:
    finding, answers, observed, text = judge(rule, case)
    told = zip(rule.labels, observed, answers, strict=True)
    inputs = {label: shown(fact) + _ANSWERS[answer] for label, fact, answer in told}
    return Verdict("rule", finding, text, rule.name, version, inputs, _RULE if finding in _FAILED else ())


def _against(found: list[str], part: RuleSet, facts: Facts, verdicts: tuple[Verdict, ...], *, held: bool) -> None:
    """Add what must be true of every result that is released without a person, and is not."""
    if held:
        found += [f"held {reason.value}" for reason in facts.holds]
    if facts.value.kind not in _RELEASABLE:
        found.append(f"value {facts.value.kind.value}")
    if held:
        found += [f"{one.check} {one.finding.value}" for one in verdicts if one.finding in _FAILED]
    for check in part.checks:
        if not _made(check, verdicts):
            found.append(f"{check} not made")
    if facts.qc is not _OK and facts.qc is not _WARN and not (part.qc_exempt and facts.qc is QcState.UNKNOWN):
        found.append(f"qc {facts.qc.value}")
    limited = facts.critical_low is not None or facts.critical_high is not None
    if not limited and not part.no_critical:
        found.append("no critical limits")


def _made(check: str, verdicts: tuple[Verdict, ...]) -> bool:
    for verdict in verdicts:
        if verdict.check == check:
            return True
    return False


_OK, _WARN = QcState.OK, QcState.WARN


def _sum(part: RuleSet, action: Action, against: Sequence[str]) -> Verdict:
    if action is _RELEASE:
        return part.released
    finding, holds = (Finding.HOLD, _RULE) if action is Action.HOLD else (Finding.NOT_APPLICABLE, ())
    text = f"waits for a person: {', '.join(against)}"
    return Verdict("autoverification", finding, text, part.name, part.version, holds=holds)


def _waiting(rule_set: RuleSet, text: str, against: tuple[str, ...], held: bool) -> AutoVerdict:
    verdict = Verdict("autoverification", Finding.NOT_APPLICABLE, text, rule_set.name, rule_set.version)
    return AutoVerdict(Action.WAIT, (verdict,), against, held)


# ---- linked tests ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkedSet:
    """Tests of one specimen that are released together or not at all: `[[linked]]` of a rule set.

    `complete`: one of them that has no result yet keeps the others back too.
    """

    name: str
    tests: tuple[str, ...]
    complete: bool = False


def together(rule_set: RuleSet, decided: Sequence[tuple[Facts, AutoVerdict]]) -> tuple[AutoVerdict, ...]:
    """Of the results of one specimen, each by itself, what becomes of them together; in their order.

    A result that would be released, and whose linked set has one that is held, is held with it; it waits with one that
    waits. Results of earlier messages count by what is known of them (`Facts.siblings`).
    """
    if not rule_set.linked:
        return tuple(verdict for _, verdict in decided)
    return tuple(
        _with_others(rule_set, facts, verdict, decided) if verdict.action is _RELEASE else verdict
        for facts, verdict in decided
    )


def _with_others(
    rule_set: RuleSet, facts: Facts, verdict: AutoVerdict, decided: Sequence[tuple[Facts, AutoVerdict]]
) -> AutoVerdict:
    held: list[str] = []
    waits: list[str] = []
    for linked in rule_set.of(facts.test.code).linked:
        for test in linked.tests:
            if test != facts.test.code:
                others = [other for beside, other in decided if beside.test.code == test]
                actions = {Action.HOLD if other.held else other.action for other in others}
                if not actions:
                    actions = {_of_sibling(facts, test, linked.complete)}
                action = max(actions, key=_WORST.index)
                if action is not Action.RELEASE:
                    (held if action is Action.HOLD else waits).append(f"linked {linked.name} {test}")
    if not held and not waits:
        return verdict
    action, against = (Action.HOLD if held else Action.WAIT), (*held, *waits)
    return AutoVerdict(action, (*verdict.verdicts[:-1], _sum(rule_set, action, against)), against)


_WORST = (Action.RELEASE, Action.WAIT, Action.HOLD)


def _of_sibling(facts: Facts, test: str, complete: bool) -> Action:
    """A result that is not of this message. It was released, or it waits; without one there is nothing to wait for."""
    sibling = facts.siblings.get(test)
    if sibling is None:
        return Action.WAIT if complete else Action.RELEASE
    if sibling.holds:
        return Action.HOLD
    return Action.RELEASE if sibling.status in RELEASED else Action.WAIT


# ---- from a rule set's document -------------------------------------------------------------------------------------


def parse(entry: Table) -> Rule:
    """One `[[rule]]`. Says what is wrong to the table; what comes back then is of no use."""
    name, text = entry.text("name", None), entry.text("text")
    tests = _names(entry, "tests")
    scope = [
        Leaf(PREDICATES[fact], Words(words)) for key, fact in _SCOPE.items() if (words := _names(entry, key))
    ]  # fmt: skip
    when, require = _nodes(entry, "when"), _nodes(entry, "require")
    if not require:
        entry.say(entry.at("require"), "is missing: a rule that requires nothing would release everything")
    rule = Rule(name, tests, All((*scope, *when)), All(tuple(require)), _unit(entry), text)
    asked = rule.leaves
    if len(asked) > MAX_LEAVES:
        entry.say(entry.path, f"asks more than {MAX_LEAVES} questions: make several rules of it")
    compares = any(leaf.predicate.of_value for leaf in asked)
    if compares and rule.unit is None:
        entry.say(entry.at("unit"), "is missing: say the unit of the numbers, as the test is reported")
    if compares and not tests:
        entry.say(entry.at("tests"), "is missing: a number means nothing without its test")
    return rule


def _unit(entry: Table) -> str | None:
    return entry.text("unit") if "unit" in entry.raw else None


def _names(entry: Table, key: str) -> tuple[str, ...]:
    names = entry.texts(key)
    if key in entry.raw and (not names or not all(names)):
        entry.say(entry.at(key), "names nothing: leave it out for all")
    if len(set(names)) < len(names):
        entry.say(entry.at(key), "names one twice")
    return names


def parse_linked(entry: Table) -> LinkedSet:
    """One `[[linked]]`."""
    name, tests, complete = entry.text("name", None), _names(entry, "tests"), entry.flag("complete")
    if len(tests) < 2:
        entry.say(entry.at("tests"), "are two or more")
    return LinkedSet(name, tests, complete)


def _nodes(table: Table, key: str, depth: int = 0) -> list[Node]:
    return [_node(child, depth) for child in table.tables(key)]


_NOTHING = Leaf(PREDICATES["critical"], Is(False))  # stands in for what could not be read


def _node(table: Table, depth: int) -> Node:
    """One condition: a table of exactly one key, which is all, any, not, or a fact."""
    if len(table.raw) != 1 or depth >= MAX_DEPTH:
        for key in table.raw:
            table.take(key)
        text = "is not one condition: exactly one key" if len(table.raw) != 1 else f"is nested deeper than {MAX_DEPTH}"
        table.say(table.path, text)
        return _NOTHING
    key = next(iter(table.raw))
    if key in ("all", "any"):
        parts = tuple(_nodes(table, key, depth + 1))
        if not parts:
            table.say(table.at(key), "joins nothing")
        return All(parts) if key == "all" else Any(parts)
    if key == "not":
        return Not(_node(table.table(key), depth + 1))
    predicate = PREDICATES.get(key)
    if predicate is None:
        table.take(key)
        table.say(table.at(key), f"is not a fact that rules know: {', '.join(PREDICATES)}, or all, any, not")
        return _NOTHING
    return _leaf(table, predicate)


def _leaf(table: Table, predicate: Predicate) -> Leaf:
    key = predicate.key
    if predicate.kind is Kind.WORD:
        return Leaf(predicate, parse_words(table, key, predicate.words))
    if predicate.kind is Kind.YES_NO:
        if predicate.argument:
            return Leaf(predicate, Is(True), table.text(key, None))
        return Leaf(predicate, Is(table.flag(key)))
    asked = table.table(key)
    argument = asked.text("test", None) if predicate.argument else ""
    condition: Condition = parse_bounds(asked) if predicate.kind is Kind.NUMBER else parse_tags(asked)
    return Leaf(predicate, condition, argument)
