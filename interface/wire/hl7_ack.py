"""HL7 acknowledgements: which one is due, and its bytes. Pure: control id and time are arguments.

HL7 v2.5.1 2.9: with MSH-15 and MSH-16 empty the original mode is meant and one application acknowledgement answers
(AA, AE, AR). With either valued it is the enhanced mode: MSH-15 asks for an accept acknowledgement (CA, CE, CR) and
MSH-16 for an application one. An acknowledgement is never acknowledged, nor a response in original mode.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from interface.errors import LocatedError, SegmentError, UnsupportedMessage
from interface.settings import AckPolicy
from interface.wire import charsets
from interface.wire.hl7 import DEFAULT_DELIMITERS, Delimiters, Message, Segment, escape, read_header

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


# HL7 table 0076: general acknowledgements, also the delayed one of version 2.1
_ACKNOWLEDGEMENTS = frozenset({"ACK", "MCF"})
INITIATIVES = frozenset({"ORU", "OUL"})  # no responses, whatever a sender puts into them: it waits for its reply
# IHE LAW: an acknowledgement names the transaction as its message does, ACK^R22 that of LAB-29. Other profiles in
# MSH-21 are of messages, not of what acknowledges them.
_LAW = re.compile(r"LAB-?2[789]R?\^")
_MSA_WINDOW_BYTES = 65536  # MSA stands behind MSH and SFT


ACCEPTING = frozenset(_ACCEPT.values())  # of the accept acknowledgement


@dataclass(frozen=True, slots=True)
class Due:
    """The replies that are owed at once, in this order; None for none."""

    first: AckCode | None = None
    then: AckCode | None = None  # the application acknowledgement behind an accept acknowledgement


def due(block: bytes, outcome: Outcome, policy: AckPolicy = AckPolicy.AS_SENT) -> Due:
    """Which replies the sender wants by its MSH-15 and MSH-16, or by the link's policy.

    The application acknowledgement of a stored message says what the accept acknowledgement did, so it is not kept for
    later: a sender that asks for both gets both. Never raises: what has no readable MSH is answered in original mode.
    """
    if policy is AckPolicy.NONE:
        return Due()
    header = _header(block)
    kind = header.value(9).strip().upper() if header else ""
    if kind in _ACKNOWLEDGEMENTS:
        return Due()
    response = _is_response(kind, block)
    if policy is AckPolicy.ACCEPT:
        return Due(_ACCEPT[outcome])
    accept, application = (_condition(header, number) if header else "" for number in (15, 16))
    if policy is AckPolicy.ORIGINAL or not (accept or application):
        return Due() if response else Due(_APPLICATION[outcome])
    last = _APPLICATION[outcome] if application and not response and _wanted(application, outcome) else None
    if not accept or accept == "NE":
        return Due(last)
    if not _wanted(accept, outcome):
        return Due(last)
    # What was not accepted is not processed, so nothing is said of its processing.
    return Due(_ACCEPT[outcome], last if outcome is Outcome.STORED else None)


def due_of_request(block: bytes, refused: bool, policy: AckPolicy = AckPolicy.AS_SENT) -> Due:
    """Which replies the sender of a request wants that is stored; `refused`: it, or a part of it, was not done.

    It is accepted whatever becomes of it, so CA goes before AE. A sender that wants no application reply is told by CE:
    that what it asked for was not done must not be known to nobody.
    """
    done, failed = due(block, Outcome.STORED, policy), due(block, Outcome.ERROR, policy)
    if not refused:
        return done
    accept = done.first if done.first in ACCEPTING else None
    header = _header(block)
    if failed.first not in ACCEPTING:
        return Due(accept or failed.first, failed.first if accept else None)
    wanted = policy is AckPolicy.AS_SENT and header is not None and _wanted(_condition(header, 16), Outcome.ERROR)
    return Due(accept or AckCode.AE, AckCode.AE if accept else None) if wanted else Due(failed.first)


def store_failure(block: bytes, policy: AckPolicy = AckPolicy.AS_SENT) -> AckCode | None:
    """What to say when a message could not be stored: AR in original mode, CE in enhanced mode (ERR-3 207).

    It is said also to a sender that wants no reply. None: what was not stored is an acknowledgement or a response.
    """
    header = _header(block)
    kind = header.value(9).strip().upper() if header else ""
    if kind in _ACKNOWLEDGEMENTS or _is_response(kind, block):
        return None
    return AckCode.CE if due(block, Outcome.REJECTED, policy).first is AckCode.CR else AckCode.AR


def _is_response(kind: str, block: bytes) -> bool:
    start = block[:_MSA_WINDOW_BYTES]
    return kind not in INITIATIVES and (b"\rMSA" in start or b"\nMSA" in start)


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
    message = text or (error.text if error else "")
    segments = [
        _msh(header, now.strftime(_STAMP), escape(control_id, marks)),
        ["MSA", str(code), _clean(header.field(10))],
    ]
    if _before(version, 2, 5) and message:
        segments[1].append(escape(message, marks))
    if not code.positive:
        segments.append(_err(marks, version, error, message, error_code))
    return _joined(segments, marks).encode(encoding, "replace")


@dataclass(frozen=True, slots=True)
class Err:
    """One ERR. `location` as ERR-2; `code` of table 0357; `severity` of table 0516: E, W or I."""

    location: str
    code: int
    text: str
    severity: str = "E"


def respond(
    original: Message,
    code: AckCode,
    kind: tuple[str, str],
    *,
    control_id: str,
    now: datetime,
    errors: Sequence[Err] = (),
    body: Sequence[str] = (),
) -> bytes:
    """An application's reply such as `("ORL", "O22")`, unframed, as `acknowledge` makes its own.

    `body`: the segments behind MSH, MSA and ERR, written with the delimiters of `original`, without their ends.
    """
    header, marks = original.header, original.header.delimiters
    version = _clean(header.field(12)) or "2.5.1"
    segments = [
        _msh(header, now.strftime(_STAMP), escape(control_id, marks), kind),
        ["MSA", str(code), _clean(header.field(10))],
    ]
    if _before(version, 2, 5) and errors:
        segments[1].append(escape(errors[0].text, marks))
    segments += [_err_of(marks, version, error) for error in errors]
    text = _joined(segments, marks) + "".join(f"{line}\r" for line in map(_clean, body))
    return text.encode(original.encoding, "replace")


class Template:
    """The positive acknowledgement of a sender's messages, but for what is each message's own; see `acknowledge`."""

    __slots__ = ("_pieces",)

    def __init__(self, message: Message, code: AckCode) -> None:
        # Control characters stand for what is filled in: a field of the sender's is never sent back with one.
        header = message.header
        text = _joined([_msh(header, "\x01", "\x02"), ["MSA", str(code), "\x03"]], header.delimiters)
        self._pieces = re.split(b"[\x01\x02\x03]", text.encode(message.encoding, "replace"))

    def fill(self, control_id: str, original_id: str, now: datetime) -> bytes:
        """`control_id`, ours, and `original_id` are letters and digits; `now` is aware."""
        before, between, then, after = self._pieces
        stamp = _stamp(now.replace(microsecond=0))
        return b"".join((before, stamp, between, control_id.encode("ascii"), then, original_id.encode("ascii"), after))


_STAMP = "%Y%m%d%H%M%S%z"


@lru_cache(maxsize=1)
def _stamp(second: datetime) -> bytes:
    return second.strftime(_STAMP).encode("ascii")


def _joined(segments: list[list[str]], marks: Delimiters) -> str:
    return "\r".join(marks.field.join(fields) for fields in segments) + "\r"


def _msh(header: Segment, stamp: str, control_id: str, of: tuple[str, str] | None = None) -> list[str]:
    """The reply's MSH, its time and its control id as they are to stand there; `of`: a reply that is no ACK."""
    marks = header.delimiters
    version = _clean(header.field(12)) or "2.5.1"
    name, event = of or ("ACK", _clean(header.value(9, 2)))
    structure = name if name == "ACK" else f"{name}_{event}"
    kind = marks.component.join([name, event, structure] if event and not _before(version, 2, 4) else [name, event])
    msh = [
        "MSH",
        marks.definition,
        *(_clean(header.field(n)) for n in (5, 6, 3, 4)),
        stamp,
        "",
        kind.rstrip(marks.component),
        control_id,
        _clean(header.field(11)) or "P",
        version,
    ]
    charset = _clean(header.field(18))
    profile = _clean(header.field(21))
    if _LAW.match(profile):
        msh += ["", "", "", "", "", charset, "", "", profile]
    elif charset:
        msh += ["", "", "", "", "", charset]
    return msh


