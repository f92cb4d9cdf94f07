"""The rule bench finds what rules do at their bounds, says what nothing proves, notices an engine that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest

from interface.domain import rule_bench
from interface.domain.model import LabTest, ValueKind
from interface.domain.rule_bench import Report, run
from interface.domain.rule_cases import parse_cases
from interface.domain.rule_files import RuleFileError
from interface.domain.rules import Action
from tests.domain.cases import POTASSIUM, RULE, rules
from tests.sources import from_sources

TESTS = {
    "K": POTASSIUM,
    "NA": LabTest("2", "NA", "Sodium", unit="mmol/L", decimals=0),
    "COL": LabTest("3", "COL", "Colour", kind=ValueKind.TEXT),
}
MIXED = """
[[rule]]
name = "adult"
tests = ["K"]
unit = "mmol/L"
when = [{ age_y = { min = 18 } }]
require = [
  { value = { min = "3.5", max = "5.1" } },
  { any = [{ sex = "female" }, { flags = { only = ["N"] } }] },
  { not = { ward = "ICU" } },
]
[[rule]]
name = "newborn"
tests = ["K"]
unit = "mmol/L"
when = [{ age_y = { below = 18 } }]
require = [{ value = { above = "3.7", below = "6" } }, { sibling = { test = "NA", min = 130 } }]
[[rule]]
name = "colour"
tests = ["COL"]
require = [{ text = ["yellow", "straw"] }]
[[rule]]
name = "gate"
require = [{ critical = false }, { specimen_age_h = { max = 8 } }]
"""


def of(report: Report, rule: str, fact: str) -> dict[str, Action]:
    return {row.value: row.action for row in report.rows if (row.rule, row.fact) == (rule, fact)}


def test_every_bound_is_tried_below_on_and_above_by_the_tests_last_digit() -> None:
    report = run(rules(MIXED), TESTS)
    assert report.passed and report.uncovered == () and (report.vectors, report.branches) == (81, 43)
    adult = of(report, "adult", "value")
    assert [adult[value] for value in ("3.4", "3.5", "3.6", "5.0", "5.1", "5.2")] == [
        Action.HOLD, Action.RELEASE, Action.RELEASE, Action.RELEASE, Action.RELEASE, Action.HOLD,
    ]  # fmt: skip
    newborn = of(report, "newborn", "value")
    assert [newborn[value] for value in ("3.7", "3.8", "5.9", "6")] == [
        Action.HOLD, Action.RELEASE, Action.RELEASE, Action.HOLD,
    ]  # fmt: skip
    assert adult[">5.1"] is adult["<5.1"] is adult["not known"] is Action.HOLD
    sodium = {"129": Action.HOLD, "130": Action.RELEASE, "131": Action.RELEASE}  # sodium's own decimals
    assert sodium.items() <= of(report, "newborn", "sibling NA").items()
    assert of(report, "gate", "specimen_age_h") == {
        "9": Action.HOLD, "8": Action.RELEASE, "7": Action.RELEASE, "not known": Action.HOLD,
    }  # fmt: skip
    assert of(report, "colour", "text") == {
        "yellow": Action.RELEASE, "straw": Action.RELEASE, "another": Action.HOLD, "not known": Action.HOLD,
    }  # fmt: skip


def test_what_no_case_reaches_is_said() -> None:
    text = '[[rule]]\nname = "never"\ntests = ["K"]\nrequire = [{ critical = true }, { critical = false }]'
    report = run(rules(text), TESTS)
    assert report.passed
    assert report.uncovered == ("rule never: no case in which it passes",)


WRONG: list[tuple[str, str, Callable[..., object]]] = [
    ("Bounds", "_number", lambda self, number: self.min is None or number > self.min),  # a bound that is left out
    ("Bounds", "_set", lambda self, value: True),
    ("Words", "judge", lambda self, observed: True),
    ("Tags", "judge", lambda self, observed: not observed),
]


@pytest.mark.parametrize(("kind", "name", "wrong"), WRONG, ids=lambda one: getattr(one, "__name__", str(one)))
def test_an_engine_that_judges_otherwise_than_the_definition_fails(
    kind: str, name: str, wrong: Callable[..., object]
) -> None:
    with (
        from_sources(__name__, "interface.domain.conditions") as (here, conditions),
        patch.object(getattr(conditions, kind), name, wrong),
    ):
        assert not here.run(here.rules(MIXED), here.TESTS).passed


def test_an_engine_that_lets_something_unknown_pass_fails() -> None:
    with from_sources(__name__, "interface.domain.rules") as (here, engine):
        finding = engine.Finding

        def kleene(rule: object, case: object, answers: list[bool | None]) -> tuple[object, str]:
            return finding.HOLD if False in answers else finding.PASS, ""

        with patch.object(engine, "_found", kleene):
            report = here.run(here.rules(MIXED), here.TESTS)
    assert any("passed with something not known" in failure for failure in report.failures)


CASES = """
[defaults]
value = "4.1"
sex = "female"
qc = "ok"
critical_limits = true
[[case]]
name = "inside"
test = "K"
expect = "release"
[[case]]
name = "below"
test = "K"
expect = "hold"
rule = "potassium"
facts = { value = "<3.5" }
[[case]]
name = "no control"
test = "K"
expect = "wait"
facts = { qc = "fail" }
"""


def test_peoples_cases_are_judged() -> None:
    report = run(rules(RULE.split("\n", 3)[3]), TESTS, parse_cases(CASES, "toml"))
    assert (report.cases, report.failures) == (3, ())
    wrong = CASES.replace('"wait"', '"release"').replace('rule = "potassium"', 'rule = "sodium"')
    report = run(rules(RULE.split("\n", 3)[3]), TESTS, parse_cases(wrong, "toml"))
    assert report.failures == (
        "K: case below: the rule sodium does not keep it back (rule potassium)",
        "K: case no control: expected release, it is wait (qc fail)",
    )


def test_cases_may_be_a_table() -> None:
    text = (
        "name,test,expect,rule,value,sex,qc,critical_limits,flags,sibling NA\n"
        "inside,K,release,,4.1,female,ok,yes,N,140\nno sex,K,hold,potassium,4.1,,ok,yes,,\nno such,X,hold,,1,,,,,\n"
    )
    report = run(rules(RULE.split("\n", 3)[3]), TESTS, parse_cases(text, "csv"))
    assert report.failures == ("X: case no such: there is no test 'X'",)


def test_a_case_goes_through_the_documents_own_checks() -> None:
    text = (
        RULE.split("\n", 3)[3]
        + '[[delta]]\nname = "k"\ntest = "K"\nkind = "absolute"\nunit = "mmol/L"\nlimit = "1.0"\nwindow_d = 3\n'
    )
    case = CASES.replace("[[case]]", 'previous_value = "2.5"\nprevious_age_h = 24\n[[case]]', 1)
    report = run(rules(text), TESTS, parse_cases(case, "toml"))
    assert report.failures == ("K: case inside: expected release, it is wait (delta hold)",)


@pytest.mark.parametrize("value", ["-3.0", "4000000000000000"])
def test_a_number_that_nobody_measures_is_not_released_by_the_proof_either(value: str) -> None:
    text = (
        '[[rule]]\nname = "k"\ntests = ["K"]\nunit = "mmol/L"\nrequire = [{ value = { max = "9000000000000000" } }]\n'
    )
    facts = f"facts = {{ value = '{value}', qc = 'ok', critical_limits = true }}\n"
    case = f"[[case]]\nname = 'it'\ntest = 'K'\nexpect = 'release'\n{facts}"
    report = run(rules(text), TESTS, parse_cases(case, "toml"))
    assert report.failures == ("K: case it: expected release, it is wait (range hold)",)
    admitted = text + '[[range]]\ntest = "K"\nkind = "absurd"\nlow = "-10"\nhigh = "9000000000000000"\n'
    assert run(rules(admitted), TESTS, parse_cases(case, "toml")).failures == ()


@pytest.mark.parametrize(
    ("text", "form", "problem"),
    [
        ("[[case]]\nname = 'a'\ntest = 'K'\nexpect = 'go'", "toml", "case[0].expect: 'go' is not one of release, wait"),
        ("[defaults]\nfoo = 1", "toml", "defaults.foo: is not a known key"),
        ("[defaults]\nvalue = 'x'", "toml", "defaults.value: 'x' is no range"),
        ("[defaults]\nvalue = '<'", "toml", "defaults.value: '<' is no range"),
        ("[defaults]\nsex = 'unknown'", "toml", "defaults.sex: 'unknown' is no words: female, male"),
        ("[defaults]\nsibling = { NA = true }", "toml", "defaults.sibling.NA: True is no range"),
        ("[defaults", "toml", ""),
        ("name,test\n", "csv", "the column expect is missing"),
        ("name,test,expect,sibling\n", "csv", "the column 'sibling' is no fact that rules know"),
        ("name,test,expect,value\na,K,go,1\n", "csv", "line 2: expect: 'go' is not one of"),
        ("name,test,expect,value\na,K,hold\n", "csv", "line 2: has not as many cells"),
        ("name,test,expect,pregnant\na,K,hold,maybe\n", "csv", "line 2: pregnant: 'maybe' is no yes or no"),
    ],
)
def test_what_is_wrong_with_a_case_is_said_with_its_place(text: str, form: str, problem: str) -> None:
    with pytest.raises(RuleFileError) as raised:
        parse_cases(text, form)
    assert any(problem in said for said in raised.value.problems), raised.value.problems


def test_looking_for_a_case_that_is_released_ends() -> None:
    many = ", ".join(f"{{ value = {{ min = {n}, max = {n} }} }}" for n in range(40))
    text = f'[[rule]]\nname = "none"\ntests = ["K"]\nunit = "mmol/L"\nrequire = [{many}]'
    with patch.object(rule_bench, "MAX_TRIED", 50):
        report = run(rules(text), TESTS)
    assert report.passed and "rule none: no case in which it passes" in report.uncovered


@pytest.mark.parametrize("fact", ["flags", "critical", "critical_limits", "interval", "sibling_flags"])
def test_what_nothing_judged_is_tried_too(fact: str) -> None:
    asked = {"flags": 'none_of = ["U", "H"]', "sibling_flags": 'test = "NA", any_of = ["U"]'}
    condition = f"{{ {asked[fact]} }}" if fact in asked else "true" if fact != "critical" else "false"
    text = f'[[rule]]\nname = "asks"\ntests = ["K"]\nrequire = [{{ {fact} = {condition} }}]'
    report = run(rules(text), TESTS)
    assert report.passed and report.uncovered == ()
    said = of(report, "asks", f"{fact} NA" if fact == "sibling_flags" else fact)
    assert said["not known"] is Action.HOLD and Action.RELEASE in said.values()
    if fact == "flags":
        assert (said["N"], said["U N"], said["H"]) == (Action.RELEASE, Action.HOLD, Action.HOLD)
        assert said["none"] is said["another"] is Action.HOLD
