"""Alerts: what is told once when it begins and once when it is over. Pure.

An alert is about one subject (a link, an analyzer, a channel, the database) and stands from its entry to its recovery.
Who is told is `domain.roster`, when and in which words `domain.alert_words`. Nothing of a patient is in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class AlertKind(StrEnum):
    """What is wrong."""

    LINK_DOWN = "link_down"
    LINK_SILENT = "link_silent"  # nothing was heard in the hours in which something is
    BACKLOG = "backlog"  # messages wait to be decided
    PARKED = "parked"  # a message that could not be decided: nobody has seen what it says
    HELD_AGE = "held_age"  # held results wait for a person
    UNMAPPED = "unmapped"
    DISPATCH = "dispatch"  # analyzers refuse their work, or do not take it
    CRITICAL_UNTOLD = "critical_untold"
    QC_DUE = "qc_due"
    QC_PROBLEM = "qc_problem"
    DELIVERY = "delivery"  # an EMR does not take what it asked for
    CHANNEL = "channel"  # alerts cannot be sent by it
    DATABASE = "database"
    DISK = "disk"
    CLOCK = "clock"
    CERTIFICATE = "certificate"
    BACKUP_AGE = "backup_age"
    SERVICE = "service"  # a unit of systemd's


class Severity(StrEnum):
    """How soon somebody must look: today, soon, now."""

    NOTICE = "notice"
    WARNING = "warning"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Phase(StrEnum):
    """What is told of an alert."""

    ENTERED = "entered"
    ESCALATED = "escalated"  # nobody has acknowledged it
    RECOVERED = "recovered"


SEVERITY: Final[dict[AlertKind, Severity]] = dict.fromkeys(AlertKind, Severity.WARNING) | {
    AlertKind.UNMAPPED: Severity.NOTICE,
    AlertKind.QC_DUE: Severity.NOTICE,
    AlertKind.HELD_AGE: Severity.NOTICE,
    AlertKind.PARKED: Severity.URGENT,
    AlertKind.CRITICAL_UNTOLD: Severity.URGENT,
    AlertKind.DATABASE: Severity.URGENT,
    AlertKind.DISK: Severity.URGENT,
}
MOST_NOTE_CHARACTERS: Final = 500
MOST_SUBJECT_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What an alert is about: `thing` is a word (link, analyzer, subscription, machine …), `name` its name or id."""

    thing: str
    name: str

    def __str__(self) -> str:
        return f"{self.thing} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the feed of changes about an alert: which phase of what."""

    phase: Phase
    kind: str
    subject: Subject

    def __str__(self) -> str:
        return f"{self.phase} {self.kind} {self.subject}"

    @classmethod
    def read(cls, text: str) -> Told:
        phase, kind, *subject = text.split(" ", 3)
        return cls(Phase(phase), kind, Subject(*[*subject, "", ""][:2]))


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measure that enters at `at` and recovers at or below `back`, so that one that swings about `at` tells once."""

    at: float
    back: float

    def stands(self, value: float, standing: bool) -> bool:
        """Whether the alert stands, which `standing` said before. An `at` of 0 never enters."""
        if not self.at:
            return False
        return value > self.back if standing else value >= self.at


def threshold(at: float) -> Threshold:
    """Recovers at half of what it enters at."""
    return Threshold(at, at / 2)
