"""An observation answers exactly one order item or is held; the analyzer's patient is compared and never used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from interface.domain import matching
from interface.domain.barcodes import barcode_of, control_like
from interface.domain.matching import Match, Policy, same_name
from interface.domain.model import (
    HoldReason,
    ItemStatus,
    ObservedPatient,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
)
from interface.settings import BarcodeRules, NameMismatch, Unsolicited

PATIENT = PatientFacts("p1", ("12345", "MRN-9"), "Doe", "Jane", date(1980, 5, 17), Sex.FEMALE)
GLUCOSE = OrderedItem("item-glu", "glu", "order-1", ItemStatus.REQUESTED)
SODIUM = OrderedItem("item-na", "na", "order-1", ItemStatus.REQUESTED)
SPECIMEN = SpecimenFacts("s1", "B1", "SER", None, PATIENT, (GLUCOSE, SODIUM))


NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def match(
    specimens: Sequence[SpecimenFacts],
    test_id: str | None,
    patient: ObservedPatient | None,
    unsolicited: Unsolicited,
    *,
    identified: bool = True,
) -> Match:
    return matching.match(specimens, test_id, patient, Policy(unsolicited), sent="B1" if identified else None, at=NOW)


def with_items(*items: OrderedItem) -> SpecimenFacts:
    return replace(SPECIMEN, items=items)


def item(name: str, status: ItemStatus) -> OrderedItem:
    return OrderedItem(name, "glu", "order-1", status)


def test_the_one_item_of_the_one_specimen_is_matched() -> None:
    found = match([SPECIMEN], "na", None, Unsolicited.HOLD)
    assert (found.specimen, found.item, found.patient, found.holds) == (SPECIMEN, SODIUM, PATIENT, ())


@pytest.mark.parametrize("policy", list(Unsolicited))
def test_two_open_specimens_with_one_barcode_are_ambiguous(policy: Unsolicited) -> None:
    found = match([SPECIMEN, replace(SPECIMEN, id="s2")], "glu", None, policy)
    assert (found.specimen, found.item, found.patient) == (None, None, None)
    assert found.holds == (HoldReason.AMBIGUOUS_SPECIMEN,)


@pytest.mark.parametrize("policy", list(Unsolicited))
def test_a_test_that_was_not_ordered_is_held_whatever_the_policy(policy: Unsolicited) -> None:
    found = match([SPECIMEN], "k", None, policy)
    assert (found.specimen, found.item, found.holds) == (SPECIMEN, None, (HoldReason.NOT_ORDERED,))


def test_no_specimen_is_held_or_registered_without_a_patient() -> None:
    stranger = ObservedPatient("12345", "Doe^Jane", date(1980, 5, 17), Sex.FEMALE)
    assert match([], "glu", stranger, Unsolicited.HOLD).holds == (HoldReason.NO_SUCH_SPECIMEN,)
    found = match([], "glu", stranger, Unsolicited.REGISTER)
    assert (found.unsolicited, found.holds, found.patient, found.specimen) == (True, (), None, None)


def test_a_result_without_any_specimen_id_is_held_even_where_unsolicited_ones_are_registered() -> None:
    found = match([], "glu", None, Unsolicited.REGISTER, identified=False)
    assert found.holds == (HoldReason.NO_SUCH_SPECIMEN,)


@pytest.mark.parametrize("status", [ItemStatus.CANCELLED, ItemStatus.REJECTED])
def test_a_cancelled_item_is_no_order(status: ItemStatus) -> None:
    assert match([with_items(item("x", status))], "glu", None, Unsolicited.HOLD).holds == (HoldReason.NOT_ORDERED,)


def test_a_rerun_answers_the_completed_item_but_an_open_one_comes_first() -> None:
    done, open_ = item("done", ItemStatus.COMPLETED), item("open", ItemStatus.IN_PROGRESS)
    assert match([with_items(done)], "glu", None, Unsolicited.HOLD).item == done
    assert match([with_items(done, open_)], "glu", None, Unsolicited.HOLD).item == open_


def test_two_items_that_wait_for_one_test_are_ambiguous() -> None:
    two = with_items(item("a", ItemStatus.REQUESTED), item("b", ItemStatus.RECEIVED))
    found = match([two], "glu", None, Unsolicited.HOLD)
    assert (found.item, found.holds) == (None, (HoldReason.AMBIGUOUS_SPECIMEN,))


def test_an_unmapped_code_still_finds_its_specimen() -> None:
    found = match([SPECIMEN], None, None, Unsolicited.HOLD)
    assert (found.specimen, found.item, found.holds) == (SPECIMEN, None, ())


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        (ObservedPatient(patient_id="999"), "id"),
        (ObservedPatient(birth_date=date(1980, 5, 18)), "birth date"),
        (ObservedPatient(sex=Sex.MALE), "sex"),
        (ObservedPatient("12345", "", date(1980, 5, 17), Sex.MALE), "sex"),
    ],
)
def test_a_contradiction_about_the_patient_is_held_and_names_no_value(sent: ObservedPatient, word: str) -> None:
    found = match([SPECIMEN], "glu", sent, Unsolicited.HOLD)
    assert found.holds == (HoldReason.PATIENT_MISMATCH,)
    assert found.patient is PATIENT
    assert word in found.text
    assert not any(value in found.text for value in ("999", "1980", "12345", "male"))


@pytest.mark.parametrize(
    "sent",
    [
        None,
        ObservedPatient(),
        ObservedPatient("mrn-9", "Smith^J", None, None),  # any of the identifiers; a name is no contradiction
        ObservedPatient(" 12345 ", "", date(1980, 5, 17), Sex.FEMALE),
        ObservedPatient(sex=Sex.UNKNOWN),
    ],
)
def test_what_does_not_contradict_the_order_holds_nothing(sent: ObservedPatient | None) -> None:
    assert match([SPECIMEN], "glu", sent, Unsolicited.HOLD).holds == ()


def test_what_the_order_does_not_know_cannot_be_contradicted_nor_learned() -> None:
    unknown = PatientFacts("p2")
    sent = ObservedPatient("999", "Doe^Jane", date(1980, 5, 17), Sex.FEMALE)
    found = match([replace(SPECIMEN, patient=unknown)], "glu", sent, Unsolicited.HOLD)
    assert (found.holds, found.patient) == ((), unknown)
    assert match([replace(SPECIMEN, patient=None)], "glu", sent, Unsolicited.HOLD).patient is None


def test_several_reasons_are_all_named() -> None:
    found = match([SPECIMEN], "k", ObservedPatient(sex=Sex.MALE), Unsolicited.HOLD)
    assert found.holds == (HoldReason.PATIENT_MISMATCH, HoldReason.NOT_ORDERED)


# ---- recycled barcodes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received_d", "ordered_d", "window_d", "holds"),
    [
        (59, 59, 60, ()),
        (60, 60, 60, ()),
        (61, 61, 60, (HoldReason.OUTSIDE_WINDOW,)),
        (400, 2, 60, ()),  # entered late: the barcode was given out two days ago
        (2, 400, 60, ()),  # ordered long ago, and received now
        (None, 61, 60, (HoldReason.OUTSIDE_WINDOW,)),
        (None, None, 60, ()),
        (400, 400, 0, ()),  # the link has no window
    ],
)
def test_a_specimen_from_before_the_window_is_not_meant(
    received_d: int | None, ordered_d: int | None, window_d: int, holds: tuple[HoldReason, ...]
) -> None:
    def ago(days: int | None) -> datetime | None:
        return None if days is None else NOW - timedelta(days=days)

    old = replace(SPECIMEN, received_at=ago(received_d), created_at=ago(ordered_d))
    found = matching.match([old], "glu", None, Policy(window_days=window_d), sent="B1", at=NOW)
    assert found.holds == holds
    assert (found.patient is None) is bool(holds)


@pytest.mark.parametrize(
    ("received_d", "ordered_d", "window_d", "said"),
    [
        (2, 2, 60, ""), (2, 3, 60, ""), (None, 3, 60, "created"), (3, 2, 60, "created"), (None, 3, 0, ""),
        (61, 62, 60, "received"), (None, 61, 60, "created"), (62, 61, 60, "created"),
    ],
)  # fmt: skip
def test_the_match_says_since_when_the_window_counts_where_that_is_not_the_receipt(
    received_d: int | None, ordered_d: int, window_d: int, said: str
) -> None:
    received_at = None if received_d is None else NOW - timedelta(days=received_d)
    old = replace(SPECIMEN, received_at=received_at, created_at=NOW - timedelta(days=ordered_d))
    found = matching.match([old], "glu", None, Policy(window_days=window_d), sent="B1", at=NOW)
    assert found.window_from == said
    if found.holds:
        assert found.text == f"the specimen with this barcode was {said} more than 60 days ago"


def test_of_two_tubes_with_one_barcode_the_one_within_the_window_is_meant_and_two_within_it_are_ambiguous() -> None:
    old = replace(SPECIMEN, id="old", received_at=NOW - timedelta(days=200))
    new = replace(SPECIMEN, id="new", received_at=NOW - timedelta(days=1))
    policy = Policy(window_days=60)
    assert matching.match([old, new], "glu", None, policy, sent="B1", at=NOW).specimen == new
    both = matching.match([replace(old, received_at=NOW), new], "glu", None, policy, sent="B1", at=NOW)
    assert (both.holds, both.patient) == ((HoldReason.AMBIGUOUS_SPECIMEN,), None)


# ---- ids of controls ------------------------------------------------------------------------------------------------

CONTROL = (HoldReason.CONTROL_LIKE_ID,)


@pytest.mark.parametrize(
    ("sent", "patterns", "specimens", "holds"),
    [
        ("QC1", (), [], CONTROL),
        ("qc-level-2", (), [], CONTROL),
        ("CONTROL 3", (), [], CONTROL),
        ("CAL12", (), [], CONTROL),
        ("CAL12", (), [SPECIMEN], ()),  # somebody ordered on it: it is no control
        ("CALVIN-77123456789", (), [], ()),  # longer than any control is called
        ("S-1001", (), [], ()),
        ("9001", ("9[0-9]{3}",), [], CONTROL),
        ("9001", ("9[0-9]{3}",), [SPECIMEN], CONTROL),  # the laboratory says so itself
        ("19001", ("9[0-9]{3}",), [], ()),
    ],
)
def test_a_controls_id_is_never_a_patients(
    sent: str, patterns: tuple[str, ...], specimens: list[SpecimenFacts], holds: tuple[HoldReason, ...]
) -> None:
    policy = Policy(Unsolicited.REGISTER, control_ids=patterns)
    found = matching.match(specimens, "glu", None, policy, sent=sent, at=NOW)
    assert found.holds == holds
    assert not (holds and (found.unsolicited or found.patient))


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "family", "given", "alike"),
    [
        ("Doe^Jane", "Doe", "Jane", True),
        ("DOE, JANE", "Doe", "Jane", True),
        ("Jane Doe", "Doe", "Jane", True),
        ("Do\u00e9^Jane", "Doe", "Jane", True),
        ("M\u00fcller^J\u00fcrgen", "Mueller", "Juergen", True),
        ("MULLER^JURGEN", "M\u00fcller", "J\u00fcrgen", True),
        ("O'Brien^Pat", "OBrien", "Pat", True),
        ("SCHWARZENBE^ARN", "Schwarzenberger", "Arnold", True),  # cut
        ("Doe^J", "Doe", "Jane", True),  # an initial
        ("Doe^Jane^Marie", "Doe", "Jane", True),  # the order leaves one out
        ("Doe", "Doe", "Jane Marie", True),
        ("Dr. Doe^Jane", "Doe", "Jane", True),
        ("", "Doe", "Jane", True),
        ("Doe^Jane", "", "", True),
        ("Roe^Jane", "Doe", "Jane", False),
        ("Doe^John", "Doe", "Jane", False),
        ("Doe^Anna", "Doe", "Jane", False),
        ("Smith^John", "Doe", "Jane", False),
    ],
)
def test_names_are_compared_without_case_accents_order_and_what_was_cut(
    sent: str, family: str, given: str, alike: bool
) -> None:
    patient = PatientFacts("p", family=family, given=given)
    assert same_name(ObservedPatient(name=sent), patient) is alike
    for policy, held in ((NameMismatch.IGNORE, ()), (NameMismatch.HOLD, (HoldReason.PATIENT_NAME,))):
        known = replace(SPECIMEN, patient=patient)
        found = matching.match([known], "glu", ObservedPatient(name=sent), Policy(names=policy), sent="B1", at=NOW)
        assert found.holds == (() if alike else held)
        assert not any(word and word in found.text for word in (family, given))


# ---- a link's barcode rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "rules", "barcode"),
    [
        ("A123", BarcodeRules(), "A123"),
        ("]C1123", BarcodeRules(strip_prefix="]C1"), "123"),
        ("123^^", BarcodeRules(strip_suffix="^^"), "123"),
        ("123", BarcodeRules(strip_prefix="]C1"), "123"),
        ("42", BarcodeRules(pad=6), "000042"),
        ("1234567", BarcodeRules(pad=6), "1234567"),
        ("79927398713", BarcodeRules(check_digit="luhn"), "7992739871"),  # the worked example of ISO/IEC 7812
        ("79927398710", BarcodeRules(check_digit="luhn"), "79927398710"),  # read wrongly: no specimen has it
        ("X", BarcodeRules(check_digit="luhn"), "X"),
        ("LAB-2026-000123-S", BarcodeRules(pattern="LAB-[0-9]{4}-(?P<id>[0-9]+)-[A-Z]"), "000123"),
        ("AB12-34", BarcodeRules(pattern="[A-Z]+([0-9]+)-([0-9]+)"), "1234"),
        ("other", BarcodeRules(pattern="[A-Z]+([0-9]+)-([0-9]+)"), "other"),
        ("P00420", BarcodeRules(strip_prefix="P", pattern="0*(.+)", pad=4), "0420"),
    ],
)
def test_an_id_becomes_the_barcode_by_the_links_rules(sent: str, rules: BarcodeRules, barcode: str) -> None:
    assert barcode_of(sent, rules) == barcode


def test_a_pattern_is_of_the_whole_id() -> None:
    assert control_like(" qc1 ", ("QC[0-9]",))
    assert not control_like("qc12", ("QC[0-9]",))
