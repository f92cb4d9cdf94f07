"""A capture becomes a vector without the people in it: nothing of them is left, and what was measured is."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface import cli
from interface.domain.model import Protocol, ValueKind
from interface.driver import registry
from interface.driver.conversation import steps_of
from interface.driver.deidentify import deidentified
from interface.driver.leaves import line_id, lines_of
from interface.driver.manifest import Driver
from interface.driver.pseudonyms import Pseudonyms, date_order
from interface.errors import DriverError
from interface.wire import mllp
from interface.wire.frames import build_frame, checksum
from interface.wire.trace import Direction, TraceStep, parse_trace
from tests.corpus import CORPUS

KEY = b"a key of the laboratory's own"
XN, BC, C311, CSV, VIDAS, FIXED = (
    registry.load(name)
    for name in ("sysmex_xn", "mindray_bc5380", "roche_cobas_c311", "generic_csv", "biomerieux_mini_vidas",
                 "generic_fixed")
)  # fmt: skip

# Invented, as if it were somebody's.
LIS2 = (
    b"H|\\^&|||    XN-550^00-24^90001^^^^TEST9001||||||||E1394-97\r"
    b"P|1|MRN-77812|LAB-55123|SSN-90-441|^Wilhelmina^Oosterbaan|Featherstone|19710509|F||12 Harbour Lane, Brightwater"
    b"||0171 555 0199|^Drummond.7||||||||||||WARD-C14\r"
    b"C|1|I|Oosterbaan seen by Drummond on 20260105|G\r"
    b"O|1||^^              K-4471882^B|^^^^WBC\\^^^^HGB|||20260105080000||||||fasting, Oosterbaan|||Quenby^Rosalind|"
    b"0171 555 0188||||||||F\r"
    b"R|1|^^^^WBC^1|6.42|10*3/uL||N||F||Tregarthen||20260105081500\r"
    b"R|2|^^^^HGB^1|>13.9|g/dL||H||F||Tregarthen||20260105081507\r"
    b"L|1|N\r"
)
LIS2_TELLING = [
    *(
        "MRN-77812 LAB-55123 SSN-90-441 Wilhelmina Oosterbaan Featherstone 19710509 Harbour Brightwater "
        "Drummond WARD-C14 K-4471882 Quenby Rosalind Tregarthen fasting 20260105 seen"
    ).split(),
    "555 0199",
    "555 0188",
]  # fmt: skip - four digits alone come about by chance
HL7 = (
    "MSH|^~\\&|BC-5380|Mindray|||20260105100100||ORU^R01|1|P|2.3.1||||||UNICODE\r"
    "PID|1||MRN-77812^^^HOSP^MR||Oosterbän^Wilhelmina||19710509000000|Female|||12 Harbour Lane^^Brightwater"
    "||01715550199\r"
    "PV1|1|I|WARD-C14^7^2||||Drummond^Ian\r"
    "NK1|1|Featherstone^Jem\r"
    "OBR|1|PLACER-88123|K-4471882|00001^Automated Count^99MRC||20260105080000|20260105101500|||Tregarthen|||"
    "fasting|20260105090000||Quenby^Rosalind||||||||HM\r"
    "OBX|1|NM|6690-2^WBC^LN||5.61|10*9/L|4.00-10.00|N|||F|||||Tregarthen\r"
    "NTE|1||called to Drummond \\T\\ Quenby\r"
    "OBX|2|NM|718-7^HGB^LN||135|g/L|110-160|N|||F\r"
    "ZPI|1|Oosterbän\r"
).encode()
HL7_TELLING = (
    "MRN-77812 Oosterbän Wilhelmina 19710509 Harbour Brightwater 01715550199 WARD-C14 Drummond Featherstone "
    "PLACER-88123 K-4471882 Tregarthen fasting Quenby Rosalind called 20260105"
).split()  # fmt: skip


def framed(text: bytes) -> bytes:
    """One record in each frame, the longest cut in two."""
    records = re.findall(rb"[^\r]+\r", text)
    parts = [(part, at == len(cut)) for record in records
             for cut in [[record[i : i + 120] for i in range(0, len(record), 120)]]
             for at, part in enumerate(cut, start=1)]  # fmt: skip
    return b"\x05" + b"".join(build_frame(n, part, last) for n, (part, last) in enumerate(parts, start=1)) + b"\x04"


def without(driver: Driver, data: bytes, key: bytes = KEY) -> tuple[TraceStep, ...]:
    return deidentified(steps_of(data, driver), driver, key)


def said(steps: tuple[TraceStep, ...], side: Direction = Direction.ANALYZER) -> bytes:
    return b"".join(step.data for step in steps if step.direction is side)


def measured(driver: Driver, data: bytes) -> list[tuple[object, ...]]:
    return [
        (
            result.code,
            None if result.value.kind is ValueKind.IMAGE else result.value,
            result.unit,
            result.flags,
            result.status,
            result.reference,
            result.holds,
        )
        for message in registry.read(data, driver)
        for specimen in registry.decode(driver, message.text).specimens
        for result in specimen.results
    ]


@pytest.mark.parametrize(("driver", "data", "telling"), [
    (XN, framed(LIS2), LIS2_TELLING), (XN, LIS2, LIS2_TELLING), (BC, mllp.encode(HL7), HL7_TELLING),
    (BC, HL7, HL7_TELLING),
])  # fmt: skip
def test_nothing_of_a_person_is_left_in_trace_and_expectation(
    driver: Driver, data: bytes, telling: list[str], tmp_path: Path
) -> None:
    site = tmp_path / "drivers"
    folder = site / driver.id
    shutil.copytree(registry.packaged_path() / driver.id, folder)
    capture = tmp_path / "capture.raw"
    capture.write_bytes(data)
    options = ["--name", "result-9", "--driver-path", str(site)]
    assert cli.run_command(["driver", "vector", driver.id, str(capture), *options]) == 0
    trace = (folder / "vectors" / "result-9.trace").read_text()
    expected = (folder / "vectors" / "result-9.expected.json").read_text()
    spoken = parse_trace(trace).bytes_of(Direction.ANALYZER).decode()
    for word in telling:
        assert word.casefold() not in trace.casefold(), word
        assert word.casefold() not in spoken.casefold(), word
        assert word.casefold() not in expected.casefold(), word
    assert measured(driver, trace.encode()) == measured(driver, data)
    assert len(json.loads(expected)) == 1
    assert cli.run_command(["driver", "test", driver.id, "--driver-path", str(site)]) == 0
    assert cli.run_command(["driver", "vector", driver.id, str(capture), *options]) == 1  # it is there already


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ("generic_lis2", b"H|\\^&|||ACME\rP|1\rO|1|S-100200||^^^GLU|R||||||||||||||||||||||WARD-C14|||Brightwater\r"
                         b"R|1|^^^GLU|5.5|mmol/L||N||F\rL|1|N\r"),
        ("generic_hl7", b"MSH|^~\\&|ACME||||20260105||OUL^R22|1|P|2.5.1\rSPM|1|S-100200||SER\r"
                        b"ORC|RE|||||||PARENT-4471^Featherstone\r"
                        b"OBR|1|||GLU|||||||||||||||||||||||||PARENT-4471^Oosterbaan\r"
                        b"OBX|1|NM|GLU||5.5|mmol/L|||||F\r"),
    ],
)  # fmt: skip
def test_where_a_specimen_was_taken_and_whose_order_it_came_from_is_replaced(driver: str, text: bytes) -> None:
    """LIS02-A2 O-28 and O-31, the ward and the institution; HL7 ORC-8 and OBR-29, the parent order's ids."""
    steps = [TraceStep(Direction.ANALYZER, text)]
    made = b"".join(step.data for step in deidentified(steps, registry.load(driver), KEY)).decode()
    for word in "Brightwater WARD-C14 Oosterbaan Featherstone S-100200 PARENT-4471".split():
        assert word not in made, word
    assert "|5.5|mmol/L|" in made


