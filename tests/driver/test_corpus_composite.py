"""Real messages whose driver reads them otherwise than the standard: composite codes, calls beside numbers, details.

test_corpus.py reads the same files as the standard has them; here each is read by the driver that its header names.
What is no detail is compared whole; of the details only how many there are.
"""

from __future__ import annotations

from typing import Any

import pytest

from interface.driver import registry
from interface.driver.capture import read_capture
from tests.corpus import read
from tests.driver.test_corpus import COMPOSITE, decoded

UNTERMINATED = {"astm/abbott-m2000-hiv-dbs.astm", "astm/hologic-panther-hiv.astm"}  # as they were lifted
RUN = "hl7/roche-cobas4800-run.hl7"
QUERIES = [
    ("hl7/cepheid-genexpert-qbp-z03.hl7", "SpecimenID-DEV01210000000000005"),
    ("hl7/roche-cobas4800-query.hl7", "VL260003"),
]
# file -> number of details, and of each other result: specimen, code, what it says, unit, flags.
RESULTS: dict[str, tuple[int, list[tuple[str, str, str, str, str]]]] = {
    "astm/abbott-afinion2-hba1c.astm": (0, [("5", "HbA1c", "5.9", "%", "")]),
    "astm/abbott-m2000-hiv-dbs.astm": (
        1,
        [
            ("DBS19-002994", "HIV1mlDBS/F", "<839", "Copies / mL", ""),
            ("DBS19-002994", "HIV1mlDBS/I", "Detected", "", ""),
        ],
    ),
    "astm/biorad-ihcom-bloodgroup.astm": (
        3,
        [("1122206642", "MO10/Result", "A^NEG^NEG^ccee^K-^NEG", "C", "")],
    ),
    "astm/biorad-ihcom-two-patients.astm": (
        4,
        [("1122206642", "MO10/Result", "A^NEG^NEG^ccee^K-^NEG", "C", "")],
    ),
    "astm/cepheid-genexpert-fr-error.astm": (
        11,
        [
            ("VL08260017", "HIV-1/Xpert HIV-1 Viral Load XC", "failed: ERREUR", "copies/mL", "A"),
        ],
    ),
    "astm/cepheid-genexpert-ultra.astm": (
        83,
        [
            ("PR25A137", "MTB-RIF/Xpert/Xpert MTB-RIF Ultra/MTB", "NOT DETECTED", "", ""),
        ],
    ),
    "astm/cepheid-hivvl-below40-manual.astm": (
        13,
        [
            ("HIV-1 30cp", "HIVVL/Xpert HIV-1 Viral Load XC", "DETECTED", "copies/mL", "<"),
        ],
    ),
    "astm/hologic-panther-hiv.astm": (
        6,
        [
            ("662047", "qHIV-1/HIV-1", "Not Detected", "copies/mL", ""),
            ("662047", "qHIV-1/HIV-1LogBase10", "Not Detected", "", ""),
            ("1203695", "qHIV-1/HIV-1", "Not Detected", "copies/mL", ""),
            ("1203695", "qHIV-1/HIV-1LogBase10", "Not Detected", "", ""),
            ("1203665", "qHIV-1/HIV-1", "59", "copies/mL", ""),
            ("1203665", "qHIV-1/HIV-1LogBase10", "1.77", "", ""),
        ],
    ),
    "astm/immucor-galileo-echo-abod.astm": (
        12,
        [("0651439A", "ABOD Full Interp", "B Pos", "", ""), ("0651439A", "Screen Interp", "Pos", "", "")],
    ),
    "hl7/cepheid-genexpert-oru-r30.hl7": (
        21,
        [
            ("sidOBM", "CTNG/CT/CT-NG IUO Assay/CT", "NOT DETECTED", "", ""),
            ("sidOBM", "CTNG/NG/CT-NG IUO Assay/NG", "DETECTED", "", ""),
        ],
    ),
    "hl7/roche-cobas4800-run.hl7": (
        5,
        [
            ("0PHJ100001N0QVJ", "0BHIV1", "326000", "1/mL", "Full"),
            ("0N1J100003O0OEZ", "0BHIV1", "Target Not Detected", "", "Full"),
            ("VL260002", "0BHIV1", "< Titer min", "", "Full"),
            ("VL260003", "0BHIV1", "67.3", "1/mL", "Full"),
            ("VL260004", "0BHIV1", "failed: Invalid", "", "Full"),
        ],
    ),
    "hl7/roche-cobas5800-tnd.hl7": (
        0,
        [("BP24-43182", "70241-5/HIV", "Target Not Detected", "", "ND")],
    ),
    "hl7/roche-cobas6800-hiv.hl7": (
        1,
        [
            ("BP23-04444", "70241-5/HIV", "BT", "", "BT"),
            ("BP23-04444", "70241-5/70241-5//1/1", "RR", "", "RR"),
            ("BP23-04444", "70241-5/70241-5//1/2", "< Titer min", "", ""),
        ],
    ),
    "hl7/roche-cobas6800-sarscov2.hl7": (
        2,
        [
            ("TBY 7363", "SARS-COV-2/TGT1", "NEG", "", "NEG"),
            ("TBY 7363", "SARS-COV-2/TGT2", "NEG", "", "NEG"),
        ],
    ),
}


