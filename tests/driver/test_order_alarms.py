"""What an analyzer says of an order in a comment (`Suspect Diff`, `Lyse Expired`) is said of each of its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interface.domain.model import HoldReason
from interface.driver import registry
from interface.driver.decode_hl7 import decode as hl7
from interface.driver.decode_lis02 import decode as lis2
from interface.driver.rules import AlarmRule, FieldPath

DRIVERS = {one.id: one for one in registry.find_all()}
HELD = HoldReason.UNKNOWN_FLAG


def decoded(driver_id: str, name: str) -> list[tuple[str, bool]]:
    """Of a driver's vector each result's code, and whether an alarm holds it."""
    driver = DRIVERS[driver_id]
    trace: Path = registry.folders()[driver_id] / "vectors" / f"{name}.trace"
    return [
        (result.code, HELD in result.holds)
        for message in registry.read(trace.read_bytes(), driver)
        for specimen in registry.decode(driver, message.text).specimens
        for result in specimen.results
    ]


@pytest.mark.parametrize(
    ("driver_id", "name"),
    [
        ("beckman_dxh", "result-2"),  # Suspect Diff
        ("beckman_dxh500", "result-2"),  # Lyse Expired, Suspect Diff
        ("horiba_yumizen_h500", "result-2"),  # NON_COMPLIANT_DATA, SUSPECTED_PATHOLOGY
        ("horiba_yumizen_h550", "result-2"),
    ],
)
def test_an_alarm_of_the_specimen_holds_all_of_its_results(driver_id: str, name: str) -> None:
    said = decoded(driver_id, name)
    assert len(said) > 10 and all(held for _, held in said)


@pytest.mark.parametrize("driver_id", ["beckman_dxh", "roche_liat", "sysmex_cs", "erba_xl", "roche_cobas4800"])
def test_a_comment_that_stands_on_every_result_holds_none(driver_id: str) -> None:
    said = decoded(driver_id, "result-1")
    assert said and not any(held for _, held in said)


def test_flag_codes_of_a_cobas_4800_hold_the_results_that_have_them() -> None:
    held = [one for _, one in decoded("roche_cobas4800", "result-2")]
    assert True in held and False in held


@pytest.mark.parametrize(
    ("comment", "held"),
    [
        ("C|1|I|Suspect Diff|I", True),  # LIS02-A2 9.5: instrument flags
        ("C|1|I|Suspect Diff|I!Y", False),  # of another kind, where ! is no delimiter
        ("C|1|I|Suspect Diff|I^Y", True),
        ("C|1|I|drawn fasting|G", False),
        ("C|1|L|told by phone|", False),
        ("C|1|I||I", False),
        ("C|1|I|^^|I", False),
    ],
)
def test_instrument_flags_in_words_hold_as_flags_that_are_not_known_do(comment: str, held: bool) -> None:
    def read(*records: str) -> list[bool]:
        text = "\r".join(("H|\\^&|||X", "P|1", *records, "L|1|N")) + "\r"
        (specimen, *_) = lis2(DRIVERS["generic_lis2"], text.encode()).specimens
        return [HELD in one.holds for one in specimen.results]

    first, second = "R|1|^^^A|1|||||F", "R|2|^^^B|2|||||F"
    assert read("O|1|S1", comment, first, second) == [held, held]
    assert read("O|1|S1", first, comment, second) == [held, False]
    assert read("C|1|I|ward 3|I", "O|1|S1", first, second) == [False, False]  # of the patient


@pytest.mark.parametrize("driver_id", ["hitachi_7600", "roche_cobas_c311", "roche_cobas_e411", "roche_cobas_c111"])
@pytest.mark.parametrize(
    ("comment", "held"),
    [("C|1|I|Ward 3              ^  ^^^|G", False), ("C|1|I|26|I", True), ("C|1|I|26|", True), ("C|1|I|0|I", False)],
)
def test_what_staff_noted_of_a_specimen_is_no_alarm(driver_id: str, comment: str, held: bool) -> None:
    """LIS02-A2 9.5: G is a generic comment. Roche's analyzers send the five lines of a specimen's own so with each
    order; many laboratories have the ward there, and not one result was released without a person."""
    text = f"H|\\^&|||X\rP|1\rO|1|S1\r{comment}\rR|1|^^^1|1|||||F\rC|1|I|0|I\rL|1|N\r"
    (specimen,) = lis2(DRIVERS[driver_id], text.encode()).specimens
    assert (HELD in specimen.results[0].holds) is held
    assert bool(specimen.results[0].comments) is held  # nor does what staff typed leave the laboratory with a result
    assert bool(specimen.comments) is ("|0|" not in comment)


def test_it_holds_only_the_results_of_its_order() -> None:
    text = b"H|\\^&|||X\rP|1\rO|1|S1\rC|1|I|Clot|I\rR|1|^^^A|1|||||F\rO|2|S2\rR|1|^^^A|2|||||F\rL|1|N\r"
    first, second = lis2(DRIVERS["generic_lis2"], text).specimens
    assert (first.results[0].holds, first.results[0].comments) == ((HELD,), ("Clot",))
    assert (second.results[0].holds, second.results[0].comments) == ((), ())


def test_a_result_without_an_order_has_nothing_of_the_patient_s_comments() -> None:
    text = b"H|\\^&|||X\rP|1\rC|1|I|ward 3|I\rR|1|^^^A|1|||||F\rL|1|N\r"
    (specimen,) = lis2(DRIVERS["generic_lis2"], text).specimens
    assert HELD not in specimen.results[0].holds and specimen.results[0].comments == ()


def test_so_it_is_in_hl7_by_the_driver_s_alarms() -> None:
    """HL7 v2.5.1 7.3.1: an NTE below the OBR is about the order."""
    head = "MSH|^~\\&|cobas Liat|B|||20260101||ORU^R30^ORU_R30|1|P|2.5\rPID|||P1\rOBR||S1||CDFA\r"
    results = "OBX||ST|Influenza A (CDFA)||Detected||||||F\rOBX||ST|Influenza B||Detected||||||F\r"
    quiet, loud = (
        hl7(DRIVERS["roche_liat"], (head + f"NTE|||{words}\r" + results).encode()).specimens[0].results
        for words in ("Run=00017;TubeLot=ZZJ5", "Tube leaked")
    )
    assert [(one.holds, one.comments) for one in quiet] == [((), ())] * 2
    assert [(one.holds, one.comments) for one in loud] == [((HELD,), ("Tube leaked",))] * 2


def test_what_was_read_in_one_order_is_not_taken_for_another_s() -> None:
    """A result that says what one before it said is not read once more: what is said of its order counts."""
    alarm = AlarmRule(FieldPath("NTE", 3), frozenset())
    driver = replace(DRIVERS["generic_hl7"], alarm=alarm)
    head, row = "MSH|^~\\&|A|B|||20260101||OUL^R22|1|P|2.5.1", "OBX|1|ST|FLU||Detected||||||F"
    noted = ("SPM|1|S1", "OBR|1|||FLU", "NTE|1||Tube leaked", row)
    plain = ("SPM|2|S2", "OBR|1|||FLU", row)
    for orders, wanted in (((noted, plain), [True, False]), ((plain, noted, plain), [False, True, False])):
        text = "\r".join([head, *(segment for order in orders for segment in order)]) + "\r"
        specimens = hl7(driver, text.encode()).specimens
        assert [HELD in one.results[0].holds for one in specimens] == wanted
