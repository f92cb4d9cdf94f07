"""The words of `labora map`: rows, differences and findings as text, and as what JSON takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import click

from interface.domain.map_lint import Finding
from interface.domain.mapping import KeyChange, Kind, MapRow, Span
from interface.flow.maps import Proposal

SHOWN = 60  # lines of a difference or of findings; JSON has them all
_MARKS = {Kind.ADD: "+", Kind.CHANGE: "~", Kind.REMOVE: "-"}


@dataclass(frozen=True, slots=True)
class RowLine:
    """One row of a map. `test` "": results are held on purpose; `change`: the change that made it."""

    driver: str
    link: str
    code: str
    specimen_type: str
    test: str
    test_name: str
    loinc: str
    unit: str
    method: str
    valid_from: datetime
    valid_to: datetime | None
    origin: str
    revision: int
    change: int
    note: str
    id: UUID


def row_line(row: MapRow) -> RowLine:
    return RowLine(
        row.key.driver, row.key.link, row.key.code, row.key.specimen_type, row.span.target.test, row.test_name,
        row.loinc, row.span.target.unit, row.span.target.method, row.span.start, row.span.end,
        "site" if row.site else "shipped", row.revision, row.change, row.span.target.note, row.id,
    )  # fmt: skip


def difference_text(proposal: Proposal) -> list[str]:
    """One line per code: what it was, what it becomes."""
    lines = [_changed(change, proposal.basis.at) for change in proposal.changes]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"  … and {len(lines) - SHOWN} more; --json shows all"]
    return lines


def _changed(change: KeyChange, at: datetime) -> str:
    kind = change.kind(at)
    before = [span for span in change.ended if span.end is None or span.end > at]
    after = [span for span in change.added if span.end is None or span.end > at]
    words = " → ".join(
        filter(None, (_spans(before, at), _spans(after, at) or ("nothing" if kind is Kind.REMOVE else "")))
    )
    return f"{_MARKS[kind]} {change.key}: {words}"


def _spans(spans: Sequence[Span], at: datetime) -> str:
    return ", ".join(_span(span, at) for span in spans)


def _span(span: Span, at: datetime) -> str:
    text = str(span.target)
    if span.start > at:
        text += f" from {span.start.isoformat()}"
    return text + (f" until {span.end.isoformat()}" if span.end else "")


def counts(proposal: Proposal) -> dict[str, int]:
    """How many codes are added, changed and removed."""
    found = dict.fromkeys((kind.value for kind in Kind), 0)
    for change in proposal.changes:
        found[change.kind(proposal.basis.at).value] += 1
    return found


def proposal_json(proposal: Proposal) -> list[dict[str, object]]:
    return [
        {
            "kind": change.kind(proposal.basis.at).value,
            "driver": change.key.driver,
            "link": change.key.link,
            "code": change.key.code,
            "specimen_type": change.key.specimen_type,
            "before": [_span_json(span) for span in change.before],
            "after": [_span_json(span) for span in change.after],
        }
        for change in proposal.changes
    ]


def _span_json(span: Span) -> dict[str, object]:
    target = span.target
    return {
        "test": target.test, "unit": target.unit, "method": target.method, "note": target.note,
        "valid_from": span.start, "valid_to": span.end,
    }  # fmt: skip


def say(lines: Sequence[object]) -> None:
    """Words on stderr, the first of many."""
    for line in lines[:SHOWN]:
        click.echo(str(line), err=True)
    if len(lines) > SHOWN:
        click.echo(f"… and {len(lines) - SHOWN} more; --json shows all", err=True)


def finding_text(finding: Finding) -> str:
    return f"{finding.severity}: {finding.row}: {finding.text} [{finding.check}]"
