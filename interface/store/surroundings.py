"""What is known of the specimens that messages speak of, read and locked for the decision on them.

Specimens are locked first, then patients, both in id order and before anything else is read: whoever decides on the
same specimen or person waits, and then sees what the other wrote. Everything is read for many messages at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from uuid import UUID

from asyncpg import Record

from interface.domain.calculated import inputs_of
from interface.domain.model import (
    Comparator,
    FollowUpKind,
    FollowUpState,
    HoldReason,
    ItemStatus,
    MeasuredWith,
    Observed,
    OrderedItem,
    Origin,
    PatientFacts,
    Priority,
    ResultStatus,
    Sex,
    SpecimenFacts,
    Step,
    Value,
    ValueKind,
)
from interface.domain.record import record
from interface.domain.runs import GONE
from interface.domain.values import parse_value
from interface.store import people
from interface.store.db import Connection
from interface.store.explanations import comments_of, read_steps
from interface.store.follow_ups import asked_before
from interface.store.versions import last_version, versions_of

_ITEM_STATUS = {status.value: status for status in ItemStatus}
_KINDS = {kind.value: kind for kind in ValueKind}
_NUMERIC = ValueKind.NUMERIC
_CANCELLED = ResultStatus.CANCELLED.value
_SPEAKS = frozenset({"verify", "comment", "correct"})
_NUMBERS: dict[str, Value] = {}  # by their text: of two or three digits as a rule, so that they come again
_MOST_NUMBERS = 4096
_ID = attrgetter("id")


@record
class KnownResult:
    """A result that a specimen has, in its current version. `pending`: what the change that waits beside it says."""

    id: UUID
    version_id: UUID
    version: int
    last_version: int  # the highest number any version has, be it current or not
    specimen_id: str
    item_id: str
    test_id: str
    test: str
    status: ResultStatus
    held: tuple[HoldReason, ...]
    reportable: bool
    origin: Origin
    value: Value
    unit: str
    flags: tuple[str, ...]
    created_at: datetime
    made_at: datetime
    pending: tuple[str, str] | None = None
    pending_inputs: Mapping[str, str] | None = None  # what that was calculated from
    by_person: bool = False  # whether a person wrote that version, or what controls made of it since is of theirs
    suspect: str = ""  # of a released one: what a look-back list says of it, waiting or repeat
    method: str = ""  # by which it was measured
    inputs: Mapping[str, str] | None = None  # what it was calculated from, in the words of its explanation
    limits: tuple[Decimal | None, Decimal | None, str] | None = None  # low, high, and as they are reported
    measured_at: datetime | None = None  # by the instrument's clock
    comments: tuple[Step, ...] = ()  # of one that is calculated: what staff said of it
    corrected: bool = False  # the same: what waits is a person's correction, or took the place of one
    with_specimen: bool = False  # the same: it was cancelled with its specimen
    spoken_of: bool = False  # the same: a person corrected it, or said something of it


@dataclass(frozen=True, slots=True)
class Led:
    """A follow-up whose result answers an order item. `made_at`: by the database's clock, which has its transaction's
    begin; `changed_at`: it has its state since; `by_person`: one asked."""

    id: UUID
    item_id: str
    result_id: UUID
    depth: int
    state: FollowUpState
    made_at: datetime
    changed_at: datetime
    kind: FollowUpKind = FollowUpKind.RERUN
    dilution: Decimal | None = None  # the factor; None also where it was left to the analyzer
    by_person: bool = False

    @property
    def open(self) -> bool:
        return self.state in (FollowUpState.REQUESTED, FollowUpState.SENT)

    def asked_before(self, came: datetime) -> bool:
        """Whether what came then came after it was asked for."""
        return asked_before(self.id, self.made_at, came)

    def told(self, before: datetime) -> bool:
        """Whether an analyzer was told of it before then, and nothing has answered it."""
        return self.state is FollowUpState.SENT and self.changed_at < before


@dataclass(frozen=True, slots=True)
class Locked:
    """`specimens`: available ones by barcode; `by_id`: every one that is locked; `closed`: barcodes that a specimen
    carries which may not be measured any more."""

    specimens: Mapping[str, tuple[SpecimenFacts, ...]] = field(default_factory=dict)
    by_id: Mapping[str, SpecimenFacts] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    results: dict[str, tuple[KnownResult, ...]] = field(default_factory=dict)  # by the id of their specimen
    led: dict[str, tuple[Led, ...]] = field(default_factory=dict)  # by order item
    gone: Mapping[str, KnownResult] = field(default_factory=dict)  # calculated and taken back, by order item


# A tube and what was parted from it are one specimen to whoever counts results: all are locked.
_SPECIMENS = """
WITH RECURSIVE up AS (
    SELECT id, parent_id FROM lab.specimen WHERE barcode = ANY($1)
    UNION SELECT id, parent_id FROM lab.specimen WHERE id = ANY($2)
    UNION SELECT p.id, p.parent_id FROM up JOIN lab.specimen p ON p.id = up.parent_id
), family AS (
    SELECT id FROM up UNION SELECT c.id FROM family f JOIN lab.specimen c ON c.parent_id = f.id
), s AS MATERIALIZED (
    SELECT id, barcode, type, status, collected_at, received_at, created_at, patient_id, order_id, parent_id,
           time_point_min
    FROM lab.specimen WHERE id = ANY(ARRAY(SELECT id FROM family)) ORDER BY id FOR UPDATE
)
SELECT s.*, o.ward, o.patient_group, o.pregnant, o.gestation_weeks, o.priority
FROM s LEFT JOIN lab.lab_order o ON o.id = s.order_id ORDER BY s.id
"""


async def lock(connection: Connection, barcodes: Collection[str], specimen_ids: Collection[UUID] = ()) -> Locked:
    """Lock the specimens with these barcodes or ids, and their patients; read what is known of them."""
    possible = [barcode for barcode in barcodes if "\0" not in barcode]  # text of PostgreSQL holds no NUL
    if not possible and not specimen_ids:
        return Locked()
    rows = await connection.fetch(_SPECIMENS, possible, list(specimen_ids))
    if not rows:
        return Locked()
    patients = await _lock_patients(connection, {row["patient_id"] for row in rows if row["patient_id"]})
    ids = [row["id"] for row in rows]
    items, led = await _items(connection, ids)
    families = _families(rows)
    by_id: dict[str, SpecimenFacts] = {}
    for row in rows:
        family = families[row["id"]]
        # Its own items first: those of the tube it was parted from are answered where it has none for the test.
        own = items.get(row["id"], [])
        others: list[OrderedItem] = []
        if len(family) > 1:
            tests = {item.test_id for item in own}
            others = [item for each in family[1:] for item in items.get(each, []) if item.test_id not in tests]
        by_id[str(row["id"])] = _specimen(row, patients.get(row["patient_id"]), (*own, *others), family)
    specimens: dict[str, tuple[SpecimenFacts, ...]] = {}
    closed: set[str] = set()
    wanted = set(possible)
    for row in rows:
        if row["status"] != "available":
            closed.add(row["barcode"])
        elif row["barcode"] in wanted:
            specimens[row["barcode"]] = (*specimens.get(row["barcode"], ()), by_id[str(row["id"])])
    results, gone = await _results(connection, ids)
    return Locked(specimens, by_id, frozenset(closed), results, led, gone)


async def ordered_at_once(connection: Connection, barcodes: Collection[str]) -> set[str]:
    """Those of the barcodes that open specimens of STAT orders carry."""
    rows = await connection.fetch(
        """SELECT DISTINCT s.barcode FROM lab.specimen s JOIN lab.lab_order o ON o.id = s.order_id
            WHERE s.barcode = ANY($1) AND s.status = 'available' AND o.priority = 'stat'""",
        [barcode for barcode in barcodes if "\0" not in barcode],
    )
    return {row["barcode"] for row in rows}


async def lock_only(connection: Connection, specimen_ids: Collection[UUID], patient_ids: Collection[UUID] = ()) -> None:
    """The same locks, for somebody who knows what there is to read."""
    rows = await connection.fetch(_SPECIMENS, [], list(specimen_ids)) if specimen_ids else []
    patients = {*patient_ids, *(row["patient_id"] for row in rows if row["patient_id"])}
    if patients:
        await people.lock_persons(connection, patients)


def _families(rows: Sequence[Record]) -> dict[UUID, tuple[UUID, ...]]:
    """Of each specimen the ids of its family, its own first, then those it was parted from, nearest first."""
    parents = {row["id"]: row["parent_id"] for row in rows}
    above: dict[UUID, list[UUID]] = {}
    roots: dict[UUID, list[UUID]] = defaultdict(list)
    for own in parents:
        line = [own]
        while (up := parents.get(line[-1])) is not None and up in parents and up not in line:
            line.append(up)
        above[own] = line
        roots[line[-1]].append(own)
    return {own: (*line, *(other for other in roots[line[-1]] if other not in line)) for own, line in above.items()}


def _specimen(
    row: Record, patient: tuple[PatientFacts, tuple[str, ...]] | None, items: tuple[OrderedItem, ...],
    family: tuple[UUID, ...],
) -> SpecimenFacts:  # fmt: skip
    return SpecimenFacts(
        id=str(row["id"]),
        barcode=row["barcode"],
        type=row["type"],
        collected_at=row["collected_at"],
        patient=patient[0] if patient else None,
        items=items,
        pregnant=row["pregnant"],
        gestation_weeks=row["gestation_weeks"],
        received_at=row["received_at"],
        created_at=row["created_at"],
        order_id=str(row["order_id"] or ""),
        ward=row["ward"] or "",
        patient_group=row["patient_group"] or "",
        priority=Priority(row["priority"] or Priority.ROUTINE),
        time_point_min=row["time_point_min"],
        available=row["status"] == "available",
        family=tuple(map(str, family)),
        person=patient[1] if patient else (),
    )


# There are many items, which are read as few rows of few texts, and few follow-ups.
_ITEMS = """
SELECT specimen_id, order_id::text, string_agg(id::text, ' '), string_agg(test_id::text, ' '), string_agg(status, ' ')
FROM lab.order_item WHERE specimen_id = ANY($1) GROUP BY specimen_id, order_id
"""
# The items of an order were made together: one walk says that none of a specimen's has any.
_ANY_LED = """
SELECT s.id FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS s (id, first, last)
CROSS JOIN LATERAL (
    SELECT FROM lab.follow_up WHERE order_item_id BETWEEN s.first AND s.last ORDER BY order_item_id LIMIT 1) f
