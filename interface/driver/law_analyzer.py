"""IHE LAW as the analyzer speaks it: its query, what it hears of work, its answer, its results. Pure.

For those who play one: the simulator, and the tests of our own side. Written from the same public traces as `law`, read
without it, so that a fault of the one is none of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from interface.wire import hl7

_STAMP = "%Y%m%d%H%M%S%z"


@dataclass(frozen=True, slots=True)
class Heard:
    """One step of a LAB-28. `control`: NW, CA or DC; DC names no step and no code."""

    control: str
    step_id: str = ""
    code: str = ""
    dilution: str = ""  # TCD-2 as sent
    priority: str = ""


@dataclass(frozen=True, slots=True)
class HeardOrder:
    """One specimen of a LAB-28."""

    control_id: str
    specimen_id: str
    role: str
    rack: str
    rack_position: str
    steps: tuple[Heard, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One OBX of a step. `step_id` "": it was entered at the analyzer, or is a reflex of its own (LAB29-003, LAW-007).

    `control`, `order_status`: ORC-1 and ORC-5. `parent`: the step that a reflex belongs to (OBR-29).
    """

    step_id: str
    code: str
    value: str
    unit: str = ""
    status: str = "F"
    order_status: str = "CM"
    parent: str = ""


class Voice:
    """An analyzer's side of the conversation. Control ids count up within it."""

    def __init__(self, name: str, host: str = "LABORA", accept: str = "NE", application: str = "AL") -> None:
        self.name, self.host, self.application = name, host, application
        self.wants = ""  # MSH-15 of its answers to work
        self._conditions = f"{accept}|{application}"
        self._said = 0

    def _msh(self, now: datetime, kind: str, profile: str, conditions: str) -> str:
        self._said += 1
        return (
            f"MSH|^~\\&|{self.name}|LAB|{self.host}||{now.strftime(_STAMP)}||{kind}|{self.name}-{self._said}|P|2.5.1"
            f"|||{conditions}||UNICODE UTF-8|||{profile}"
        )

    def asks(
        self, now: datetime, tag: str, specimen_id: str = "", name: str = "WOS^Work Order Step^IHELAW", more: str = ""
    ) -> bytes:
        """LAB-27. `more`: the fields from QPD-4 on, as they stand there."""
        query = f"QPD|{name}|{tag}|{specimen_id}|{more}".rstrip("|")
        return _encoded(self._msh(now, "QBP^Q11^QBP_Q11", "LAB-27^IHE", self._conditions), query, "RCP|I||R^^HL70394")

    def answers(self, now: datetime, order: HeardOrder, controls: Sequence[str], structure: str = "ORL_O42") -> bytes:
        """ORL^O34: what it does with each step, ORC-1 for each; none for a specimen with nothing to do (LAB28-009)."""
        status = {"OK": "SC", "UA": "CA", "CR": "CA", "UC": "IP"}
        lines = [self._msh(now, f"ORL^O34^{structure}", "LAB-28^IHE", f"{self.wants}|"), f"MSA|AA|{order.control_id}"]
        if controls:
            lines += [f"SPM|1||||||||||{order.role}^^HL70369", f"SAC|||{hl7.escape(order.specimen_id)}"]
            lines += [
                f"ORC|{control}|{step.step_id}|||{status.get(control, '')}"
                for step, control in zip(order.steps, controls, strict=True)
            ]
        return _encoded(*lines)

    def refuses(self, now: datetime, control_id: str, code: str = "AR", error: str = "") -> bytes:
        """ORL^O34 that refuses the message as a whole. `error`: an ERR segment."""
        head = self._msh(now, "ORL^O34^ORL_O42", "LAB-28^IHE", "|")
        return _encoded(head, f"MSA|{code}|{control_id}", *filter(None, [error]))

    def reports(
        self, now: datetime, specimen_id: str, results: Sequence[Result], role: str = "P", namespace: str = ""
    ) -> bytes:
        """LAB-29, OUL^R22: a specimen's steps with what was measured; a step with several OBX names them in a row."""
        own = f"{hl7.escape(specimen_id)}{f'&{namespace}' if namespace else ''}"
        lines = [
            self._msh(now, "OUL^R22^OUL_R22", "LAB-29^IHE", self._conditions),
            f"SPM|1|{own}||SER^^HL70487|||||||{role}^^HL70369",
            f"SAC|||{hl7.escape(specimen_id)}",
        ]
        stamp, last, count = now.strftime("%Y%m%d%H%M%S"), None, 0
        for result in results:
            if (result.step_id, result.code) != last or not result.step_id:
                last, count = (result.step_id, result.code), 0
                parent = f"|{'|' * 24}^{result.parent}" if result.parent else ""
                lines += [
                    f"OBR||{result.step_id or NULL}||{hl7.escape(result.code)}^^L{parent}",
                    f"ORC|SC||||{result.order_status}",
                ]
            count += 1
            kind = "NM" if result.value.replace(".", "", 1).isdigit() else "ST"
            unit = f"{hl7.escape(result.unit)}^^UCUM" if result.unit else ""
            lines.append(
                f"OBX|{count}|{kind}|{hl7.escape(result.code)}^^L||{hl7.escape(result.value)}|{unit}|||||"
                f"{result.status}|||||OPERATOR||{self.name}|{stamp}||||||||||RSLT"
            )
        return _encoded(*lines)


NULL = '""'


def hear(block: bytes) -> tuple[HeardOrder, ...]:
    """The specimens of a LAB-28, each with its steps. Raises SegmentError for what is no HL7."""
    message = hl7.parse(block)
    return tuple(_specimens(message))


def _specimens(message: hl7.Message) -> Iterator[HeardOrder]:
    groups: list[list[hl7.Segment]] = []
    for segment in message.segments:
        if segment.id == "SPM":
            groups.append([])
        if groups:
            groups[-1].append(segment)
    for group in groups:
        specimen, box = group[0], next((one for one in group if one.id == "SAC"), None)
        yield HeardOrder(
            message.control_id,
            (box.value(3) if box else "") or specimen.value(2),
            specimen.value(11),
            box.value(10) if box else "",
            box.value(11) if box else "",
            tuple(_steps(group)),
        )


def _steps(group: Sequence[hl7.Segment]) -> Iterator[Heard]:
    starts = [at for at, one in enumerate(group) if one.id == "ORC"]
    for at, end in zip(starts, [*starts[1:], len(group)], strict=True):
        own = {one.id: one for one in reversed(group[at:end])}
        order, dilution, timing = own.get("OBR"), own.get("TCD"), own.get("TQ1")
        yield Heard(
            own["ORC"].value(1),
            order.value(2) if order else "",
            order.value(4) if order else "",
            dilution.field(2) if dilution else "",
            timing.value(9) if timing else "",
        )


def _encoded(*lines: str) -> bytes:
    return "".join(f"{line}\r" for line in lines).encode("utf-8")
