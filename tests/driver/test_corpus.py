"""Real messages that nobody here wrote: every one decodes, and the drivers' own agree with what is expected of them.

The corpus is not part of the repository: LABORA_CORPUS, by default ../shared/corpus beside it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from interface.domain.model import Observed, ValueKind
from interface.driver import registry
from interface.driver.capture import read_capture
from interface.driver.describe import describe
from interface.wire.lis02 import unescape

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(os.environ.get("LABORA_CORPUS") or ROOT.parent / "shared" / "corpus")
DRIVER_FILES = {
    "astm/sysmex-xn550-cbc.astm": "sysmex_xn",
    "astm/roche-cobas-c311-7tests.astm": "roche_cobas_c311",
    "hl7/mindray-bc5380-manual.hl7": "mindray_bc5380",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of EXPECTED.tsv."""

    file: str
    code: str
    value: str
    unit: str
    flag: str
    status: str


def corpus() -> Path:
    """The corpus, or the reason why it is not looked at. On a build machine its absence is a failure."""
    if not CORPUS.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no corpus at {CORPUS}; set LABORA_CORPUS")
        pytest.skip(f"no corpus at {CORPUS}; set LABORA_CORPUS")
    return CORPUS


def expected_rows() -> list[Row]:
    with (corpus() / "EXPECTED.tsv").open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Row(r["file"], r["code_raw"], r["value"] or "", r["units"] or "", r["flag"] or "", r["status"] or "")
            for r in reader
        ]


def results_of(file: str) -> list[Observed]:
    found: list[Observed] = []
    for message in read_capture((corpus() / file).read_bytes()):
        decoded = registry.decode(registry.sniff(message.protocol, message.text), message.text)
        found += [result for specimen in decoded.specimens for result in specimen.results]
    return found


def flags_of(row: Row) -> list[str]:
    """LIS2 flags as sent; of HL7's coded ones the code, and none for the explicit null."""
    if row.file.startswith("astm/"):
        return [flag for flag in row.flag.split("\\") if flag]
    codes = (flag.split("^")[0] for flag in row.flag.split("~"))
    return [code for code in codes if code.strip('"')]


def test_every_message_of_the_corpus_decodes() -> None:
    files = [path for kind in ("astm", "hl7") for path in sorted((corpus() / kind).iterdir())]
    assert len(files) > 60
    for path in files:
        messages = read_capture(path.read_bytes())
        assert messages, path.name
        for message in messages:
            driver = registry.sniff(message.protocol, message.text)
            decoded = registry.decode(driver, message.text)
            assert decoded.version or decoded.sender or decoded.control_id or decoded.specimens or decoded.queries
            assert describe(decoded)["protocol"] == driver.protocol.value


def test_no_result_of_the_corpus_is_lost() -> None:
    """As many results as rows, in their order, each with the value as sent."""
    by_file: dict[str, list[Row]] = {}
    for row in expected_rows():
        if row.file.startswith(("astm/", "hl7/")):
            by_file.setdefault(row.file, []).append(row)
    for file, rows in by_file.items():
        results = results_of(file)
        assert len(results) == len(rows), file
        for result, row in zip(results, rows, strict=True):
            assert result.code in row.code, (file, row)
            assert (result.unit, result.status) == (row.unit.strip(), row.status), (file, row)
            assert list(result.flags) == flags_of(row), (file, row)


@pytest.mark.parametrize("file", sorted(DRIVER_FILES))
def test_a_drivers_capture_agrees_with_every_expected_row(file: str) -> None:
    rows = [row for row in expected_rows() if row.file == file]
    (first,) = {registry.sniff(m.protocol, m.text).id for m in read_capture((corpus() / file).read_bytes())}
    assert first == DRIVER_FILES[file]
    results = results_of(file)
    assert len(results) == len(rows) > 5
    for result, row in zip(results, rows, strict=True):
        assert result.code
        assert result.code_path == row.code
        as_words = unescape(result.raw_value) if file.endswith(".astm") else result.raw_value
        assert as_words == row.value
        if result.value.kind is ValueKind.NUMERIC:
            assert result.value.text == row.value
        assert (result.unit, " ".join(result.flags), result.status) == (row.unit, row.flag, row.status)


def test_specimens_of_the_drivers_captures_are_found() -> None:
    found = {}
    for file in DRIVER_FILES:
        for message in read_capture((corpus() / file).read_bytes()):
            decoded = registry.decode(registry.sniff(message.protocol, message.text), message.text)
            found[file] = {specimen.specimen_id for specimen in decoded.specimens}
            assert not decoded.problems
    assert found == {
        "astm/sysmex-xn550-cbc.astm": {"27"},
        "astm/roche-cobas-c311-7tests.astm": {"CL-PL-24-0370"},
        "hl7/mindray-bc5380-manual.hl7": {"20071207011"},
    }