"""
# One by one, by their index. Of what was cancelled only a dilution that an analyzer was told of: the run that comes may
# be diluted all the same.
_LED = """
SELECT f.*
FROM lab.order_item i
CROSS JOIN LATERAL (
    SELECT id, order_item_id::text, result_id, depth, state, created_at, updated_at, kind, dilution,
           actor_kind IN ('user', 'client') AS by_person
    FROM lab.follow_up
    WHERE order_item_id = i.id AND (state <> 'cancelled' OR (kind = 'dilution' AND EXISTS (
        SELECT FROM lab.dispatch d WHERE d.order_item_id = i.id AND d.follow_up_id = follow_up.id
           AND d.sent_at IS NOT NULL))) OFFSET 0
) f
WHERE i.specimen_id = ANY($1) ORDER BY f.id
"""


async def _items(
    connection: Connection, specimen_ids: Collection[UUID]
) -> tuple[dict[UUID, list[OrderedItem]], dict[str, tuple[Led, ...]]]:
    """By specimen, in the order of their ids; and the follow-ups that each of them answers."""
    items: dict[UUID, list[OrderedItem]] = {}
    for row in await connection.fetch(_ITEMS, list(specimen_ids)):
        specimen_id, order_id = row[0], row[1]
        ids: list[str] = row[2].split()
        tests: list[str] = row[3].split()
        states: list[str] = row[4].split()
        own = items.setdefault(specimen_id, [])
        for at, item_id in enumerate(ids):
            own.append(OrderedItem(item_id, tests[at], order_id, _ITEM_STATUS[states[at]]))
    if not items:
        return items, {}
    for one in items.values():
        one.sort(key=_ID)
    bounds = [one[0].id for one in items.values()], [one[-1].id for one in items.values()]
    found = await connection.fetch(_ANY_LED, list(items), *bounds)
    return items, await _led(connection, [row[0] for row in found]) if found else {}


async def _led(connection: Connection, specimen_ids: Collection[UUID]) -> dict[str, tuple[Led, ...]]:
    """The follow-ups of the specimens' items, by item."""
    led: dict[str, tuple[Led, ...]] = {}
    for row in await connection.fetch(_LED, list(specimen_ids)):
        id_, item_id, result_id, depth, state, made_at, changed_at, kind, dilution, by_person = row
        one = Led(
            id_, item_id, result_id, depth, FollowUpState(state), made_at, changed_at, FollowUpKind(kind), dilution,
            by_person,
        )  # fmt: skip
        led[item_id] = (*led.get(item_id, ()), one)
    return led


