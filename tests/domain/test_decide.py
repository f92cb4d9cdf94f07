"""One observation through the whole decision: what is reported, flagged, held, and that it is explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain import decide as decide_rules
from interface.domain.catalogue import Catalogue
from interface.domain.decide import Decision, decide
from interface.domain.decision_context import DecisionContext
from interface.domain.matching import Policy
from interface.domain.model import (
    CodeMapping,
    Comparator,
    HoldReason,
    Interval,
    IntervalUse,
    ItemStatus,
    LabTest,
    Observed,
    ObservedPatient,
    ObservedSpecimen,
    OrderedItem,
    PatientFacts,
    ResultStatus,
    Sex,
    SpecimenFacts,
    SpecimenRole,
    Value,
    ValueKind,
)
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance, UnitAliases
from interface.settings import Unsolicited

H = HoldReason
HGB = LabTest("t-hgb", "HGB", "Haemoglobin", "718-7", "g/dL", 1)
GLU = LabTest("t-glu", "GLU", "Glucose", "2345-7", "mg/dL", 0)
ALT = LabTest("t-alt", "ALT", "ALT", "1742-6", "U/L", None)
RDW = LabTest("t-rdw", "RDW_CV", "RDW", "788-0", "%", 1)
INR = LabTest("t-inr", "INR", "INR", "6301-6", "{INR}", 2)
COLOUR = LabTest("t-col", "COL", "Colour", "", "", None, ValueKind.TEXT)
TITRE = LabTest("t-ana", "ANA", "ANA titre", "", "", None, ValueKind.RATIO)
TESTS = (HGB, GLU, ALT, RDW, INR, COLOUR, TITRE)
INTERVALS = (
    Interval("i-m", "t-hgb", "g/L", Decimal(130), Decimal(170), Decimal(70), None, Sex.MALE, 6574, source="book"),
    Interval("i-f", "t-hgb", "g/L", Decimal(120), Decimal(150), Decimal(70), None, Sex.FEMALE, 6574, source="book"),
    Interval("i-glu", "t-glu", "mg/dL", Decimal(70), Decimal(99), text="70 - 99 (fasting)"),
)
CATALOGUE = Catalogue(
    tests={test.id: test for test in TESTS},
    intervals={
        "t-hgb": tuple(one for one in INTERVALS if one.test_id == "t-hgb"),
        "t-glu": tuple(one for one in INTERVALS if one.test_id == "t-glu"),
    },
    mappings={
        **{(test.code, ""): CodeMapping(test.code, test.id, revision=3) for test in TESTS},
        ("RDW_CV", ""): CodeMapping("RDW_CV", "t-rdw", unit="1"),
        ("GLU", "CSF"): CodeMapping("GLU", "t-nowhere", "CSF"),
    },
    aliases=UnitAliases({"IU/L": ("[iU]/L", "U/L")}, frozenset({"1"}), 4),
)
PATIENT = PatientFacts("p1", ("12345",), "Doe", "Jane", date(1980, 5, 17), Sex.FEMALE)
COLLECTED = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
SPECIMEN = SpecimenFacts(
    "s1", "B1", "BLD", COLLECTED, PATIENT,
    tuple(OrderedItem(f"item-{test.code}", test.id, "o1", ItemStatus.REQUESTED) for test in TESTS),
)  # fmt: skip
SENT = ObservedSpecimen(specimen_id="B1")
CONTEXT = DecisionContext(CATALOGUE, "xn", "2", (SPECIMEN,))


def observed(code: str, value: str | Value, unit: str = "", **more: object) -> Observed:
    """`<=3.5` is a numeric value with a comparator."""
    if isinstance(value, str):
        digits = value.lstrip("<>=")
        sign = value[: len(value) - len(digits)]
        value = Value(ValueKind.NUMERIC, digits, Decimal(digits), Comparator(sign) if sign else None)
    one = Observed(code, value, f"{value.comparator or ''}{value.text}", unit=unit, location="R 1")
    return replace(one, **more)  # type: ignore[arg-type]


def decided(one: Observed, context: DecisionContext = CONTEXT, sent: ObservedSpecimen = SENT) -> Decision:
    return decide(one, sent, context)


def test_a_result_is_mapped_matched_converted_judged_and_left_preliminary() -> None:
    found = decided(observed("HGB", "118", "g/L"))
    assert found.test == HGB
    assert (found.value.text, found.value.number, found.unit) == ("11.8", Decimal("11.8"), "g/dL")
    assert (found.specimen, found.patient_id) == (SPECIMEN, "p1")
    assert found.item is not None
    assert found.item.id == "item-HGB"
    assert (found.low, found.high, found.reference) == (Decimal(12), Decimal(15), "12.0 - 15.0")
    assert found.flags == ("L",)
    assert (found.status, found.holds) == (ResultStatus.PRELIMINARY, ())
    assert found.map_revision == 3


def test_the_limits_are_those_of_the_method_by_the_map_or_else_as_sent() -> None:
    """What is not known, and what no interval asks for, is neither of them."""
    of = {
        name: Interval(f"i-{name}", "t-glu", "mg/dL", Decimal(low), Decimal(120), method=name)
        for name, low in (("GOD", 60), ("HK", 65))
    }
    catalogue = replace(
        CATALOGUE,
        intervals={"t-glu": (*CATALOGUE.intervals["t-glu"], *of.values())},
        mappings={**CATALOGUE.mappings, ("GLU2", ""): CodeMapping("GLU2", "t-glu", method="HK")},
    )
    context = DecisionContext(catalogue, "xn", "2", (SPECIMEN,))
    said = {}
    for code, sent in product(("GLU", "GLU2"), ("", "GOD", "HK", "strip")):
        found = decided(observed(code, "62", "mg/dL", method=sent), context)
        assert found == decided(
            observed(code, "62", "mg/dL", method=sent), replace(context, catalogue=replace(catalogue))
        )
        steps = {step.step: step for step in found.steps}
        asked = steps["interval"].inputs.get("method", "")
        who = steps["method"].text if "method" in steps else ""
        said[code, sent] = found.method, found.low, found.flags, asked, who
    any_method = Decimal(70), ("L",), ""
    assert said == {
        ("GLU", ""): ("", *any_method, ""),
        ("GLU", "GOD"): ("GOD", Decimal(60), ("N",), "GOD", "GOD as sent"),
        ("GLU", "HK"): ("HK", Decimal(65), ("L",), "HK", "HK as sent"),
        ("GLU", "strip"): ("strip", *any_method, "strip as sent"),
        **{("GLU2", sent): ("HK", Decimal(65), ("L",), "HK", "HK by the map") for sent in ("", "GOD", "HK", "strip")},
    }


@pytest.mark.parametrize(
    ("substance", "unit", "reported"),
    [
        (Substance(Decimal("180.156")), "mmol/L", "101"),  # 100.88736 mg/dL, reported without decimals
        (Substance(Decimal("180.156")), "meq/L", None),  # how many equivalents a mole is, it does not say
        (Substance(valence=1), "mmol/L", None),
        (Substance(), "mmol/L", None),
    ],
)
def test_an_amount_is_reported_as_mass_only_where_the_test_names_what_that_takes(
    substance: Substance, unit: str, reported: str | None
) -> None:
    catalogue = replace(CATALOGUE, tests={**CATALOGUE.tests, GLU.id: replace(GLU, substance=substance)})
    found = decided(observed("GLU", "5.6", unit), replace(CONTEXT, catalogue=catalogue))
    if reported is None:
        assert (found.holds, found.value.text, found.unit) == ((H.UNKNOWN_UNIT,), "5.6", unit)
    else:
        assert (found.holds, found.value.text, found.unit, found.flags) == ((), reported, "mg/dL", ("H",))


@pytest.mark.parametrize(
    ("reported", "sent"),
    [
        ("ng/mL{FEU}", "ng/mL{DDU}"),  # fibrinogen equivalents are about twice the D-dimers
        ("%", "{ratio}"),  # prothrombin: of the normal activity, and of the normal time
        ("{INR}", "{ratio}"),
        ("{copies}/mL", "{Log_copies}/mL"),
        ("{copies}/mL", "[iU]/mL"),
        ("mL/min/{1.73_m2}", "mL/min"),
        ("%", "mmol/mol"),
        ("{index}", "{s_co_ratio}"),
    ],
)
def test_a_unit_that_cannot_be_converted_safely_is_held(reported: str, sent: str) -> None:
    catalogue = replace(CATALOGUE, tests={**CATALOGUE.tests, HGB.id: replace(HGB, unit=reported)})
    found = decided(observed("HGB", "1.5", sent), replace(CONTEXT, catalogue=catalogue))
    assert (found.holds, found.value.text, found.unit) == ((H.UNKNOWN_UNIT,), "1.5", sent)
    catalogue = replace(CATALOGUE, tests={**CATALOGUE.tests, HGB.id: replace(HGB, unit=sent)})
    assert decided(observed("HGB", "1.5", reported), replace(CONTEXT, catalogue=catalogue)).holds == (H.UNKNOWN_UNIT,)


@pytest.mark.parametrize("unit", ["{INR}", "{ratio}", "[pH]", "1"])
def test_what_is_written_without_a_unit_needs_none(unit: str) -> None:
    catalogue = replace(CATALOGUE, tests={**CATALOGUE.tests, INR.id: replace(INR, unit=unit)}, intervals={})
    found = decided(observed("INR", "1.10"), replace(CONTEXT, catalogue=catalogue))
    assert (found.holds, found.value.text, found.unit) == ((), "1.10", unit)


def test_every_step_names_its_rule_inputs_version_and_verdict() -> None:
    steps = decided(observed("HGB", "118", "g/L", flags=("H",), status="F")).steps
    assert [step.step for step in steps] == ["decode", "map", "match", "unit", "interval", "flag"]
    assert all(step.verdict and step.text and step.version for step in steps)
    by_name = {step.step: step for step in steps}
    assert by_name["decode"].inputs == {}  # what was sent stands in the version's own columns
    assert by_name["decode"].version == "xn 2"
    assert by_name["map"].version == "xn map 3"
    assert by_name["unit"].inputs == {"sent": "g/L", "reported": "g/dL"}
    assert by_name["interval"].version == "i-f"
    assert by_name["flag"].verdict == "L"


def test_the_explanation_holds_nothing_of_the_patient() -> None:
    context = replace(CONTEXT, observed_patient=ObservedPatient("777", "Roe^Ann", date(1990, 1, 2), Sex.MALE))
    found = decided(observed("HGB", "118", "g/L"), context)
    text = " ".join(f"{step.text} {step.inputs}" for step in found.steps)
    assert found.holds == (H.PATIENT_MISMATCH,)
    assert not any(word in text for word in ("777", "Roe", "1990", "12345", "Doe", "Jane", "1980", "p1"))


@pytest.mark.parametrize(
    ("value", "flag"), [("69", "LL"), ("70", "L"), ("119", "L"), ("120", "N"), ("150", "N"), ("151", "H")]
)
def test_limits_are_compared_in_the_unit_of_the_report(value: str, flag: str) -> None:
    assert decided(observed("HGB", value, "g/L")).flags == (flag,)


@pytest.mark.parametrize(
    ("code", "value", "unit", "text"),
    [
        ("HGB", "11.85", "g/dL", "11.9"),  # half up
        ("HGB", "11.84", "g/dL", "11.8"),
        ("HGB", "-0.04", "g/dL", "0.0"),
        ("HGB", "-0.0", "g/dL", "0.0"),
        ("HGB", "-0", "g/L", "0.0"),
        ("HGB", "8", "g/dL", "8"),  # no digit is added that was not measured
        ("HGB", "118.5", "g/L", "11.9"),
        ("GLU", "99.5", "mg/dL", "100"),
        ("ALT", "22.45", "U/L", "22.45"),  # no decimals given: as measured
        ("ALT", "22.4", "IU/L", "22.4"),
        ("ALT", "1.03", "ukat/L", "61.8"),
        ("ALT", "33.7", "nkat/L", "2.02"),  # converted: no more significant digits than were sent (2.022)
        ("RDW_CV", "0.133", "", "13.3"),  # the map says what the number is in
        ("RDW_CV", "13.3", "%", "13.3"),  # what the analyzer says comes first
        ("INR", "2.456", "", "2.46"),
    ],
)
def test_the_value_as_reported(code: str, value: str, unit: str, text: str) -> None:
    found = decided(observed(code, value, unit))
    assert (found.value.text, found.holds) == (text, ())
    assert found.value.number == Decimal(text)


@pytest.mark.parametrize(
    ("value", "text", "comparator"),
    [("<0.45", "0.5", Comparator.LT), ("<=0.41", "0.5", Comparator.LE), (">19.99", "19.9", Comparator.GT)],
)
def test_a_limit_is_rounded_so_that_it_stays_true(value: str, text: str, comparator: Comparator) -> None:
    found = decided(observed("HGB", value, "g/dL"))
    assert (found.value.text, found.value.comparator) == (text, comparator)


def test_the_flag_is_of_the_value_that_is_reported() -> None:
    found = decided(observed("GLU", "99.4", "mg/dL"))
    assert (found.value.text, found.flags, found.reference) == ("99", ("N",), "70 - 99 (fasting)")


@pytest.mark.parametrize(
    ("one", "hold"),
    [
        (observed("NEWTEST", "5", "g/L"), H.UNMAPPED_CODE),
        (observed("", "5", "g/L"), H.UNMAPPED_CODE),
        (observed("HGB", "5", "mmol/L"), H.UNKNOWN_UNIT),  # needs the molar mass
        (observed("HGB", "5", "furlong"), H.UNKNOWN_UNIT),
        (observed("HGB", "5"), H.UNKNOWN_UNIT),  # neither sent nor in the map
        (observed("RDW_CV", "13.3", "1"), H.UNKNOWN_UNIT),  # a place holder is no unit
        (observed("HGB", "<9", "g/dL"), H.AMBIGUOUS_INTERVAL),  # low, but critically so?
        (observed("HGB", Value(ValueKind.FAILED, "----"), "g/dL"), H.RUN_FAILED),
        (observed("HGB", Value(ValueKind.EMPTY), "g/dL"), H.NO_VALUE),
        (observed("HGB", Value(ValueKind.TEXT, "haemolysed"), "g/dL"), H.UNREADABLE_VALUE),
        (observed("HGB", Value(ValueKind.NUMERIC, "NaN", Decimal("NaN")), "g/dL"), H.UNREADABLE_VALUE),
        (observed("HGB", Value(ValueKind.NUMERIC, "", Decimal("1e999999")), "g/dL"), H.UNREADABLE_VALUE),
        (observed("HGB", Value(ValueKind.NUMERIC), "g/dL"), H.UNREADABLE_VALUE),
        (observed("ANA", "128"), H.UNREADABLE_VALUE),  # a titre of 1:128 is not 128
        (observed("HGB", "12", "g/dL", holds=(H.QUESTIONABLE,)), H.QUESTIONABLE),
        (observed("HGB", "12", "g/dL", holds=(H.UNKNOWN_FLAG,)), H.UNKNOWN_FLAG),
    ],
)
def test_a_doubt_is_a_hold_with_its_reason_in_the_explanation(one: Observed, hold: HoldReason) -> None:
    found = decided(one)
    assert (found.status, found.holds) == (ResultStatus.REGISTERED, (hold,))
    assert found.steps[-1].verdict == "hold"
    assert hold.value in found.steps[-1].text
    assert any(step.verdict == "hold" for step in found.steps[:-1])


@pytest.mark.parametrize(
    ("context", "hold"),
    [
        (replace(CONTEXT, specimens=()), H.NO_SUCH_SPECIMEN),
        (replace(CONTEXT, specimens=(SPECIMEN, replace(SPECIMEN, id="s2"))), H.AMBIGUOUS_SPECIMEN),
        (replace(CONTEXT, specimens=(replace(SPECIMEN, items=()),)), H.NOT_ORDERED),
        (replace(CONTEXT, observed_patient=ObservedPatient(sex=Sex.MALE)), H.PATIENT_MISMATCH),
        (replace(CONTEXT, incomplete=True), H.INCOMPLETE_TRANSMISSION),
        (replace(CONTEXT, holds=(H.DRIVER_MISMATCH,)), H.DRIVER_MISMATCH),
    ],
)
def test_what_stands_against_specimen_patient_or_message_holds_the_result(
    context: DecisionContext, hold: HoldReason
) -> None:
    found = decided(observed("HGB", "12", "g/dL"), context)
    assert (found.status, found.holds) == (ResultStatus.REGISTERED, (hold,))
    assert found.value.text == "12"


def test_an_unmapped_result_keeps_what_was_sent_and_its_specimen() -> None:
    found = decided(observed("NEWTEST", "5.50", "furlong"))
    assert (found.test, found.item, found.specimen) == (None, None, SPECIMEN)
    assert (found.value.text, found.unit, found.flags) == ("5.50", "furlong", ())


def test_a_failed_run_is_never_a_value_and_every_doubt_is_named() -> None:
    failed = observed("NEWTEST", Value(ValueKind.FAILED, "----"), "x", holds=(H.QUESTIONABLE,))
    found = decided(failed, replace(CONTEXT, specimens=(), incomplete=True))
    assert found.value.number is None
    assert found.holds == (
        H.QUESTIONABLE, H.INCOMPLETE_TRANSMISSION, H.UNMAPPED_CODE, H.NO_SUCH_SPECIMEN, H.RUN_FAILED
    )  # fmt: skip


@pytest.mark.parametrize("role", [role for role in SpecimenRole if role is not SpecimenRole.PATIENT])
def test_a_control_never_reaches_a_patient(role: SpecimenRole) -> None:
    found = decided(observed("HGB", "12", "g/dL"), sent=replace(SENT, role=role))
    assert (found.patient_id, found.item, found.specimen) == (None, None, None)
    assert (found.status, found.holds) == (ResultStatus.REGISTERED, (H.NOT_PATIENT,))


def test_an_unsolicited_result_is_registered_without_patient_and_judged_by_intervals_for_everyone_only() -> None:
    context = replace(
        CONTEXT, specimens=(), policy=Policy(Unsolicited.REGISTER),
        observed_patient=ObservedPatient("12345", "Doe^Jane", date(1980, 5, 17), Sex.FEMALE),
    )  # fmt: skip
    found = decided(observed("HGB", "1", "g/dL"), context)  # critical by those of men and of women, if one applies
    assert (found.status, found.holds, found.flags) == (ResultStatus.REGISTERED, (H.AMBIGUOUS_INTERVAL,), ())
    found = decided(observed("HGB", "10", "g/dL"), context)
    assert (found.status, found.holds) == (ResultStatus.PRELIMINARY, ())
    assert (found.patient_id, found.specimen, found.item, found.flags) == (None, None, None, ())
    assert decided(observed("GLU", "150", "mg/dL"), context).flags == ("H",)
    assert "unsolicited" in next(step.text for step in found.steps if step.step == "match")


def test_without_a_specimen_id_nothing_is_registered() -> None:
    context = replace(CONTEXT, specimens=(), policy=Policy(Unsolicited.REGISTER))
    found = decided(observed("HGB", "12", "g/dL"), context, replace(SENT, specimen_id=None))
    assert found.holds == (H.NO_SUCH_SPECIMEN,)


def test_the_instrument_s_flags_and_status_change_nothing_of_ours() -> None:
    plain = decided(observed("GLU", "150", "mg/dL"))
    flagged = decided(observed("GLU", "150", "mg/dL", flags=("N", "A", "HH"), status="C", reference="100-200"))
    assert replace(plain, steps=()) == replace(flagged, steps=())
    assert flagged.flags == ("H",)


def test_a_mapping_for_the_specimen_type_comes_before_the_one_for_any() -> None:
    csf = replace(CONTEXT, specimens=(replace(SPECIMEN, type="CSF"),))
    assert decided(observed("GLU", "60", "mg/dL"), csf).holds == (H.UNMAPPED_CODE,)  # that test is not active
    assert decided(observed("GLU", "60", "mg/dL")).test == GLU
    unknown = replace(CONTEXT, specimens=(), policy=Policy(Unsolicited.REGISTER))
    assert decided(observed("GLU", "60", "mg/dL"), unknown, replace(SENT, type="CSF")).holds == (H.UNMAPPED_CODE,)


def _collected(at: datetime | None, born: date, received: datetime | None) -> Decision:
    patient = replace(PATIENT, birth_date=born)
    context = replace(CONTEXT, specimens=(replace(SPECIMEN, collected_at=at, patient=patient),), received_at=received)
    return decided(observed("HGB", "118", "g/L"), context)


def test_an_unknown_collection_time_is_bounded_by_the_receipt_and_never_guessed() -> None:
    adult, nearly = date(1980, 5, 17), COLLECTED.date() - timedelta(days=6574 + 3)
    assert _collected(None, adult, COLLECTED).flags == ("L",)
    assert _collected(None, adult, None).flags == ()
    assert _collected(COLLECTED, nearly, None).flags == ("L",)
    assert _collected(None, nearly, COLLECTED).flags == ()  # of age at receipt, perhaps not at collection


def test_an_interval_for_days_in_between_is_not_passed_over_where_the_collection_is_not_known() -> None:
    """A child of eight days: neither on the day of receipt nor a week before it was it three to five days old."""
    newborn = replace(INTERVALS[1], id="i-n", sex=None, age_low_d=3, age_high_d=6, low=Decimal(145))
    anybody = replace(INTERVALS[1], id="i-a", sex=None, age_low_d=0)
    catalogue = replace(CATALOGUE, intervals={"t-hgb": (newborn, anybody)})
    for born, low in (
        (COLLECTED.date() - timedelta(days=8), None),
        (COLLECTED.date() - timedelta(days=1), Decimal("12.0")),  # it was not three days old yet
        (COLLECTED.date() - timedelta(days=14), Decimal("12.0")),
    ):
        one = replace(SPECIMEN, collected_at=None, patient=replace(PATIENT, birth_date=born))
        context = replace(CONTEXT, catalogue=catalogue, specimens=(one,), received_at=COLLECTED)
        assert decided(observed("HGB", "118", "g/L"), context).low == low


def test_an_unknown_collection_was_before_the_receipt_of_the_specimen_however_late_its_result_comes() -> None:
    ten_days = COLLECTED.date() - timedelta(days=6574 - 10)
    one = replace(
        SPECIMEN, collected_at=None, received_at=COLLECTED, patient=replace(PATIENT, birth_date=ten_days)
    )  # of age ten days after the laboratory got it
    context = replace(CONTEXT, specimens=(one,), received_at=COLLECTED + timedelta(days=20))
    assert decided(observed("HGB", "118", "g/L"), context).flags == ()


def test_two_intervals_that_nothing_decides_between_hold_the_result() -> None:
    rows = (INTERVALS[2], replace(INTERVALS[2], id="other", high=Decimal(110)))
    context = replace(CONTEXT, catalogue=replace(CATALOGUE, intervals={"t-glu": rows}))
    found = decided(observed("GLU", "105", "mg/dL"), context)
    assert (found.holds, found.flags, found.high) == ((H.AMBIGUOUS_INTERVAL,), (), None)


def test_an_interval_in_a_unit_that_cannot_be_compared_holds_the_result() -> None:
    context = replace(
        CONTEXT, catalogue=replace(CATALOGUE, intervals={"t-glu": (replace(INTERVALS[2], unit="mmol/L"),)})
    )
    found = decided(observed("GLU", "105", "mg/dL"), context)
    assert (found.holds, found.flags) == ((H.UNKNOWN_UNIT,), ())


PROTEIN = LabTest("t-pro", "PRO", "Urine protein", "", "", None, ValueKind.TEXT)
CELLS = LabTest("t-cel", "CEL", "Cells", "", "/uL", None, ValueKind.RANGE)
WORDED = replace(
    CONTEXT,
    catalogue=Catalogue(
        tests={test.id: test for test in (PROTEIN, CELLS)},
        mappings={(test.code, ""): CodeMapping(test.code, test.id) for test in (PROTEIN, CELLS)},
    ),
    specimens=(replace(SPECIMEN, items=tuple(replace(SPECIMEN.items[0], test_id=t) for t in ("t-pro", "t-cel"))),),
)
FEW = Value(ValueKind.RANGE, "2-5", None, None, Decimal(2), Decimal(5))


@pytest.mark.parametrize(
    ("code", "value", "unit", "reported", "holds"),
    [
        ("PRO", "30", "mg/dL", "mg/dL", (H.UNKNOWN_UNIT,)),  # 30 without its unit is another finding
        ("PRO", FEW, "/uL", "/uL", (H.UNKNOWN_UNIT,)),
        ("PRO", "30", "", "", ()),
        ("PRO", Value(ValueKind.CODED, "NEG"), "mg/dL", "", ()),
        ("CEL", FEW, "/uL", "/uL", ()),
        ("CEL", FEW, "10*3/mL", "/uL", ()),
        ("CEL", FEW, "10*3/uL", "10*3/uL", (H.UNKNOWN_UNIT,)),
        ("CEL", FEW, "", "", (H.UNKNOWN_UNIT,)),
    ],
)
def test_a_unit_is_never_dropped_from_what_was_measured(
    code: str, value: str | Value, unit: str, reported: str, holds: tuple[HoldReason, ...]
) -> None:
    found = decided(observed(code, value, unit), WORDED)
    assert (found.unit, found.holds) == (reported, holds)


@pytest.mark.parametrize(("zone", "flags"), [("UTC", ()), ("Asia/Jakarta", ("L",))])
def test_the_age_is_of_the_day_it_is_where_the_specimen_was_taken(zone: str, flags: tuple[str, ...]) -> None:
    """20:00 UTC on the day before is 03:00 in Jakarta on the day the adults' interval begins."""
    born = date(2008, 3, 1)
    evening = datetime(2026, 2, 28, 20, 0, tzinfo=UTC)
    assert (evening.date() - born).days == 6573
    one = replace(SPECIMEN, collected_at=evening, patient=replace(PATIENT, birth_date=born))
    found = decided(
        observed("HGB", "11.8", "g/dL"),
        replace(CONTEXT, specimens=(one,), catalogue=replace(CATALOGUE, zone=ZoneInfo(zone))),
    )
    assert found.flags == flags


