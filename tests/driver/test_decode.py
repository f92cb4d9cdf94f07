"""The decoding engines: one entry per result in order, holds from the tables, problems instead of guesses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.model import (
    DecodedMessage,
    HoldReason,
    ObservedPatient,
    Problem,
    Protocol,
    Query,
    Sex,
    SpecimenRole,
    ValueKind,
)
from interface.driver import registry
from interface.driver.capture import CaptureError, read_capture
from interface.driver.manifest import Driver
from interface.driver.rules import FieldPath

LIS2 = registry.load("generic_lis2")
HL7 = registry.load("generic_hl7")
MSH = "MSH|^~\\&|LabOne|LAB|||20260105||{type}|ID7|P|2.5.1\r"


def lis2(*records: str) -> DecodedMessage:
    return registry.decode(LIS2, ("\r".join(("H|\\^&|M1||Dev", *records)) + "\r").encode("latin-1"))


def hl7(*segments: str, type_: str = "ORU^R01^ORU_R01") -> DecodedMessage:
    return registry.decode(HL7, (MSH.format(type=type_) + "\r".join(segments) + "\r").encode())


def test_results_stay_apart_and_in_order() -> None:
    decoded = lis2(
        "P|1|A", "O|1|S1", "R|1|^^^GLU|1|||||F", "R|2|^^^GLU|2|||||F", "O|2|S1", "R|1|^^^GLU|3|||||F",
        "P|2|B", "O|1|S1", "R|1|^^^GLU|4|||||F", "L|1",
    )  # fmt: skip
    assert [patient.patient_id for patient in decoded.patients] == ["A", "B"]
    assert [(s.patient, s.specimen_id) for s in decoded.specimens] == [(0, "S1"), (0, "S1"), (1, "S1")]
    values = [[(r.value.text, r.occurrence) for r in s.results] for s in decoded.specimens]
    assert values == [[("1", 0), ("2", 1)], [("3", 2)], [("4", 3)]]


def test_a_specimen_id_is_never_guessed() -> None:
    decoded = lis2("P|1", "O|1||S1", "R|1|^^^GLU|1", "L|1")
    assert decoded.specimens[0].specimen_id is None
    assert decoded.problems == (Problem("O 1", "no specimen id where this driver looks for it"),)


def test_of_several_specimen_ids_in_one_order_record_none_is_chosen() -> None:
    decoded = lis2("P|1", "O|1|S1\\S2", "R|1|^^^GLU|1|||||F", "L|1")
    assert [(s.specimen_id, s.results[0].value.text) for s in decoded.specimens] == [(None, "1")]
    assert decoded.problems == (Problem("O 1", "several specimen ids: whose the results are is not said"),)
    same = lis2("P|1", "O|1|S1\\S1", "R|1|^^^GLU|1|||||F", "L|1")
    assert same.specimens[0].specimen_id == "S1"


def test_a_result_without_an_order_is_kept_with_its_problems() -> None:
    decoded = lis2("P|1|A", "R|1|^^^GLU|5.1|||||F", "L|1")
    assert [(s.patient, s.specimen_id, s.results[0].value.text) for s in decoded.specimens] == [(0, None, "5.1")]
    assert {problem.location for problem in decoded.problems} == {"R 1"}


@pytest.mark.parametrize(
    ("record", "holds"),
    [
        ("R|1|^^^GLU|5.1|||||F", ()),
        ("R|1|^^^GLU|5.1|||H||F", ()),
        ("R|1|^^^GLU|5.1|||H\\Z||F", (HoldReason.UNKNOWN_FLAG,)),
        ("R|1|^^^GLU|5.1|||||K", (HoldReason.UNKNOWN_STATUS,)),
        ("R|1|^^^GLU|5.1|||||W", (HoldReason.QUESTIONABLE,)),
        ("R|1|^^^GLU|5.1|||||P", (HoldReason.QUESTIONABLE,)),
        ("R|1|^^^GLU||||||F", (HoldReason.NO_VALUE,)),
        ("R|1|^^^GLU|----|||||F", (HoldReason.RUN_FAILED,)),
        ("R|1|^^^GLU|NEGATIVE|||||X", (HoldReason.RUN_FAILED,)),
        ("R|1||5.1|||||F", (HoldReason.UNMAPPED_CODE,)),
    ],
)
def test_the_drivers_tables_hold_what_they_do_not_vouch_for(record: str, holds: tuple[HoldReason, ...]) -> None:
    (specimen,) = lis2("P|1", "O|1|S1", record, "L|1").specimens
    assert specimen.results[0].holds == holds


@pytest.mark.parametrize("record", ["R|1|^^^GLU|5&|&1|mmol/L||||F", "R1|1|^^^GLU|5.1|mmol/L||||F"])
def test_a_result_whose_fields_may_be_shifted_is_held(record: str) -> None:
    (specimen,) = lis2("P|1", "O|1|S1", record, "L|1").specimens
    assert HoldReason.UNREADABLE_VALUE in specimen.results[0].holds


def test_a_driver_may_say_that_its_delimiters_are_escaped_by_themselves() -> None:
    text = b"H|\\^&|||Dev\rP|1\rO|1|S1\rR|1|^^^GLU|a&|&b|mmol/L||||F\rL|1\r"
    (specimen,) = registry.decode(replace(LIS2, literal_escapes=True), text).specimens
    assert (specimen.results[0].value.text, specimen.results[0].unit) == ("a|b", "mmol/L")


def test_the_sub_components_of_a_code_are_part_of_it() -> None:
    """GeneXpert: `HIV&Ct` is no viral load; it may not be mapped as one."""
    (specimen,) = hl7("OBR|1|||HIV", "OBX|1|NM|HIV&HIV&x&Ct^name||31.2||||||F", "SPM|1|S1").specimens
    assert (specimen.results[0].code, specimen.results[0].name) == ("HIV&HIV&x&Ct", "name")


@pytest.mark.parametrize(
    ("sent", "method"),
    [
        ("", ""),
        ("ISE", "ISE"),
        ("AP01^Electrochemiluminescence  immunoassay^99X~X^second", "Electrochemiluminescence immunoassay"),
        ("^^^^^^^^Jaffe, \\X0D\\kinetic", "Jaffe, kinetic"),
        ("1" * 200, "1" * 200),
        ("1" * 201, ""),
    ],
)
def test_the_method_is_what_its_field_says(sent: str, method: str) -> None:
    (specimen,) = hl7("OBR|1|||GLU", f"OBX|1|NM|GLU||5||||||F||||||{sent}", "SPM|1|S1").specimens
    assert specimen.results[0].method == method


def test_a_driver_may_say_where_the_method_stands_or_that_it_stands_nowhere() -> None:
    here = replace(LIS2, paths=replace(LIS2.paths, method=(FieldPath("R", 3, 5),)))
    text = b"H|\\^&|||Dev\rP|1\rO|1|S1\rR|1|^^^GLU^hexokinase|5|mmol/L||||F\rL|1\r"
    assert [registry.decode(one, text).specimens[0].results[0].method for one in (here, LIS2)] == ["hexokinase", ""]
    silent = registry.load("mindray_cl1000i")
    message = MSH.format(type="ORU^R01") + "OBR|1|S1||\rOBX|1|NM|2|TBil|5||||||F||||||0\r"
    assert registry.decode(silent, message.encode()).specimens[0].results[0].method == ""


def test_a_failed_run_is_no_negative_result() -> None:
    (specimen,) = lis2("P|1", "O|1|S1", "R|1|^^^HIV|NEGATIVE|||||X", "L|1").specimens
    result = specimen.results[0]
    assert (result.value.kind, result.raw_value) == (ValueKind.FAILED, "NEGATIVE")


@pytest.mark.parametrize(("head", "order"), [("H|\\^&|||D|||||||Q", "O|1|S1"), ("H|\\^&|||D", "O|1|S1|||||||||Q")])
def test_controls_are_not_patients(head: str, order: str) -> None:
    text = "\r".join((head, "P|1", order, "R|1|^^^GLU|5|||||F", "L|1\r")).encode()
    (specimen,) = registry.decode(LIS2, text).specimens
    assert specimen.role is SpecimenRole.QC


def test_what_is_said_of_an_order_is_said_of_each_of_its_results() -> None:
    (specimen,) = lis2(
        "P|1", "O|1|S1", "C|1|I|order", "R|1|^^^A|1|||||F||op^ver|20260105|20260106", "C|1|I|one^x", "C|2|I|two",
        "R|2|^^^B|2|||||F", "L|1",
    ).specimens  # fmt: skip
    first, second = specimen.results
    assert (first.comments, second.comments) == (("order", "one^x", "two"), ("order",))
    assert (first.instrument_time, first.operator) == ("20260106", "op")


def test_the_patient_is_told_as_sent() -> None:
    decoded = lis2("P|1|X1|||Testa^Anna^M||19840312101500|f", "P|2||L2||||1984|?", "L|1")
    assert decoded.patients == (
        ObservedPatient("X1", "Testa^Anna^M", date(1984, 3, 12), Sex.FEMALE),
        ObservedPatient("L2", "", None, None),
    )
    assert [problem.location for problem in decoded.problems] == ["P 2"]


@pytest.mark.parametrize(
    ("record", "query"),
    [
        ("Q|1|^S1||ALL||||||||O", Query(("S1",), raw="^S1", places=(1,))),
        (
            "Q|1|P7^S1\\P7^S2||^^^GLU\\^^^CREA",
            Query(("S1", "S2"), False, "P7", ("GLU", "CREA"), "P7^S1\\P7^S2", places=(1, 2)),
        ),
        ("Q|1|ALL||ALL", Query((), True, "", (), "ALL")),
        ("Q|1|^S1\\S2\\S3||ALL", Query(("S1", "S2", "S3"), raw="^S1\\S2\\S3", places=(1, 2, 3))),
        ("Q|1|^S1\\^\\^S3\\^S1||ALL", Query(("S1", "S3"), raw="^S1\\^\\^S3\\^S1", places=(1, 3))),
        # LIS02-A2 10.4: Q-4 is where a range ends; some name the one specimen in both.
        ("Q|1|^S1|^S9|ALL", Query(raw="^S1", ranges=(("S1", "S9"),))),
        ("Q|1|^S1|^S1|ALL", Query(("S1",), raw="^S1", places=(1,))),
        ("Q|1|^S1\\^T1|^S4\\^T1|ALL", Query(("T1",), raw="^S1\\^T1", ranges=(("S1", "S4"),), places=(2,))),
        ("Q|1|^S1||ALL||||||||A", Query(("S1",), raw="^S1", cancels=True, places=(1,))),
    ],
)
def test_queries_name_specimens_or_all(record: str, query: Query) -> None:
    decoded = lis2(record, "L|1|N")
    assert decoded.queries == (query,)
    assert decoded.message_type == "query"
    assert not decoded.problems


@pytest.mark.parametrize(("end", "text"), [("", "no terminator"), ("L|1|T", "ended the message with T")])
def test_a_cut_or_aborted_message_is_told(end: str, text: str) -> None:
    decoded = lis2("P|1", "O|1|S1", "R|1|^^^A|1|||||F", *([end] if end else []))
    assert text in decoded.problems[0].text
    assert decoded.specimens[0].results


def test_no_alarm_is_no_remark_about_the_value() -> None:
    """cobas: C-4.1 is the data alarm, 0 for none; an EMR would read it as a note beside every result."""
    records = "P|1", "O|1|1^S1", "R|1|^^^685/|22|U/l||N||F", "C|1|I|0|I", "R|2|^^^687/|9|U/l||N||F", "C|1|I|43|I", "L|1"
    text = "\r".join(("H|\\^&|||c311^1", *records)) + "\r"
    (specimen,) = registry.decode(registry.load("roche_cobas_c311"), text.encode()).specimens
    assert [(one.comments, one.holds) for one in specimen.results] == [((), ()), (("43",), (HoldReason.UNKNOWN_FLAG,))]


@pytest.mark.parametrize("end", ["L|1|T", "L|1|R", "L|1|E"])
def test_what_the_sender_broke_off_is_held_as_incomplete(end: str) -> None:
    (specimen,) = lis2("P|1", "O|1|S1", "R|1|^^^A|1|||||F", end).specimens
    assert specimen.results[0].holds == (HoldReason.INCOMPLETE_TRANSMISSION,)


def test_behind_a_record_that_cannot_be_read_it_is_not_known_whose_the_results_are() -> None:
    """It may have been the next order record: `0|2|S2` for `O|2|S2`."""
    decoded = lis2(
        "P|1", "O|1|S1", "R|1|^^^A|1|||||F", "0|2|S2", "R|1|^^^A|2|||||F", "O|3|S3", "R|1|^^^A|3|||||F", "L|1|N"
    )
    told = [(s.specimen_id, [(r.value.text, r.holds) for r in s.results]) for s in decoded.specimens]
    assert told == [
        ("S1", [("1", ()), ("2", (HoldReason.AMBIGUOUS_SPECIMEN,))]),
        ("S3", [("3", ())]),
    ]


def test_in_an_oru_the_specimen_stands_after_its_results() -> None:
    decoded = hl7(
        "PID|1||P1^^^L^MR||Testa^Anna||19840312|F",
        "OBR|1||F1|GLU", "NTE|1||haemolysed",
        "OBX|1|NM|GLU||5.1|mmol/L|||||F", "NTE|1||note", "SPM|1|S1&L||SER", "OBX|1|NM|VOL||2|mL|||||F",
        "OBR|2||F2|CREA", "OBX|1|NM|CREA||70|umol/L|||||F", "SPM|1|S2&L||PLAS",
    )  # fmt: skip
    told = [(s.specimen_id, s.type, s.role.value, [r.code for r in s.results]) for s in decoded.specimens]
    assert told == [
        ("S1", "SER", "patient", ["GLU"]),
        ("S1", "SER", "other", ["VOL"]),
        ("S2", "PLAS", "patient", ["CREA"]),
    ]
    # HL7 v2.5.1 7.3.1: below its OBR an NTE is about the order, below an OBX about the one result.
    assert decoded.specimens[0].results[0].comments == ("haemolysed", "note")
    assert decoded.specimens[2].results[0].comments == ()
    assert not decoded.problems


def test_in_an_oul_the_specimen_stands_before_its_results() -> None:
    decoded = hl7(
        "SPM|1|S1&L||SER|||||||P^^HL70369", "OBX|1|NM|VOL||2|mL|||||F", "SAC|||S1", "OBR|1|||GLU", "ORC|SC",
        "OBX|1|NM|GLU|1|5.1|mmol/L|||||F", "TCD|GLU", "INV|R1", "OBX|2|NM|GLU|1|5.3|mmol/L|||||F",
        "SPM|2|C7&L||\"\"|||||||Q^^HL70369", "OBR|2|||GLU", "OBX|1|NM|GLU|1|5.6|mmol/L|||||F", type_="OUL^R22^OUL_R22",
    )  # fmt: skip
    told = [(s.specimen_id, s.role.value, [(r.code, r.occurrence) for r in s.results]) for s in decoded.specimens]
    assert told == [
        ("S1", "other", [("VOL", 0)]),
        ("S1", "patient", [("GLU", 0), ("GLU", 1)]),
        ("C7", "qc", [("GLU", 0)]),
    ]


def test_in_an_oul_whose_specimens_stand_behind_their_results_none_gets_the_results_of_the_next() -> None:
    """The standard's own example does so, against its own structure: S1 is of the order before it, or of the next."""
    decoded = hl7(
        "OBR|1|||GLU", "OBX|1|NM|GLU||5.1|mmol/L|||||F", "SPM|1|S1", "OBR|2|||GLU",
        "OBX|1|NM|GLU||6.2|mmol/L|||||F", "SPM|2|S2", type_="OUL^R22^OUL_R22",
    )  # fmt: skip
    assert [(s.specimen_id, [r.value.text for r in s.results]) for s in decoded.specimens] == [
        (None, ["5.1"]),
        (None, ["6.2"]),
    ]
    text = "a specimen behind results without one: whose the others are is not said"
    assert Problem("SPM^1", text) in decoded.problems


