"""Whatever is sent, in whatever order and however often: nothing is released that a rule fails or cannot evaluate."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from interface.domain.model import Origin, ValueKind
from interface.flow.cases import Case, steps_of
from tests.flow.paper import AT, Paper, Sent, released, specimen
from tests.flow.rulebook import RULES

CODES = ("NA", "K", "CL", "HCO3", "CREA", "MG")
VALUES = ("140", "4.1", "2.0", "9.5", "102", "24", "260", "<3", ">200", "-----", "", "positive", "0")
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
    RULES.replace("require = [{ critical = false }]", 'require = [{ reagent_lot = ["L1"] }]'): set(CODES) | {"AGAP"},
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
@given(st.sampled_from(list(RULE_SETS)), st.lists(MESSAGES, max_size=8))
def test_no_path_releases_what_fails_a_rule_or_was_not_evaluated(rules: str, messages: list[Sent]) -> None:
    laboratory = paper(rules)
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
            if test.code == "K":
                assert Decimal("2.8") <= value.number <= Decimal("6.2")
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