# Of each patient the record that survived its merges; of all records of the person the ids and what they carry. Key by
# key, so that the indexes are followed whatever the planner knows of a table that has just grown.
_PERSONS = """
SELECT asked.id, p.*, m.records, ARRAY(
    SELECT value FROM lab.patient_identifier i WHERE i.patient_id = ANY(m.records) AND i.ended_at IS NULL ORDER BY i.id)
FROM unnest($1::uuid[]) AS k (id)
CROSS JOIN LATERAL (
    SELECT id, coalesce(merged_into_id, id) AS root FROM lab.patient WHERE id = k.id OFFSET 0) asked
CROSS JOIN LATERAL (
    SELECT family, given, birth_date, birth_at, sex FROM lab.patient WHERE id = asked.root OFFSET 0) p
CROSS JOIN LATERAL (
    SELECT ARRAY(
        SELECT asked.root UNION ALL SELECT id FROM lab.patient WHERE merged_into_id = asked.root ORDER BY 1) AS records
    OFFSET 0) m
"""


async def _lock_patients(
    connection: Connection, patient_ids: set[UUID]
) -> dict[UUID, tuple[PatientFacts, tuple[str, ...]]]:
    """Each patient, as the record that survived its merges says, with the ids of all records of the same person; all of
    them are locked in id order. Raises StoreUnavailable when they were merged in the same moment."""
    if not patient_ids:
        return {}
    locked = await people.lock_records(connection, patient_ids)
    found = {}
    # A statement of its own: it sees what the lock has waited for.
    for row in await connection.fetch(_PERSONS, list(patient_ids)):
        patient_id, family, given, birth_date, birth_at, sex, records, carried = row
        if not locked.issuperset(records):
            raise people.merged_now()
        facts = PatientFacts(str(patient_id), tuple(carried), family, given, birth_date, Sex(sex), birth_at)
        found[patient_id] = facts, tuple(map(str, records))
    return found