NEXT = ("OBX|1|NM|GLU||5.1|mmol/L|||||F", "OBX|1|NM|GLU||6.2|mmol/L|||||F")


@pytest.mark.parametrize("segment", ["SPM|1|{}", "SAC|||{}"])
def test_in_an_oru_whose_specimens_stand_before_their_orders_none_gets_the_results_of_the_next(segment: str) -> None:
    decoded = hl7(
        "PID|1||A", segment.format("S1"), "OBR|1|||GLU", NEXT[0], segment.format("S2"), "OBR|2|||GLU", NEXT[1]
    )
    assert [(s.specimen_id, [r.value.text for r in s.results]) for s in decoded.specimens] == [
        ("S1", ["5.1"]),
        ("S2", ["6.2"]),
    ]


@pytest.mark.parametrize("type_", ["ORU^R01^ORU_R01", "OUL^R24^OUL_R24"])
def test_of_two_specimens_for_one_order_none_is_chosen(type_: str) -> None:
    (specimen,) = hl7("OBR|1|||GLU", *NEXT[:1], "SPM|1|S1", "SPM|2|S2", type_=type_).specimens
    assert (specimen.specimen_id, specimen.results[0].value.text) == (None, "5.1")
    decoded = hl7("OBR|1|||GLU", *NEXT[:1], "SPM|1|S1", "SPM|2|S2", type_=type_)
    assert decoded.problems == (Problem("SPM^2", "several specimens for one order: whose the results are is not said"),)


