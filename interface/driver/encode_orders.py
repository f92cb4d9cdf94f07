"""The answers to a hospital's orders: ORL^O22, ORL^O34 and ORR^O02, or a plain ACK. Pure.

What the hospital sent is echoed as it came, in its own delimiters; ours are the filler's numbers, the order control of
the answer (HL7 table 0119), the order's status (0038), the barcodes, and why something was refused (ORC-16, ERR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from interface.driver.orders import Fault
from interface.wire.hl7 import Message, Segment, escape
from interface.wire.hl7_ack import AckCode, Err, respond
from interface.wire.hl7_groups import Group, group
from interface.wire.hl7_structures import Part

MOST_ERRORS = 50  # of one reply
# The reply to each message (HL7 v2.5.1 4.4); ADT has none but ACK.
REPLIES = {"OML^O21": ("ORL", "O22"), "OML^O33": ("ORL", "O34"), "ORM^O01": ("ORR", "O02")}


@dataclass(frozen=True, slots=True)
class Tube:
    """A specimen as the laboratory knows it. `place` of `SpecimenRequest`."""

    barcode: str
    type: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one order. `location` of its ORC as decoded; `status` of HL7 table 0038."""

    location: str
    control: str
    filler: str = ""
    status: str = ""
    reason: str = ""
    tubes: tuple[Tube, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be said to a message. `code`: AA, or AE where something of it was refused that the sender can correct.

    `faults` in the order of the message.
    """

    code: AckCode
    answers: tuple[Answered, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def reason(self) -> str:
        """Why it was refused, in a sentence without patient data; "" when it was not."""
        if self.code is AckCode.AA:
            return ""
        return "; ".join(f"{one.location}: {one.text}" for one in self.faults if not one.warning)[:500]


def kind_of(message: Message) -> tuple[str, str] | None:
    """The reply that the standard has for the message; None: an ACK."""
    code, event = message.header.value(9).strip().upper(), message.header.value(9, 2).strip().upper()
    return REPLIES.get(f"{code}^{event}")


def reply(message: Message, outcome: Outcome, *, control_id: str, now: datetime, plain: bool = False) -> bytes:
    """The application's reply, unframed. `plain`: ACK with MSA and ERR alone, where the peer wants no more."""
    kind = None if plain else kind_of(message)
    # What was refused is told before what was left out; in the order of the message.
    told = {id(one) for one in sorted(outcome.faults, key=lambda one: one.warning)[:MOST_ERRORS]}
    errors = [
        Err(one.location, one.code, one.text, "W" if one.warning else "E") for one in outcome.faults if id(one) in told
    ]
    event = message.header.value(9, 2).strip().upper()
    if kind is None:
        return respond(message, outcome.code, ("ACK", event), control_id=control_id, now=now, errors=errors)
    body = _Body(message, outcome.answers, sees_specimens=kind[0] == "ORL").lines()
    return respond(message, outcome.code, kind, control_id=control_id, now=now, errors=errors, body=body)


class _Body:
    def __init__(self, message: Message, answers: Sequence[Answered], *, sees_specimens: bool) -> None:
        self._message, self._sees_specimens = message, sees_specimens
        self._marks = message.delimiters
        self._answers = {one.location: one for one in answers}

    def lines(self) -> list[str]:
        if not self._answers:
            return []
        tree = group(self._message)
        pid = self._message.first("PID")
        head = [self._line("PID", {3: pid.field(3), 5: pid.field(5), 7: pid.field(7), 8: pid.field(8)})] if pid else []
        return head + (self._by_specimen(tree) if tree.by_specimen else self._by_order(tree))

    def _by_order(self, tree: Group) -> list[str]:
        """HL7 v2.5.1 4.4.7, ORL^O22: ORC, OBR, and behind it the order's specimens."""
        lines: list[str] = []
        for of in tree.find(Part.ORDER):
            if (answered := self._of(of)) is None:
                continue
            lines += self._order(of, answered)
            if self._sees_specimens:
                lines += [line for at, tube in enumerate(answered.tubes, 1) for line in self._tube(at, tube)]
        return lines

    def _by_specimen(self, tree: Group) -> list[str]:
        """HL7 v2.5.1 4.4.9, ORL^O34: SPM, SAC, and behind them their orders."""
        lines: list[str] = []
        told: list[tuple[Tube, ...]] = []
        for of in tree.find(Part.ORDER):
            if (answered := self._of(of)) is None:
                continue
            if answered.tubes and answered.tubes not in told:
                told.append(answered.tubes)
                lines += [line for tube in answered.tubes for line in self._tube(len(told), tube)]
            elif not answered.tubes and not told:  # ORC stands below a specimen, if only one that was refused
                lines.append(self._line("SPM", {1: str(len(told) + 1), 2: self._sent(of, "SPM", 2), 4: '""'}))
            lines += self._order(of, answered)
        return lines

    def _of(self, of: Group) -> Answered | None:
        first = of.first("ORC") or of.first("OBR") or next(of.segments())  # as `decode_orders` places it
        return self._answers.get(self._message.location(first))

    def _order(self, of: Group, answered: Answered) -> list[str]:
        orc, obr = of.first("ORC"), of.first("OBR")
        placer = (orc.field(2) if orc else "") or (obr.field(2) if obr else "")
        filler = self._text(answered.filler) or (orc.field(3) if orc else "")
        reason = f"{self._marks.component}{self._text(answered.reason)}" if answered.reason else ""
        group_number = orc.field(4) if orc else ""
        lines = [
            self._line(
                "ORC",
                {1: answered.control, 2: placer, 3: filler, 4: group_number, 5: answered.status, 16: reason},
            )
        ]
        if obr is not None:
            said = {1: obr.field(1), 2: placer, 3: filler, 4: obr.field(4)}
            if not self._sees_specimens:  # ORR has no place for specimens: the laboratory's own field (4.5.3.20)
                said[20] = self._marks.repeat.join(self._text(tube.barcode) for tube in answered.tubes)
            lines.append(self._line("OBR", said))
        return lines

    def _tube(self, at: int, tube: Tube) -> list[str]:
        barcode = self._text(tube.barcode)
        return [self._line("SPM", {1: str(at), 2: barcode, 4: self._text(tube.type) or '""'}),
                self._line("SAC", {3: barcode})]  # fmt: skip

    def _sent(self, of: Group, segment_id: str, field: int) -> str:
        found: Segment | None = self._message.first(segment_id)
        return found.field(field) if found is not None else ""

    def _text(self, text: str) -> str:
        return escape(text, self._marks)

    def _line(self, segment_id: str, fields: dict[int, str]) -> str:
        """A segment of these fields; text of ours is escaped already."""
        last = max((at for at, text in fields.items() if text), default=0)
        return self._marks.field.join([segment_id, *(fields.get(at, "") for at in range(1, last + 1))])
