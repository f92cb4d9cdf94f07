"""HL7 conformance, asked of hl7apy in a worker process."""

from __future__ import annotations

import sys

import pytest

from interface.flow.conformance import Checked, validate

GOOD = (
    b"MSH|^~\\&|A|B|C|D|20260105120000||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||TEST-1^^^LAB^MR||Testa^Anna\r"
    b"OBR|1||F1|GLU^Glucose^L\rOBX|1|NM|GLU^Glucose^L||5.10|mmol/L|||||F\r"
)


async def findings(block: bytes) -> list[str]:
    (checked,) = await validate([block])
    return list(checked.findings)


async def test_a_sound_message_has_no_findings_and_the_process_no_hl7apy() -> None:
    before = {name for name in sys.modules if name.startswith("hl7apy")}  # another test of this process may have it
    assert await validate([GOOD]) == [Checked()]
    assert {name for name in sys.modules if name.startswith("hl7apy")} == before


async def test_planted_structure_faults_are_found_each_in_its_message() -> None:
    without_code = GOOD.replace(b"|NM|GLU^Glucose^L|", b"|NM||")
    without_order = GOOD.replace(b"OBR|1||F1|GLU^Glucose^L\r", b"")
    first, good, second = await validate([without_code, GOOD, without_order])
    assert first.findings == ("Missing required child OBX.OBX_3",)
    assert good == Checked()
    assert any("OBR" in finding for finding in second.findings)


@pytest.mark.parametrize(
    "version", [b"2.3", b"2.3.1", b"2.4", b"2.5", b"2.5.1", b"2.6", b"2.7", b"2.8", b"2.8.1", b"2.8.2"]
)
async def test_every_version_from_2_3_on_is_checked_by_its_own_structures(version: bytes) -> None:
    kind = b"ACK^R01" if version == b"2.3" else b"ACK^R01^ACK"
    block = b"MSH|^~\\&|A|B|C|D|20260105120000||%s|1|P|%s\rMSA|AA|1\r" % (kind, version)
    good, faulty = await validate([block, block.replace(b"MSA|AA|", b"MSA||")])
    assert good == Checked()
    assert faulty.findings == ("Missing required child MSA.MSA_1",)


async def test_what_is_no_message_is_a_finding_not_a_crash() -> None:
    assert await findings(b"garbage") == ["MSH^1: the message does not start with MSH"]
    assert await findings(b"\x00\xff") == ["MSH^1: the message does not start with MSH"]


@pytest.mark.parametrize(("version", "words"), [(b"|2.9", "the version 2.9 is not one"), (b"|", "no version is said")])
async def test_a_version_that_the_check_does_not_know_is_said_and_is_no_all_clear(version: bytes, words: str) -> None:
    (finding,) = await findings(GOOD.replace(b"|2.5.1", version))
    assert words in finding
    assert finding.endswith("2.8.2: the structure is not checked")


@pytest.mark.parametrize("kind", [b"ORU^Z99^ORU_Z99", b"ZZZ^Z01", b"ORU"])
async def test_a_structure_that_the_version_does_not_have_is_said_and_is_no_all_clear(kind: bytes) -> None:
    (finding,) = await findings(GOOD.replace(b"ORU^R01^ORU_R01", kind))
    assert finding.startswith("MSH^1^9: ")
    assert finding.endswith("is no structure of version 2.5.1: the structure is not checked")


async def test_a_message_that_does_not_name_its_structure_is_checked_by_its_event() -> None:
    block = GOOD.replace(b"ORU^R01^ORU_R01", b"ORU^R01")
    assert await findings(block) == []
    assert any("OBR" in one for one in await findings(block.replace(b"OBR|1||F1|GLU^Glucose^L\r", b"")))


async def test_z_segments_are_named_and_hide_no_fault() -> None:
    (checked,) = await validate([GOOD.replace(b"|NM|GLU^Glucose^L|", b"|NM||") + b"ZXY|1|\r"])
    assert checked.findings == ("Missing required child OBX.OBX_3",)
    assert checked.notes == ("ZXY^1: a Z segment, which no structure has: it is not checked",)
