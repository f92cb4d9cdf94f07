"""What a sender says by HL7's own tables against a specimen or a reagent holds the results that it is about."""

from __future__ import annotations

import pytest

from interface.domain.model import HoldReason
from interface.driver import registry
from interface.driver.decode_hl7 import decode

DRIVERS = {one.id: one for one in registry.find_all()}
HEAD = "MSH|^~\\&|A|B|||20260101||OUL^R22^OUL_R22|1|P|2.5.1"
RESULT = "OBX|1|NM|GLU||5.1|mmol/L|||||F"


def held(*segments: str, driver_id: str = "generic_hl7") -> list[bool]:
    decoded = decode(DRIVERS[driver_id], ("\r".join([HEAD, *segments]) + "\r").encode())
    return [HoldReason.QUESTIONABLE in result.holds for one in decoded.specimens for result in one.results]


def specimen(**fields: str) -> str:
    made = ["SPM", "1", "S1", *[""] * 24]
    for name, value in fields.items():
        made[int(name[1:])] = value
    return "|".join(made)


@pytest.mark.parametrize(
    ("sent", "doubted"),
    [
        ({"f24": "HEM"}, True),
        ({"f24": "ROOM~CLOT^Clotted^HL70493"}, True),
        ({"f24": "COOL"}, False),
        ({"f24": "FROZ^Frozen^HL70493"}, False),
        ({"f21": "QS^Quantity not sufficient^HL70490"}, True),
        ({"f21": "^leaked"}, True),
        ({"f21": '""'}, False),
        ({"f21": '""^""^HL70490'}, False),
        ({"f21": "^^HL70490"}, False),  # a coding system without a code
        ({"f21": "^^HL70490~RB^Broken container^HL70490"}, True),
        ({}, False),
    ],
)
def test_the_condition_of_a_specimen_and_why_it_is_rejected(sent: dict[str, str], doubted: bool) -> None:
    assert held(specimen(**sent), "OBR|1|||GLU", RESULT, RESULT.replace("GLU", "K")) == [doubted, doubted]


@pytest.mark.parametrize(
    ("status", "doubted"),
    [
        ("EE", True),
        ("QE^QC error^HL70383", True),
        ("CE", True),
        ("OK", False),
        ("EW", False),
        ("NW", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("driver_id", ["generic_hl7", "ihe_law"])  # one that reads lots from INV, and one that does not
def test_a_reagent_that_is_in_error(status: str, doubted: bool, driver_id: str) -> None:
    inventory = f"INV|R1^Reagent|{status}|SR"
    order = specimen(), "OBR|1|||GLU", "ORC|SC"
    first, second = RESULT, RESULT.replace("GLU", "K")
    assert held(*order, first, inventory, second, driver_id=driver_id) == [doubted, False]
    assert held(*order, second, first, inventory, driver_id=driver_id) == [False, doubted]


@pytest.mark.parametrize("type_", ["OUL^R24^OUL_R24", "ORU^R01^ORU_R01"])
def test_so_it_is_where_the_specimen_stands_in_its_order(type_: str) -> None:
    """HL7 v2.5.1 7.3.4: OBR {SPM {SAC INV}} {OBX}; senders put it behind the results as well."""

    def read(*segments: str) -> list[tuple[bool, tuple[str, ...]]]:
        text = "\r".join([HEAD.replace("OUL^R22^OUL_R22", type_), "PID|||P1", *segments]) + "\r"
        found = decode(DRIVERS["generic_hl7"], text.encode()).specimens
        return [(HoldReason.QUESTIONABLE in result.holds, result.comments) for one in found for result in one.results]

    order, tube, noted = "OBR|1|S1||GLU", (specimen(), "SAC|||S1"), (specimen(), "NTE|1||Haemolysed", "SAC|||S1")
    assert read(order, *tube, "INV|R1|EE|SR", RESULT) == [(True, ())]
    assert read(order, RESULT, *tube, "INV|R1|EE|SR") == [(True, ())]
    assert read(order, *tube, "INV|R1|OK|SR", RESULT) == [(False, ())]
    assert read(order, *noted, RESULT) == read(order, RESULT, *noted) == [(False, ("Haemolysed",))]
    other = "OBR|2|S2||GLU", specimen().replace("S1", "S2"), "SAC|||S2", RESULT
    assert read(order, *noted, "INV|R1|EE|SR", RESULT, *other) == [(True, ("Haemolysed",)), (False, ())]


def test_what_was_read_in_one_order_is_not_taken_for_another_s() -> None:
    """A result that says what one before it said is not read once more: what stands above it counts."""
    clean, spoilt = (specimen(f24=one).replace("S1", name) for one, name in (("", "S1"), ("HEM", "S2")))
    rows = "OBR|1|||GLU", RESULT
    assert held(clean, *rows, spoilt, *rows, clean.replace("S1", "S3"), *rows) == [False, True, False]
    assert held(clean, *rows, RESULT, "INV|R1|EE|SR", clean.replace("S1", "S3"), *rows) == [False, True, False]
