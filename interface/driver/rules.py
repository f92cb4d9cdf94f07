"""What a driver says on conditions: whose a specimen is, what a record is, what holds a result. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from interface.domain.model import HoldReason, SpecimenRole


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Where in a record something stands; numbers from 1, component and subcomponent None for the whole.

    `field` 0: the whole record, or what a word of the manifest names (`specimen_id`, `code`, `text`, `role`).
    """

    record: str
    field: int
    component: int | None = None
    subcomponent: int | None = None

    def __str__(self) -> str:
        if not self.field:
            return self.record
        mark = "-" if len(self.record) == 3 else "."
        rest = "".join(f".{n}" for n in (self.component, self.subcomponent) if n is not None)
        return f"{self.record}{mark}{self.field}{rest}"


# Of records that a driver lays out itself: the block's whole text, and what its field `role` says.
TEXT_PATH, ROLE_PATH = FieldPath("text", 0), FieldPath("role", 0)
# What the driver has made of a specimen's id, of a result's code and of its value.
SPECIMEN_ID_PATH, CODE_PATH, VALUE_PATH = FieldPath("specimen_id", 0), FieldPath("code", 0), FieldPath("value", 0)

# What stands at a path, stripped: one value for each record and repetition that is there; () where there is none.
Reader = Callable[[FieldPath], Sequence[str]]


class RecordKind(StrEnum):
    """What a result record is when it is not a measurement."""

    IMAGE = "image"  # a picture or curve, or where one lies
    FLAG = "flag"  # a message about the specimen: it has fired when it has a flag or a value
    TEXT = "text"  # words, however much they look like a number
    DETAIL = "detail"  # of another result: counts, cycles, times. Kept, never a result of its own, unless mapped


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds when a value at the path is one of `equals` or is found by `pattern`, or when there is none (`empty`).

    `negated`: when that is not so.
    """

    path: FieldPath
    equals: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    empty: bool = False
    negated: bool = False

    def holds(self, read: Reader) -> bool:
        values = [value.strip() for value in read(self.path)]
        found = self.empty and not any(values)
        found = found or any(value in self.equals for value in values or [""])
        if self.pattern is not None:
            found = found or any(self.pattern.search(value) is not None for value in values)
        return found is not self.negated


def met(conditions: Sequence[Condition], read: Reader) -> bool:
    return all(condition.holds(read) for condition in conditions)


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Whose a specimen is: the first rule whose conditions all hold says it."""

    role: SpecimenRole
    when: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """Result records that are no measurements: by their code, and where all of `when` holds."""

    kind: RecordKind
    codes: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    media_type: str = "application/octet-stream"
    when: tuple[Condition, ...] = ()

    def matches(self, code: str, read: Reader) -> bool:
        if self.codes or self.pattern is not None:
            if code not in self.codes and not (self.pattern is not None and self.pattern.search(code)):
                return False
        return met(self.when, read)


@dataclass(frozen=True, slots=True)
class HoldRule:
    """What else holds a result; `run_failed` also takes its value away. `beside`: and all others of its order, of whose
    run it tells."""

    reason: HoldReason
    when: tuple[Condition, ...]
    beside: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentRule:
    """Records that carry pictures or curves beside the results (LIS2: M records)."""

    record: str
    name: FieldPath
    data: FieldPath
    media_type: str = "application/octet-stream"
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """A data alarm in a comment below a result or its order. `known` says nothing about the value, a remark needs no
    hold, `holds` says why, others are unknown flags."""

    path: FieldPath
    known: frozenset[str]
    known_pattern: re.Pattern[str] | None = None
    remark_pattern: re.Pattern[str] | None = None
    holds: dict[str, HoldReason] = field(default_factory=dict)

    def is_known(self, value: str) -> bool:
        return value in self.known or (self.known_pattern is not None and bool(self.known_pattern.fullmatch(value)))

    def is_remark(self, value: str) -> bool:
        return self.remark_pattern is not None and bool(self.remark_pattern.fullmatch(value))

    def hold(self, value: str) -> HoldReason | None:
        if self.is_known(value) or self.is_remark(value):
            return None
        return self.holds.get(value, HoldReason.UNKNOWN_FLAG)
