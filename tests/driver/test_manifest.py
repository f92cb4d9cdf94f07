"""driver.toml: what it may say, and that every mistake in it is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.domain.model import HoldReason, Protocol, SpecimenRole
from interface.driver import registry
from interface.driver.manifest import Driver, StatusMeaning
from interface.driver.parse import parse_manifest
from interface.driver.paths import parse_path
from interface.driver.rules import SPECIMEN_ID_PATH, FieldPath, RecordKind
from interface.errors import DriverError

GOOD = """
[driver]
id = "acme_one"
revision = "3"
protocol = "lis2"
tier = "captured"
title = "Acme One"
evidence = ["capture of a test run"]
[match]
"H.5.1" = "^ACME"
"""


def problems_of(text: str, folder: str = "") -> str:
    with pytest.raises(DriverError) as caught:
        parse_manifest(text, "acme_one/driver.toml", folder)
    return str(caught.value)


def role_of(driver: Driver, said: dict[FieldPath, str]) -> SpecimenRole | None:
    return driver.role(lambda path: (said[path],) if path in said else ())


def test_a_minimal_manifest_reads_where_the_standard_puts_things() -> None:
    driver = parse_manifest(GOOD, "driver.toml", "acme_one")
    assert (driver.id, driver.revision, driver.protocol) == ("acme_one", "3", Protocol.LIS2)
    assert driver.paths.specimen_id == (FieldPath("O", 3, 1),)
    assert driver.status("F") is StatusMeaning.UNKNOWN, "a status that the table lacks is unknown"
    assert driver.flag_hold("H") is HoldReason.UNKNOWN_FLAG


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("R.3.5", FieldPath("R", 3, 5)),
        ("O.3", FieldPath("O", 3)),
        ("OBX-3.1", FieldPath("OBX", 3, 1)),
        ("SPM-2.1.1", FieldPath("SPM", 2, 1, 1)),
    ],
)
def test_paths_are_the_documents_own(text: str, path: FieldPath) -> None:
    assert parse_path(text) == path
    assert str(path) == text


@pytest.mark.parametrize("text", ["", "R", "R.0", "R-3", "OBX.3", "r.3", "R.3.1.1", "OBX-3.1.1.1", "OBX-100"])
def test_other_paths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="field path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("[paths]\ncode = 'X9'", "paths.code: 'X9' is not a field path"),
        ("[paths]\ncodes = 'R.3.4'", "paths.codes: is not a known key"),
        ("[speciment_id]\nstrip = ' '", "speciment_id: is not a known key"),
        ("[control]\nspecimen_id = 'O.12.2'\ncode = 'O.5.1'", "control.value: is missing"),
        ("[control]\nspecimen_id = 'O.3'\ncode = 'R.3.4'\nvalue = 'O.12.8'", "control: all of it stands in O"),
        ("[specimen_id]\npattern = '('", "specimen_id.pattern"),
        ("[framing]\nleniencies = ['no_frames']", "framing.leniencies: 'no_frames' is not a known leniency"),
        ("[framing]\nframe_text_bytes = 0", "framing.frame_text_bytes: is not between 1 and 63993"),
        ("[framing]\nack_colliding_enq = 'yes'", "framing.ack_colliding_enq: is not true or false"),
        ("[flags]\nH = 'VERY'", "flags.H: 'VERY' is not one of"),
        ("[flags]\nH = 'hold:tired'", "flags.H"),
        ("[status]\nF = 'fine'", "status.F: 'fine' is not one of"),
        ("[[role]]\nrole = 'qc'\npath = 'O.12'", "role[0]: needs equals, pattern or empty"),
        ("[[role]]\nrole = 'boss'\npath = 'O.12'\nequals = 'Q'", "role[0].role: 'boss' is not one of"),
        ("[[classify]]\nkind = 'image'", "classify[0]: needs codes, pattern, path or when"),
        ("[value]\ndecimal_comma = 'yes'", "value.decimal_comma: is not true or false"),
        ("[value]\nfailed_patterns = ['[']", "value.failed_patterns"),
        ("[code]\npattern = '^x'", "code.pattern: needs a group"),
        ("[alarm]\nknown = '0'", "alarm.path: is missing"),
        ("[alarm]\npath = 'M.4'", "alarm.path: an alarm stands in C, which are comments: nothing is looked for in M"),
        ("[[role]]\nrole = 'qc'\npath = 'R.3.4'\nequals = 'QC'", "role[0]: R.3.4 is not looked at"),
        ("[[role]]\nrole = 'qc'\npath = 'code'\npattern = '^QC'", "role[0]: code is not looked at"),
        ("paths = 3", "is not a table"),
    ],
)
def test_each_mistake_is_told_with_file_and_path(addition: str, said: str) -> None:
    text = addition + GOOD if addition.startswith("paths =") else GOOD + addition + "\n"
    problems = problems_of(text)
    assert said in problems
    assert problems.startswith("acme_one/driver.toml: ")


def test_all_mistakes_are_told_at_once() -> None:
    text = GOOD.replace('"lis2"', '"fax"').replace('revision = "3"\n', "").replace("[match]\n", "[matches]\n")
    problems = problems_of(text, "acme_two")
    for said in ("driver.protocol", "driver.revision: is missing", "matches", "match: ", "the folder is 'acme_two'"):
        assert said in problems


def test_a_driver_without_evidence_is_refused() -> None:
    assert "driver.evidence" in problems_of(GOOD.replace('evidence = ["capture of a test run"]\n', ""))


def test_a_file_that_is_no_toml_is_refused() -> None:
    assert problems_of("[driver\n").startswith("acme_one/driver.toml: ")


def test_tables_and_rules_are_read() -> None:
    driver = parse_manifest(
        GOOD
        + """
