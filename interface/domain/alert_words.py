"""What is said of alerts to people: a title of one line, and a text. Pure.

A title says what is the matter and nothing else, for it is what a telephone shows. Nothing of a patient is in either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final
from uuid import UUID

from interface.domain.alerts import Phase, Severity, Subject

MOST_LISTED: Final = 20  # of one message; of more, how many there are

# What is the matter with one subject, with several ("": the same), and where to look. {} is the subject's name.
_WORDS: Final[dict[str, tuple[str, str, str]]] = {
    "link_down": ("link {} is down", "links are down", "labora link status"),
    "link_silent": ("nothing is heard from link {}", "links are silent", "labora link status"),
    "backlog": ("messages wait to be decided", "", "labora message list"),
    "parked": ("a message could not be decided", "messages could not be decided",
               "labora message list --settled parked"),
    "held_age": ("held results wait for a person", "laboratories' held results wait", "labora result list"),
    "unmapped": ("{} sends codes without a map", "analyzers send codes without a map", "labora map unmapped"),
    "dispatch": ("{} does not take its work", "analyzers do not take their work", "labora dispatch list"),
    "critical_untold": ("a critical result is to be told", "critical results are to be told", "labora critical list"),
    "qc_due": ("controls are due on {}", "analyzers' controls are due", "labora qc status --due"),
    "qc_problem": ("quality control failed on {}", "analyzers failed quality control", "labora qc status"),
    "delivery": ("an EMR does not take what it asked for", "EMRs do not take what they asked for",
                 "labora subscription list"),
    "channel": ("alerts cannot be sent by {}", "channels cannot send alerts", "labora alert test"),
    "database": ("the database does not serve", "databases do not serve", "labora db status"),
    "disk": ("disk space is short: {}", "disks are short of space", "labora doctor"),
    "clock": ("the machine's clock is wrong", "clocks are wrong", "labora doctor"),
    "certificate": ("certificate {} ends soon, or has ended", "certificates end soon, or have ended", "labora doctor"),
    "backup_age": ("there is no recent backup", "backups are old", "labora backup list"),
    "service": ("service {} is not well", "services are not well", "labora doctor"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One alert in a message. `note`: of its phase. `since`: when it entered; `until`: when it recovered."""

    phase: Phase
    kind: str
    subject: Subject
    severity: Severity
    note: str
    since: datetime
    until: datetime | None = None
    id: UUID | None = None


def matter(kind: str, subject: Subject) -> str:
    """What is the matter, as a clause: `link hema-1 is down`."""
    return _WORDS.get(kind, (kind.replace("_", " ") + " {}", "", ""))[0].format(subject.name).strip()


def compose(laboratory: str, lines: Sequence[Line], zone: tzinfo) -> tuple[str, str]:
    """Title and text of a message about these; urgent ones first."""
    ordered = sorted(lines, key=lambda line: (line.phase is Phase.RECOVERED, -line.severity.rank, line.since))
    if len(ordered) == 1:
        return _title(laboratory, ordered[0].severity, _clause(ordered[0]), ordered), _one(ordered[0], zone)
    worst = max((line.severity for line in ordered), key=lambda severity: severity.rank)
    listed = [f"* {_listed(line, zone)}" for line in ordered[:MOST_LISTED]]
    if more := len(ordered) - len(listed):
        listed.append(f"* and {more} more: labora alert list")
    return _title(laboratory, worst, _summary(ordered), ordered), "\n".join(listed) + _see(ordered)


def _title(laboratory: str, severity: Severity, clause: str, lines: Sequence[Line]) -> str:
    urgent = severity is Severity.URGENT and any(line.phase is not Phase.RECOVERED for line in lines)
    return f"[{laboratory}] {'URGENT: ' if urgent else ''}{clause[:1].upper()}{clause[1:]}"


def _clause(line: Line) -> str:
    clause = matter(line.kind, line.subject)
    if line.phase is Phase.RECOVERED:
        return f"Over: {clause}"
    return f"Nobody has seen to it: {clause}" if line.phase is Phase.ESCALATED else clause


def _summary(lines: Sequence[Line]) -> str:
    """`12 links are down; over: 3 links are down`."""
    said = []
    for phase, before in (
        (Phase.ENTERED, ""),
        (Phase.ESCALATED, "Nobody has seen to it: "),
        (Phase.RECOVERED, "Over: "),
    ):
        of_kind = Counter(line.kind for line in lines if line.phase is phase)
        clauses = []
        for kind, number in of_kind.most_common():
            only = next(line for line in lines if (line.phase, line.kind) == (phase, kind))
            plural = _WORDS.get(kind, ("", f"alerts of {kind.replace('_', ' ')}", ""))[1]
            clauses.append(f"{number} {plural}" if number > 1 and plural else matter(kind, only.subject))
        if clauses:
            said.append(before + ", ".join(clauses))
    return "; ".join(said)


def _one(line: Line, zone: tzinfo) -> str:
    clause = _clause(line)
    rows = [f"{clause[:1].upper()}{clause[1:]}."]
    if line.note:
        rows.append(f"{line.note[:1].upper()}{line.note[1:]}")
    rows.append("")
    if line.until is None:
        rows.append(f"Since {_at(line.since, zone)}.")
    else:
        rows.append(f"From {_at(line.since, zone)} to {_at(line.until, zone)}.")
    return "\n".join(rows) + _see([line])


def _listed(line: Line, zone: tzinfo) -> str:
    times = f"since {_at(line.since, zone)}" if line.until is None else f"until {_at(line.until, zone)}"
    note = f" ({line.note})" if line.note else ""
    return f"{_clause(line)}{note}, {times}"


def _see(lines: Sequence[Line]) -> str:
    """Where to look, and how to say that somebody does."""
    standing = [line for line in lines if line.phase is not Phase.RECOVERED]
    commands = dict.fromkeys(_WORDS[line.kind][2] for line in standing if line.kind in _WORDS)
    rows = [f"Look:      {command}" for command in commands]
    if len(standing) == 1 and standing[0].id is not None:
        rows.append(f"See to it: labora alert ack {standing[0].id} --as YOU")
    elif standing:
        rows.append("See to it: labora alert list, labora alert ack ID --as YOU")
    return "\n\n" + "\n".join(rows) if rows else ""


def _at(instant: datetime, zone: tzinfo) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M %Z}"