def test_frames_keep_their_shape_and_their_sums_are_right() -> None:
    data = framed(LIS2)
    made = said(without(XN, data))
    assert len(made) == len(data)
    assert [match.span() for match in re.finditer(rb"[\x02-\x05\x17\r\n]|\x03..", made, re.DOTALL)] == [
        match.span() for match in re.finditer(rb"[\x02-\x05\x17\r\n]|\x03..", data, re.DOTALL)
    ]
    frames = re.findall(rb"\x02([^\x03\x17]*[\x03\x17])(..)\r\n", made)
    assert len(frames) > 7
    assert all(checksum(body) == digits for body, digits in frames)
    (name,) = re.findall(rb"\|(\^[A-Z][a-z]+\^[A-Z][a-z]+)\|", made.replace(b"\r", b"\r\n"))
    assert [len(part) for part in name.split(b"^")] == [0, len("Wilhelmina"), len("Oosterbaan")]
    assert b"^^              " in made


def test_a_damaged_frame_stays_damaged_and_says_nothing() -> None:
    good = framed(LIS2)
    first = good.index(b"P|1|MRN")
    damaged = good[:first] + b"Q" + good[first + 1 :]
    made = said(without(XN, damaged))
    assert b"77812" not in made
    assert len(made) == len(damaged)
    sums = [checksum(body) == digits for body, digits in re.findall(rb"\x02([^\x03\x17]*[\x03\x17])(..)\r\n", made)]
    assert sums.count(False) == 1


