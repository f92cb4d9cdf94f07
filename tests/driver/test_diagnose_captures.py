"""The doctor on real captures and on the drivers' vectors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from interface.driver import registry
from interface.driver.diagnose import diagnose, examine, read_heard
from interface.driver.diagnosis import ChecksumVerdict, Framing
from interface.wire.datalink_events import Leniency
from tests.corpus import corpus
from tests.driver.test_diagnose import frames, said, session

_FRAMINGS = {
    ("astm", "E1381 frames"): Framing.LIS01,
    ("astm", "E1381 frames in ENQ..EOT"): Framing.LIS01,
    ("astm", "unframed"): Framing.BARE_RECORDS,
    ("hl7", "MLLP"): Framing.MLLP,
    ("hl7", "bare"): Framing.BARE_HL7,
}


def manifest() -> list[dict[str, str]]:
    with (corpus() / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in rows if row["file"].startswith(("astm/", "hl7/"))]


def test_every_capture_is_known_for_what_it_is() -> None:
    rows = manifest()
    assert len(rows) >= 70
    for row in rows:
        found = examine((corpus() / row["file"]).read_bytes())
        assert found.framing is _FRAMINGS[row["file"].split("/")[0], row["framing"]], row["file"]
        assert found.symptoms == (), row["file"]
        assert found.driver is not None, row["file"]


def test_the_captures_checksums_are_as_the_manifest_has_them() -> None:
    checked = 0
    for row in manifest():
        if not row["checksums"].endswith(" ok"):
            continue
        right, of = map(int, row["checksums"].removesuffix(" ok").split("/"))
        found = examine((corpus() / row["file"]).read_bytes())
        assert found.frames is not None
        assert (found.frames.with_checksum(ChecksumVerdict.RIGHT), found.frames.count) == (right, of), row["file"]
        checked += 1
    assert checked >= 15


def test_framed_captures_are_proven_to_come_through() -> None:
    for row in manifest():
        if _FRAMINGS[row["file"].split("/")[0], row["framing"]] is Framing.LIS01:
            found = examine((corpus() / row["file"]).read_bytes())
            assert found.proof is not None
            assert found.proof.proven, (row["file"], found.proof.obstacles)
    h500 = examine((corpus() / "astm/horiba-yumizen-h500-qc.astm").read_bytes())
    assert Leniency.FN_UNSEQUENCED in said(h500)


def test_a_driver_recognises_the_analyzer_of_each_of_its_vectors() -> None:
    tried = 0
    for driver in registry.find_all():
        if driver.generic:
            continue
        for vector in registry.vectors(driver.id):
            found = diagnose(read_heard(vector.trace.read_bytes()))
            assert found.driver is not None, vector.trace
            assert found.driver.driver == driver.id, vector.trace
            tried += 1
    assert tried >= 10


@pytest.mark.parametrize(
    ("file", "driver"),
    [
        ("astm/sysmex-xn550-cbc.astm", "sysmex_xn"),
        ("astm/roche-cobas-c311-7tests.astm", "roche_cobas_c311"),
        ("hl7/mindray-bc5380-manual.hl7", "mindray_bc5380"),
    ],
)
def test_a_capture_whose_driver_is_there_finds_it(file: str, driver: str) -> None:
    found = examine((corpus() / file).read_bytes())
    assert found.driver is not None
    assert (found.driver.driver, found.driver.recognised, found.driver.problems) == (driver, True, ())


def test_a_site_driver_is_found_too(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "driver.toml").write_text(
        '[driver]\nid = "acme"\nrevision = "1"\nprotocol = "lis2"\ntier = "simulated"\ntitle = "ACME"\n'
        'document = "ACME 1"\nevidence = ["ACME 1"]\n'
        "[match]\n\"H.5.1\" = '^ACME$'\n",
        encoding="utf-8",
    )
    found = examine(session(*frames()), site=[tmp_path])
    assert found.driver is not None
    assert found.driver.driver == "acme"