def said(result: dict[str, Any]) -> str:
    """What is read: the number with its comparator, the words, or that the run failed."""
    words = (result["comparator"] or "") + (result["value"] or "")
    return f"failed: {words}".removesuffix(": ") if result["kind"] == "failed" else words


@pytest.mark.parametrize("file", sorted(COMPOSITE))
def test_the_header_names_the_driver_and_nothing_else_is_told(file: str) -> None:
    captured = read_capture(read(file))
    assert {registry.sniff(message.protocol, message.text).id for message in captured} == {COMPOSITE[file]}
    told = [problem["text"] for message in decoded(file, own=True) for problem in message["problems"]]
    assert told == (["the message has no terminator record"] if file in UNTERMINATED else [])


@pytest.mark.parametrize("file", sorted(RESULTS))
def test_what_is_no_detail_is_read_whole(file: str) -> None:
    read(file)
    details, expected = RESULTS[file]
    specimens = [specimen for message in decoded(file, own=True) for specimen in message["specimens"]]
    found = [(specimen["specimen_id"], result) for specimen in specimens for result in specimen["results"]]
    told = [(name, r["code"], said(r), r["unit"], ",".join(r["flags"])) for name, r in found if not r.get("detail")]
    assert told == expected
    assert len(found) - len(told) == details


def test_controls_and_patients_of_one_run_are_told_apart() -> None:
    read(RUN)
    roles = {s["specimen_id"]: s["role"] for message in decoded(RUN, own=True) for s in message["specimens"]}
    assert sorted(name for name, role in roles.items() if role == "qc") == ["0N1J100003O0OEZ", "0PHJ100001N0QVJ"]
    assert {role for name, role in roles.items() if name.startswith("VL26")} == {"patient"}
    assert len(roles) == 5


def test_a_second_patient_of_the_same_specimen_is_not_the_first() -> None:
    file = "astm/biorad-ihcom-two-patients.astm"
    read(file)
    (message,) = decoded(file, own=True)
    assert [(s["patient"], s["specimen_id"], len(s["results"])) for s in message["specimens"]] == [
        (0, "1122206642", 4),
        (1, "1122206642", 1),
    ]


@pytest.mark.parametrize("file, specimen", QUERIES)
def test_a_query_names_its_specimen(file: str, specimen: str) -> None:
    read(file)
    (query,) = [query for message in decoded(file, own=True) for query in message["queries"]]
    assert (query["specimen_ids"], query["all"]) == ([specimen], False)
