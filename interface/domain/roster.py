"""Who is told of what: people with their channels, shifts, and who is next when nobody sees to it. Pure.

An alert is told to those on shift when it enters. Where nobody is, the first step of the escalation is taken at once;
where there is no step either, what is for now, or soon, is told out of its hours to those of the shift: nothing
is told to nobody. Nobody having acknowledged it, the steps follow at their times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from interface.domain.alerts import AlertKind, Severity
from interface.domain.hours import Calendar, Hours, within


class NoticeKind(StrEnum):
    """What a ward or a practitioner may have itself told."""

    FINAL = "final"  # all of an order is reported
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # a specimen was, and a new one is needed
    CRITICAL = "critical"  # a released result is critical: call the laboratory


@dataclass(frozen=True, slots=True)
class Contact:
    """How somebody is reached: the id of a channel, and the address there. `least`: what is less is not told by it."""

    channel: str
    to: str = ""
    least: Severity = Severity.NOTICE


@dataclass(frozen=True, slots=True)
class Person:
    """`id` is a word of the roster's."""

    id: str
    contacts: tuple[Contact, ...]
    name: str = ""

    def reached(self, severity: Severity) -> tuple[Contact, ...]:
        """The contacts for it; somebody who is to be told is told, by the first where none is meant for so little."""
        return tuple(one for one in self.contacts if severity.rank >= one.least.rank) or self.contacts[:1]


@dataclass(frozen=True, slots=True)
class Scope:
    """Of which alerts: empty is every one."""

    organization: str = ""
    kinds: frozenset[AlertKind] = frozenset()
    least: Severity = Severity.NOTICE

    def has(self, organization: str, kind: str, severity: Severity) -> bool:
        return (
            self.organization in ("", organization)
            and (not self.kinds or kind in self.kinds)
            and severity.rank >= self.least.rank
        )


@dataclass(frozen=True, slots=True)
class Shift:
    """`hours` empty: always."""

    name: str
    people: tuple[str, ...]
    hours: tuple[Hours, ...] = ()
    of: Scope = Scope()


@dataclass(frozen=True, slots=True)
class Step:
    """Who is told when nobody has acknowledged an alert `after_s` from when it was told first."""

    after_s: float
    people: tuple[str, ...]
    of: Scope = Scope()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a ward (its name, as orders have it) or a practitioner (`authority|value`, or value) is told, and how."""

    contacts: tuple[Contact, ...]
    kinds: frozenset[NoticeKind]
    ward: str = ""
    practitioner: str = ""
    organization: str = ""

    def of(self, organization: str, ward: str, practitioners: Iterable[str], kind: NoticeKind) -> bool:
        """Both where both are named."""
        return (
            kind in self.kinds
            and self.organization in ("", organization)
            and self.ward.casefold() in ("", ward.strip().casefold())
            and (not self.practitioner or self.practitioner in practitioners)
        )


@dataclass(frozen=True, slots=True)
class Roster:
    calendar: Calendar = field(default_factory=Calendar)
    people: Mapping[str, Person] = field(default_factory=dict)
    shifts: tuple[Shift, ...] = ()
    steps: tuple[Step, ...] = ()
    wishes: tuple[Wish, ...] = ()

    def on_shift(self, organization: str, kind: str, severity: Severity, at: datetime) -> tuple[Person, ...]:
        return self._named(
            name
            for shift in self.shifts
            if shift.of.has(organization, kind, severity) and within(shift.hours, self.calendar, at)
            for name in shift.people
        )

    def steps_of(self, organization: str, kind: str, severity: Severity) -> tuple[Step, ...]:
        """In the order of their times."""
        found = (step for step in self.steps if step.of.has(organization, kind, severity))
        return tuple(sorted(found, key=lambda step: step.after_s))

    def first_told(
        self, organization: str, kind: str, severity: Severity, at: datetime
    ) -> tuple[int, tuple[Person, ...]]:
        """Whom to tell that it entered, and how many steps of the escalation that is."""
        if people := self.on_shift(organization, kind, severity, at):
            return 0, people
        for number, step in enumerate(self.steps_of(organization, kind, severity), 1):
            if people := self._named(step.people):
                return number, people
        if severity is Severity.NOTICE:
            return 0, ()  # for today: it waits until a shift begins
        of_it = (shift for shift in self.shifts if shift.of.has(organization, kind, severity))
        return 0, self._named(name for shift in of_it for name in shift.people)

    def escalated(
        self, organization: str, kind: str, severity: Severity, step: int, waited_s: float
    ) -> tuple[int, tuple[Person, ...]]:
        """The step that is due `waited_s` after it was told first, from the one reached, with all who are told by it;
        without people where none is."""
        due = [
            (number, one)
            for number, one in enumerate(self.steps_of(organization, kind, severity), 1)
            if number > step and one.after_s <= waited_s
        ]
        return (due[-1][0], self._named(name for _, one in due for name in one.people)) if due else (step, ())

    def _named(self, names: Iterable[str]) -> tuple[Person, ...]:
        return tuple(self.people[name] for name in dict.fromkeys(names) if name in self.people)