def test_in_an_order_oriented_oul_the_specimen_stands_behind_its_order() -> None:
    """HL7 v2.5.1 7.3.4: OUL^R24."""
    decoded = hl7(
        "OBR|1|||GLU", "SPM|1|S1", NEXT[0], "OBR|2|||GLU", "SPM|2|S2", NEXT[1], type_="OUL^R24^OUL_R24"
    )  # fmt: skip
    told = [(s.specimen_id, s.role.value, [r.value.text for r in s.results]) for s in decoded.specimens]
    assert told == [("S1", "patient", ["5.1"]), ("S2", "patient", ["6.2"])]


def test_a_container_without_an_order_does_not_take_over_the_results_of_the_one_before() -> None:
    decoded = hl7("SAC|||S1", "OBR|1|||GLU", NEXT[0], "SAC|||S2", NEXT[1], type_="OUL^R21^OUL_R21")
    told = [(s.specimen_id, s.role.value, [r.value.text for r in s.results]) for s in decoded.specimens]
    assert told == [("S1", "patient", ["5.1"]), ("S2", "other", ["6.2"])]


def test_an_order_number_is_no_specimen_id() -> None:
    decoded = hl7("OBR|1|PL|S1|GLU", "OBX|1|NM|GLU||5.1|mmol/L|||||F")
    assert decoded.specimens[0].specimen_id is None
    assert decoded.problems == (Problem("OBR^1", "no specimen id where this driver looks for it"),)


