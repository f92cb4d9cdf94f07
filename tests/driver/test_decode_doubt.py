"""What a record that cannot be read, or whose fields have moved, leaves in doubt: whose a result is, what it says."""

from __future__ import annotations

import pytest

from interface.domain.identity import natural_keys
from interface.domain.model import DecodedMessage, HoldReason, Observed, SpecimenRole, ValueKind
from interface.driver import registry
from interface.driver.decode_hl7 import decode as hl7
from interface.driver.decode_lis02 import decode as lis2

D = {one.id: one for one in registry.find_all()}
HEAD = "MSH|^~\\&|A|B|||20260101||ORU^R01|1|P|2.5.1\rPID|1||P1\rSPM|1|S1\rOBR|1|||T\r"
UNREADABLE_PATIENT = ["X|2|", " P|2|", "\x10|2|", "|2|"]


def euroimmun(second: str, *between: str) -> DecodedMessage:
    records = [
        "H|\\^&|||", "P|1||JONES-1", "O|1|||^^^SARSCOV2IGA||20260105080737", "R|1|^^^SARSCOV2IGA|0,41|Ratio|", second,
        *between, "O|1|||^^^SARSCOV2IGA||20260105080737", "R|1|^^^SARSCOV2IGA|7,41|Ratio|", "L|1|N",
    ]  # fmt: skip
    return lis2(D["euroimmun_analyzer"], "".join(f"{one}\n" for one in records).encode())


@pytest.mark.parametrize("start", UNREADABLE_PATIENT)
def test_a_specimen_named_by_a_patient_record_that_cannot_be_read_is_not_the_one_before(start: str) -> None:
    first, second = euroimmun(f"{start}|SMITH-2").specimens
    assert (first.specimen_id, first.patient, first.results[0].holds) == ("JONES-1", 0, ())
    assert (second.specimen_id, second.patient) == (None, None)
    assert HoldReason.AMBIGUOUS_SPECIMEN in second.results[0].holds


@pytest.mark.parametrize("start", UNREADABLE_PATIENT)
def test_so_it_is_where_the_patient_s_id_is_the_specimen_s(start: str) -> None:
    records = [
        "H|\\^&|||DCA VANTAGE^04.04.00.00^S099901|||||||P||20260307151746", "P|1|S-1", "O|1||661^0091",
        "R|1|^^^HbA1c|5.1|%||||F|||20260307151030", f"{start}S-2", "O|1||662^0091",
        "R|1|^^^HbA1c|11.9|%||||F|||20260307152030", "L|1|N",
    ]  # fmt: skip
    first, second = lis2(D["siemens_dca_vantage"], "".join(f"{one}\r" for one in records).encode()).specimens
    assert (first.specimen_id, first.patient, first.results[0].holds) == ("S-1", 0, ())
    assert (second.specimen_id, second.patient) == (None, None)
    assert HoldReason.AMBIGUOUS_SPECIMEN in second.results[0].holds


def test_the_next_patient_record_that_can_be_read_ends_the_doubt() -> None:
    second = euroimmun("X|2||SMITH-2", "P|3||MEYER-3").specimens[-1]
    assert (second.specimen_id, second.patient, second.results[0].holds) == ("MEYER-3", 1, ())


def test_a_result_without_an_order_is_not_the_patient_s_before_one_that_cannot_be_read() -> None:
    text = b"H|\\^&|||\nP|1||JONES-1\nX|2||SMITH-2\nR|1|^^^SARSCOV2IGA|7,41|Ratio|\nL|1|N\n"
    (specimen,) = lis2(D["euroimmun_analyzer"], text).specimens
    assert (specimen.specimen_id, specimen.patient) == (None, None)


def test_an_order_that_names_its_specimen_has_no_patient_behind_a_record_that_cannot_be_read() -> None:
    text = b"H|\\^&|||X\rP|1|A\rO|1|S1||^^^GLU\rR|1|^^^GLU|1|||||F\rX|2|B\rO|1|S2||^^^GLU\rR|1|^^^GLU|2|||||F\rL|1|N\r"
    first, second = lis2(D["generic_lis2"], text).specimens
    assert (first.specimen_id, first.patient) == ("S1", 0)
    assert (second.specimen_id, second.patient, second.results[0].holds) == ("S2", None, ())


