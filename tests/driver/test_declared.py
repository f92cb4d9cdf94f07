"""Framings and records that a driver lays out itself: the mini VIDAS of the corpus, and each kind of layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.model import DecodedMessage, HoldReason, Observed, ObservedPatient, Protocol, SpecimenRole
from interface.driver import registry
from interface.driver.capture import CaptureError
from interface.driver.manifest import Driver, LinkFraming
from interface.driver.parse import parse_manifest
from interface.driver.receiving import split_places
from interface.errors import DriverError
from interface.wire import declared
from tests import corpus

MINI_VIDAS = "other/biomerieux-minividas-hbct.raw"
HEAD = """
[driver]
id = "acme_one"
revision = "1"
protocol = "declared"
tier = "simulated"
title = "Acme"
document = "Acme manual 3"
[match]
text = "."
[status]
"" = "ok"
[[role]]
role = "qc"
path = "role"
equals = "QC"
"""
BLOCK = """
[framing.block]
start = "<STX>"
end = "<ETX>"
good = "<ACK>"
bad = "<NAK>"
"""
TAGGED = """
[record]
kind = "tagged"
separator = "<RS>"
ends = "|"
tag_width = 2
begins = "rt"
ignored = ["zz"]
[record.fields]
patient_id = "pi"
specimen_id = "ci"
code = "rt"
value = ["qn", "ql"]
comments = "ql"
"""
FOLDED = TAGGED.replace('separator = "<RS>"', 'fold = "<RS>"')
FIXED = """
[record]
kind = "fixed"
width = 20
lines = true
value_pattern = '(?P<value>[<>]?[0-9.]+) (?P<unit>.+)'
[record.fields]
specimen_id = "1-6"
role = "7-8"
code = "=CRP"
value = "9-20"
"""
CSV = """
[record]
kind = "csv"
header = true
[record.fields]
specimen_id = "Sample"
patient_id = "Patient"
role = "Kind"
birth_date = "Born"
code = "Test"
value = "Result"
unit = "Unit"
flags = ["Flag", "Flag 2"]
instrument_time = "Date + Time"
"""
HEADER = "Sample,Patient,Kind,Born,Test,Result,Unit,Flag,Flag 2,Date,Time\r\n"


def driver(record: str, block: str = BLOCK) -> Driver:
    return parse_manifest(HEAD + block + record, "driver.toml")


def told(record: str, text: str) -> DecodedMessage:
    return registry.decode(driver(record), text.encode("latin-1"))


def results(decoded: DecodedMessage) -> list[tuple[str | None, str, str, str, str]]:
    """(specimen, code, value as words, unit, location) of each result."""
    return [(s.specimen_id, r.code, r.value.text, r.unit, r.location) for s in decoded.specimens for r in s.results]


def holds(decoded: DecodedMessage) -> list[tuple[HoldReason, ...]]:
    return [result.holds for specimen in decoded.specimens for result in specimen.results]


# ---- the corpus -----------------------------------------------------------------------------------------------------


def test_the_corpus_mini_vidas_says_what_is_expected_of_it() -> None:
    """Settled by reading the block: the file ends without ETX (its checksum is right), so that is a problem beside it;
    `ql` (Positif) is what the number means and EXPECTED.tsv's flag; the number carries no unit, the block no status and
    no patient."""
    listed, (row,) = corpus.manifest()[MINI_VIDAS], corpus.rows()[MINI_VIDAS]
    (message,) = registry.read(corpus.read(MINI_VIDAS))
    found = registry.sniff(message.protocol, message.text)
    assert found.id == "biomerieux_mini_vidas"
    decoded = registry.decode(found, message.text)
    ((specimen, result),) = [(s, r) for s in decoded.specimens for r in s.results]
    assert (listed.messages, listed.results) == (1, 1)
    assert (specimen.specimen_id, row.specimen) == (listed.specimen, listed.specimen)
    assert ([patient.patient_id for patient in decoded.patients], listed.patient) == ([], "")
    assert (result.code, result.value.text, result.unit) == (row.code, row.value, row.unit)
    assert (" ".join(result.flags), result.status, result.reference) == (row.flag, row.status, row.reference)
    assert (found.flag(row.flag), result.holds, decoded.problems) == ("POS", (), ())
    assert [problem.text for problem in message.problems] == ["the block is not ended by <ETX>"]


def test_the_corpus_mini_vidas_reads_the_same_byte_by_byte_and_at_every_split() -> None:
    grammar = registry.load("biomerieux_mini_vidas").blocks
    assert grammar is not None
    data = corpus.read(MINI_VIDAS).rstrip(b"\n") + b"\x03"

    def blocks(*parts: bytes) -> list[declared.Event]:
        decoder = declared.Decoder(grammar)
        return [event for part in parts for event in decoder.receive(part)]

    whole = blocks(data)
    assert [type(event) for event in whole] == [declared.BlockReceived]
    assert blocks(*(data[at : at + 1] for at in range(len(data)))) == whole
    for place in split_places(data):
        assert blocks(data[:place], data[place:]) == whole, place


def test_a_word_the_mini_vidas_driver_does_not_know_is_held_and_never_dropped() -> None:
    """Of a competitive assay the low number is positive: without its word it must not go on."""
    found = registry.load("biomerieux_mini_vidas")
    text = "\x1emtrsl|\x1eciS1|\x1ertHBCT|\x1eqlGrenzwertig|\x1eqn0.99|".encode("latin-1")
    (specimen,) = registry.decode(found, text).specimens
    (result,) = specimen.results
    assert (result.value.text, result.flags) == ("0.99", ("Grenzwertig",))
    assert result.holds == (HoldReason.UNKNOWN_FLAG,)


def test_a_message_of_another_type_holds_no_results() -> None:
    found = registry.load("biomerieux_mini_vidas")
    decoded = registry.decode(found, b"\x1emtmpr|\x1eciS1|\x1ertHBCT|\x1eqn0.99|")
    assert not decoded.specimens
    assert [problem.text for problem in decoded.problems] == ["records of type 'mpr' are not read by this driver"]


# ---- tags -----------------------------------------------------------------------------------------------------------


def test_what_is_said_of_a_specimen_holds_for_its_results_and_no_longer() -> None:
    decoded = told(
        TAGGED,
        "\x1epiP1|\x1eciS1|\x1ertA|\x1eqn1|\x1ertB|\x1eqlneg|\r\n\x1eciS2|\x1ertA|\x1eqn3|\x1epiP2|\x1ertA|\x1eqn4|",
    )
    assert results(decoded) == [
        ("S1", "A", "1", "", "result 1"), ("S1", "B", "neg", "", "result 2"), ("S2", "A", "3", "", "result 3"),
        (None, "A", "4", "", "result 4"),
    ]  # fmt: skip
    assert [specimen.patient for specimen in decoded.specimens] == [0, 0, 1]
    assert [problem.location for problem in decoded.problems] == ["result 4"]  # S2 was the patient's before


def test_a_tag_that_stands_twice_is_a_doubt() -> None:
    decoded = told(TAGGED, "\x1eciS1|\x1ertA|\x1eqn1|\x1eqn9|\x1ertB|\x1eqn2|")
    assert [value for _, _, value, _, _ in results(decoded)] == ["1", "2"]
    assert holds(decoded) == [(HoldReason.UNREADABLE_VALUE,), ()]
    assert [problem.text for problem in decoded.problems] == ["the tag 'qn' stands twice"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\x1eciS1|\x1ertA|\x1eqn1|\x1exx9|", "the tag 'xx' is not known to this driver"),
        ("\x1eqn1|\x1eciS1|\x1ertA|\x1eqn1|", "the tag 'qn' stands before any result"),
        ("hello\x1eciS1|\x1ertA|\x1eqn1|", "there is text before the first tag"),
        ("\x1eciS1|", "there is no result in it"),
        ("", "there is no result in it"),
    ],
)
def test_what_is_not_understood_is_said(text: str, problem: str) -> None:
    assert problem in [one.text for one in told(TAGGED, text).problems]


def test_fields_may_only_end_and_lines_be_full_in_the_middle_of_a_word() -> None:
    decoded = told(FOLDED, "\x1eciS1|rtA|q\x1en1\x1e2|rtB|ql|qn3|")
    assert [value for _, _, value, _, _ in results(decoded)] == ["12", "3"]
    assert not decoded.problems
    cut = told(FOLDED, "\x1eciS1|rtA|qn1|qlse")
    assert [problem.text for problem in cut.problems] == ["there is text that nothing ends"]


# ---- columns --------------------------------------------------------------------------------------------------------


def test_columns_are_read_where_they_are_declared() -> None:
    decoded = told(FIXED, "S00001  <0.5 mg/L    \r\nQC0001QC12.0 mg/L   \r\n")
    assert results(decoded) == [("S00001", "CRP", "0.5", "mg/L", "line 1"), ("QC0001", "CRP", "12.0", "mg/L", "line 2")]
    assert [specimen.role for specimen in decoded.specimens] == [SpecimenRole.PATIENT, SpecimenRole.QC]
    first = decoded.specimens[0].results[0]
    assert (first.value.comparator, first.raw_value) == ("<", "<0.5 mg/L")


@pytest.mark.parametrize("record", ["S00001  0.5", "S00001  0.5 mg/L            "])
def test_a_record_of_another_width_is_doubted(record: str) -> None:
    decoded = told(FIXED, record)
    assert [HoldReason.UNREADABLE_VALUE in one for one in holds(decoded)] == [True]
    assert [problem.location for problem in decoded.problems] == ["line 1"]


# ---- separated values -----------------------------------------------------------------------------------------------


def test_a_row_is_a_result() -> None:
    decoded = told(
        CSV,
        HEADER
        + 'S1,P1,,1980-05-01,GLU,5.1,mmol/L,,,2026-01-05,12:00\r\nS1,P1,,1980-05-01,"K, serum",4.0,mmol/L,,,,\r\n'
        "C1,,QC,,GLU,6.0,mmol/L,,,2026-01-05,12:10\r\n",
    )
    assert results(decoded) == [
        ("S1", "GLU", "5.1", "mmol/L", "line 2"), ("S1", "K, serum", "4.0", "mmol/L", "line 3"),
        ("C1", "GLU", "6.0", "mmol/L", "line 4"),
    ]  # fmt: skip
    assert [(s.role, len(s.results)) for s in decoded.specimens] == [(SpecimenRole.PATIENT, 2), (SpecimenRole.QC, 1)]
    assert decoded.specimens[0].results[0].instrument_time == "2026-01-05 12:00"
    assert decoded.patients[0].birth_date is not None
    assert not decoded.problems


def test_a_row_with_other_columns_than_its_header_is_doubted() -> None:
    decoded = told(CSV, HEADER + "S1,P1,,,GLU,5,1,mmol/L,,,2026-01-05,12:00\r\n")  # a decimal comma, not quoted
    assert [HoldReason.UNREADABLE_VALUE in one for one in holds(decoded)] == [True]
    assert [problem.text for problem in decoded.problems] == ["has 12 columns, not 11"]


def test_every_flag_counts_and_an_unknown_one_holds() -> None:
    (observed,) = _observed(told(CSV, HEADER + "S1,,,,GLU,5,mmol/L,H,!,,\r\n"))
    assert observed.flags == ("H", "!")
    assert observed.holds == (HoldReason.UNKNOWN_FLAG,)


@pytest.mark.parametrize("header", ["Sample,Test,Result", "Sample," + HEADER.strip()])
def test_a_header_that_lacks_a_column_or_has_it_twice_is_said(header: str) -> None:
    decoded = told(CSV, header + "\r\nS1,GLU,5\r\n")
    assert {problem.location for problem in decoded.problems} >= {"header"}
    assert all(specimen.specimen_id is None for specimen in decoded.specimens) or not header.startswith("Sample,Sample")


def test_rows_that_are_no_separated_values_are_a_problem() -> None:
    decoded = told(CSV, HEADER + 'S1,,,,GLU,5,mmol/L,,,,\r\nS2,,,,GLU,"6')
    assert [value for _, _, value, _, _ in results(decoded)] == ["5"]
    assert [problem.location for problem in decoded.problems] == ["line 3"]


WIDE = """
[record]
kind = "csv"
delimiter = ";"
header = true
columns = 3
skip_empty = true
[record.fields]
specimen_id = "ID"
unit = "=mg/L"
instrument_time = "Time"
"""
NUMBERED = """
[record]
kind = "csv"
[record.fields]
specimen_id = "2"
[[record.result]]
code = "=NA"
value = "3"
unit = "=mmol/L"
[[record.result]]
code = "=K"
value = "4"
"""


def test_a_row_may_be_a_specimen_with_many_results() -> None:
    wide = told(WIDE, "ID;Time;CRP;RF\r\nS1;12:00;5.1;\r\nS2;12:10;<0.5;14\r\n")
    assert results(wide) == [
        ("S1", "CRP", "5.1", "mg/L", "line 2"), ("S2", "CRP", "0.5", "mg/L", "line 3"),
        ("S2", "RF", "14", "mg/L", "line 3"),
    ]  # fmt: skip
    numbered = told(NUMBERED, "1,S1,140,4.1\n2,S2,----,3.9\n")
    assert results(numbered) == [
        ("S1", "NA", "140", "mmol/L", "line 1"), ("S1", "K", "4.1", "", "line 1"),
        ("S2", "NA", "----", "mmol/L", "line 2"), ("S2", "K", "3.9", "", "line 2"),
    ]  # fmt: skip
    assert holds(numbered) == [(), (), (HoldReason.RUN_FAILED,), ()]
    assert not wide.problems + numbered.problems


# ---- captures -------------------------------------------------------------------------------------------------------


def test_answers_to_the_hosts_blocks_are_nothing_that_a_capture_lost() -> None:
    block = b"\x02\x1eciS1|\x1ertA|\x1eqn1|\x03"
    for between, count in ((b"\x06\x06", 0), (b"\x06?", 1)):
        first, _ = registry.read(block + between + block, driver(TAGGED))
        assert len(first.problems) == count


# ---- every layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [TAGGED, FOLDED, FIXED, CSV, WIDE, NUMBERED])
@given(data=st.one_of(st.binary(max_size=200), st.text('\x1ertciqn|,;"\r\nS1', max_size=80).map(str.encode)))
def test_no_bytes_crash_a_layout(record: str, data: bytes) -> None:
    decoded = registry.decode(driver(record), data)
    assert decoded.protocol is Protocol.DECLARED
    assert decoded.problems or any(specimen.results for specimen in decoded.specimens) or not data.strip()


def test_bytes_that_are_not_the_encodings_are_said() -> None:
    text = (HEADER + "S1,M\u00fcller,,,GLU,5,mmol/L,,,,\r\n").encode("latin-1")
    decoded = registry.decode(driver(CSV), text, "utf-8")
    assert [problem.text for problem in decoded.problems] == ["some bytes are not utf-8"]
    assert registry.decode(driver(CSV), text).patients == (ObservedPatient("M\u00fcller"),)


# ---- what may be declared -------------------------------------------------------------------------------------------

CHECK = """
[framing.block]
end = "<ETX>"
[framing.block.check]
rule = "{rule}"
written = "{written}"
place = "{place}"
"""


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("", "framing.block: is missing"),
        ('[framing.block]\nstart = "<STX>"\n', "needs end, size, length or silence_s"),
        ('[framing.block]\nend = "<CR>"\nsilence_s = 2\n', "silence_s is for blocks that nothing else ends"),
        ("[framing.block]\nsize = 20\n", "needs start"),
        ('[framing.block]\nstart = "A"\nsize = 1\n', "size leaves no text"),
        ('[framing.block]\nend = "<ETX>"\ngood = "<ACK>"\n', "good and bad come together"),
        ('[framing.block]\nend = "<ETX>"\nmax_bytes = -1\n', "is not a whole number"),
        ('[framing.block]\nend = "<ETX>"\nwait_s = "x"\n', "is not a number of seconds"),
        (
            CHECK.format(rule="xor", written="byte", place="before_end"),
            "a checksum of one byte before the end needs size or length",
        ),
        (
            CHECK.format(rule="crc", written="hex", place="after_end"),
            "'crc' is not one of sum, xor",
        ),
        ('[framing.block]\nend = "<ETX>"\n[framing.session]\nopens = "<ENQ>"\n', "opens needs ready and busy"),
        ('[framing.block]\nend = "<ETX>"\n[framing.session]\ncloses = "EOT"\n', "is not one character"),
        ('[framing]\nlink = "mllp"\n[framing.block]\nend = "<ETX>"\n', "is one framing, and block declares another"),
        ('[framing.block]\nend = "<ETX>"\nbegin = "<STX>"\n', "framing.block.begin: is not a known key"),
    ],
)
def test_a_framing_that_cannot_be_is_refused(block: str, fault: str) -> None:
    with pytest.raises(DriverError, match=fault.replace("[", r"\[")):
        driver(TAGGED, block)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ('[record]\nkind = "xml"\n', "'xml' is not one of tagged, fixed, csv"),
        (TAGGED.replace('code = "rt"\n', ""), "names no place of a code"),
        (TAGGED.replace('specimen_id = "ci"\n', ""), "names no place of a specimen_id"),
        (TAGGED.replace('"ci"', '"cid"'), "tags of another width"),
        (FOLDED.replace('ends = "|"\n', ""), "needs a separator or ends, and a tag_width"),
        (FIXED.replace('"1-6"', '"6-1"'), "is not columns such as 16-27"),
        (FIXED.replace("width = 20", "width = 10"), "reads columns beyond its width"),
        (FIXED.replace("(?P<value>", "("), "needs the group value"),
        (CSV.replace("header = true\n", ""), "names columns and has no header"),
        (CSV.replace("[record]\n", '[record]\ndelimiter = "ab"\n'), "delimiter is not one character"),
        (CSV + 'colour = "x"\n', "is not a valid Meaning"),
        (WIDE.replace("header = true\n", ""), "columns needs a header"),
        (CSV.replace("[record]\n", '[record]\ntypes = "R"\n'), "types needs the place of type"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(record: str, fault: str) -> None:
    with pytest.raises(DriverError, match=fault.replace("[", r"\[")):
        driver(record)


def test_a_layout_belongs_to_the_protocol_that_has_none() -> None:
    hl7 = HEAD.replace('"declared"', '"hl7"').replace("text =", '"MSH-3" =').replace('path = "role"', 'path = "MSH-11"')
    with pytest.raises(DriverError, match="is for protocol declared"):
        parse_manifest(hl7 + CSV, "driver.toml")
    assert parse_manifest(hl7, "driver.toml").link is LinkFraming.MLLP
    assert parse_manifest(hl7 + '[framing]\nlink = "lis01"\n', "driver.toml").link is LinkFraming.LIS01
    assert parse_manifest(hl7 + BLOCK, "driver.toml").link is LinkFraming.DECLARED


def test_blocks_that_no_driver_knows_ask_for_one() -> None:
    with pytest.raises(CaptureError):
        registry.read(b"\x02\x1exxabc|\x1d00\x03")
    with pytest.raises(DriverError, match="say which one"):
        registry.sniff(Protocol.DECLARED, b"S1,GLU,5\r\n")


def _observed(decoded: DecodedMessage) -> list[Observed]:
    return [result for specimen in decoded.specimens for result in specimen.results]