@pytest.mark.parametrize(
    ("fields", "kind", "text", "holds"),
    [
        ("NM|GLU||5.10|mmol/L|||||F", ValueKind.NUMERIC, "5.10", ()),
        ("NM|GLU||<0.5|mmol/L|||||F", ValueKind.NUMERIC, "0.5", ()),
        ("NM|GLU||high|mmol/L|||||F", ValueKind.TEXT, "high", (HoldReason.UNREADABLE_VALUE,)),
        ("NM|GLU||NaN|mmol/L|||||F", ValueKind.FAILED, "NaN", (HoldReason.RUN_FAILED,)),
        ('NM|GLU||""|mmol/L|||||F', ValueKind.EMPTY, "", (HoldReason.NO_VALUE,)),
        ("SN|AB||^1^:^128||||||F", ValueKind.RATIO, "1:128", ()),
        ("ST|GLU||5.1||||||F", ValueKind.NUMERIC, "5.1", ()),
        ("ST|GLU||a\\T\\b||||||F", ValueKind.TEXT, "a&b", ()),
        ("TX|GLU||one~two||||||F", ValueKind.TEXT, "one\ntwo", ()),
        ("CWE|AB||POS^Positive^L||||||F", ValueKind.CODED, "Positive", ()),
        ("CWE|AB||A^Aspergillus^L~B^Candida^L||||||F", ValueKind.CODED, "Aspergillus\nCandida", ()),
        (
            "CWE|AB||POS^Positive^L~ERR^Invalid^L||||||F",
            ValueKind.FAILED,
            "Positive\nInvalid",
            (HoldReason.RUN_FAILED,),
        ),
        ("CWE|AB||^^^POS^Positive^L||||||F", ValueKind.CODED, "Positive", ()),
        ("CWE|AB||^^L^POS||||||F", ValueKind.CODED, "POS", ()),
        ("CWE|AB||^^^^^^^^Reactive||||||F", ValueKind.CODED, "Reactive", ()),
        ("CWE|AB||^^^^^^^^Invalid||||||F", ValueKind.FAILED, "Invalid", (HoldReason.RUN_FAILED,)),
        ("CE|AB||^^99ROC||||||F", ValueKind.EMPTY, "", (HoldReason.NO_VALUE,)),
        ("DTM|PT||20260105101112||||||F", ValueKind.TIME, "20260105101112", ()),
        ("NM|GLU||5.1|mmol/L||||", ValueKind.NUMERIC, "5.1", (HoldReason.UNKNOWN_STATUS,)),
        ("NM|GLU||5.1|mmol/L|||||X", ValueKind.FAILED, "5.1", (HoldReason.RUN_FAILED,)),
        ("NM|GLU||5.1|mmol/L||QQ|||F", ValueKind.NUMERIC, "5.1", (HoldReason.UNKNOWN_FLAG,)),
    ],
)
def test_a_value_is_read_by_its_type(fields: str, kind: ValueKind, text: str, holds: tuple[HoldReason, ...]) -> None:
    (specimen,) = hl7("SPM|1|S1", "OBR|1|||GLU", f"OBX|1|{fields}").specimens
    result = specimen.results[0]
    assert (result.value.kind, result.value.text, result.holds) == (kind, text, holds)