def test_the_same_person_is_the_same_in_every_capture_and_another_is_another() -> None:
    again = LIS2.replace(b"6.42", b"7.11").replace(b"081500", b"091500")
    other = LIS2.replace(b"K-4471882", b"K-4471883")
    one, two, three = (registry.decode(XN, next(iter(registry.read(said(without(XN, data)), XN))).text)
                       for data in (LIS2, again, other))  # fmt: skip
    assert one.specimens[0].specimen_id == two.specimens[0].specimen_id != three.specimens[0].specimen_id
    assert one.patients == two.patients == three.patients
    elsewhere = registry.decode(XN, registry.read(said(without(XN, LIS2, b"another key")), XN)[0].text)
    assert elsewhere.patients != one.patients


def test_dates_move_together() -> None:
    decoded = registry.decode(XN, registry.read(said(without(XN, LIS2)), XN)[0].text)
    (patient,) = decoded.patients
    first, second = (result.instrument_time for result in decoded.specimens[0].results)
    days = timedelta(Pseudonyms(KEY).days)
    assert patient.birth_date == date(1971, 5, 9) + days
    assert (first, second) == (f"{date(2026, 1, 5) + days:%Y%m%d}081500", f"{date(2026, 1, 5) + days:%Y%m%d}081507")


def test_an_answered_query_names_the_same_specimen_on_both_sides() -> None:
    for driver in (XN, C311, BC):
        vector = next(one for one in registry.vectors(driver.id) if one.name == "query-with-orders")
        data = vector.trace.read_bytes()
        before = parse_trace(data.decode()).bytes_of(Direction.HOST)
        steps = without(driver, data)
        asked = registry.decode(driver, registry.read(said(steps), driver)[0].text).queries[0].specimen_ids[0]
        assert asked.encode() in said(steps, Direction.HOST)
        for word in (b"Testa", b"Anna", b"TEST-0001", b"S-100001", b"S-200001", b"S-300001"):
            assert word not in said(steps) + said(steps, Direction.HOST)
        assert len(said(steps, Direction.HOST)) == len(before)


def test_a_control_stays_what_it_is() -> None:
    for driver in (XN, C311, BC):
        data = next(one for one in registry.vectors(driver.id) if one.name == "qc").trace.read_bytes()
        before, after = (registry.decode(driver, registry.read(each, driver)[0].text).specimens[0]
                         for each in (data, said(without(driver, data))))  # fmt: skip
        assert (before.specimen_id, before.role) == (after.specimen_id, after.role)


@pytest.mark.parametrize("driver", registry.find_all(), ids=lambda one: one.id)
def test_every_vector_there_is_can_be_made_anew(driver: Driver) -> None:
    for vector in registry.vectors(driver.id):
        data = vector.trace.read_bytes()
        steps = without(driver, data)
        assert [(step.direction, len(step.data)) for step in steps] == [
            (step.direction, len(step.data)) for step in parse_trace(data.decode()).steps
        ]
        assert measured(driver, said(steps)) == measured(driver, data)


def test_records_of_a_layout_of_its_own_lose_their_people_too() -> None:
    header = (
        b"sample_id,sample_kind,patient_id,sample_type,test,test_name,result,unit,reference,flag,status,time,comment"
    )
    row = b'\r\nK-4471882,,MRN-77812,SER,GLU,Glucose,5.10,mmol/L,3.9-6.1,N,F,20260105115500,"seen by Quenby, MD"\r\n'
    made = said(without(CSV, header + row))
    assert made.startswith(header)
    for word in (b"K-4471882", b"MRN-77812", b"Quenby", b"20260105"):
        assert word not in made
    assert measured(CSV, made) == measured(CSV, header + row)
    text = (
        "mtrsl|\x1epiMRN-77812|\x1epnOosterbaan|\x1esi|\x1eciK-4471882|\x1ertTSH|\x1ernTSH|\x1ett12:10|\x1etd01/25/26"
    )
    block = b"\x02\x1e" + text.encode() + b"|\x1eql|\x1eqn2.45 uIU/ml|\x1d"
    data = b"\x05" + block + b"%02x" % (sum(block[1:]) & 0xFF) + b"\x03\x04"
    steps = without(VIDAS, data)
    for word in (b"MRN-77812", b"Oosterbaan", b"K-4471882", b"01/25/26"):
        assert word not in said(steps)
    assert measured(VIDAS, said(steps)) == measured(VIDAS, data) != []
    assert [step.data for step in steps if step.direction is Direction.HOST] == [b"\x06", b"\x06"]


