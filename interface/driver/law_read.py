"""IHE LAW as its Analyzer Manager: what the analyzer says, its query (LAB-27) and its answer to work (LAB-28). Pure.

What cannot be understood is a SegmentError with its place for ERR-2. What an answer leaves unsaid stays unsaid: a step
of which it says nothing is neither accepted nor refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from interface.errors import SegmentError
from interface.wire import hl7, hl7_reply
from interface.wire.hl7 import REQUIRED_MISSING, SEGMENT_SEQUENCE, TABLE_VALUE


class Asking(StrEnum):
    """What LAB-27 may ask about (assertions LAB27-001, -005, -006, -007).

    OURS: of asking for all, one specimen by the barcode that we printed, as no analyzer has read it.
    """

    SPECIMEN = "specimen"
    ALL = "all"
    OURS = "ours"
    RACK = "rack"
    TRAY = "tray"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a specimen stands, by SAC-10, -11, -13, -14 and -15."""

    rack: str = ""
    rack_position: str = ""
    tray: str = ""
    tray_position: str = ""
    location: str = ""


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class LawQuery:
    """LAB-27. `name` and `tag` as they stand in QPD-1 and QPD-2."""

    asking: Asking
    name: str
    tag: str
    specimen_ids: tuple[str, ...] = ()
    place: Place = NOWHERE


# QPD-1 names begin so, whatever follows: WOS, WOS_ALL, Roche's WOS_ROCHE.
_WORK_ORDER_STEP, _ALL, _ISOLATE = "WOS", "WOS_ALL", "ISOLATE"


def read_query(message: hl7.Message) -> LawQuery:
    """What a QBP^Q11 asks. Raises SegmentError: no QPD, a name that is none of the profile's, nothing asked for.

    Which fields are filled says what is asked by (LAB27-005 to -007), for the names of QPD-1 differ among analyzers.
    """
    segment = message.first("QPD")
    if segment is None:
        raise SegmentError("there is no QPD", "QPD^1", SEGMENT_SEQUENCE)
    name = segment.value(1).strip().upper()
    if not name:
        raise SegmentError("QPD-1 does not name the query", "QPD^1^1", REQUIRED_MISSING)
    if not name.startswith(_WORK_ORDER_STEP) or _ISOLATE in name:
        raise SegmentError("this query is not known here", "QPD^1^1", TABLE_VALUE)
    said, tag = segment.field(1), segment.field(2)
    if name == _ALL:
        return LawQuery(Asking.ALL, said, tag)
    rack, position, tray, tray_position, location = (segment.value(number).strip() for number in (4, 5, 6, 7, 8))
    place = Place(rack, position, tray, tray_position, location)
    repeats = (each.strip() for each in segment.every(3))
    if ids := tuple(dict.fromkeys(filter(None, repeats))):
        return LawQuery(Asking.SPECIMEN, said, tag, ids, place)
    for by, where, field in ((Asking.RACK, (rack, position), 4), (Asking.TRAY, (tray, tray_position), 6)):
        if any(where):
            if not all(where):
                missing = field + where.index("")
                raise SegmentError("a place is a carrier and a position in it", f"QPD^1^{missing}", REQUIRED_MISSING)
            return LawQuery(by, said, tag, (), place)
    raise SegmentError("the query names neither a specimen nor a place", "QPD^1^3", REQUIRED_MISSING)


# ---- the answer to LAB-28 --------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """What an analyzer says of one step."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    NOT_CANCELLED = "not_cancelled"
    UNSAID = "unsaid"


# HL7 table 0119, in answers
_VERDICTS = {
    "OK": Verdict.ACCEPTED,
    "UA": Verdict.REFUSED,
    "CR": Verdict.CANCELLED,
    "UC": Verdict.NOT_CANCELLED,
}
_BUSY = "207"  # HL7 table 0357, application internal error: what the same message may not meet again