[specimen_id]
strip = " *"
pattern = '^(\\d+)-'
null = ["0"]
[[role]]
role = "qc"
path = "specimen_id"
pattern = "^QC"
[[role]]
role = "calibrator"
path = "O.12"
equals = ["C", "K"]
[flags]
"@" = "hold:questionable"
H = "H"
[status]
F = "ok"
E = "failed"
[[classify]]
kind = "flag"
codes = "Lipemia"
""",
        "driver.toml",
    )
    assert [driver.specimen_ids.read(raw) for raw in (" **42-7 ", "42", "0-1", "")] == ["42", "42", "", ""]
    assert (driver.flag_hold("@"), driver.flag_hold("H"), driver.flag("H")) == (HoldReason.QUESTIONABLE, None, "H")
    assert driver.status(" E ") is StatusMeaning.FAILED
    o_12 = FieldPath("O", 12)
    assert role_of(driver, {SPECIMEN_ID_PATH: "QC7"}) is SpecimenRole.QC
    assert role_of(driver, {SPECIMEN_ID_PATH: "S7", o_12: " K"}) is SpecimenRole.CALIBRATOR
    assert role_of(driver, {SPECIMEN_ID_PATH: "S7"}) is None
    kind = driver.classify("Lipemia")
    assert kind is not None
    assert kind.kind is RecordKind.FLAG


def test_an_unknown_driver_is_one_clear_sentence() -> None:
    with pytest.raises(DriverError, match=r"there is no driver 'acme'; known are .*generic_lis2"):
        registry.load("acme")


@pytest.mark.parametrize("driver_id", ["../drivers/sysmex_xn", "", ".", "/etc", "sysmex_xn/../sysmex_xn"])
def test_an_id_never_leaves_its_folder(driver_id: str) -> None:
    with pytest.raises(DriverError):
        registry.load(driver_id)


def test_a_changed_manifest_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "acme_one"
    folder.mkdir()
    (folder / "driver.toml").write_text(GOOD, encoding="utf-8")
    assert registry.load("acme_one", [tmp_path]).revision == "3"
    (folder / "driver.toml").write_text(GOOD.replace('"3"', '"4"'), encoding="utf-8")
    assert registry.load("acme_one", [tmp_path]).revision == "4"


def test_two_drivers_that_fit_a_header_are_no_answer(tmp_path: Path) -> None:
    for name in ("acme_one", "acme_two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "driver.toml").write_text(GOOD.replace("acme_one", name), encoding="utf-8")
    header = b"H|\\^&|||ACME\r"
    assert registry.sniff(Protocol.LIS2, header, [tmp_path]).id == "generic_lis2"
    (tmp_path / "acme_two" / "driver.toml").unlink()
    assert registry.sniff(Protocol.LIS2, header, [tmp_path]).id == "acme_one"
    assert registry.sniff(Protocol.LIS2, b"garbage", [tmp_path]).id == "generic_lis2"
    assert registry.sniff(Protocol.HL7, b"garbage", [tmp_path]).id == "generic_hl7"
