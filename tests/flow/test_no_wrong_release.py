"""Whatever is sent, in whatever order and however often: nothing is released that a rule fails or cannot evaluate."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.model import Origin, Sex, SpecimenFacts, ValueKind
from interface.flow.cases import Case, steps_of
from tests.flow.paper import AT, PERSONAL, Paper, Sent, released, specimen
from tests.flow.rulebook import RULES

CODES = ("NA", "K", "CL", "HCO3", "CREA", "MG")
VALUES = ("140", "4.1", "2.0", "9.5", "102", "24", "260", "0.8", "1.1", "<3", ">200", "-----", "", "positive", "0")
WITHOUT_INTERVAL = {"NA", "CL", "HCO3", "MG", "AGAP"}


def asking(condition: str) -> str:
    return RULES.replace("require = [{ critical = false }]", f"require = [{condition}]")


NORMAL = (asking('{ flags = { only = ["N"] } }'), asking('{ flags = { none_of = ["L", "H", "LL", "HH", "A"] } }'))
# What a laboratory may have written, and what each keeps from being released.
RULE_SETS = {
    "": set(CODES) | {"AGAP"},
    RULES: set(),
    RULES.replace('autoverification = "on"', 'autoverification = "off"'): set(CODES) | {"AGAP"},
    RULES.replace('tests = ["NA", "K", "CL", "HCO3", "CREA", "MG", "AGAP"]', 'tests = ["NA"]'): {
        "K", "CL", "HCO3", "CREA", "MG", "AGAP",
    },
    RULES.replace('[[exempt]]\ntest = "K"\nqc = true\n', '[[exempt]]\ntest = "K"\n'): {"K"},
    RULES.replace('test = "CL"\nqc = true\ncritical = "none"', 'test = "CL"\nqc = true'): {"CL"},
    # The analyzer says no lot here: what is asked and not known holds.
    asking('{ reagent_lot = ["L1"] }'): set(CODES) | {"AGAP"},
    # What nothing judged has no flags that are known.
    **dict.fromkeys(NORMAL, WITHOUT_INTERVAL),
}  # fmt: skip
MESSAGES = st.builds(
    Sent,
    link=st.sampled_from([1, 2]),
    barcode=st.sampled_from(["S1", "S2", "S9"]),
    values=st.lists(
        st.tuples(st.sampled_from([*CODES, "NEW"]), st.sampled_from(VALUES)), max_size=4, unique_by=lambda one: one[0]
    ).map(tuple),
    clock=st.sampled_from(["20261126080000", "20261126090000"]),
    patient=st.sampled_from(["", "P-1", "P-2"]),
    incomplete=st.sampled_from([False, False, False, True]),
)


def paper(rules: str = RULES) -> Paper:
    return Paper((specimen("S1", "P-1"), specimen("S2", "P-2", AT + timedelta(days=1))), rules)


def within(rules: str, code: str, number: Decimal, whose: SpecimenFacts) -> None:
    """What is released is within the limits that the rule asks for, of a person of whom is known which they are."""
    person = whose.patient
    assert person is not None
    if code == "K" and rules in NORMAL:
        assert Decimal("3.5") <= number <= Decimal("5.1")
    elif code == "K":
        assert person.birth_date is not None
        newborn = person.birth_date.year == 2026
        assert Decimal("2.5" if newborn else "2.8") <= number <= Decimal("6.5" if newborn else "6.2")
    if code == "CREA":
        assert person.sex in (Sex.FEMALE, Sex.MALE)
        female = person.sex is Sex.FEMALE
        low, high = ("0.5", "1.0") if female else ("0.6", "1.2")
        if rules in NORMAL:
            assert Decimal(low) <= number <= Decimal(high)
        assert number <= (5 if female else 6)


@pytest.mark.parametrize("rules", [RULES, *NORMAL])
def test_whose_limits_are_not_known_is_not_released(rules: str) -> None:
    def final(sex: Sex, born: date | None, potassium: str = "4.1", creatinine: str = "0.8") -> set[str]:
        laboratory = Paper((specimen("S1", "P-1", sex=sex, born=born),), rules, PERSONAL)
        cases = laboratory.decide(Sent(1, "S1", (("K", potassium), ("CREA", creatinine))))
        return {case.decision.test.code for case in released(cases) if case.decision.test}

    adult, asked = date(1980, 5, 1), rules in NORMAL
    assert final(Sex.FEMALE, adult) == {"K", "CREA"}
    assert final(Sex.FEMALE, adult, "9.5", "7.0") == set()
    assert final(Sex.UNKNOWN, adult) == final(Sex.OTHER, adult) == {"K"}
    # Of potassium only the critical limits depend on the age, and only one of the rules asks about them.
    assert final(Sex.FEMALE, None) == ({"K", "CREA"} if asked else {"CREA"})
    assert final(Sex.UNKNOWN, None, "9.5", "7.0") == set()


def explained(case: Case) -> None:
    """Every line says something, and nothing that decides is missing."""
    steps = steps_of(case)
    assert all(step.step and step.verdict and step.text for step in steps)
    names = [step.step for step in steps]
    wanted = ["calculation"] if case.origin is Origin.CALCULATION else ["receive", "decode", "map", "match", "unit"]
    assert names[: len(wanted)] == wanted
    assert {"rule", "autoverification"} <= set(names)
    assert not any(step.verdict == "hold" for step in steps)
    assert all(
        step.version for step in steps if step.step in ("decode", "map", "rule", "autoverification", "calculation")
    )


@settings(max_examples=60)
@given(
    st.sampled_from(list(RULE_SETS)), st.lists(MESSAGES, max_size=8), st.sampled_from(Sex),
    st.sampled_from([None, date(1980, 5, 1), date(2026, 11, 20)]),
)  # fmt: skip
def test_no_path_releases_what_fails_a_rule_or_was_not_evaluated(
    rules: str, messages: list[Sent], sex: Sex, born: date | None
) -> None:
    first = specimen("S1", "P-1", sex=sex, born=born)
    laboratory = Paper((first, specimen("S2", "P-2", AT + timedelta(days=1))), rules, PERSONAL)
    for sent in messages:
        reported_before = {id_ for id_, case in laboratory.current.items() if case in released([case])}
        for case in laboratory.decide(sent):
            if case not in released([case]):
                continue
            test, value = case.decision.test, case.decision.value
            assert test is not None
            assert (case.holds, case.reportable, case.pending) == ((), True, False)
            assert case.item is not None
            assert case.item.test_id == test.id
            assert test.code not in RULE_SETS[rules]
            assert not sent.incomplete
            assert sent.patient in ("", case.decision.patient_id)
            assert value.kind is ValueKind.NUMERIC
            assert value.number is not None
            assert case.decision.specimen is not None
            within(rules, test.code, value.number, case.decision.specimen)
            if test.code == "NA":
                assert 80 <= value.number <= 220
            explained(case)
        # What was released before is as it was, whatever came.
        for result_id in reported_before:
            assert laboratory.current[result_id].status in {"final"}
            assert laboratory.reported[result_id]


@given(st.lists(MESSAGES, max_size=6))
def test_what_is_sent_again_changes_nothing(messages: list[Sent]) -> None:
    once, twice = paper(), paper()
    for sent in messages:
        once.decide(sent)
        twice.decide(sent)
        assert twice.decide(sent) == []
    assert once.state() == twice.state()


@given(
    st.lists(MESSAGES, max_size=5), st.lists(MESSAGES, max_size=5), st.lists(st.booleans(), min_size=10, max_size=10)
)
def test_in_whatever_order_different_specimens_and_links_are_interleaved_the_end_is_the_same(
    first: list[Sent], second: list[Sent], turns: list[bool]
) -> None:
    ones = [replace(sent, barcode="S1") for sent in first]
    twos = [replace(sent, barcode="S2") for sent in second]
    after, mixed = paper(), paper()
    for sent in (*ones, *twos):
        after.decide(sent)
    left, right = list(ones), list(twos)
    for turn in turns:
        side = left if (turn and left) or not right else right
        if side:
            mixed.decide(side.pop(0))
    assert after.state() == mixed.state()


@given(st.lists(MESSAGES, max_size=8))
def test_of_every_item_exactly_one_run_is_reported_and_every_version_is_kept(messages: list[Sent]) -> None:
    laboratory = paper()
    for sent in messages:
        laboratory.decide(sent)
        items = [
            case.item.id
            for id_, case in laboratory.current.items()
            if case.item is not None and laboratory.reported[id_]
        ]
        assert len(items) == len(set(items))
    with_runs = {case.item.id for case in laboratory.current.values() if case.item is not None}
    reported = {
        case.item.id for id_, case in laboratory.current.items() if case.item is not None and laboratory.reported[id_]
    }
    assert with_runs == reported
    for result_id in laboratory.current:
        numbers = [case.version for case in laboratory.written if case.result_id == result_id]
        assert numbers == list(range(1, len(numbers) + 1))
