"""`labora driver new`: what a capture shows is in the draft, what it does not show is left open and never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interface import cli
from interface.domain.model import HoldReason, Protocol, SpecimenRole
from interface.driver import registry
from interface.driver.capture import read_capture
from interface.driver.defaults import CONTROL_ROLES, TRAINING_ROLES
from interface.driver.diagnose import diagnose, read_heard
from interface.driver.drafting import Drafted, draft
from interface.driver.manifest import LinkFraming, StatusMeaning, Tier
from interface.driver.proof import run_vectors
from interface.errors import DriverError
from interface.wire import mllp
from interface.wire.frames import build_frame
from tests.corpus import CORPUS

ACME = (
    b"H|\\^&|||ACME-5^2.1^SN-0042|||||||P|LIS2-A2|20260105101500\r"
    b"P|1|MRN-77812|||Oosterbaan^Wilhelmina||19710509|F\r"
    b"O|1|17^K-4471882^3^02|K-4471882|^^^GLU^1\\^^^CRP^1|R||20260105080000||||N||||SER\r"
    b"R|1|^^^GLU^1|5.12|mmol/L|3.9-6.1|N||F||op||20260105101200\r"
    b"R|2|^^^CRP^1|<0.5|mg/L||zz||V9||op||20260105101230\r"
    b"R|3|^^^HIVAB^1|NEGATIVE|||N||F||op||20260105101230\r"
    b"C|1|I|7^something|G\r"
    b"L|1|N\r"
)
CONTROL = ACME.replace(b"K-4471882", b"LEVEL-2").replace(b"||||N||||SER", b"||||Q||||SER")
QUERY = b"H|\\^&|||ACME-5^2.1^SN-0042|||||||P|LIS2-A2|20260105101500\rQ|1|^K-4471882||ALL||||||||O\rL|1|N\r"
HL7 = (
    b"MSH|^~\\&|ACME-H|Acme|||20260105100100||ORU^R01|1|P|2.3.1||||||UNICODE UTF-8\r"
    b"PID|1||MRN-77812||Oosterbaan^Wilhelmina||19710509|F\r"
    b"OBR|1||K-4471882|CBC^Blood count|||20260105080000\r"
    b"OBX|1|NM|WBC^Leukocytes||5.61|10*9/L|4.00-10.00|N|||F\r"
    b"OBX|2|NM|HGB^Haemoglobin||135|g/L|110-160|X|||F\r"
)


def framed(*texts: bytes) -> bytes:
    sessions = []
    for text in texts:
        records = text.split(b"\r")[:-1]
        frames = (build_frame(n, record + b"\r", True) for n, record in enumerate(records, start=1))
        sessions.append(b"\x05" + b"".join(frames) + b"\x04")
    return b"".join(sessions)


def drafted(data: bytes, specimen: str = "") -> Drafted:
    messages = read_capture(data)
    generic = registry.load(registry.GENERIC[messages[0].protocol])
    texts = [message.text for message in messages]
    return draft("acme_five", texts, diagnose(read_heard(data)), generic, specimen, "2026-01-05")


def opens(made: Drafted, words: str) -> bool:
    return any(words in point for point in made.open_points)


def test_what_the_capture_shows_is_filled_in() -> None:
    made = drafted(framed(ACME, CONTROL, QUERY), "K-4471882")
    driver = made.driver
    assert (driver.tier, driver.protocol, driver.link) == (Tier.CAPTURED, "lis2", LinkFraming.LIS01)
    assert driver.evidence == ("capture of 2026-01-05: messages: 3, results: 6",)
    assert [(str(rule.path), rule.pattern.pattern) for rule in driver.match] == [("H.5.1", r"^ACME\-5$")]
    assert list(map(str, driver.paths.specimen_id)) == ["O.3.2", "O.4.1"]
    assert list(map(str, driver.paths.code)) == ["R.3.4", "R.3.1"]
    assert list(map(str, driver.query.specimen_id)) == ["Q.3.2"]
    assert {code: (entry.unit, entry.kind) for code, entry in driver.codes.items()} == {
        "GLU": ("mmol/L", "numeric"), "CRP": ("mg/L", "numeric"), "HIVAB": ("", "coded"),
    }  # fmt: skip
    decoded = registry.decode(driver, ACME).specimens[0]
    assert (decoded.specimen_id, [one.code for one in decoded.results]) == ("K-4471882", ["GLU", "CRP", "HIVAB"])
    assert registry.decode(driver, CONTROL).specimens[0].role is SpecimenRole.QC
    assert registry.decode(driver, QUERY).queries[0].specimen_ids == ("K-4471882",)
    assert registry.recognises(driver, ACME)
    assert not registry.recognises(driver, ACME.replace(b"ACME-5", b"ACME-55"))


def test_what_it_does_not_show_is_left_open_and_holds() -> None:
    made = drafted(framed(ACME), "K-4471882")
    driver = made.driver
    assert "zz" not in driver.flags
    assert driver.flag_hold("zz") is HoldReason.UNKNOWN_FLAG
    assert driver.status("V9") is StatusMeaning.UNKNOWN
    assert driver.roles == (*TRAINING_ROLES[Protocol.LIS2], *CONTROL_ROLES[Protocol.LIS2]), "none but the standard's"
    for words in ("the flag 'zz'", "the status 'V9'", "no query was captured", "no control was captured", "C.4"):
        assert opens(made, words), words
    assert '# "zz" = ""  # TODO' in made.text
    assert any("component 4 of R-3" in one for one in driver.unverified)
    assert any("'N' means what the standard says" in one for one in driver.unverified)


def test_two_places_that_could_be_meant_are_named_and_neither_is_taken() -> None:
    made = drafted(framed(ACME))
    assert made.driver.paths.specimen_id == ()
    assert opens(made, "O.3.2 (9 characters, like A-9999999), O.3.3 (1 characters, like 9)")
    assert registry.decode(made.driver, ACME).specimens[0].specimen_id is None
    alone = drafted(framed(ACME.replace(b"|K-4471882|^^^GLU", b"||^^^GLU")))
    assert list(map(str, alone.driver.paths.specimen_id)) == ["O.3.2"]
    assert any("O.3.2, the only place" in one for one in alone.driver.unverified)


def test_an_id_that_is_not_in_the_capture_is_refused() -> None:
    with pytest.raises(DriverError, match="in no place of the capture"):
        drafted(framed(ACME), "S-1")
    made = drafted(framed(ACME), "4471882")
    assert opens(made, "is part of O.3.2, O.4.1")


def test_the_leniencies_that_are_proven_needed_are_named() -> None:
    odd = framed(ACME).replace(b"\r\n", b"")
    assert drafted(odd, "K-4471882").driver.leniencies == {"missing_crlf"}
    assert drafted(framed(ACME), "K-4471882").driver.leniencies == frozenset()


def test_hl7_is_drafted_as_well() -> None:
    made = drafted(mllp.encode(HL7))
    driver = made.driver
    assert (driver.protocol, driver.link, driver.encoding) == ("hl7", LinkFraming.MLLP, "utf-8")
    assert [(str(rule.path), rule.pattern.pattern) for rule in driver.match] == [("MSH-3.1", r"^ACME\-H$")]
    assert list(map(str, driver.paths.specimen_id)) == ["OBR-3.1"]
    decoded = registry.decode(driver, HL7).specimens[0]
    assert [(one.code, one.name) for one in decoded.results] == [("WBC", "Leukocytes"), ("HGB", "Haemoglobin")]
    assert opens(made, "the flag 'X'")


def test_a_framing_of_its_own_is_left_to_a_person() -> None:
    with pytest.raises(DriverError, match=r"neither LIS2 nor HL7.*docs/framing\.md"):
        draft("acme_five", [], diagnose(read_heard(b"\x02R17;5.2\x03" * 4)), registry.load("generic_lis2"))


def test_a_header_that_names_nobody_makes_a_driver_that_has_to_be_named() -> None:
    made = drafted(framed(ACME.replace(b"ACME-5^2.1^SN-0042", b"")), "K-4471882")
    assert made.driver.named_only
    assert opens(made, "the header names nobody")
    assert registry.sniff(made.driver.protocol, ACME).id == "generic_lis2"


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_makes_a_folder_whose_vector_decodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = tmp_path / "capture.raw"
    capture.write_bytes(framed(ACME, QUERY))
    site = ["--driver-path", str(tmp_path / "site")]
    options = ["--from", str(capture), "--specimen", "K-4471882", *site]
    assert cli.run_command(["driver", "new", "acme_five", *options]) == 0
    told = capsys.readouterr()
    assert "to find out: what the flag 'zz' means" in told.err
    folder = tmp_path / "site" / "acme_five"
    assert told.out.splitlines() == [str(folder / "driver.toml"), str(folder / "vectors" / "result-1.trace")]
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for word in (b"MRN-77812", b"Oosterbaan", b"Wilhelmina", b"K-4471882", b"19710509", b"1971-05-09"):
        assert word not in everything
    outcomes = {one.vector: one.difference for one in run_vectors("acme_five", [tmp_path / "site"])}
    assert outcomes["result-1"] == ""
    (message, query) = json.loads((folder / "vectors" / "result-1.expected.json").read_text())
    assert [one["value"] for one in message["specimens"][0]["results"]] == ["5.12", "0.5", "NEGATIVE"]
    assert query["queries"][0]["specimen_ids"] == [message["specimens"][0]["specimen_id"]]
    assert (tmp_path / "site" / ".deidentify.key").stat().st_mode & 0o777 == 0o600
    assert cli.run_command(["driver", "new", "acme_five", *options]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"\x05", b"hello"])
def test_what_is_no_capture_makes_no_folder(tmp_path: Path, data: bytes) -> None:
    capture = tmp_path / "capture.raw"
    capture.write_bytes(data)
    assert cli.run_command(["driver", "new", "acme_five", "--from", str(capture), "--in", str(tmp_path)]) == 1
    assert not (tmp_path / "acme_five").exists()


CAPTURES = [
    path for pattern in ("astm/*.astm", "hl7/mindray*", "hl7/roche-c*") for path in sorted(CORPUS.glob(pattern))
]


@pytest.mark.skipif(not CAPTURES, reason="the corpus is not there (LABORA_CORPUS)")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_every_capture_of_a_real_analyzer_can_be_drafted(path: Path) -> None:
    """Every code that was captured is in the draft, and nothing in it is taken for what it might not be."""
    data = path.read_bytes()
    made = drafted(data)
    decoded = [registry.decode(made.driver, message.text) for message in read_capture(data)]
    codes = {one.code for message in decoded for specimen in message.specimens for one in specimen.results if one.code}
    assert codes == set(made.driver.codes)
    for message in decoded:
        for specimen in message.specimens if message.protocol is Protocol.LIS2 else ():
            assert specimen.specimen_id is None or len(specimen.specimen_id) >= 4
