"""What is found of the machine and the service: each with the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

from interface.domain.alerts import AlertKind, Severity, Subject


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `severity`: None where it is well; `command`: what to run, "" where that is so.

    Text and subject hold nothing of a patient: they become alerts, which leave the house.
    """

    kind: AlertKind
    subject: Subject
    severity: Severity | None
    text: str
    command: str = ""


def worst(findings: list[Finding]) -> Severity | None:
    """The gravest of them, None where all is well."""
    return max((one.severity for one in findings if one.severity), key=lambda one: one.rank, default=None)