def test_pictures_are_kept_with_the_specimen_and_never_in_a_value() -> None:
    (specimen,) = hl7("SPM|1|S1", "OBR|1|||HIST", "OBX|1|ED|H1^Histogram||^Image^PNG^Base64^iVBORw==||||||F").specimens
    assert [(a.name, a.media_type, a.data) for a in specimen.attachments] == [("Histogram", "image/png", "iVBORw==")]
    assert specimen.results[0].value.kind is ValueKind.IMAGE
    assert "iVBOR" not in specimen.results[0].value.text


def test_malformed_segments_lose_only_themselves() -> None:
    decoded = hl7(
        "SPM|1|S1", "OBR|1|||GLU", "OBX|1|NM|GLU||5.1|mmol/L|||||F", "not a segment", "OBX|2|NM|K||4|mmol/L|||||F"
    )
    assert [r.code for s in decoded.specimens for r in s.results] == ["GLU", "K"]
    assert [problem.location for problem in decoded.problems] == ["NOT^1"]


def test_a_message_without_a_header_is_a_problem_not_a_crash() -> None:
    assert registry.decode(LIS2, b"R|1|x").problems[0].location == "R 1"
    assert registry.decode(HL7, b"OBX|1").problems[0].location == "MSH^1"


@given(st.sampled_from(registry.find_all()), st.binary(max_size=300))
def test_no_bytes_crash_a_decoder(driver: Driver, data: bytes) -> None:
    head = b"H|\\^&\r" if driver.protocol is Protocol.LIS2 else MSH.format(type="ORU^R01").encode()
    assert registry.decode(driver, data).protocol is driver.protocol
    registry.decode(driver, head + data)