def test_nothing_measured_stays_nothing_in_another_unit() -> None:
    found = decided(observed("HGB", "0", "g/L"))
    assert (found.value.text, found.value.number, found.flags) == ("0.0", Decimal("0.0"), ("LL",))


def test_an_intervals_own_words_are_never_shown_in_another_unit() -> None:
    words = Interval("i", "t-hgb", "g/L", Decimal(120), Decimal(150), text="120 - 150 (sitting)")
    found = decided(
        observed("HGB", "118", "g/L"), replace(CONTEXT, catalogue=replace(CATALOGUE, intervals={"t-hgb": (words,)}))
    )
    assert (found.unit, found.reference) == ("g/dL", "12.0 - 15.0")


def test_a_limit_in_another_unit_is_shown_as_a_person_would_write_it() -> None:
    carbon_dioxide = Interval("i", "t-pco2", "kPa", Decimal("4.6"), Decimal("6.0"))
    shown = decide_rules._in_unit(carbon_dioxide, "mm[Hg]", UNKNOWN_SUBSTANCE)
    assert (shown.low, shown.high) == (Decimal("34.5029"), Decimal("45.0038"))


def test_words_and_titres_are_reported_as_they_are() -> None:
    colour = observed("COL", Value(ValueKind.TEXT, "yellow"))
    assert (decided(colour).value.text, decided(colour).flags, decided(colour).holds) == ("yellow", (), ())
    titre = Value(ValueKind.RATIO, "1:128", None, None, Decimal(1), Decimal(128))
    assert decided(observed("ANA", titre)).value == titre