def test_behind_a_malformed_pid_nothing_is_the_patient_s_before() -> None:
    order = "SPM|{n}|S{n}\rOBR|{n}|||T\rOBX|1|NM|GLU||{n}||||||F\r"
    head = "MSH|^~\\&|A|B|||20260101||ORU^R01|1|P|2.5.1\rPID|1||P1\r"
    text = f"{head}{order.format(n=1)}PID:|2||P2\r{order.format(n=2)}"
    patients = [one.patient for one in hl7(D["generic_hl7"], text.encode()).specimens if one.results]
    assert patients == [0, None]


@pytest.mark.parametrize("pid", ["PID|1||B", "PID:|1||B"])
def test_the_patient_of_prior_results_is_not_that_of_the_orders_behind_them(pid: str) -> None:
    order = "ORC|NW|{n}\rOBR|{n}|||GLU\rOBX|1|NM|GLU||{n}||||||F\rSPM|1|S{n}\r"
    head = "MSH|^~\\&|A|B|||20260101||OML^O21^OML_O21|1|P|2.5.1\rPID|1||A\r"
    prior = f"{pid}\rORC|PR|9\rOBR|1|||GLU\rOBX|1|NM|GLU||9||||||F\r"
    decoded = hl7(D["generic_hl7"], f"{head}{order.format(n=1)}{prior}{order.format(n=2)}".encode())
    assert [one.patient for one in decoded.specimens if one.role is SpecimenRole.PATIENT] == [0, 0]


def keyed(driver_id: str, *rows: str) -> list[bytes]:
    """The keys of the results of one specimen."""
    driver = D[driver_id]
    (specimen,) = hl7(driver, (HEAD + "".join(f"{row}\r" for row in rows)).encode()).specimens
    return natural_keys(driver.id, specimen)


@pytest.mark.parametrize(
    ("driver_id", "first", "second"),
    [
        ("generic_hl7", "OBX|1|ST|ORG|^1^1|{}||||||F", "OBX|2|ST|ORG|^2^1|{}||||||F"),
        ("generic_hl7", "OBX|1|ST|ORG|1~1|{}||||||F", "OBX|2|ST|ORG|1~2|{}||||||F"),
        ("cepheid_genexpert_hl7", "OBX|1|ST|&T&Q&1|H|^{}||||||F", "OBX|2|ST|&T&Q&1|H&LOG|^{}||||||F"),
    ],
)
def test_results_are_told_apart_by_every_part_of_their_sub_id(driver_id: str, first: str, second: str) -> None:
    one, other = keyed(driver_id, first.format(1), second.format(2))
    assert one != other
    assert keyed(driver_id, second.format(3)) == [other]
    assert keyed(driver_id, second.format(3), first.format(1)) == [other, one]


@pytest.mark.parametrize("sent", ["", "1", "1.2", " A ", "A^", "A\\T\\B", '""'])
def test_a_simple_sub_id_is_what_it_says(sent: str) -> None:
    (specimen,) = hl7(D["generic_hl7"], f"{HEAD}OBX|1|NM|GLU|{sent}|5||||||F\r".encode()).specimens
    assert specimen.results[0].sub_id == sent.strip('"^ ').replace("\\T\\", "&")


def result(row: str) -> Observed:
    (specimen,) = hl7(D["generic_hl7"], f"{HEAD}{row}\r".encode()).specimens
    return specimen.results[0]


def test_of_a_coded_value_nothing_behind_an_ampersand_is_lost() -> None:
    text = "Influenza A NEGATIVE & Influenza B POSITIVE"
    observed = result(f"OBX|1|CWE|FLU||X^{text}^L||||||F")
    assert (observed.value.kind, observed.value.text) == (ValueKind.CODED, text)
    assert result("OBX|1|CWE|FLU||X^A \\T\\ B^L||||||F").value.text == "A & B"


@pytest.mark.parametrize("sent", ["^1^:^40~^1^:^1280", "<^5~^7", "^1^:^40~", "^1^:^40^1280", "<^5^^^7"])
def test_of_several_structured_numbers_none_is_chosen(sent: str) -> None:
    observed = result(f"OBX|1|SN|ANA||{sent}||||||F")
    assert (observed.value.kind, observed.value.text) == (ValueKind.TEXT, sent)
    assert HoldReason.UNREADABLE_VALUE in observed.holds


