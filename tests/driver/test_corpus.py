"""Real messages that nobody here wrote: `labora decode --json` says of each what the corpus says must be found.

Where it does not, the message was read: either the engines were wrong, or the difference stands below with its reason.
The mini VIDAS in `other/` is no ASTM record and no HL7 segment; its dialect has its own test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from decimal import Decimal
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import tests.corpus
from interface.cli import run_command
from interface.driver import registry
from interface.driver.capture import read_capture
from interface.driver.describe import describe
from interface.driver.receiving import split_places
from interface.wire import hl7_batch, mllp
from tests.corpus import Row, corpus, files, manifest, read, rows

KINDS = ("astm", "hl7")
DRIVER_FILES = {
    "astm/horiba-pentra-xlr-dif.astm": "horiba_pentra_xlr",
    "astm/horiba-yumizen-h500-qc.astm": "horiba_yumizen_h500",
    "astm/horiba-yumizen-h550-qc.astm": "horiba_yumizen_h550",
    "astm/sysmex-xn550-cbc.astm": "sysmex_xn",
    "astm/roche-cobas-c311-7tests.astm": "roche_cobas_c311",
    "astm/roche-cobas-c111-plasma.astm": "roche_cobas_c111",
    "astm/siemens-immulite-session.astm": "siemens_immulite",
    "astm/siemens-immulite-query.astm": "siemens_immulite",
    "astm/erba-xl-dbil.astm": "erba_xl",
    "astm/erba-xl-glucose-flags.astm": "erba_xl",
    "astm/erba-xl-multiquery.astm": "erba_xl",
    "astm/ortho-vitros3600-rep5.astm": "ortho_vitros_3600",
    "astm/ortho-vitros3600-query.astm": "ortho_vitros_3600",
    "astm/abbott-architect-bhcg-manual.astm": "abbott_architect",
    "astm/abbott-architect-query.astm": "abbott_architect",
    "hl7/roche-cobaspro-oul-crp.hl7": "roche_cobas_pro",
    "hl7/roche-cobaspro-qbp-q11.hl7": "roche_cobas_pro",
    "hl7/mindray-cl1000i-results.hl7": "mindray_cl1000i",
    "hl7/mindray-cl1000i-qry-q02.hl7": "mindray_cl1000i",
    "hl7/mindray-bc5380-manual.hl7": "mindray_bc5380",
}
# file -> the test's code among the components of R-3, where it is not the fourth or is not all of it.
OWN_CODES: dict[str, Callable[[list[str]], str]] = {
    "astm/sysmex-xn550-cbc.astm": lambda parts: parts[4],
    "astm/roche-cobas-c311-7tests.astm": lambda parts: parts[3].rstrip("/"),
    "astm/ortho-vitros3600-rep5.astm": lambda parts: parts[3].split("+")[1],
    "astm/abbott-architect-bhcg-manual.astm": lambda parts: f"{parts[3]}/{parts[10]}",
}
# What a driver's own capture makes it say; nothing, but for this.
TOLD = {
    "astm/siemens-immulite-session.astm": ["the delimiter definition is short; completed from the standard's"],
    "astm/horiba-yumizen-h550-qc.astm": ["the delimiter definition repeats a character; each is taken once"],
}
CUT_AT = 120  # EXPECTED.tsv keeps so much of a long value

_O4 = "O-4: the instrument's own specimen id, while O-3, where LIS02-A2 has the specimen's, is empty"
_OBR3 = "OBR-3: the filler's order number; SPM-2 is empty or there is no SPM"
_SPM2 = "OBR-3: the filler's order number; SPM-2 has the specimen's own id"
_NO_QUERY = "which field names the specimen is the vendor's choice: a driver's, not the standard's"
_REPLY = "a reply: it orders nothing and has no result; the id is an echo of what was asked"
# file -> (the specimen id that we say, None for none, and where MANIFEST.tsv takes another from).
# DESIGN §4: without a specimen id where the standard puts it: null and a problem, never a guess.
OTHER_SPECIMEN: dict[str, tuple[str | None, str]] = {
    "astm/abbott-afinion2-hba1c.astm": (None, _O4),
    "astm/euroimmun-analyzer-iga.astm": (None, "P-4: the patient's laboratory id; O-3 is empty"),
    "hl7/cerner-culture.hl7": (None, _OBR3),
    "hl7/nist-elr-case1.hl7": (None, _OBR3),
    "hl7/nist-elr-lead.hl7": (None, _OBR3),
    "hl7/nist-lri-cbc.hl7": (None, _OBR3),
    "hl7/oru-r01-elr-231.hl7": (None, _OBR3),
    "hl7/oru-r01-multiline-tx.hl7": (None, _OBR3),
    "hl7/orm-o01-nbs-order.hl7": (None, "OBR-2: the placer's order number; there is no SPM"),
    "hl7/oru-r01-cancelled.hl7": ("3004185233", _SPM2),
    "hl7/oru-r01-otc-selftest.hl7": ("ff98cc992d5146e7916a5f0b873e534f", _SPM2),
    "hl7/oml-o21-glucose-tolerance.hl7": (
        "456_1",
        "the first message's order has three specimens and does not say whose its result is; 456_1 is of the ninth",
    ),
    "hl7/mindray-cl1000i-dsr-q03.hl7": (None, _REPLY),
    "hl7/cepheid-genexpert-qbp-z03.hl7": (None, _NO_QUERY),
    "hl7/roche-x800-rsp-k11.hl7": (None, _REPLY),
    "hl7/roche-x800-orl-o34.hl7": (None, _REPLY),
}
OTHER_PATIENT: dict[str, tuple[str, str]] = {
    "hl7/cepheid-genexpert-oru-r30.hl7": (
        "pidOBM",
        "PID-2, out of use since 2.3.1; PID-3 has another: certainty says so",
    ),
    "hl7/cepheid-genexpert-qbp-z03.hl7": ("", _NO_QUERY),
    "hl7/mindray-cl1000i-dsr-q03.hl7": ("", _REPLY),
}
# Their drivers make codes of several fields and details of rows: test_corpus_composite.py has what is read with them.
COMPOSITE = {
    "astm/abbott-afinion2-hba1c.astm": "abbott_afinion2",
    "astm/abbott-m2000-hiv-dbs.astm": "abbott_m2000",
    "astm/biorad-ihcom-bloodgroup.astm": "biorad_ih1000",
    "astm/biorad-ihcom-two-patients.astm": "biorad_ih1000",
    "astm/cepheid-genexpert-fr-error.astm": "cepheid_genexpert",
    "astm/cepheid-genexpert-ultra.astm": "cepheid_genexpert",
    "astm/cepheid-hivvl-below40-manual.astm": "cepheid_genexpert",
    "astm/hologic-panther-hiv.astm": "hologic_panther",
    "astm/immucor-galileo-echo-abod.astm": "immucor_galileo_echo",
    "hl7/cepheid-genexpert-oru-r30.hl7": "cepheid_genexpert_hl7",
    "hl7/cepheid-genexpert-qbp-z03.hl7": "cepheid_genexpert_hl7",
    "hl7/roche-cobas4800-query.hl7": "roche_cobas4800",
    "hl7/roche-cobas4800-run.hl7": "roche_cobas4800",
    "hl7/roche-cobas5800-tnd.hl7": "roche_cobas5800",
    "hl7/roche-cobas6800-hiv.hl7": "roche_cobas6800",
    "hl7/roche-cobas6800-sarscov2.hl7": "roche_cobas6800",
}


@cache
def decoded(file: str, *, own: bool = False) -> list[dict[str, Any]]:
    """What the command prints, read with the driver that the header names: with a composite one only if `own`."""
    driver = [] if own or file not in COMPOSITE else ["--driver", _generic(file)]
    printed = StringIO()
    with redirect_stdout(printed):
        assert run_command(["decode", str(corpus() / file), "--json", *driver]) == 0
    messages: list[dict[str, Any]] = json.loads(printed.getvalue())
    return messages


def _generic(file: str) -> str:
    return "generic_lis2" if file.startswith("astm/") else "generic_hl7"


def results_of(file: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each result with its specimen, in the order of the message."""
    return [(s, result) for message in decoded(file) for s in message["specimens"] for result in s["results"]]