VALUES = st.one_of(
    st.builds(
        lambda number, comparator: Value(ValueKind.NUMERIC, str(number), number, comparator),
        st.decimals(allow_nan=True, allow_infinity=True),
        st.none() | st.sampled_from(list(Comparator)),
    ),
    st.builds(Value, st.sampled_from(list(ValueKind)), st.text(max_size=8)),
)
OBSERVATIONS = st.builds(
    Observed,
    st.sampled_from([*(test.code for test in TESTS), "NEWTEST", ""]),
    VALUES,
    unit=st.sampled_from(["", "g/L", "g/dL", "mg/dL", "U/L", "IU/L", "%", "1", "?", "mmol/L"]) | st.text(max_size=6),
    holds=st.lists(st.sampled_from(list(HoldReason)), max_size=2).map(tuple),
)
SPECIMENS = st.builds(
    replace,
    st.just(SPECIMEN),
    type=st.sampled_from(["", "BLD", "CSF"]),
    collected_at=st.sampled_from([None, COLLECTED]),
    patient=st.sampled_from([None, PATIENT, PatientFacts("p2")]),
    items=st.sampled_from([(), SPECIMEN.items, SPECIMEN.items * 2]),
)
CONTEXTS = st.builds(
    DecisionContext,
    st.just(CATALOGUE),
    specimens=st.lists(SPECIMENS, max_size=2).map(tuple),
    observed_patient=st.sampled_from([None, ObservedPatient("12345"), ObservedPatient("1", sex=Sex.MALE)]),
    policy=st.sampled_from(Unsolicited).map(Policy),
    incomplete=st.booleans(),
    received_at=st.sampled_from([None, COLLECTED]),
)