@dataclass(frozen=True, slots=True)
class Said:
    """One ORC of the answer. `step_id`: ORC-2, else OBR-2; "" where it names none. `status`: ORC-5."""

    step_id: str
    control: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """ORL^O34. `errors`: ERR, each in one line. `busy`: every error is one that passes."""

    code: str
    control_id: str
    said: tuple[Said, ...] = ()
    errors: tuple[str, ...] = ()
    busy: bool = False

    @property
    def positive(self) -> bool:
        return self.code in ("AA", "CA")


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a step that was sent. `words`: what the analyzer said, for people."""

    step_id: str
    verdict: Verdict
    words: str


def read_answer(block: bytes) -> OrderAnswer:
    """An ORL^O34 of either structure (ORL_O34, ORL_O42), or the plain ACK that some send in its place.

    Raises SegmentError for what is no HL7, has no MSA or no end.
    """
    if not hl7_reply.readable(block):
        raise SegmentError("the answer is too long to be read", "MSH^1", SEGMENT_SEQUENCE)
    message = hl7.parse(block)
    msa = message.first("MSA")
    if msa is None or not msa.value(1).strip():
        raise SegmentError("the answer has no MSA-1", "MSA^1^1", REQUIRED_MISSING)
    errors = tuple(_error(segment) for segment in message.all("ERR"))
    codes = [segment.value(3).strip() for segment in message.all("ERR")]
    return OrderAnswer(
        msa.value(1).strip().upper(),
        msa.value(2).strip(),
        tuple(_said(message)),
        tuple(filter(None, [*errors, msa.value(3).strip()])),
        bool(codes) and all(code == _BUSY for code in codes),
    )


def _said(message: hl7.Message) -> list[Said]:
    found: list[Said] = []
    for segment in message.segments:
        if segment.id == "ORC":
            found.append(Said(segment.value(2).strip(), segment.value(1).strip().upper(), segment.value(5).strip()))
        elif segment.id == "OBR" and found and not found[-1].step_id:
            found[-1] = Said(segment.value(2).strip(), found[-1].control, found[-1].status)
    return found


def _error(segment: hl7.Segment) -> str:
    """ERR-2 to ERR-8 in one line: where, what, and the analyzer's own words."""
    code = " ".join(filter(None, (segment.value(3), segment.value(3, 2))))
    words = (segment.read(2), code, segment.value(5, 2), segment.value(7), segment.value(8))
    return ", ".join(dict.fromkeys(filter(None, words)))


def judge(step_ids: Sequence[str], answer: OrderAnswer) -> tuple[Judged, ...]:
    """What the answer says of the steps of one message, in their order.

    A negative answer refuses all of which it says nothing else. An answer that names no step of ours, but has as many
    ORC as there were steps, means them in their order (cobas pro; the x800 counts them). A positive one that says
    nothing of a step leaves it open: some analyzers say no more of work that they take (BA200), others of work that
    they do not (x800). What is refused of a step that is none of ours may be any of them.
    """
    words = "; ".join(answer.errors)
    said = answer.said
    named = {one.step_id: one for one in said if one.step_id in step_ids}
    others = [one for one in said if one.step_id not in step_ids]
    if not named and len(said) == len(step_ids):
        named, others = dict(zip(step_ids, said, strict=True)), []
    refused = not answer.positive or any(_VERDICTS.get(one.control) is Verdict.REFUSED for one in others)
    judged = []
    for step_id in step_ids:
        one = named.get(step_id)
        verdict = _VERDICTS.get(one.control, Verdict.UNSAID) if one else Verdict.UNSAID
        if verdict is Verdict.UNSAID and refused:
            verdict = Verdict.REFUSED
        own = f"ORC-1 {one.control}, ORC-5 {one.status}" if one else f"MSA-1 {answer.code}"
        judged.append(Judged(step_id, verdict, "; ".join(filter(None, (own, words)))))
    return tuple(judged)