RECORDS = st.lists(
    st.builds(
        lambda kind, rest: kind + "|" + rest,
        st.sampled_from(["P", "O", "R", "C", "M", "Q", "L", "S", "X", "H"]),
        st.text("|^\\&~ 0123456789ABQ<>:.-\u00fc", max_size=40),
    ),
    max_size=12,
)
SEGMENTS = st.lists(
    st.builds(
        lambda kind, rest: kind + "|" + rest,
        st.sampled_from(["PID", "OBR", "ORC", "OBX", "SPM", "SAC", "NTE", "QRD", "QPD", "MSH", "Z"]),
        st.text('|^\\&~" 0123456789ABQ<>:.-\u00fc', max_size=40),
    ),
    max_size=12,
)


@given(st.sampled_from(registry.find_all()), RECORDS, SEGMENTS)
def test_no_records_crash_a_decoder_and_no_result_is_lost(
    driver: Driver, records: list[str], segments: list[str]
) -> None:
    if driver.protocol is Protocol.DECLARED:
        return  # its own records, in test_declared.py
    if driver.protocol is Protocol.LIS2:
        text, count = "\r".join(["H|\\^&", *records]), sum(line.startswith("R|") for line in records)
    else:
        text = MSH.format(type="ORU^R01") + "\r".join(segments)
        count = sum(line.startswith("OBX|") for line in segments)
    decoded = registry.decode(driver, text.encode("latin-1" if driver.protocol is Protocol.LIS2 else "utf-8"))
    assert sum(len(specimen.results) for specimen in decoded.specimens) == count


