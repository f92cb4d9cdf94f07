"""What the results of one specimen say together, before anything is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.decide import decide_value
from interface.domain.decision_context import DecisionContext
from interface.domain.facts import PreviousResult
from interface.domain.model import (
    HoldReason,
    ItemStatus,
    LabTest,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
    Step,
)
from interface.domain.rule_files import parse_rule_set
from interface.flow.calculations import decide_together
from interface.flow.cases import Beside, Case, Rules
from interface.store.neighbours import Neighbours
from tests.domain.checks import number

AT = datetime(2026, 3, 10, 8, tzinfo=UTC)
TESTS = {code: LabTest(f"t-{code}", code, code, unit="mmol/L", decimals=1) for code in ("NA", "K", "CL")}
EGFR = LabTest("t-EGFR", "EGFR", "eGFR", unit="mL/min/{1.73_m2}", decimals=0)
CREA = LabTest("t-CREA", "CREA", "CREA", unit="mg/dL", decimals=2)
PATIENT = PatientFacts("p", birth_date=date(1980, 3, 8), sex=Sex.FEMALE)
RULES = parse_rule_set(
    'name = "default"\n'
    + "".join(f'[[delta]]\ntest = "{code}"\nkind = "percent"\nlimit = "10"\nwindow_d = 9\n' for code in TESTS)
    + '[[calculation]]\ntest = "EGFR"\nformula = "ckd_epi_2021"\ninputs = {creatinine = "CREA"}\n',
    revision=1,
)


def decided(
    values: dict[str, tuple[str, str]], collected_at: datetime | None = AT, tests: dict[str, LabTest] = TESTS
) -> dict[str, Case]:
    """Each test's value before and now, decided as one specimen."""
    ordered = [*tests.values(), EGFR]
    items = tuple(OrderedItem(f"i-{one.code}", one.id, "o", ItemStatus.RECEIVED) for one in ordered)
    specimen = SpecimenFacts("s", "B", "SER", collected_at, PATIENT, items)
    catalogue = Catalogue(tests={one.id: one for one in ordered})
    context = DecisionContext(catalogue, specimens=(specimen,), received_at=AT)
    made = Step("decode", "ok", "read")
    cases = [
        Case(code.encode(), decide_value(tests[code], number(now), tests[code].unit, specimen, item, context, made))
        for code, (_, now) in values.items()
        for item in items
        if item.test_id == tests[code].id
    ]
    neighbours = {
        tests[code].id: Neighbours(PreviousResult(number(before), tests[code].unit, AT - timedelta(days=1), "v"))
        for code, (before, _) in values.items()
        if before
    }
    found = decide_together(cases, Beside(specimen, neighbours=neighbours), Rules(Autoverification(RULES)), context)
    return {case.decision.test.code: case for case in found.cases if case.decision.test is not None}


def doubts(case: Case) -> list[str]:
    return [step.text for step in case.steps if "whose specimen" in step.text]


def test_several_tests_that_changed_at_once_ask_whose_specimen_it_is() -> None:
    found = decided({"NA": ("140", "160"), "K": ("4.0", "5.5"), "CL": ("100", "101")})
    assert {code: len(doubts(case)) for code, case in found.items()} == {"NA": 1, "K": 1, "CL": 0}
    assert found["NA"].holds == (HoldReason.DELTA,)
    assert "U" in found["NA"].flags


def test_one_test_that_changed_alone_does_not() -> None:
    found = decided({"NA": ("140", "141"), "K": ("4.0", "5.5"), "CL": ("100", "101")})
    assert [doubts(case) for case in found.values()] == [[], [], []]
    assert found["K"].holds == (HoldReason.DELTA,)


def test_nothing_is_calculated_with_an_age_that_is_not_known() -> None:
    """Collected at some time in the seven days before receipt, in which the patient had her birthday."""
    for collected_at, value in ((AT, "108"), (AT - timedelta(days=3), "109"), (None, None)):
        found = decided({"CREA": ("", "0.70")}, collected_at, {"CREA": CREA})
        made = found.get("EGFR")
        assert (made.decision.value.text if made and made.decision.value.text else None) == value


def test_a_value_decided_twice_is_decided_alike() -> None:
    """Order within a specimen's cases does not matter to what each is held for."""
    values = {"NA": ("140", "160"), "K": ("4.0", "5.5"), "CL": ("100", "101")}
    turned = decided(dict(reversed(list(values.items()))))
    assert {code: case.holds for code, case in decided(values).items()} == {
        code: case.holds for code, case in turned.items()
    }
