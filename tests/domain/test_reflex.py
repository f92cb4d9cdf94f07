"""Reflex tests, reruns and dilutions: when they are asked for, how often, and what is held meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interface.domain.facts import Facts, Finding, Verdict
from interface.domain.model import HoldReason, Sex
from interface.domain.reflex import Outcome, ReflexKind, evaluate, parse
from interface.domain.rule_files import RuleFileError, parse_rule_set
from tests.domain.checks import ADULT, attempt, facts, read, sibling, siblings

REASON = 'reason = "as agreed"\n'
THYROID = f'name = "ft4"\ntest = "TSH"\nkind = "reflex"\nadd = ["FT4"]\nbelow = "0.4"\nabove = "4.0"\n{REASON}'
RERUN = f'name = "again"\ntest = "TSH"\nkind = "rerun"\nflags = ["LL", "HH"]\n{REASON}'
DILUTE = f'name = "1:10"\ntest = "TSH"\nkind = "dilution"\nfactor = "10"\nholds = ["measuring_range"]\n{REASON}'


def tsh(value: str, *, flags: tuple[str, ...] = (), holds: tuple[HoldReason, ...] = (), follow_ups: int = 0) -> Facts:
    return facts(value, "m[iU]/L", test="TSH", flags=flags, holds=holds, follow_ups=follow_ups)


def asked(keys: str, given: Facts, *verdicts: Verdict) -> Outcome:
    return evaluate((read(parse, keys),), given, verdicts)


@pytest.mark.parametrize(
    ("value", "requests", "findings"),
    [
        ("0.4", 0, ()), ("4.0", 0, ()), ("0.39", 1, (Finding.PASS,)), ("4.1", 1, (Finding.PASS,)),
        ("<0.4", 1, (Finding.PASS,)), ("<0.01", 1, (Finding.PASS,)), (">100", 1, (Finding.PASS,)),
        ("<0.5", 0, (Finding.UNKNOWN,)), (">3", 0, (Finding.UNKNOWN,)), ("negative", 0, ()),
    ],
)  # fmt: skip
def test_a_reflex_is_asked_for_outside_its_limits(value: str, requests: int, findings: tuple[Finding, ...]) -> None:
    found = asked(THYROID, tsh(value))
    assert len(found.requests) == requests
    assert tuple(verdict.finding for verdict in found.verdicts) == findings
    if requests:
        assert (found.requests[0].kind, found.requests[0].tests) == (ReflexKind.REFLEX, ("FT4",))
        assert found.requests[0].key("r1") == ("r1", "ft4")


def test_a_result_that_is_held_adds_no_test_whatever_the_rule_says() -> None:
    held = tsh("9", holds=(HoldReason.DELTA,))
    failed = Verdict("delta", Finding.HOLD, "", holds=(HoldReason.DELTA,))
    assert asked(THYROID, held) == Outcome()
    assert asked(THYROID, tsh("9"), failed) == Outcome()
    with pytest.raises(RuleFileError, match="even_held"):
        parse_rule_set(f'name = "x"\n[[reflex]]\n{THYROID}even_held = true\n')


def test_what_is_there_already_is_not_added_again() -> None:
    given = facts("9", test="TSH", around=siblings(sibling("FT4", "12")))
    assert asked(THYROID, given).requests == ()


def test_a_rerun_holds_the_result_until_it_is_there() -> None:
    found = asked(RERUN, tsh("9", flags=("HH",)))
    assert [(one.kind, one.tests, one.depth) for one in found.requests] == [(ReflexKind.RERUN, ("TSH",), 1)]
    assert found.verdicts[0].holds == (HoldReason.RERUN,)
    assert asked(RERUN, tsh("9", flags=("H",))) == Outcome()


def test_a_dilution_follows_what_another_check_found() -> None:
    above = Verdict("range", Finding.HOLD, "", holds=(HoldReason.MEASURING_RANGE,))
    found = asked(DILUTE, tsh(">100"), above)
    assert [(one.kind, str(one.factor)) for one in found.requests] == [(ReflexKind.DILUTION, "10")]
    assert asked(DILUTE, tsh("9"), Verdict("range", Finding.PASS, "")) == Outcome()


def test_a_chain_of_reruns_ends() -> None:
    for done, depth, requests in ((0, 1, 1), (1, 1, 0), (1, 2, 1), (2, 2, 0), (7, 5, 0)):
        found = asked(RERUN + f"max_depth = {depth}", tsh("9", flags=("HH",), follow_ups=done))
        assert [one.depth for one in found.requests] == [done + 1] * requests
        if not requests:
            assert [(verdict.finding, verdict.holds) for verdict in found.verdicts] == [
                (Finding.HOLD, (HoldReason.RULE,))  # nobody has compared the runs: a person decides
            ]


def test_every_condition_must_hold() -> None:
    keys = RERUN + 'above = "8"'
    assert len(asked(keys, tsh("9", flags=("HH",))).requests) == 1
    assert asked(keys, tsh("7", flags=("HH",))) == Outcome()
    assert asked(keys, tsh(">7", flags=("N",))) == Outcome()
    assert asked(keys, tsh(">7", flags=("HH",))).verdicts[0].finding is Finding.UNKNOWN


def test_a_rule_of_some_patients_asks_only_for_those_and_holds_where_that_is_not_known() -> None:
    women = THYROID + 'sex = "female"'
    for sex, requests, findings in (
        (Sex.FEMALE, 1, [Finding.PASS]),
        (Sex.MALE, 0, []),
        (Sex.UNKNOWN, 0, [Finding.UNKNOWN]),
    ):
        found = asked(women, facts("9", test="TSH", subject=replace(ADULT, sex=sex)))
        assert (len(found.requests), [verdict.finding for verdict in found.verdicts]) == (requests, findings)
    assert asked(women, facts("1", test="TSH", subject=replace(ADULT, sex=Sex.UNKNOWN))) == Outcome()


def test_words_may_ask_for_a_confirmation() -> None:
    keys = f'name = "wb"\ntest = "TSH"\nkind = "reflex"\nadd = "CONF"\nwords = ["Reactive"]\n{REASON}'
    assert len(asked(keys, tsh(" reactive ")).requests) == 1
    assert asked(keys, tsh("Nonreactive")) == Outcome()
    assert asked(keys, tsh("1")) == Outcome()


def test_no_rule_is_no_work() -> None:
    assert evaluate((), tsh("9"), ()) is evaluate((), tsh("1"), ())


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (THYROID.replace('add = ["FT4"]\n', ""), "entry.add: names the tests a reflex adds, and is missing"),
        (RERUN + 'add = "FT4"', "entry.add: names the tests a reflex adds"),
        (THYROID.replace('"FT4"', '"TSH"'), "entry.add: names the test itself: that is a rerun"),
        (DILUTE.replace('"10"', '"1"'), "entry.factor: is of a dilution, and above 1"),
        (RERUN + "max_depth = 6", "entry.max_depth: is not from 1 to 5"),
        (DILUTE.replace("measuring_range", "x"), "entry.holds: 'x' is not a valid HoldReason"),
        (RERUN.replace('flags = ["LL", "HH"]\n', ""), "entry: names no condition: above, below, flags, holds, words"),
        (RERUN.replace('name = "again"\n', ""), "entry.name: is missing"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(keys: str, problem: str) -> None:
    assert problem in attempt(parse, keys)[1]
