"""What is shown of each Observation that a search found, as columns of the same statement, and these as they are shown.

Of 25 results most is the same: it is looked up row by row of the page, by its key, and remembered by the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interface.domain.model import ResultStatus
from interface.domain.views import Audience, ObservationRow
from interface.store.search.engine import Cover, Row

# Of whom the connection is, found once and by its key: by the policies alone every laboratory's row would be read.
_OURS = (
    "(select o.{} from lab.organization o where o.id = (select nullif(current_setting('labora.org', true), '')::uuid))"
)

# In the order of `ObservationRow`, whose first is the id. Instants travel as PostgreSQL's own eight bytes
# (`timestamptz_send`): most of a page are the same few, and text is made of each once.
OBSERVATION = Cover(
    carried={
        name: f"r.{name}"
        for name in (
            "version_id", "updated_at", "patient_id", "order_item_id", "specimen_id", "analyzer_id", "origin",
            "organization_id",
        )
    },
    columns=f"""m.version_id, m.order_item_id, timestamptz_send(m.updated_at),
        timestamptz_send(coalesce(s.collected_at, v.instrument_at)), m.patient_id, m.organization_id,
        {_OURS.format("title")}, {_OURS.format("name")},
        v.test_code, v.test_name, v.loinc, v.status, v.kind, v.comparator, v.number::text, v.value, v.unit, v.low::text,
        v.high::text, v.reference, nullif(v.flags, '{{}}'), nullif(v.comments, '{{}}'), v.note, m.origin, m.specimen_id,
        m.analyzer_id, a.name""",
    joins="""join lateral (
            select v.instrument_at, v.test_code, v.test_name, v.loinc, v.status, v.kind, v.comparator, v.number,
                   v.value, v.unit, v.low, v.high, v.reference, v.flags, v.comments, v.note
            from lab.result_version v where v.id = m.version_id offset 0) v on true
        left join lateral (select s.collected_at from lab.specimen s where s.id = m.specimen_id offset 0) s on true
        left join lateral (select a.name from lab.analyzer a where a.id = m.analyzer_id offset 0) a on true""",
)  # fmt: skip

_PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_KEPT = 20_000


class _Instants(dict[bytes | None, str]):
    """Instants as RFC 3339 has them in UTC, "" for none. Bounded."""

    def __missing__(self, sent: bytes | None) -> str:
        text = ""
        if sent is not None:
            at = _PG_EPOCH + timedelta(microseconds=int.from_bytes(sent, signed=True))
            text = at.isoformat().replace("+00:00", "Z")
        if len(self) >= _KEPT:
            self.clear()
        self[sent] = text
        return text


_INSTANTS = _Instants()
_UPDATED, _PATIENT, _STATUS, _FLAGS, _COMMENTS = (
    ObservationRow._fields.index(name) for name in ("updated", "patient_id", "status", "flags", "comments")
)
_WIDTH = len(ObservationRow._fields)
_RETRACTED: Final = ResultStatus.ENTERED_IN_ERROR.value
_NO_VALUE: Final[dict[str, Any]] = {"comparator": "", "number": None, "value": "", "flags": None, "comments": None}


def read_observation(columns: Row, audience: Audience) -> ObservationRow:
    """The id and the columns of the cover. What a retracted result was is not told to those who might take it for one
    (`store.lab`)."""
    updated, effective = columns[_UPDATED:_PATIENT]
    fields = (*columns[:_UPDATED], _INSTANTS[updated], _INSTANTS[effective], *columns[_PATIENT:_WIDTH])
    row = tuple.__new__(ObservationRow, fields)
    flags, comments = columns[_FLAGS], columns[_COMMENTS]
    if flags or comments:
        row = row._replace(flags=tuple(flags or ()), comments=tuple(comments or ()))
    if row[_STATUS] == _RETRACTED and audience is not Audience.STAFF:
        return row._replace(**_NO_VALUE)
    return row