def test_a_name_within_a_value_is_refused_and_can_be_kept_by_name() -> None:
    data = HL7.replace(b"|NM|718-7^HGB^LN||135|", b"|ST|718-7^HGB^LN||see Quenby|")
    with pytest.raises(DriverError, match="1 of the names, ids and words") as refused:
        without(BC, data)
    assert "Quenby" not in str(refused.value)
    kept = deidentified(steps_of(data, BC), BC, KEY, frozenset({"Quenby"}))
    assert said(kept).count(b"Quenby") >= 1


def test_what_is_in_no_frame_is_blotted_out() -> None:
    noise = b"Oosterbaan 4471882 "
    made = said(without(XN, noise + framed(LIS2)))
    assert made.startswith(b"xxxxxxxxxx 0000000 ")


@given(text=st.text(alphabet="0123456789ABCDEFGHIJabcdefghij-./ ", min_size=1, max_size=24), key=st.binary(min_size=1))
def test_an_id_keeps_its_form_and_two_stay_two(text: str, key: bytes) -> None:
    names = Pseudonyms(key)
    made = names.identifier(text)
    assert re.sub("[A-Z]", "A", re.sub("[a-z]", "a", re.sub("[0-9]", "9", made))) == re.sub(
        "[A-Z]", "A", re.sub("[a-z]", "a", re.sub("[0-9]", "9", text))
    )
    assert len(made) - len(made.lstrip("0")) == len(text) - len(text.lstrip("0")) or not text.isdigit()
    assert made != text or not re.search("[1-9A-Za-z]", text) or "0" in text


def test_ids_are_permuted_and_none_stays_itself() -> None:
    names = Pseudonyms(KEY)
    made = [names.identifier(f"{number:03d}") for number in range(1, 1000)]
    assert sorted(made) == [f"{number:03d}" for number in range(1, 1000)]
    assert all(int(one) != number for number, one in enumerate(made, start=1))


def test_how_dates_are_written_is_seen_from_all_of_them() -> None:
    assert date_order(["01/25/26", "02/03/26"]) == "MDY"
    assert date_order(["25/01/26", "02/03/26"]) == "DMY"
    assert date_order(["26/01/05", "26/01/31"]) == "YMD"
    assert date_order([]) == "DMY"
    assert Pseudonyms(KEY, "MDY").dates("x 01/25/26 99/99/99") != "x 01/25/26 99/99/99"


# ---- captures of real analyzers -------------------------------------------------------------------------------------

CAPTURES = [
    path for pattern in ("astm/*.astm", "hl7/mindray*", "hl7/roche*", "hl7/cepheid*", "other/*.raw")
    for path in sorted(CORPUS.glob(pattern))
]  # fmt: skip


@pytest.mark.skipif(not CAPTURES, reason="the corpus is not there (LABORA_CORPUS)")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_no_patient_of_a_real_capture_is_left(path: Path) -> None:
    data = path.read_bytes()
    first = registry.read(data)[0]
    driver = registry.sniff(first.protocol, first.text)
    made = said(without(driver, data))
    assert measured(driver, made) == measured(driver, data)
    telling: set[bytes] = set()
    for message in registry.read(data, driver):
        decoded = registry.decode(driver, message.text)
        for patient in decoded.patients:
            telling |= {patient.patient_id.encode(), *(part.encode() for part in patient.name.split("^"))}
        telling |= {
            (one.specimen_id or "").encode() for one in decoded.specimens if one.role == "patient" and one.specimen_id
        }
        if message.protocol is not Protocol.DECLARED:
            source = lines_of(message.protocol, message.text, driver.encoding)
            for line in source.lines:
                if line_id(line, message.protocol) in ("P", "PID"):
                    fields = line.split(source.marks.field)
                    telling |= {field.encode() for field in fields[2:8] if len(field) > 4}
    for word in telling - {b"Patient"}:  # as one capture calls its patient, and all their specimens
        if len(word) > 4:
            assert not re.search(rb"(?<![0-9A-Za-z])" + re.escape(word) + rb"(?![0-9A-Za-z])", made), len(word)
