"""What stands in and around the segments of an HL7 message where a driver looks. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from interface.driver.rules import AlarmRule, FieldPath, Reader
from interface.wire.hl7 import Segment


def read_path(segments: dict[str, Segment], path: FieldPath) -> str:
    """The field at a path, unescaped and stripped; "" when its segment is not there."""
    segment = segments.get(path.record)
    if segment is None:
        return ""
    return segment.read(path.field, path.component, path.subcomponent) if path.field else segment.text


def values_at(segment: Segment, path: FieldPath) -> tuple[str, ...]:
    """What a segment says at a path, one value for each repetition."""
    if not path.field:
        return (segment.text,)
    if path.component is None:
        return (segment.read(path.field),)
    return tuple(leaf.strip() for leaf in segment.every(path.field, path.component, path.subcomponent or 1))


def reader_of(segments: dict[str, Segment], others: Iterable[Segment], said: dict[FieldPath, str]) -> Reader:
    """What the driver's conditions see: `said`, and every segment of a kind."""

    def read(path: FieldPath) -> tuple[str, ...]:
        if path in said:
            return (said[path],)
        found = [segments[path.record]] if path.record in segments else []
        found += [one for one in others if one.id == path.record]
        return tuple(value for segment in found for value in values_at(segment, path))

    return read


def comments_of(rule: AlarmRule | None, notes: Iterable[Segment]) -> tuple[str, ...]:
    """What is said below an order or a result in words; an alarm that says there is none is no remark."""
    said = [note for note in notes if note.id == "NTE"]
    if rule is not None:
        said = [note for note in said if not rule.is_known(read_path({"NTE": note}, rule.path))]
    return tuple([words for note in said if (words := note.read(3))])


def alarms_of(rule: AlarmRule, notes: Iterable[Segment]) -> tuple[str, ...]:
    """The data alarms of an order or a result, as sent."""
    said = [note for note in notes if note.id == rule.path.record]
    return tuple([value for note in said for value in values_at(note, rule.path) if value])