def test_a_capture_leaves_out_refused_and_repeated_frames() -> None:
    good = b"\x021H|\\^&\rP|1\rO|1|S1\rR|1|^^^A|1||||||F\rL|1|N\r\x03"
    body = good[1:]
    frame = good + b"%02X\r\n" % (sum(body) & 0xFF)
    (message,) = read_capture(b"\x05" + good + b"00\r\n" + frame + frame + b"\x04")
    assert message.text == body[1:-1]
    assert [problem.location for problem in message.problems] == ["frame 1"]


@pytest.mark.parametrize("data", [b"", b"hello", b"\x05\x04", b"{}", b"FHS|^~\\&\r", b"# a trace\n> <ENQ>\n"])
def test_what_is_no_capture_is_said_so(data: bytes) -> None:
    with pytest.raises(CaptureError):
        read_capture(data)


def test_a_malformed_order_does_not_give_its_results_to_the_order_before_it() -> None:
    decoded = hl7("OBR|1|||GLU", NEXT[0], "SPM|1|S1", "OBR^2|||GLU", NEXT[1])
    assert [(s.specimen_id, [r.value.text for r in s.results]) for s in decoded.specimens] == [
        ("S1", ["5.1"]),
        (None, ["6.2"]),
    ]


def test_a_malformed_specimen_leaves_its_order_without_one() -> None:
    decoded = hl7("OBR|1|||GLU", NEXT[0], "SPM|1|S1", "SPM^2|S2")
    assert [(s.specimen_id, [r.value.text for r in s.results]) for s in decoded.specimens] == [(None, ["5.1"])]


def test_a_comment_behind_other_segments_of_a_result_is_the_results_comment() -> None:
    (specimen,) = hl7(
        "SPM|1|S1", "OBR|1|||GLU", NEXT[0], "TCD|GLU", "INV|R1", "NTE|1||diluted", type_="OUL^R22"
    ).specimens
    assert specimen.results[0].comments == ("diluted",)


def test_results_of_an_order_behind_the_patients_visit_stay_with_their_order() -> None:
    (specimen,) = hl7("PID|1||A", "OBR|1|||GLU", NEXT[0], "PV1|1|O", NEXT[1], "SPM|1|S1").specimens
    assert (specimen.specimen_id, [r.value.text for r in specimen.results]) == ("S1", ["5.1", "6.2"])


def test_prior_results_are_told_of_and_never_reported_as_results_of_the_order() -> None:
    decoded = hl7(
        "PID|1||A", "ORC|NW|1", "OBR|1|||GLU", "SPM|1|S1", "PID|1||A", "ORC|PR|9", "OBR|1|||GLU", NEXT[0],
        "ORC|NW|2", "OBR|2|||GLU", NEXT[1], "SPM|1|S2", type_="OML^O21^OML_O21",
    )  # fmt: skip
    assert [(s.specimen_id, s.role.value, [r.value.text for r in s.results]) for s in decoded.specimens] == [
        ("S1", "patient", []),
        (None, "other", ["5.1"]),
        ("S2", "patient", ["6.2"]),
    ]


@pytest.mark.parametrize(
    ("value", "media", "data"),
    [
        ("ED|IMG||^Image^PNG^Base64^aGVs\\.br\\bG8=", "image/png", "aGVsbG8="),
        ("ED|IMG||APP^^^Base64^aGVsbG8=", "", "aGVsbG8="),
        ("ED|IMG||APP^^^Base64", "", ""),
        ("RP|IMG||/images/1.png^VIEWER^Image^PNG", "image/png", "/images/1.png"),
    ],
)
def test_a_document_is_an_attachment_and_never_stands_in_a_value(value: str, media: str, data: str) -> None:
    (specimen,) = hl7("OBR|1|||GLU", f"OBX|1|{value}||||||F", "SPM|1|S1").specimens
    (result,) = specimen.results
    assert (result.value.kind, result.value.text) == (ValueKind.IMAGE, "IMG")
    assert [(one.name, one.media_type, one.data) for one in specimen.attachments] == [("IMG", media, data)]