# ---- results that there are already ----------------------------------------------------------------------------------

# The versions one by one by their id, whatever the planner knows of a table that has just grown. What is to be measured
# again stays suspect until it is corrected, whatever is said of it meanwhile.
_RESULTS = f"""
SELECT r.id, r.version_id, r.specimen_id, r.order_item_id, r.test_id, r.status, r.held, r.reportable, r.origin,
       r.created_at, v.version, v.kind, v.comparator, v.value, v.unit, v.flags, v.test_code, v.created_at AS made_at,
       v.method, v.low, v.high, v.reference, v.instrument_at,
       CASE WHEN r.origin = 'calculation' THEN (
           SELECT lab.explained(d.steps) FROM lab.decision d WHERE d.result_version_id = v.id) END AS explained,
       v.actor_kind IN ('user', 'client') OR (v.actor_kind = 'rule_set' AND v.actor_id IS NULL AND EXISTS (
           SELECT FROM {versions_of("= r.id")} w WHERE w.actor_kind IN ('user', 'client'))) AS by_person,
       p.value AS pending_value, p.unit AS pending_unit, p.held AS pending_held,
       CASE WHEN r.origin = 'calculation' AND r.pending_version_id IS NOT NULL THEN (
           SELECT lab.explained(d.steps) FROM lab.decision d
            WHERE d.result_version_id = r.pending_version_id) END AS pending_explained,
       CASE WHEN r.status IN ('final', 'corrected', 'amended') THEN (
           SELECT max(i.state) FROM lab.qc_lookback_item i
           JOIN lab.result_version listed ON listed.id = i.result_version_id WHERE i.result_id = r.id
           AND (i.state = 'waiting' OR i.state = 'repeat' AND (r.status = 'amended'
                OR (listed.status, listed.comparator, listed.value, listed.unit)
                   = (r.status, v.comparator, v.value, v.unit)))) END AS suspect,
       {last_version("r.id", "v.version")} AS last_version
FROM lab.result r
CROSS JOIN LATERAL (SELECT * FROM lab.result_version w WHERE w.id = r.version_id OFFSET 0) v
LEFT JOIN LATERAL (
    SELECT comparator || value AS value, unit, held FROM lab.result_version w WHERE w.id = r.pending_version_id OFFSET 0
) p ON r.pending_version_id IS NOT NULL
WHERE r.specimen_id = ANY($1) AND (r.status NOT IN ('cancelled', 'entered-in-error') OR r.origin = 'calculation')
ORDER BY v.created_at, r.id
"""  # noqa: S608 - names of ours