def code_of(row: Row) -> str:
    """The test's code in the field as sent, as the standards and the drivers' documents have it."""
    parts = row.code.split("^")
    if row.file.startswith("hl7/"):
        return parts[0].strip()
    if row.file in OWN_CODES:
        return OWN_CODES[row.file](parts)
    return parts[3] or parts[0]


def flags_of(row: Row) -> list[str]:
    """LIS2 flags as sent; of HL7's coded ones the code, and none for the explicit null."""
    if DRIVER_FILES.get(row.file) == "ortho_vitros_3600":  # ^code^condition, repeated: the codes, then the conditions
        repeats = [flag.split("^") for flag in row.flag.split("\\")]
        return [flag for place in (1, 2) for repeat in repeats for flag in repeat[place : place + 1] if flag]
    if DRIVER_FILES.get(row.file) == "abbott_architect":  # several as components
        return [flag for flag in row.flag.split("^") if flag]
    if row.file.startswith("astm/"):
        return [flag for flag in row.flag.split("\\") if flag]
    codes = (flag.split("^")[0] for flag in row.flag.split("~"))
    return [code for code in codes if code.strip('"')]


def check_value(row: Row, result: dict[str, Any]) -> None:
    """The value as sent, and the same read: a number is that number, words are of the field's words, none is none."""
    sent = result["raw_value"].replace("&R&", "\\")  # the scattergrams of the XN; EXPECTED.tsv has them resolved
    assert (sent[:CUT_AT] if len(row.value) == CUT_AT else sent) == row.value
    words = sent.strip("^ ")
    if result["kind"] == "numeric":
        match = re.fullmatch(r"(<=|>=|<|>)?\s*([0-9.+-]+)", words)
        assert match, row
        assert (result["comparator"] or "") == (match[1] or "")
        assert Decimal(result["value"]) == Decimal(match[2])
        assert result["value"].rstrip(".") == match[2].rstrip("."), "the digits as sent"
    elif result["kind"] == "empty" or result["value"] is None:
        assert not re.sub(r"^\^\^[A-Z0-9]+$", "", sent).strip("^ ") or result["kind"] == "image"
    elif result["kind"] not in ("image", "time"):
        kept = sent.replace("\\T\\", "&").replace("\\.br\\", "\n") or row.flag  # a flag without a value has fired
        assert all(line.strip() in kept for line in result["value"].split("\n"))


