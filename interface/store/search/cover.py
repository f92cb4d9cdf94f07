"""What is shown of each Observation that a search found, as columns of the same statement, and these as they are shown.

Of 25 results most is the same: it is looked up row by row of the page, by its key, and remembered by the database.
What stands together in a resource is sent together, as the bytes that PostgreSQL has for a row: thirty columns of each
of 25 results cost more to take apart than to find, and what was sent before is known by its bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from interface.domain.model import TAKEN_BACK, ResultStatus
from interface.domain.views import Audience, ObservationRow
from interface.store.search.engine import Cover, Row
from interface.store.search.sent import fields, optional_id, optional_text, text, texts
from interface.store.versions import measured, shown_version

# Of whom the connection is, found once and by its key: by the policies alone every laboratory's row would be read.
_OURS = (
    "(select o.{} from lab.organization o where o.id = (select nullif(current_setting('labora.org', true), '')::uuid))"
)

# After the id: the ids of the result, of its version as it is shown and of its order item as one text, 36 characters
# each; then `Visit`, `Test` and `Said`, each as `record_send` has it.
OBSERVATION = Cover(
    carried={
        name: f"r.{name}"
        for name in (
            "version_id", "updated_at", "patient_id", "order_item_id", "specimen_id", "analyzer_id", "origin",
            "organization_id", "created_at", "told_of", "told_id",
        )
    },
    columns=f"""concat(m.id, {shown_version("m")}, m.order_item_id),
        record_send(row(m.updated_at, coalesce(s.collected_at, {measured("v", "m")}), m.patient_id, m.organization_id,
                        {_OURS.format("title")}, {_OURS.format("name")}, m.specimen_id, m.analyzer_id, a.name)),
        record_send(row(v.test_code, v.test_name, v.loinc, v.status, v.unit, v.low::text, v.high::text, v.reference,
                        v.flags, v.comments, v.note, m.origin, v.method)),
        record_send(row(v.status, v.kind, v.comparator, v.number::text, v.value, v.unit))""",
    joins="""join lateral (
            select v.instrument_at, v.test_code, v.test_name, v.loinc, v.status, v.kind, v.comparator, v.number,
                   v.value, v.unit, v.low, v.high, v.reference, v.flags, v.comments, v.note, v.method
            from lab.result_version v where v.id = m.version_id offset 0) v on true
        left join lateral (select s.collected_at from lab.specimen s where s.id = m.specimen_id offset 0) s on true
        left join lateral (select a.name from lab.analyzer a where a.id = m.analyzer_id offset 0) a on true""",
)  # fmt: skip
IDS, VISIT, TEST, SAID = range(1, 5)  # where they are in a row

_PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_KEPT = 20_000
_TAKEN_BACK: Final = frozenset(status.value for status in TAKEN_BACK)
_WITHHELD: Final = _TAKEN_BACK | {ResultStatus.ENTERED_IN_ERROR.value}


class _Instants(dict[bytes | None, str]):
    """Instants as RFC 3339 has them in UTC, "" for none, by PostgreSQL's own eight bytes. Bounded."""

    def __missing__(self, sent: bytes | None) -> str:
        text = ""
        if sent is not None:
            at = _PG_EPOCH + timedelta(microseconds=int.from_bytes(sent, signed=True))
            text = at.isoformat().replace("+00:00", "Z")
        if len(self) >= _KEPT:
            self.clear()
        self[sent] = text
        return text


INSTANTS = _Instants()


class Visit(NamedTuple):
    """When, of whom, by whom."""

    updated: str
    effective: str
    patient_id: UUID | None
    laboratory_id: UUID | None
    laboratory_title: str
    laboratory_name: str
    specimen_id: UUID | None
    analyzer_id: UUID | None
    analyzer: str | None


class Test(NamedTuple):
    """What was measured, and what is told beside the value."""

    test_code: str
    test_name: str
    loinc: str
    status: str
    unit: str
    low: str | None
    high: str | None
    reference: str
    flags: tuple[str, ...] | None
    comments: tuple[str, ...] | None
    note: str
    origin: str
    method: str


class Said(NamedTuple):
    """The value."""

    status: str
    kind: str
    comparator: str
    number: str | None
    value: str
    unit: str


def hides(status: str, audience: Audience) -> bool:
    """What a result was that was retracted or taken back is not told to those who might take it for one
    (`store.lab`)."""
    return status in _WITHHELD and audience is not Audience.STAFF


def hidden(status: str) -> dict[str, Any]:
    """What stands beside the value of a result that hides what it was. Of one that was taken back nothing of the
    version that it is held in: that may be judged by other limits each time that it is."""
    return _BESIDE | _JUDGED if status in _TAKEN_BACK else _BESIDE


_BESIDE: Final[dict[str, Any]] = {"flags": None, "comments": None}
_JUDGED: Final[dict[str, Any]] = {"low": None, "high": None, "reference": "", "method": "", "note": ""}


def read_visit(sent: bytes) -> Visit:
    updated, effective, patient, laboratory, title, name, specimen, analyzer, called = fields(sent)
    return Visit(
        INSTANTS[updated], INSTANTS[effective], optional_id(patient), optional_id(laboratory), text(title), text(name),
        optional_id(specimen), optional_id(analyzer), optional_text(called),
    )  # fmt: skip


def read_test(sent: bytes, audience: Audience) -> Test:
    code, name, loinc, status, unit, low, high, reference, flags, comments, note, origin, method = fields(sent)
    found = Test(
        text(code), text(name), text(loinc), text(status), text(unit), optional_text(low), optional_text(high),
        text(reference), tuple(texts(flags)) or None, tuple(texts(comments)) or None, text(note), text(origin),
        text(method),
    )  # fmt: skip
    return found._replace(**hidden(found.status)) if hides(found.status, audience) else found


def read_said(sent: bytes, audience: Audience) -> Said:
    status, kind, comparator, number, value, unit = fields(sent)
    found = Said(text(status), text(kind), text(comparator), optional_text(number), text(value), text(unit))
    return found._replace(comparator="", number=None, value="") if hides(found.status, audience) else found


def read_observation(row: Row, audience: Audience) -> ObservationRow:
    """A row of the cover, all of it."""
    ids, visit = row[IDS], read_visit(row[VISIT])
    test, said = read_test(row[TEST], audience), read_said(row[SAID], audience)
    named = UUID(ids[:36]), UUID(ids[36:72]), UUID(ids[72:]) if len(ids) > 72 else None
    return ObservationRow._make((*named, *visit[:6], *test[:4], *said[1:], *test[5:], *visit[6:]))