async def _results(
    connection: Connection, specimen_ids: Collection[UUID]
) -> tuple[dict[str, tuple[KnownResult, ...]], dict[str, KnownResult]]:
    """What there is of each specimen; and what was calculated and taken back since, by order item."""
    found: dict[str, list[KnownResult]] = defaultdict(list)
    for row in await connection.fetch(_RESULTS, list(specimen_ids)):
        steps, waits = read_steps(row["explained"] or "[]"), read_steps(row["pending_explained"] or "[]")
        found[str(row["specimen_id"])].append(
            KnownResult(
                id=row["id"],
                version_id=row["version_id"],
                version=row["version"],
                last_version=row["last_version"],
                specimen_id=str(row["specimen_id"]),
                item_id=str(row["order_item_id"] or ""),
                test_id=str(row["test_id"] or ""),
                test=row["test_code"],
                status=ResultStatus(row["status"]),
                held=tuple(map(HoldReason, row["held"])),
                reportable=row["reportable"],
                origin=Origin(row["origin"]),
                value=value_of(row),
                unit=row["unit"],
                flags=tuple(row["flags"]),
                created_at=row["created_at"],
                made_at=row["made_at"],
                pending=None if row["pending_value"] is None else (row["pending_value"], row["pending_unit"]),
                pending_inputs=inputs_of(waits) if waits else None,
                by_person=row["by_person"],
                suspect=row["suspect"] or "",
                method=row["method"],
                inputs=inputs_of(steps) if steps else None,
                limits=(row["low"], row["high"], row["reference"]),
                measured_at=row["instrument_at"],
                comments=comments_of(steps),
                corrected=HoldReason.PERSON in (row["pending_held"] or ())
                or any(one.step == "correct" for one in waits),
                with_specimen=row["status"] == _CANCELLED and [one.step for one in steps[-1:]] == ["release"],
                spoken_of=any(one.step in _SPEAKS for one in steps),
            )
        )
    there = {of: tuple(one for one in results if one.status not in GONE) for of, results in found.items()}
    return there, {one.item_id: one for results in found.values() for one in results if one.status in GONE}


