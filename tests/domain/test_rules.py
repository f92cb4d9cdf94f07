"""Rules: every leaf is evaluated, what is not known holds, and nothing is released that a rule does not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.conditions import Is
from interface.domain.delta import Delta, DeltaKind
from interface.domain.facts import Facts, Finding, QcState, Sibling, Verdict
from interface.domain.model import Comparator, HoldReason, LabTest, ResultStatus, Sex, Value, ValueKind
from interface.domain.predicates import PREDICATES, Case, Kind
from interface.domain.rule_files import RuleFileError, parse_rule_set
from interface.domain.rule_set import RuleSet
from interface.domain.rules import (
    Action,
    All,
    AutoVerdict,
    Leaf,
    Node,
    Not,
    Rule,
    evaluate,
    joined,
    judge,
    leaves,
    together,
)
from interface.domain.rules import (
    Any as AnyOf,
)
from interface.domain.values import ValueGrammar, numeric, parse_value
from tests.domain.cases import AT, POTASSIUM, RULE, facts, rules, verdict

ON = parse_rule_set(RULE, revision=3)


def action(rule_set: RuleSet, known: Facts, verdicts: Sequence[Verdict] = ()) -> Action:
    return evaluate(rule_set, known, verdicts).action


# ---- what releases, and each thing that does not --------------------------------------------------------------------


def test_a_result_in_order_is_released_and_every_leaf_is_kept() -> None:
    verdicts = evaluate(ON, facts(), ()).verdicts
    assert [(one.check, one.rule, one.finding, one.version) for one in verdicts] == [
        ("rule", "potassium", Finding.PASS, "default 3"),
        ("autoverification", "default", Finding.PASS, "default 3"),
    ]
    assert verdicts[0].inputs == {"value from 3.5 to 5.1": "4.1: true", "sex female or male": "female: true"}


@pytest.mark.parametrize(
    ("changes", "verdicts", "expected", "against"),
    [
        ({"value": numeric(Decimal("5.2"))}, (), Action.HOLD, "rule potassium"),
        ({"value": numeric(Decimal("5.1"), Comparator.GT)}, (), Action.HOLD, "rule potassium"),
        ({"value": numeric(Decimal("4"), Comparator.LT)}, (), Action.HOLD, "rule potassium"),
        ({"sex": Sex.UNKNOWN}, (), Action.HOLD, "rule potassium"),
        ({"unit": "mg/dL"}, (), Action.HOLD, "rule potassium"),
        ({"qc": QcState.UNKNOWN}, (), Action.WAIT, "qc unknown"),
        ({"qc": QcState.FAIL}, (), Action.WAIT, "qc fail"),
        ({"qc": QcState.EXPIRED}, (), Action.WAIT, "qc expired"),
        ({"qc": QcState.WARN}, (), Action.RELEASE, None),
        ({"critical_low": None}, (), Action.RELEASE, None),
        ({"critical_low": None, "critical_high": None}, (), Action.WAIT, "no critical limits"),
        ({"holds": (HoldReason.QUESTIONABLE,)}, (), Action.WAIT, "held questionable"),
        ({}, (verdict("delta", Finding.HOLD),), Action.WAIT, "delta hold"),
        ({}, (verdict("index", Finding.UNKNOWN),), Action.WAIT, "index unknown"),
        ({}, (verdict("delta", Finding.PASS), verdict("range", Finding.NOT_APPLICABLE)), Action.RELEASE, None),
        ({"test": replace(POTASSIUM, code="NA")}, (), Action.WAIT, "no rule"),
    ],
)
def test_what_must_be_true_of_every_result(
    changes: dict[str, Any], verdicts: tuple[Verdict, ...], expected: Action, against: str | None
) -> None:
    said = evaluate(ON, facts(**changes), verdicts)
    assert said.action is expected
    assert said.against == (() if against is None else (against,))
    assert said.holds == ((HoldReason.RULE,) if expected is Action.HOLD else ())


@pytest.mark.parametrize("kind", [kind for kind in ValueKind if kind not in (ValueKind.TEXT, ValueKind.CODED)])
def test_what_is_no_result_is_never_released(kind: ValueKind) -> None:
    rule_set = rules('[[rule]]\nname = "any"\ntests = ["K"]\nrequire = [{ critical = false }]')
    expected = Action.RELEASE if kind in (ValueKind.NUMERIC, ValueKind.RATIO, ValueKind.RANGE) else Action.WAIT
    assert action(rule_set, facts(value=Value(kind, "x"))) is expected


EXEMPT = RULE + '[[exempt]]\ntest = "K"\nqc = true\ncritical = "none"\nreason = "r"\n'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"qc": QcState.UNKNOWN}, Action.RELEASE),
        ({"qc": QcState.FAIL}, Action.WAIT),  # to be exempt from control is not to pass one that failed
        ({"qc": QcState.EXPIRED}, Action.WAIT),
        ({"critical_low": None, "critical_high": None}, Action.RELEASE),
    ],
)
def test_what_a_test_is_exempt_from(changes: dict[str, Any], expected: Action) -> None:
    assert action(parse_rule_set(EXEMPT), facts(**changes)) is expected
    other = parse_rule_set(EXEMPT.replace('[[exempt]]\ntest = "K"', '[[exempt]]\ntest = "NA"'))
    assert action(other, facts(**changes)) is Action.WAIT


def test_a_document_that_is_off_releases_nothing() -> None:
    said = evaluate(replace(ON, autoverification=False), facts(), ())
    assert (said.action, said.against) == (Action.WAIT, ("off",))
    assert not parse_rule_set(RULE.replace('autoverification = "on"', "")).autoverification


def test_a_rule_for_every_test_holds_and_never_releases() -> None:
    gate = '[[rule]]\nname = "gate"\nrequire = [{ critical = false }]\n'
    assert action(rules(gate), facts()) is Action.WAIT
    both = parse_rule_set(RULE + gate)
    assert action(both, facts()) is Action.RELEASE
    assert evaluate(both, facts(flags=("HH",)), ()).against == ("rule gate",)


def test_a_check_that_the_document_has_must_have_been_made() -> None:
    """Whoever forgets to run a check must not get a release by it."""
    one = Delta("k", "K", DeltaKind.ABSOLUTE, Decimal(1), Decimal(1), timedelta(days=30))
    with_delta = replace(ON, deltas=(one,))
    assert evaluate(with_delta, facts(), ()).against == ("delta not made",)
    assert action(with_delta, facts(), (verdict("delta", Finding.NOT_APPLICABLE),)) is Action.RELEASE


@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_a_fault_of_a_leaf_holds_and_tells_no_value(error: type[Exception]) -> None:
    def fails(case: Case, argument: str) -> None:
        raise error("4.1 of the patient Doe")

    broken = Leaf(replace(PREDICATES["critical"], read=fails), Is(False))
    rule = Rule("broken", ("K",), All(()), All((broken,)))
    said = evaluate(replace(ON, rules=(*ON.rules, rule)), facts(), ())
    assert (said.action, said.against) == (Action.HOLD, ("rule broken",))
    assert "Doe" not in repr(said.verdicts)


def test_a_rule_says_of_each_result_what_it_says_of_it_alone() -> None:
    """What it said of the same facts before is said again, and only of the same."""
    grammar = ValueGrammar(exponent=True)
    numbers = ("4.1", "4.10", "41E-1", "5.2", "<5.2", "<4", "-1", "x")
    asked = "{ value = { min = 3.5, max = 5.1 } }, { critical = false }, { sex = ['female', 'male'] }"
    for again in ("", ", { age_y = { min = 18 } }"):
        text = f'[[rule]]\nname = "K"\ntests = ["K"]\nunit = "mmol/L"\nrequire = [{asked}{again}]\n'
        shared = parse_rule_set(f'name = "default"\nautoverification = "on"\n{text}', revision=3)
        for _ in range(2):
            for number, flags, unit, sex in product(numbers, ((), ("HH",)), ("mmol/L", "mg/dL"), Sex):
                subject = replace(facts().subject, sex=sex)
                case = replace(facts(), value=parse_value(number, grammar), flags=flags, unit=unit, subject=subject)
                alone = replace(shared, rules=tuple(map(replace, shared.rules)))
                assert repr(evaluate(shared, case, ())) == repr(evaluate(alone, case, ()))


# ---- what is not known ----------------------------------------------------------------------------------------------

WARD = '[[rule]]\nname = "ward"\ntests = ["K"]\nwards = ["ICU"]\nunit = "mmol/L"\nrequire = [{ value = { max = 1 } }]\n'


@pytest.mark.parametrize(("ward", "expected"), [("ICU", Action.HOLD), ("A1", Action.RELEASE), ("", Action.HOLD)])
def test_a_scope_that_is_not_known_holds(ward: str, expected: Action) -> None:
    """A rule for a ward is not passed by for a patient of whom the ward is not known."""
    assert action(parse_rule_set(RULE + WARD), facts(ward=ward)) is expected


def test_unknown_or_true_does_not_pass() -> None:
    rule_set = rules(
        '[[rule]]\nname = "any"\ntests = ["K"]\nrequire = [{ any = [{ pregnant = false }, { sex = "female" }] }]'
    )
    assert action(rule_set, facts()) is Action.RELEASE
    assert action(rule_set, facts(pregnant=None)) is Action.HOLD


def test_when_keeps_a_rule_from_those_it_is_not_for() -> None:
    rule_set = parse_rule_set(
        f'{RULE}[[rule]]\nname = "pregnant"\nwhen = [{{ sex = "female" }}]\nrequire = [{{ pregnant = false }}]'
    )
    assert action(rule_set, facts(sex=Sex.MALE, pregnant=None)) is Action.RELEASE
    assert action(rule_set, facts(sex=Sex.FEMALE, pregnant=None)) is Action.HOLD
    said = evaluate(rule_set, facts(sex=Sex.MALE, pregnant=None), ()).verdicts[1]
    assert said.inputs == {"sex female": "male: false", "pregnant no": "not known: unknown"}  # evaluated all the same


ANSWERS = st.sampled_from([True, False, None])


def trees(depth: int = 3) -> st.SearchStrategy[Node]:
    leaf = st.just(Leaf(PREDICATES["critical"], Is(False)))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts))),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
            inner.map(Not),
        ),
        max_leaves=8,
    )


def classical(node: Node, answers: list[bool]) -> bool:
    if isinstance(node, Leaf):
        return answers.pop(0)
    if isinstance(node, Not):
        return not classical(node.part, answers)
    parts = [classical(part, answers) for part in node.parts]
    return min(parts) if isinstance(node, All) else max(parts)


@given(trees(), st.data())
def test_the_truth_table(node: Node, data: st.DataObject) -> None:
    answers = data.draw(st.lists(ANSWERS, min_size=len(list(leaves(node))), max_size=len(list(leaves(node)))))
    said = joined(node, answers)
    if None in answers:
        assert said is None
    else:
        assert said is classical(node, [answer is True for answer in answers])


# ---- no path releases -----------------------------------------------------------------------------------------------

BODIES = st.recursive(
    st.sampled_from(
        [
            "{ value = { min = 3, max = 5 } }", "{ sex = 'female' }", "{ pregnant = false }", "{ delta = 'pass' }",
            "{ age_y = { min = 18 } }", "{ ward = ['A1', 'B1'] }", "{ sibling = { test = 'NA', min = 135 } }",
            "{ previous_age_h = { max = 72 } }", "{ flags = { only = ['N'] } }", "{ calibration_age_h = { max = 24 } }",
            "{ previous_value = { above = 3 } }", "{ qc = 'ok' }", "{ index = ['pass', 'none'] }",
            "{ flags = { none_of = ['H', 'HH'] } }", "{ critical = false }", "{ interval = true }",
            "{ critical_limits = true }", "{ sibling_flags = { test = 'NA', only = ['N'] } }",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"{{ all = [{', '.join(parts)}] }}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"{{ any = [{', '.join(parts)}] }}"),
        inner.map(lambda part: f"{{ not = {part} }}"),
    ),
    max_leaves=5,
)  # fmt: skip
SPOILT: tuple[tuple[str, Any], ...] = (
    ("sex", Sex.UNKNOWN), ("pregnant", None), ("ward", ""), ("birth_date", None), ("age_d", None),
    ("collected_at", None), ("measured_at", None), ("calibrated_at", None), ("qc", QcState.UNKNOWN), ("unit", ""),
    ("value", Value(ValueKind.TEXT, "x")), ("received_at", None), ("flags", ()), ("critical_unsure", True),
)  # fmt: skip
VERDICTS = st.lists(
    st.builds(verdict, st.sampled_from(["delta", "index", "range"]), st.sampled_from(Finding)), max_size=3
).map(tuple)


CHECKED = """
[[delta]]
test = "K"
kind = "absolute"
limit = "1.0"
unit = "mmol/L"
window_d = 3
[[index]]
test = "K"
index = "H"
index_test = "HIDX"
limit = "100"
unit = "mg/dL"
"""


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    text = ""
    for number in range(draw(st.integers(1, 3))):
        tests = draw(st.sampled_from(["", 'tests = ["K"]\n']))
        require = ", ".join(draw(st.lists(BODIES, min_size=1, max_size=2)))
        when = ", ".join(draw(st.lists(BODIES, max_size=1)))
        if not tests and "value = {" in require + when:
            tests = 'tests = ["K"]\n'
        text += f'[[rule]]\nname = "r{number}"\n{tests}unit = "mmol/L"\nwhen = [{when}]\nrequire = [{require}]\n'
    return replace(rules(CHECKED + text), deltas=(), indices=())  # whether the checks were made is drawn as well


CASES = st.tuples(
    st.fixed_dictionaries(
        {},
        optional={
            "value": st.sampled_from([2, 3, 4, 5, 6]).flatmap(
                lambda n: st.sampled_from([None, *Comparator]).map(lambda c: numeric(Decimal(n), c))
            ),
            "sex": st.sampled_from([Sex.MALE, Sex.FEMALE, Sex.UNKNOWN]),
            "pregnant": st.sampled_from([True, None]),
            "ward": st.sampled_from(["", "B1", "C1"]),
            "previous": st.none(),
            "siblings": st.just({}),
            "flags": st.sampled_from([("HH",), ("H",), ("<", "N"), ("U",), ()]),
            "critical_unsure": st.booleans(),
            "qc": st.sampled_from(QcState),
        },
    ),
    VERDICTS,
)


@settings(max_examples=150)
@given(rule_sets(), CASES)
def test_no_path_releases_with_a_rule_that_fails_or_is_not_evaluated(
    rule_set: RuleSet, case: tuple[dict[str, Any], tuple[Verdict, ...]]
) -> None:
    changes, verdicts = case
    known = facts(**changes)
    said = evaluate(rule_set, known, verdicts)
    judged = [judge(rule, Case(known, verdicts)) for rule in rule_set.rules]
    for rule, one in zip(rule_set.rules, judged, strict=True):  # every leaf was looked at, whatever the others said
        assert len(one.answers) == len(one.observed) == len(rule.leaves) > 0
    findings = [one.finding for one in judged]
    if said.action is Action.RELEASE:
        assert set(findings) <= {Finding.PASS, Finding.NOT_APPLICABLE}
        assert any(
            finding is Finding.PASS for rule, finding in zip(rule_set.rules, findings, strict=True) if rule.tests
        )
        assert not any(one.finding in (Finding.HOLD, Finding.UNKNOWN) for one in verdicts)
        assert known.qc in (QcState.OK, QcState.WARN)
        passed = [one for one in judged if one.finding is Finding.PASS]
        assert not any(None in one.answers for one in passed)
    named = any(rule.tests for rule in rule_set.rules)
    assert (said.action is Action.HOLD) is (named and bool({Finding.HOLD, Finding.UNKNOWN} & set(findings)))


@settings(max_examples=150)
@given(rule_sets(), CASES, st.sampled_from(SPOILT))
def test_what_becomes_unknown_never_turns_a_hold_into_a_release(
    rule_set: RuleSet, case: tuple[dict[str, Any], tuple[Verdict, ...]], spoilt: tuple[str, Any]
) -> None:
    changes, verdicts = case
    lost = dict([spoilt])
    if lost.keys() & {"sex", "birth_date", "age_d", "collected_at"}:  # with them it is lost which limits there are
        gone = dict.fromkeys(("low", "high", "critical_low", "critical_high"))
        lost |= {"flags": (), "interval_unsure": True, "critical_unsure": True, **gone}
    before, after = facts(**changes), facts(**(changes | lost))
    order = [Action.RELEASE, Action.WAIT, Action.HOLD]
    rank = order.index(action(rule_set, before, verdicts))
    assert order.index(action(rule_set, after, verdicts)) >= rank
    unknown = (*verdicts, verdict("delta", Finding.UNKNOWN))
    assert order.index(action(rule_set, before, unknown)) >= max(rank, 1 if rank == 0 else rank)


# ---- linked sets ----------------------------------------------------------------------------------------------------

LINKED = """
[[rule]]
name = "lytes"
tests = ["NA", "K"]
unit = "mmol/L"
require = [{ value = { min = 3, max = 150 } }]
[[linked]]
name = "ions"
tests = ["NA", "K"]
"""
SODIUM = LabTest("2", "NA", "Sodium", unit="mmol/L", decimals=0)


def of_both(text: str, sodium: dict[str, Any], *of_sodium: Verdict) -> list[Action]:
    rule_set = rules(text)
    both = [(facts(siblings={}), ()), (facts(test=SODIUM, siblings={}, **sodium), of_sodium)]
    said = [(one, evaluate(rule_set, one, verdicts)) for one, verdicts in both]
    return [one.action for one in together(rule_set, said)]


def test_one_that_a_check_holds_holds_the_set() -> None:
    for finding in (Finding.HOLD, Finding.UNKNOWN):
        assert of_both(LINKED, {}, verdict("delta", finding)) == [Action.HOLD, Action.WAIT]


@pytest.mark.parametrize(
    ("sodium", "expected"),
    [
        ({}, [Action.RELEASE, Action.RELEASE]),
        ({"value": numeric(Decimal(160))}, [Action.HOLD, Action.HOLD]),
        ({"holds": (HoldReason.DELTA,)}, [Action.HOLD, Action.WAIT]),
        ({"qc": QcState.UNKNOWN}, [Action.WAIT, Action.WAIT]),
    ],
)
def test_one_hold_in_a_linked_set_holds_the_set(sodium: dict[str, Any], expected: list[Action]) -> None:
    assert of_both(LINKED, sodium) == expected


@pytest.mark.parametrize(
    ("sibling", "complete", "expected"),
    [
        (Sibling("NA", numeric(Decimal(140)), "mmol/L", status=ResultStatus.FINAL), False, Action.RELEASE),
        (Sibling("NA", numeric(Decimal(140)), "mmol/L"), False, Action.WAIT),
        (Sibling("NA", numeric(Decimal(140)), "mmol/L", holds=(HoldReason.DELTA,)), False, Action.HOLD),
        (None, False, Action.RELEASE),
        (None, True, Action.WAIT),
    ],
)
def test_results_of_earlier_messages_count_in_a_linked_set(
    sibling: Sibling | None, complete: bool, expected: Action
) -> None:
    rule_set = rules(LINKED + ("complete = true\n" if complete else ""))
    known = facts(siblings={"NA": sibling} if sibling else {})
    (said,) = together(rule_set, [(known, evaluate(rule_set, known, ()))])
    assert said.action is expected
    assert isinstance(said, AutoVerdict) and bool(said.holds) is (expected is Action.HOLD)


# ---- the facts ------------------------------------------------------------------------------------------------------

KNOWN: dict[str, Any] = {
    "value": "4.1", "comparator": "none", "flags": ("N",), "instrument_flags": (), "critical": False,
    "critical_limits": True, "interval": True, "qc": "ok", "calibration_age_h": 12, "reagent_lot": "L7", "dilution": 1,
    "follow_ups": 0, "age_d": 14610, "age_y": 40, "sex": "female", "pregnant": False, "ward": "A1",
    "patient_group": "general", "priority": "routine", "specimen_type": "SER", "specimen_age_h": 2, "transport_h": 1,
    "previous": True, "previous_value": "4.0", "previous_age_h": 46, "analyzer": "chem-1", "driver": "roche_cobas_pro",
    "method": "ISE", "sibling": "140", "sibling_present": True, "sibling_held": False, "sibling_flags": ("N",),
    "text": None, "instrument_status": None, "delta": None, "index": None, "range": None, "consistency": None,
    "age_h": None, "gestation_weeks": None,
}  # fmt: skip


def test_a_method_that_is_not_known_is_none_of_those_named() -> None:
    assert PREDICATES["method"].read(Case(facts(method="")), "") is None


@pytest.mark.parametrize("flags", [(), ("<",), ("U",), (">", "D")])
def test_what_nothing_judged_has_no_flags_that_are_known(flags: tuple[str, ...]) -> None:
    case = Case(facts(flags=flags, siblings={"NA": Sibling("NA", numeric(Decimal(140)), "mmol/L", flags)}))
    assert PREDICATES["flags"].read(case, "") is PREDICATES["sibling_flags"].read(case, "NA") is None
    for asked in ("only = ['N']", "none_of = ['H']", "any_of = ['<', 'U']"):
        for fact in (f"flags = {{ {asked} }}", f"sibling_flags = {{ test = 'NA', {asked} }}"):
            rule_set = rules(f'[[rule]]\nname = "r"\ntests = ["K"]\nrequire = [{{ {fact} }}]')
            assert evaluate(rule_set, case.facts, ()).against == ("rule r",)


def test_whose_limits_are_not_known_is_not_the_same_as_none() -> None:
    open_ = {"interval_unsure": True, "critical_unsure": True}
    none = {"low": None, "high": None, "critical_low": None, "critical_high": None}
    for changes, expected in ((none, False), (none | open_, None), (open_, True)):
        case = Case(facts(**changes))
        assert PREDICATES["interval"].read(case, "") is PREDICATES["critical_limits"].read(case, "") is expected
    assert PREDICATES["critical"].read(Case(facts(**open_)), "") is None
    assert PREDICATES["critical"].read(Case(facts(**open_, flags=("HH",))), "") is True
    assert PREDICATES["critical"].read(Case(facts(**none, flags=())), "") is False


def test_every_fact_is_read() -> None:
    case = Case(facts())
    read = {key: predicate.read(case, "NA") for key, predicate in PREDICATES.items()}
    assert {key: one.text if isinstance(one, Value) else one for key, one in read.items()} == KNOWN


WRITTEN: dict[str, Any] = {
    "text": "detected", "comparator": "<", "qc": "warn", "sex": "male", "priority": "stat", "delta": "hold",
    "index": "pass", "range": "none", "consistency": "pass",
}  # fmt: skip


@pytest.mark.parametrize("key", PREDICATES)
def test_every_fact_that_is_written_is_read_back_and_taken_away_is_unknown(key: str) -> None:
    predicate = PREDICATES[key]
    by_kind = {Kind.NUMBER: Decimal(7), Kind.WORD: "word", Kind.YES_NO: True, Kind.TAGS: ("N", "b")}
    wanted = WRITTEN.get(key, by_kind[predicate.kind])
    for case in (Case(facts()), Case(facts(previous=None, siblings={}, measured_at=None, collected_at=None))):
        found = predicate.read(predicate.write(case, "NA", wanted), "NA")
        assert (found.number if isinstance(found, Value) else found) == wanted
        if predicate.kind is Kind.YES_NO:
            assert predicate.read(predicate.write(case, "NA", False), "NA") is False
    gone = predicate.read(predicate.write(Case(facts()), "NA", None), "NA")
    always = {"comparator": "none", "previous": False, "instrument_flags": (), "priority": "routine",
              "sibling_present": False, "follow_ups": 0}  # fmt: skip
    assert gone == always.get(key)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"calibrated_at": AT.replace(year=2027)}, "calibration_age_h"),  # calibrated after it was measured
        ({"collected_at": AT.replace(year=2027)}, "specimen_age_h"),
        ({"age_d": -1}, "age_d"),
        ({"age_d": -1}, "age_y"),
        ({"unit": "mg/dL"}, "previous_value"),
    ],
)
def test_what_cannot_be_is_not_known(changes: dict[str, Any], key: str) -> None:
    assert PREDICATES[key].read(Case(facts(**changes)), "") is None


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ((), None),
        ((Finding.PASS,), "pass"),
        ((Finding.NOT_APPLICABLE,), "none"),
        ((Finding.NOT_APPLICABLE, Finding.PASS), "pass"),
        ((Finding.PASS, Finding.HOLD), "hold"),
        ((Finding.UNKNOWN,), None),
        ((Finding.HOLD, Finding.UNKNOWN, Finding.PASS), None),
    ],
)
def test_what_several_verdicts_of_a_check_say_together(findings: tuple[Finding, ...], said: str | None) -> None:
    case = Case(facts(), (verdict("index", Finding.HOLD), *(verdict("delta", one) for one in findings)))
    assert PREDICATES["delta"].read(case, "") == said


# ---- documents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ('name = "a"', "rule[0].require: is missing: a rule that requires nothing would release everything"),
        ("require = [{ critical = false }]", "rule[0].name: is missing"),
        ('name = "a"\nrequire = [{ foo = 1 }]', "rule[0].require[0].foo: is not a fact that rules know"),
        ('name = "a"\nrequire = [{}]', "rule[0].require[0]: is not one condition"),
        ('name = "a"\nrequire = [{ sex = "female", qc = "ok" }]', "rule[0].require[0]: is not one condition"),
        ('name = "a"\nrequire = [{ sex = "woman" }]', "rule[0].require[0].sex: 'woman' is not one of female, male"),
        ('name = "a"\nrequire = [{ qc = "unknown" }]', "rule[0].require[0].qc: 'unknown' is not one of"),
        ('name = "a"\nrequire = [{ delta = "unknown" }]', "rule[0].require[0].delta: 'unknown' is not one of"),
        ('name = "a"\nrequire = [{ age_y = { min = 0.5, max = 0.1 } }]', "rule[0].require[0].age_y: no number is from"),
        ('name = "a"\nrequire = [{ age_y = { min = 1, above = 1 } }]', "has two bounds on one side"),
        ('name = "a"\nrequire = [{ age_y = {} }]', "rule[0].require[0].age_y: has no bound"),
        ('name = "a"\nrequire = [{ age_y = { low = 1 } }]', "rule[0].require[0].age_y.low: is not a known key"),
        ('name = "a"\nrequire = [{ any = [{ not = { x = 1 } }] }]', "rule[0].require[0].any[0].not.x: is not a fact"),
        ('name = "a"\nrequire = [{ any = [] }]', "rule[0].require[0].any: joins nothing"),
        ('name = "a"\nrequire = [{ flags = {} }]', "rule[0].require[0].flags: asks for nothing"),
        ('name = "a"\nrequire = [{ flags = { any_of = [] } }]', "rule[0].require[0].flags.any_of: names nothing"),
        ('name = "a"\nrequire = [{ critical = "no" }]', "rule[0].require[0].critical: is not true or false"),
        ('name = "a"\nrequire = [{ value = { max = 1 } }]', "rule[0].unit: is missing"),
        ('name = "a"\nunit = ""\nrequire = [{ value = { max = 1 } }]', "rule[0].tests: is missing"),
        ('name = "a"\nwards = []\nrequire = [{ critical = false }]', "rule[0].wards: names nothing"),
        ('name = "a"\ntests = ["K", "K"]\nrequire = [{ critical = false }]', "rule[0].tests: names one twice"),
        ('name = "a"\nrequire = [{ critical = false }]\n[[rule]]\nname = "a"\nrequire = [{ critical = false }]',
         "rule: 2 entries have the name 'a'"),
        ('name = "a"\nrequire = [' + "{ not = " * 9 + "{ qc = 'ok' }" + " }" * 9 + "]", "is nested deeper than 8"),
        ('name = "a"\nrequire = [' + "{ critical = false }," * 101 + "]", "asks more than 100 questions"),
        ('name = "a"\ntests = ["K"]\nrequire = [{ delta = "pass" }]', "rule[0]: asks what the delta checks say of K"),
        ('name = "a"\nrequire = [{ critical = false }]\n[[linked]]\nname = "l"\ntests = ["K"]', "are two or more"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said_with_its_place(rule: str, problem: str) -> None:
    with pytest.raises(RuleFileError) as raised:
        rules(f"[[rule]]\n{rule}")
    assert any(problem in said for said in raised.value.problems), raised.value.problems


@pytest.mark.parametrize("fact", ["sibling = { test = 'NA', min = 135 }", "sibling_present = 'NA'"])
@pytest.mark.parametrize("held", [(), (HoldReason.PATIENT_MISMATCH,)])
def test_what_another_test_says_counts_only_where_nothing_holds_it(fact: str, held: tuple[HoldReason, ...]) -> None:
    """A held result may be another patient's: it must not release one of this patient."""
    predicate = PREDICATES[fact.split()[0]]
    known = facts(siblings={"NA": Sibling("NA", numeric(Decimal(140)), "mmol/L", holds=held)})
    assert (predicate.read(Case(known), "NA") is None) is bool(held)
