"""Numbers of specimens, and why one is rejected. Pure.

A specimen that comes without a barcode gets one of digits alone, which Code 128 C prints short and every analyzer's
reader takes: the year, the order's number, its place in the order, and Luhn's check digit (ISO/IEC 7812-1, Annex B),
which tells a number that somebody mistyped; see docs/decisions/specimen-numbers.md. What others printed stays valid.
"""

from __future__ import annotations

import re
from enum import StrEnum

from interface.domain.check_digits import CheckDigit, check_character

_OWN = re.compile(r"\d{11,}", re.ASCII)
_ORDER_NUMBER = re.compile(r"\d\d(\d\d)-(\d{6,})", re.ASCII)

LAST_PLACE = 99  # of a specimen in its order: two digits


class RejectReason(StrEnum):
    """HL7 table 0490, specimen reject reason, in words; what is not in it stands below."""

    EXPIRED = "expired"  # EX
    QUANTITY_NOT_SUFFICIENT = "quantity_not_sufficient"  # QS
    MISSING_PATIENT_ID = "missing_patient_id"  # RA
    BROKEN_CONTAINER = "broken_container"  # RB
    CLOTTED = "clotted"  # RC
    MISSING_COLLECTION_DATE = "missing_collection_date"  # RD
    MISSING_PATIENT_NAME = "missing_patient_name"  # RE
    HAEMOLYSED = "haemolysed"  # RH
    IDENTIFICATION = "identification"  # RI: whose it is is in doubt
    LABELLING = "labelling"  # RM
    CONTAMINATED = "contaminated"  # RN
    MISSING_COLLECTOR = "missing_collector"  # RP
    STORAGE = "storage"  # RR: kept or sent in the wrong way
    NAME_MISSPELT = "name_misspelt"  # RS
    # not in the table
    WRONG_CONTAINER = "wrong_container"
    NOT_COLLECTED = "not_collected"
    OTHER = "other"  # the text says what


def own_number(stem: str, place: int) -> str:
    """The barcode of an order's specimen at `place` (from 1 to LAST_PLACE); `stem` is `order_stem`'s."""
    digits = f"{stem}{place:02d}"
    return digits + check_character(CheckDigit.LUHN, digits)


def order_stem(order_number: str) -> str:
    """What the barcodes of an order's specimens begin with; "" for a number that is none of ours."""
    match = _ORDER_NUMBER.fullmatch(order_number)
    return match[1] + match[2] if match else ""


def mistyped(barcode: str) -> bool:
    """Whether it looks like one of our numbers and its check digit says that it is none. Never a reason to refuse one
    that a specimen carries: others print eleven digits too."""
    return bool(_OWN.fullmatch(barcode)) and check_character(CheckDigit.LUHN, barcode[:-1]) != barcode[-1]