@pytest.mark.parametrize(
    "order", ["O|1|10042||^^^GLU&|&1|R||||||Q", "O1|10042||^^^GLU|R||||||||Q", "O|1|1&|&2||^^^GLU|R||||||Q"]
)
@pytest.mark.parametrize("rows", ["R|1|^^^GLU|2.1|mmol/L||N||F\r", "R|1|^^^GLU|2.1|mmol/L||N||F\r" * 2])
def test_results_below_an_order_record_whose_fields_may_have_moved_are_held(order: str, rows: str) -> None:
    """A control's Q may stand in the next field: its results are no patient's."""
    text = f"H|\\^&|||X|||||||P|LIS2-A2|20260101\rP|1\r{order}\r{rows}L|1|N\r"
    (specimen,) = lis2(D["generic_lis2"], text.encode()).specimens
    assert all(HoldReason.UNREADABLE_VALUE in one.holds for one in specimen.results)


def test_so_are_those_of_a_specimen_that_such_a_patient_record_names() -> None:
    rows = "O|1|S1||^^^SARSCOV2IGA||20260105080737\rR|1|^^^SARSCOV2IGA|7,41|Ratio|\rL|1|N\r"
    (specimen,) = lis2(D["euroimmun_analyzer"], f"H|\\^&|||\rP|1&|&2|A|JONES-1\r{rows}".encode()).specimens
    assert HoldReason.UNREADABLE_VALUE in specimen.results[0].holds
    (specimen,) = lis2(D["generic_lis2"], f"H|\\^&|||\rP|1|A&|&B\r{rows}".encode()).specimens
    assert HoldReason.UNREADABLE_VALUE not in specimen.results[0].holds


@pytest.mark.parametrize(
    ("sent", "text", "held"),
    [
        ("-1^0.567", "0.567", False), ("1^>100", "100", False), ("2.310", "2.310", False), ("<2.00", "2.00", False),
        ("1^", "1", True), ("0^", "0", True), ("-1", "-1", True), ("2^5", "2", True),
    ],
)  # fmt: skip
def test_a_judgement_of_an_e411_is_no_number(sent: str, text: str, held: bool) -> None:
    records = f"H|\\^&|||cobas-e411^1\rP|1\rO|1|S1||^^^900\rR|1|^^^900/1/not|{sent}|COI||N||F\rL|1\r"
    (specimen,) = lis2(D["roche_cobas_e411"], records.encode()).specimens
    observed = specimen.results[0]
    assert observed.value.text == text
    assert (HoldReason.UNREADABLE_VALUE in observed.holds) is held


def test_of_a_specimen_whose_id_is_continued_no_part_is_another_s() -> None:
    """HL7 v2.5.1 2.10.2.1: a segment may be cut anywhere, and ADD has the rest of it."""
    order = "OBR|1|||GLU\rOBX|1|NM|GLU||5.1|mmol/L|||||F\r"
    head = "MSH|^~\\&|A|B|||20260101||OUL^R22|1|P|2.5.1\rSPM|1|S-26"
    (specimen,) = hl7(D["generic_hl7"], f"{head}\rADD|00117||SER\r{order}".encode()).specimens
    assert (specimen.specimen_id, specimen.type, specimen.results[0].holds) == ("S-2600117", "SER", ())


def test_what_goes_on_in_another_message_names_no_specimen_and_is_no_result() -> None:
    """In frames its parts are acknowledged one by one, so that it cannot be refused."""
    head = "MSH|^~\\&|A|B|||20260101||OUL^R22|{n}|P|2.5.1||{at}\r"
    one = f"{head.format(n=1, at='')}SPM|1|S-1\rOBR|1|||GLU\rOBX|1|NM|GLU||5.1||||||F\rOBX|2|NM|NA||1\rADD\rDSC|W4|F\r"
    two = f"{head.format(n=2, at='W4')}ADD|40|mmol/L|||||F\rOBX|3|NM|K||4.1|mmol/L|||||F\r"
    driver = D["generic_hl7_lis01"]
    first, second = hl7(driver, one.encode()), hl7(driver, two.encode())
    (specimen,) = first.specimens
    assert [(one.code, one.value.text) for one in specimen.results] == [("GLU", "5.1")]
    assert [problem.location for problem in first.problems] == ["OBX^2", "ADD^1"]
    assert [specimen.specimen_id for specimen in second.specimens] == [None]
    assert second.problems[0].location == "ADD^1"