def error_segment(marks: Delimiters, version: str, error: LocatedError) -> str:
    """ERR of an application's own reply, in the shape of the version."""
    return marks.field.join(_err(marks, version, error, error.text, None))


def _err(marks: Delimiters, version: str, error: LocatedError | None, message: str, code: int | None) -> list[str]:
    if isinstance(error, SegmentError | UnsupportedMessage):
        code = error.code
    return _err_of(marks, version, Err(error.location if error else "", code or APPLICATION_ERROR, message))


def _err_of(marks: Delimiters, version: str, error: Err) -> list[str]:
    """ERR in the shape of the version: 2.5 gave each part a field, before it was one composite."""
    number, words, location = str(error.code), escape(error.text, marks), error.location.split("^")
    if _before(version, 2, 5):
        # HL7 v2.3.1 2.24.4: segment, sequence, field, code and its meaning
        place = [escape(part, marks) for part in [*location, "", "", ""][:3]]
        return ["ERR", marks.component.join([*place, marks.subcomponent.join([number, words])])]
    place = [escape(part, marks) for part in location if part]
    coded = marks.component.join([number, words, "HL70357"])
    return ["ERR", "", marks.component.join(place), coded, error.severity, "", "", "", words]


def _header(block: bytes) -> Segment | None:
    """MSH alone, for the rest of a message says nothing about its reply; None when it cannot be read."""
    try:
        return read_header(block).header
    except SegmentError:
        return None


def _read_header(block: bytes) -> tuple[Segment, str]:
    """The MSH to answer, readable or not, and the charset to answer in."""
    try:
        message = read_header(block)
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
    return raw if raw.isprintable() else "".join(c for c in raw if c >= " ")


@lru_cache(maxsize=64)
def _before(version: str, major: int, minor: int) -> bool:
    # at most three ASCII digits: int() refuses a superscript two, and thousands of digits
    parts = [int(p) if _NUMBER.fullmatch(p) else 0 for p in version.split("^")[0].split(".")[:2]]
    return tuple(parts) < (major, minor)