@pytest.mark.parametrize("file", files(*KINDS))
def test_every_result_is_one_entry_in_order_and_agrees_with_its_expected_row(file: str) -> None:
    read(file)
    expected, found = rows().get(file, []), results_of(file)
    assert len(found) == len(expected) == manifest()[file].results
    for (specimen, result), row in zip(found, expected, strict=True):
        assert result["code"] == code_of(row), row
        check_value(row, result)
        assert (result["unit"], result["status"]) == (row.unit.strip(), row.status), row
        assert result["reference"] == row.reference.strip().removesuffix("^REFERENCE_RANGE"), row
        assert result["flags"] == flags_of(row), row
        if file.startswith("astm/") and specimen["specimen_id"] is not None:
            assert specimen["specimen_id"] in row.specimen, row


@pytest.mark.parametrize("file", files(*KINDS))
def test_specimens_and_patients_are_those_of_the_manifest(file: str) -> None:
    read(file)
    listed, messages = manifest()[file], decoded(file)
    assert len(messages) == listed.messages
    asked = [name for message in messages for query in message["queries"] for name in query["specimen_ids"]]
    own = [s["specimen_id"] for m in messages for s in m["specimens"] if s["specimen_id"] is not None]
    says = ",".join(asked) or next(iter(own), None)
    patient = next((p["patient_id"] for message in messages for p in message["patients"]), "")
    other, _ = OTHER_SPECIMEN.get(file, (listed.specimen or None, ""))
    assert says == other
    assert patient == OTHER_PATIENT.get(file, (listed.patient, ""))[0]


