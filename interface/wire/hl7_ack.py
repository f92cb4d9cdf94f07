"""HL7 acknowledgements: which one is due, and its bytes. Pure: control id and time are arguments.

HL7 v2.5.1 2.9: with MSH-15 and MSH-16 empty the original mode is meant and one application acknowledgement answers
(AA, AE, AR). With either valued it is the enhanced mode: MSH-15 asks for an accept acknowledgement (CA, CE, CR) and
MSH-16 for an application one.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

from interface.errors import LocatedError, SegmentError, UnsupportedMessage
from interface.wire import charsets
from interface.wire.hl7 import DEFAULT_DELIMITERS, Delimiters, Message, Segment, escape, parse

APPLICATION_ERROR = 207  # HL7 table 0357


class AckCode(StrEnum):
    """HL7 table 0008."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"

    @property
    def positive(self) -> bool:
        return self in (AckCode.AA, AckCode.CA)


class Outcome(StrEnum):
    """What became of a message that was received."""

    STORED = "stored"
    ERROR = "error"  # the sender may correct it and send it again
    REJECTED = "rejected"  # unsupported, or it cannot be stored now


_APPLICATION = {Outcome.STORED: AckCode.AA, Outcome.ERROR: AckCode.AE, Outcome.REJECTED: AckCode.AR}
_ACCEPT = {Outcome.STORED: AckCode.CA, Outcome.ERROR: AckCode.CE, Outcome.REJECTED: AckCode.CR}
# HL7 table 0155. Other values are no conditions: Mindray puts the kind of result into MSH-16.
_CONDITIONS = frozenset({"AL", "NE", "ER", "SU"})
_NUMBER = re.compile("[0-9]{1,3}")


def due(block: bytes, outcome: Outcome) -> AckCode | None:
    """The immediate reply that the sender's MSH-15 and MSH-16 ask for; None when it wants none.

    Never raises: what has no readable MSH is answered in original mode.
    """
    try:
        header = parse(block).header
    except SegmentError:
        return _APPLICATION[outcome]
    accept, application = (_condition(header, number) for number in (15, 16))
    if not accept and not application:
        return _APPLICATION[outcome]
    if accept and accept != "NE":
        return _ACCEPT[outcome] if _wanted(accept, outcome) else None
    return _APPLICATION[outcome] if application and _wanted(application, outcome) else None


def store_failure(block: bytes) -> AckCode:
    """What to say when a message could not be stored: AR in original mode, CE in enhanced mode (ERR-3 207)."""
    code = due(block, Outcome.REJECTED)
    return AckCode.CE if code is AckCode.CR else AckCode.AR


def acknowledge(
    original: bytes,
    code: AckCode,
    *,
    control_id: str,
    now: datetime,
    error: LocatedError | None = None,
    text: str = "",
    error_code: int | None = None,
) -> bytes:
    """The acknowledgement of `original`, unframed, in its version, charset and delimiters, with the parties swapped.

    `error` fills ERR; without it `text` does (with `error_code`, table 0357, by default 207 for a negative answer).
    `now` is aware. Works with a broken MSH, and with none.
    """
    header, encoding = _read_header(original)
    marks = header.delimiters
    version = _clean(header.field(12)) or "2.5.1"
    event = _clean(header.value(9, 2))
    kind = marks.component.join(["ACK", event, "ACK"] if event and not _before(version, 2, 4) else ["ACK", event])
    msh = [
        "MSH",
        marks.definition,
        *(_clean(header.field(n)) for n in (5, 6, 3, 4)),
        now.strftime("%Y%m%d%H%M%S%z"),
        "",
        kind.rstrip(marks.component),
        escape(control_id, marks),
        _clean(header.field(11)) or "P",
        version,
    ]
    charset = _clean(header.field(18))
    if charset:
        msh += ["", "", "", "", "", charset]
    message = text or (error.text if error else "")
    msa = ["MSA", str(code), _clean(header.field(10))]
    if _before(version, 2, 5) and message:
        msa.append(escape(message, marks))
    segments = [msh, msa]
    if not code.positive:
        segments.append(_err(marks, version, error, message, error_code))
    lines = [marks.field.join(fields) for fields in segments]
    return ("\r".join(lines) + "\r").encode(encoding, "replace")


def _err(marks: Delimiters, version: str, error: LocatedError | None, message: str, code: int | None) -> list[str]:
    """ERR in the shape of the version: 2.5 gave each part a field, before it was one composite."""
    if isinstance(error, SegmentError | UnsupportedMessage):
        code = error.code
    number = str(code or APPLICATION_ERROR)
    location = (error.location if error else "").split("^")
    words = escape(message, marks)
    if _before(version, 2, 5):
        # HL7 v2.3.1 2.24.4: segment, sequence, field, code and its meaning
        place = [escape(part, marks) for part in [*location, "", "", ""][:3]]
        return ["ERR", marks.component.join([*place, marks.subcomponent.join([number, words])])]
    place = [escape(part, marks) for part in location if part]
    coded = marks.component.join([number, words, "HL70357"])
    return ["ERR", "", marks.component.join(place), coded, "E", "", "", "", words]


def _read_header(block: bytes) -> tuple[Segment, str]:
    """The MSH to answer, readable or not, and the charset to answer in."""
    try:
        message: Message = parse(block)
    except SegmentError:
        raw = charsets.raw_header(block)
        text = charsets.decode(raw).text if raw[3:4] == b"|" else "MSH|"
        return Segment(text, DEFAULT_DELIMITERS), "utf-8"
    return message.header, message.encoding


def _condition(header: Segment, number: int) -> str:
    value = header.value(number).strip().upper()
    return value if value in _CONDITIONS else ""


def _wanted(condition: str, outcome: Outcome) -> bool:
    stored = outcome is Outcome.STORED
    return condition == "AL" or (condition == "SU" and stored) or (condition == "ER" and not stored)


def _clean(raw: str) -> str:
    """A field to be sent back as it came, without what would break the reply's frame."""
    return "".join(c for c in raw if c >= " ")


def _before(version: str, major: int, minor: int) -> bool:
    # at most three ASCII digits: int() refuses a superscript two, and thousands of digits
    parts = [int(p) if _NUMBER.fullmatch(p) else 0 for p in version.split("^")[0].split(".")[:2]]
    return tuple(parts) < (major, minor)
