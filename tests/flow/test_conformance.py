"""HL7 conformance, asked of hl7apy in a worker process."""

from __future__ import annotations

from interface.flow.conformance import validate

GOOD = (
    b"MSH|^~\\&|A|B|C|D|20260105120000||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||TEST-1^^^LAB^MR||Testa^Anna\r"
    b"OBR|1||F1|GLU^Glucose^L\rOBX|1|NM|GLU^Glucose^L||5.10|mmol/L|||||F\r"
)


async def test_a_sound_message_has_no_findings() -> None:
    assert await validate(GOOD) == []


async def test_a_planted_structure_fault_is_found() -> None:
    without_code = GOOD.replace(b"|NM|GLU^Glucose^L|", b"|NM||")
    assert await validate(without_code) == ["Missing required child OBX.OBX_3"]
    without_order = GOOD.replace(b"OBR|1||F1|GLU^Glucose^L\r", b"")
    assert any("OBR" in finding for finding in await validate(without_order))


async def test_what_is_no_message_is_a_finding_not_a_crash() -> None:
    assert await validate(b"garbage") == ["MSH^1: the message does not start with MSH"]
    assert await validate(GOOD.replace(b"|2.5.1", b"|2.9"))
