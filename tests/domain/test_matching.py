"""An observation answers exactly one order item or is held; the analyzer's patient is compared and never used."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from interface.domain.matching import match
from interface.domain.model import (
    HoldReason,
    ItemStatus,
    ObservedPatient,
    OrderedItem,
    PatientFacts,
    Sex,
    SpecimenFacts,
)
from interface.settings import Unsolicited

PATIENT = PatientFacts("p1", ("12345", "MRN-9"), "Doe", "Jane", date(1980, 5, 17), Sex.FEMALE)
GLUCOSE = OrderedItem("item-glu", "glu", "order-1", ItemStatus.REQUESTED)
SODIUM = OrderedItem("item-na", "na", "order-1", ItemStatus.REQUESTED)
SPECIMEN = SpecimenFacts("s1", "B1", "SER", None, PATIENT, (GLUCOSE, SODIUM))


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