@pytest.mark.parametrize("file", files(*KINDS))
def test_where_no_specimen_is_found_it_is_said(file: str) -> None:
    read(file)
    for message in decoded(file):
        told = " ".join(problem["text"] for problem in message["problems"])
        for specimen in message["specimens"]:
            if specimen["specimen_id"] is None:
                assert "no specimen id" in told or "whose the results are is not said" in told


def test_no_exception_outlives_its_reason() -> None:
    for file, (specimen, reason) in OTHER_SPECIMEN.items():
        read(file)
        assert specimen != manifest()[file].specimen, file
        assert reason
    assert all(manifest()[file].patient != patient for file, (patient, _) in OTHER_PATIENT.items())


@pytest.mark.parametrize("file", sorted(DRIVER_FILES))
def test_a_drivers_capture_is_read_by_its_driver_without_a_problem(file: str) -> None:
    captured = read_capture(read(file))
    assert {registry.sniff(message.protocol, message.text).id for message in captured} == {DRIVER_FILES[file]}
    assert [problem["text"] for message in decoded(file) for problem in message["problems"]] == TOLD.get(file, [])


def test_a_header_that_names_nobody_is_read_by_the_driver_that_its_link_names() -> None:
    file = "astm/euroimmun-analyzer-iga.astm"
    driver = registry.load("euroimmun_analyzer")
    (message,) = registry.read(read(file), driver)
    assert registry.recognises(driver, message.text)
    assert registry.sniff(message.protocol, message.text).generic
    found = registry.decode(driver, message.text).specimens
    assert found[0].specimen_id == manifest()[file].specimen
    assert len({specimen.specimen_id for specimen in found}) == 20
    for specimen, row in zip(found, rows()[file], strict=True):
        (result,) = specimen.results
        assert result.value.number == Decimal(row.value.lstrip("<>").replace(",", "."))
        assert (result.value.comparator is not None) == row.value.startswith(("<", ">"))


@pytest.mark.parametrize("file", files("hl7"))
def test_an_hl7_capture_is_the_same_byte_by_byte_and_at_every_split(file: str) -> None:
    data = read(file)
    stream = data if data.startswith(b"\x0b") else b"".join(map(mllp.encode, hl7_batch.messages(data)))
    whole = _blocks([stream])
    assert [_described(block) for block in whole] == decoded(file, own=True)
    assert _blocks([stream[at : at + 1] for at in range(len(stream))]) == whole
    for place in split_places(stream):
        assert _blocks([stream[:place], stream[place:]]) == whole, place


def _blocks(chunks: list[bytes]) -> list[bytes]:
    decoder = mllp.Decoder()
    events = [event for chunk in chunks for event in decoder.receive(chunk)]
    blocks = [event for event in events if isinstance(event, mllp.BlockReceived)]
    assert len(blocks) == len(events)
    assert not any(mllp.Tolerated.MISSING_CR in block.tolerated for block in blocks)
    return [block.block for block in blocks]


def _described(block: bytes) -> dict[str, Any]:
    (captured,) = read_capture(block)
    return describe(registry.decode(registry.sniff(captured.protocol, block), block), captured.problems)


def test_a_missing_corpus_fails_a_build_and_is_named_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests.corpus, "CORPUS", tmp_path / "none")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no corpus at"):
        corpus()
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no corpus at"):
        corpus()
