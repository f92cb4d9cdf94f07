"""Results in a terminal: what is wrong stands where the eye falls first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from interface.cli import table
from interface.domain.flags import CRITICAL
from interface.domain.model import Priority
from interface.domain.values import signed
from interface.domain.views import ResultView

if TYPE_CHECKING:
    from interface.store.criticals import CriticalView
    from interface.store.review import Waiting

LONGEST_NAME, LONGEST_VALUE = 20, 28
_RESULTS = ("specimen", "test", "result", "flag", "reference", "status", "why", "version", "id")
_QUEUE = ("prio", "waits", "specimen", "patient", "ward", "test", "result", "flag", "reference", "why it waits",
          "id:version")  # fmt: skip
_CRITICALS = ("prio", "open", "overdue", "state", "patient", "ward", "specimen", "test", "result", "tell", "id")


def result_table(found: Sequence[ResultView]) -> str:
    """Results in the order given."""
    return table(
        _RESULTS,
        [
            [
                view.barcode, _test(view), _value(view), _flag(view.flags), view.reference, view.status,
                _why(view, view.pending), view.version, view.id,
            ]
            for view in found
        ],
    )  # fmt: skip


def queue_table(found: Sequence[Waiting], now: datetime | None = None) -> str:
    """What waits for a person. A critical flag has a mark, and so has what is urgent."""
    now = now or datetime.now(UTC)
    return table(
        _QUEUE,
        [
            [
                _priority(row.priority), age(now, row.waiting_since), row.result.barcode,
                _cut(row.patient, LONGEST_NAME), row.ward, _test(row.result), _value(row.result),
                _flag(row.result.flags), row.result.reference, _waits_for(row),
                f"{row.result.id}:{row.result.version}",
            ]
            for row in found
        ],
    )  # fmt: skip


def critical_table(found: Sequence[CriticalView], now: datetime | None = None) -> str:
    """Critical results that are not finished."""
    now = now or datetime.now(UTC)
    return table(
        _CRITICALS,
        [
            [
                _priority(task.priority), age(now, task.opened_at), "!" * task.level, _state(task),
                _cut(task.patient, LONGEST_NAME), task.ward, task.barcode, task.test_code,
                f"{signed(task.comparator, task.value)} {task.unit}".strip() + f" {_flag(task.flags)}",
                "is critical" if task.kind == "critical" else "is critical no longer", task.id,
            ]
            for task in found
        ],
    )  # fmt: skip


def waiting_words(shown: int, limit: int, reasons: Mapping[str, int]) -> str:
    """How much waits and why; a result with two reasons counts for both."""
    if not shown:
        return "nothing waits"
    counted = ", ".join(f"{reason or 'nothing holds it'} {count}" for reason, count in reasons.items())
    more = "" if shown < limit else f"; the first {limit}, --limit shows more"
    return f"{shown} wait{more}: {counted}"


def age(now: datetime, since: datetime) -> str:
    """`0:07`, `26:30`: hours and minutes; from the third day on, days."""
    minutes = max(0, int((now - since).total_seconds()) // 60)
    return f"{minutes // 60}:{minutes % 60:02}" if minutes < 2 * 24 * 60 else f"{minutes // (24 * 60)} d"


def _why(view: ResultView, pending: bool) -> str:
    return ", ".join([*view.held, *(["a change waits"] if pending else [])])


def _waits_for(row: Waiting) -> str:
    held = [reason for reason in row.result.held if reason != "changed_after_release"]
    words = [f"was {row.reported}"] if row.reported else ["second person"] if row.verified else []
    return ", ".join([*words, *held]) or "to be released"


def _state(task: CriticalView) -> str:
    if task.state == "notified":
        return "to be closed" if task.read_back else "told, not read back"
    return f"{task.attempts} x not reached" if task.state == "attempted" else "nobody called"


def _priority(priority: Priority) -> str:
    return priority.upper() if priority in (Priority.STAT, Priority.ASAP) else priority


def _test(view: ResultView) -> str:
    return view.test_code or f"({view.code})"


def _value(view: ResultView) -> str:
    return _cut(f"{signed(view.comparator, view.value)} {view.unit}".strip() or "-", LONGEST_VALUE)


def _flag(flags: Sequence[str]) -> str:
    return " ".join(f"{flag} !!" if flag in CRITICAL else flag for flag in flags)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
