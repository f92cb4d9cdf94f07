"""Critical results: who must be told what, and when it is late. Pure.

One chain of tasks for each order item (for each result where there is no item): its runs are one matter to whoever is
called. A task is `open` until somebody was called, `attempted` while nobody was reached, `notified` when somebody was
told, `closed` once it was read back. It is `withdrawn` only where nobody was told and no EMR has seen the result, and
only by a value that was released or by a person who took the result back: a value that waits itself speaks for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What must be told."""

    CRITICAL = "critical"
    NO_LONGER = "no_longer_critical"  # what was told, or seen, was corrected, rejected or retracted


class State(StrEnum):
    OPEN = "open"
    ATTEMPTED = "attempted"  # somebody was called, nobody was reached
    NOTIFIED = "notified"
    CLOSED = "closed"
    WITHDRAWN = "withdrawn"


class Means(StrEnum):
    """How somebody was told."""

    PHONE = "phone"
    IN_PERSON = "in_person"
    MESSAGE = "message"  # a secure messenger that both sides read
    OTHER = "other"


class Obstacle(StrEnum):
    """Why an attempt reached nobody."""

    NO_ANSWER = "no_answer"
    BUSY = "busy"
    WRONG_NUMBER = "wrong_number"
    MESSAGE_LEFT = "message_left"  # on a machine: nobody has confirmed anything
    NOT_RESPONSIBLE = "not_responsible"  # whoever answered could not take it
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a result. `value`: with comparator and unit, as reported."""

    result_id: UUID
    critical: bool
    value: str = ""
    flags: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return Kind.CRITICAL if self.critical else Kind.NO_LONGER


class Action(StrEnum):
    """What a new version of a result does to its chain of tasks."""

    NOTHING = "nothing"
    OPEN = "open"  # a new task, naming the one before
    KEEP = "keep"  # the unfinished task says it already
    AIM = "aim"  # the unfinished task is about this version now; its timer goes on
    WITHDRAW = "withdraw"  # the unfinished task has nothing to tell any more


def plan(now: Claim, told: Claim | None, live: Claim | None, seen: bool, *, settled: bool) -> Action:
    """What follows from `now`, the result as it stands since this transaction.

    `told`: what somebody was told last; `live`: what the unfinished task is about; `seen`: whether that may have been
    seen by somebody outside the laboratory although nobody was told. `settled`: `now` was released, or a person took
    the result back; what still waits for somebody to look at it can make a task or change what is to be told, and never
    takes a call back, nor says that a result is not critical any more.
    """
    if not settled and not now.critical:
        return Action.NOTHING if live is None else Action.KEEP
    if live is not None and live.critical and not now.critical and live.result_id != now.result_id:
        return Action.KEEP  # another run of the item is critical, and still stands
    if not _needed(now, told, live, seen):
        # What somebody was told and has not read back yet is never withdrawn.
        if live is None or live == told:
            return Action.NOTHING if live is None else Action.KEEP
        return Action.WITHDRAW if settled else Action.AIM
    if live is None:
        return Action.OPEN
    same = live == now if now.critical else not live.critical
    return Action.KEEP if same else Action.AIM


def _needed(now: Claim, told: Claim | None, live: Claim | None, seen: bool) -> bool:
    """Whether somebody must be told. Who was told something else, or may have seen it, must be."""
    if now.critical:
        known = told is not None and told.critical and told.flags == now.flags
        if told is not None and told.result_id == now.result_id:
            known = known and told.value == now.value  # of another run, the same call is enough
        return not known or live == now or (live is not None and seen)
    if live is not None:
        return seen or not live.critical or _told_of(now, told)
    return _told_of(now, told)


def _told_of(now: Claim, told: Claim | None) -> bool:
    return told is not None and told.critical and told.result_id == now.result_id


def level(escalate_at: Sequence[datetime], now: datetime) -> int:
    """How many of the times for escalation have passed: 0 in time, 1 overdue, and so on."""
    return sum(at <= now for at in escalate_at)
