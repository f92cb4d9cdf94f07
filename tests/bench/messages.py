"""The measured messages: a chemistry panel of 25 results, as HL7 v2 and as LIS02-A2. All facts are made up."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

ANALYTES = (  # LOINC, unit, value
    ("2345-7", "mg/dL", "91"), ("3094-0", "mg/dL", "14"), ("2160-0", "mg/dL", "0.92"), ("2951-2", "mmol/L", "140"),
    ("2823-3", "mmol/L", "4.1"), ("2075-0", "mmol/L", "103"), ("2028-9", "mmol/L", "25"), ("17861-6", "mg/dL", "9.4"),
    ("2885-2", "g/dL", "7.1"), ("1751-7", "g/dL", "4.4"), ("1975-2", "mg/dL", "0.7"), ("6768-6", "U/L", "77"),
    ("1920-8", "U/L", "23"), ("1742-6", "U/L", "26"), ("2324-2", "U/L", "31"), ("2532-0", "U/L", "180"),
    ("2157-6", "U/L", "120"), ("1798-8", "U/L", "66"), ("3040-3", "U/L", "35"), ("2093-3", "mg/dL", "171"),
    ("2571-8", "mg/dL", "98"), ("2085-9", "mg/dL", "55"), ("3084-1", "mg/dL", "5.0"), ("2777-1", "mg/dL", "3.3"),
    ("1988-5", "mg/L", "1.4"),
)  # fmt: skip
AT = "20260102030405"


def values_of(person: int) -> Iterator[str]:
    """Of each analyte what a person has: up to an eighth more or less than the table says, with its digits."""
    for at, (_, _, value) in enumerate(ANALYTES):
        number = Decimal(value)
        eighths = Decimal((person * 37 + at * 11) % 65 - 32) / 256
        yield str((number + number * eighths).quantize(number))


def hl7_message(specimen: str, control_id: str, person: int | None = None) -> bytes:
    """ORU^R01 with 25 OBX, about 1.7 kB. `person`: whose values it has; the table's when None."""
    values = [value for _, _, value in ANALYTES] if person is None else values_of(person)
    observations = [
        f"OBX|{at}|NM|{code}^Analyte {at}^LN||{value}|{unit}|1-200|N|||F|||{AT}"
        for at, ((code, unit, _), value) in enumerate(zip(ANALYTES, values, strict=True), 1)
    ]
    segments = [
        f"MSH|^~\\&|BENCH|LAB|LABORA|LAB|{AT}||ORU^R01^ORU_R01|{control_id}|P|2.5.1|||AL|NE||UNICODE UTF-8",
        f"PID|1||P{specimen}^^^LAB^MR||BENCH^PATIENT||19800501|F",
        f"OBR|1|O{specimen}|{specimen}|PANEL^Chemistry^L|||{AT}",
        *observations,
        f"SPM|1|{specimen}||SER^Serum^HL70487|||||||||||||{AT}",
    ]
    return "\r".join([*segments, ""]).encode()


def lis2_message(specimen: str, control_id: str) -> bytes:
    """29 records, about 1.5 kB, without their frames."""
    results = [
        f"R|{at}|^^^{code}|{value}|{unit}|1 to 200|N||F||op||{AT}" for at, (code, unit, value) in enumerate(ANALYTES, 1)
    ]
    records = [
        f"H|\\^&|{control_id}||Bench^Analyzer^1.0|||||||P|LIS2-A2|{AT}",
        f"P|1||P{specimen}||BENCH^PATIENT||19800501|F",
        f"O|1|{specimen}||^^^ALL|R|{AT}|||||N||||SER",
        *results,
        "L|1|N",
    ]
    return "\r".join([*records, ""]).encode()