@given(OBSERVATIONS, st.sampled_from(SpecimenRole), st.sampled_from([None, "B1"]), CONTEXTS)
def test_whatever_is_sent_a_hold_means_registered_and_only_what_is_certain_is_preliminary(
    one: Observed, role: SpecimenRole, barcode: str | None, context: DecisionContext
) -> None:
    found = decide(one, ObservedSpecimen(specimen_id=barcode, role=role), context)
    assert found.status is (ResultStatus.REGISTERED if found.holds else ResultStatus.PRELIMINARY)
    assert len(set(found.holds)) == len(found.holds)
    assert set(one.holds) <= set(found.holds)
    assert found.steps
    if not found.holds:
        assert role is SpecimenRole.PATIENT
        assert found.test is not None
        assert one.value.kind not in (ValueKind.FAILED, ValueKind.EMPTY)
        assert found.item is not None or not context.specimens
        assert not context.incomplete
    if found.patient_id is not None:
        assert [found.patient_id] == [one.patient.id for one in context.specimens if one.patient]
    assert decide(one, ObservedSpecimen(specimen_id=barcode, role=role), context) == found


def test_critical_limits_of_a_row_of_their_own_are_explained_and_the_rule_of_thumb_is_only_shown() -> None:
    critical = Interval("i-crit", "t-glu", "mg/dL", critical_high=Decimal(400), use=IntervalUse.CRITICAL, source="list")
    plain = INTERVALS[2]
    catalogue = replace(CATALOGUE, intervals={"t-glu": (plain, critical)})
    high = decide(observed("GLU", "401", "mg/dL"), SENT, replace(CONTEXT, catalogue=catalogue))
    assert (high.flags, high.critical_high, high.display) == (("HH",), Decimal(400), "")
    assert [(step.text, step.version) for step in high.steps if step.step == "critical"] == [("<= 400", "i-crit")]
    without = decide(observed("GLU", "401", "mg/dL"), SENT, CONTEXT)
    assert (without.flags, without.critical_high, without.display) == (("H",), None, "HH")
    flag = next(step for step in without.steps if step.step == "flag")
    assert (flag.verdict, flag.inputs) == ("H", {"display": "HH", "origin": "default_rule"})


def test_an_interval_may_ask_for_the_analyzer_and_the_pregnancy() -> None:
    pregnant = replace(INTERVALS[2], id="i-preg", high=Decimal(94), pregnant=True, analyzer="c1")
    catalogue = replace(CATALOGUE, intervals={"t-glu": (INTERVALS[2], pregnant)})
    context = replace(CONTEXT, catalogue=catalogue, specimens=(replace(SPECIMEN, pregnant=True),), analyzer="c1")
    assert decide(observed("GLU", "95", "mg/dL"), SENT, context).flags == ("H",)
    assert decide(observed("GLU", "95", "mg/dL"), SENT, replace(context, analyzer="c2")).flags == ("N",)
    assert decide(observed("GLU", "95", "mg/dL"), SENT, replace(context, specimens=(SPECIMEN,))).flags == ("N",)