def value_of(row: Record | Mapping[str, str]) -> Value:
    """A version's value as it was decided."""
    return value_as_kept(row["kind"], row["comparator"], row["value"])


def value_as_kept(kind_as_kept: str, sign: str, text: str) -> Value:
    """The same of its columns."""
    if kind_as_kept == _NUMERIC and not sign:
        known = _NUMBERS.get(text)
        if known is None:
            if len(_NUMBERS) >= _MOST_NUMBERS:
                _NUMBERS.clear()
            known = _NUMBERS[text] = Value(_NUMERIC, text, Decimal(text))
        return known
    kind, comparator = _KINDS[kind_as_kept], Comparator(sign) if sign else None
    if kind is _NUMERIC:
        return Value(kind, text, Decimal(text), comparator)
    if kind in (ValueKind.RATIO, ValueKind.RANGE):
        parsed = parse_value(text)
        if parsed.kind is kind:
            return parsed
    return Value(kind, text, None, comparator)


@dataclass(frozen=True, slots=True)
class Waited:
    """Of the current version of a result that an analyzer sent or that was calculated, and that waits: what was said of
    it and by whom, and why it is as it is."""

    natural_key: bytes
    analyzer_id: UUID | None
    analyzer: str
    driver: str
    message_id: UUID | None
    specimen_as_sent: str
    observed: Observed
    measured_at: datetime | None
    effective_at: datetime
    driver_revision: str
    map_revision: int
    steps: tuple[Step, ...]
    received_at: datetime | None = None  # with its message


_WAITED = """
SELECT r.natural_key, r.analyzer_id, coalesce(a.name, '') AS analyzer, coalesce(a.driver, '') AS driver, r.effective_at,
       v.*, d.driver_revision, d.map_revision, lab.explained(d.steps) AS steps, m.received_at
FROM unnest($1::uuid[]) AS k(id)
CROSS JOIN LATERAL (
    SELECT id, result_id, message_id, specimen_as_sent, code, kind, comparator, value, raw_value, code_path, test_name,
           raw_unit, raw_reference, raw_flags, raw_status, instrument_time, instrument_at, comments, location, module,
           reagent_lot, calibrator_lot, method
    FROM lab.result_version w WHERE w.id = k.id OFFSET 0) v
JOIN lab.result r ON r.id = v.result_id
CROSS JOIN LATERAL (SELECT * FROM lab.decision y WHERE y.result_version_id = v.id OFFSET 0) d
LEFT JOIN lab.analyzer a ON a.id = r.analyzer_id
LEFT JOIN lab.message m ON m.id = v.message_id
"""


async def waited(connection: Connection, version_ids: Sequence[UUID]) -> dict[UUID, Waited]:
    """By version. Asks for nothing where there are none."""
    if not version_ids:
        return {}
    return {
        row["id"]: Waited(
            row["natural_key"], row["analyzer_id"], row["analyzer"], row["driver"], row["message_id"],
            row["specimen_as_sent"], _observed(row), row["instrument_at"], row["effective_at"], row["driver_revision"],
            row["map_revision"], read_steps(row["steps"]), row["received_at"],
        )
        for row in await connection.fetch(_WAITED, list(version_ids))
    }  # fmt: skip


def _observed(row: Record) -> Observed:
    """What the analyzer said, as far as a version keeps it."""
    return Observed(
        row["code"], value_of(row), raw_value=row["raw_value"], code_path=row["code_path"], name=row["test_name"],
        unit=row["raw_unit"], reference=row["raw_reference"], flags=tuple(row["raw_flags"].split()),
        status=row["raw_status"], instrument_time=row["instrument_time"], comments=tuple(row["comments"]),
        location=row["location"],
        measured_with=MeasuredWith(row["module"], row["reagent_lot"], row["calibrator_lot"]),
        method=row["method"],
    )  # fmt: skip
