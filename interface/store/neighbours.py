"""Which released results of a person are next to a specimen in time: what its own results are compared with.

Asked for many specimens at once, in a transaction that has the locks of their persons: nobody releases a result of
theirs meanwhile. Each is found by an index, among however many results there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Final, NamedTuple

from interface.domain.facts import PreviousResult
from interface.domain.model import SpecimenFacts
from interface.domain.record import record
from interface.store.db import Connection
from interface.store.surroundings import value_as_kept


@record
class Asked:
    """Of which tests the results next to a specimen in time are asked for: of its person, each at its own time."""

    specimen: SpecimenFacts
    times: dict[str, datetime]  # by test id


@record
class Neighbours:
    """The released results of one person and test that are next to a specimen in time. `later`: it was collected after
    this specimen, and decided before."""

    previous: PreviousResult | None = None
    later: PreviousResult | None = None


class _Side(NamedTuple):
    """Of a specimen and a record of its person, the tests that are asked for at one time."""

    patient_id: str
    specimen_id: str
    at: datetime
    type: str
    time_point: int | None
    tests: Collection[str]


@record
class _Result:
    """A result that may be the nearest."""

    at: datetime
    version_id: str
    specimen_id: str


@dataclass(slots=True)
class _Near:
    """The nearest so far, by specimen, then test: on either side of the specimen's time."""

    before: dict[str, dict[str, _Result]] = field(default_factory=lambda: defaultdict(dict))
    after: dict[str, dict[str, _Result]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, specimen_id: str, test_id: str, result: _Result, *, later: bool) -> None:
        kept = (self.after if later else self.before)[specimen_id]
        known = kept.get(test_id)
        if known is None or (known.at > result.at if later else known.at < result.at):
            kept[test_id] = result

    def take_all(self, side: _Side, at: datetime, specimen_id: str, tests: list[str], versions: list[str]) -> None:
        """What was released of one specimen."""
        later, wanted = at > side.at, side.tests
        for place, test_id in enumerate(tests):
            if test_id in wanted:
                self.take(side.specimen_id, test_id, _Result(at, versions[place], specimen_id), later=later)

    def results(self) -> list[_Result]:
        return [one for side in (self.before, self.after) for kept in side.values() for one in kept.values()]


# All that is known of a person, if it is little: one walk down the index for all tests, to which the results of one
# specimen come together. Where there are `most`, this is not all of it (`more`), and nothing else is said: so they
# need no order, for which a planner may read all that there are. Many ids are one text: of a row for each, or an array,
# the driver makes them at twice the cost.
_ALL = """
SELECT p.side, g.specimen_id::text, g.at, s.type, s.time_point_min, g.tests, g.versions, g.number = p.most AS more
FROM unnest($1::int[], $2::uuid[], $3::int[]) AS p (side, patient_id, most)
CROSS JOIN LATERAL (
    SELECT specimen_id, effective_at AS at, string_agg(test_id::text, ' ') AS tests,
           string_agg(version_id::text, ' ') AS versions, sum(count(*)::int) OVER () AS number,
           row_number() OVER () AS place
      FROM (SELECT test_id, specimen_id, effective_at, version_id FROM lab.result
             WHERE patient_id = p.patient_id AND test_id IS NOT NULL AND reportable
               AND status IN ('final', 'corrected', 'amended')
             LIMIT p.most) r
     GROUP BY specimen_id, effective_at
) g
LEFT JOIN lab.specimen s ON s.id = g.specimen_id
WHERE g.number < p.most OR g.place = 1
"""
# So many tests must be asked for, and so many results of a person may there be beyond twice as many. It costs less than
# half of what a walk for each test does; where it was in vain, these cost as much more.
_MANY: Final = 6
# A walk for each test, to the newest result: mostly it is the one before the specimen, and then none is after it. The
# questions about one specimen and record lie together, from `first` to `last`.
_NEWEST = """
SELECT p.side, q.test_id::text, r.specimen_id::text, r.effective_at, r.version_id::text
FROM unnest($1::int[], $2::uuid[], $3::int[], $4::int[]) AS p (side, patient_id, first, last)
CROSS JOIN LATERAL unnest(($5::uuid[])[p.first:p.last]) AS q (test_id)
CROSS JOIN LATERAL (
    SELECT version_id, specimen_id, effective_at FROM lab.result
     WHERE patient_id = p.patient_id AND test_id = q.test_id AND reportable
       AND status IN ('final', 'corrected', 'amended')
     ORDER BY effective_at DESC LIMIT 1
) r
"""
_TUBES = "SELECT id::text, type, time_point_min FROM lab.specimen WHERE id = ANY($1)"
# For the others two walks, one on either side of the specimen's own time.
_NEIGHBOURS = """
SELECT p.specimen_id::text, q.test_id::text, near.later, near.effective_at, near.version_id::text,
       near.specimen_id::text
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::int[], $6::int[], $7::int[])
     AS p (patient_id, specimen_id, at, type, time_point, first, last)
CROSS JOIN LATERAL unnest(($8::uuid[])[p.first:p.last]) AS q (test_id)
CROSS JOIN LATERAL (
    (SELECT false AS later, r.version_id, r.specimen_id, r.effective_at
       FROM lab.result r JOIN lab.specimen s ON s.id = r.specimen_id
      WHERE r.patient_id = p.patient_id AND r.test_id = q.test_id AND r.reportable
        AND r.status IN ('final', 'corrected', 'amended') AND r.effective_at <= p.at AND r.specimen_id <> p.specimen_id
        AND s.type = p.type AND s.time_point_min IS NOT DISTINCT FROM p.time_point
      ORDER BY r.effective_at DESC LIMIT 1)
    UNION ALL
    (SELECT true, r.version_id, r.specimen_id, r.effective_at
       FROM lab.result r JOIN lab.specimen s ON s.id = r.specimen_id
      WHERE r.patient_id = p.patient_id AND r.test_id = q.test_id AND r.reportable
        AND r.status IN ('final', 'corrected', 'amended') AND r.effective_at > p.at AND r.specimen_id <> p.specimen_id
        AND s.type = p.type AND s.time_point_min IS NOT DISTINCT FROM p.time_point
      ORDER BY r.effective_at LIMIT 1)
) near
"""
# Apart: to find each row's partition beside its walks costs twice as much. The versions that one message made lie
# together: one walk for all of them, and one row. A version never changes.
_VALUES = """
SELECT v.*
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS run (first, last, most)
CROSS JOIN LATERAL (
    SELECT string_agg(id::text, ' '), string_agg(kind, ' '), string_agg(comparator, ' '), array_agg(value),
           array_agg(unit)
      FROM (SELECT id, kind, comparator, value, unit FROM lab.result_version
             WHERE id BETWEEN run.first AND run.last ORDER BY id LIMIT run.most) w
    HAVING count(*) > 0) v
"""
_VALUE = """
SELECT id::text, kind, comparator, value, unit FROM lab.result_version
WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3
"""
_MILLISECOND: Final = len("01234567-89ab")  # what ids have in common that were made in the same one


async def one_index(connection: Connection) -> None:
    """Until its transaction ends, as on a connection of `Database.by_index`: no two indexes are read for what one
    finds."""
    await connection.execute("SET LOCAL enable_bitmapscan = off")


async def neighbours(connection: Connection, asked: Sequence[Asked]) -> dict[str, dict[str, Neighbours]]:
    """By specimen, then test: the newest released result before it and the oldest after it, of all records of the
    person and of specimens of the same type and time point. Where there is none, left out."""
    near = _Near()
    left = await _newest(connection, await _all(connection, _sides(asked), near), near)
    if left:
        columns = list(map(list, zip(*(side[:5] for side in left), strict=True)))
        for row in await connection.fetch(_NEIGHBOURS, *columns, *_questions(left)):
            specimen_id, test_id, later, at, version_id, of = row
            near.take(specimen_id, test_id, _Result(at, version_id, of), later=later)
    results = await _previous(connection, near.results())
    found: dict[str, dict[str, Neighbours]] = {
        specimen_id: {test_id: Neighbours(results[one.version_id]) for test_id, one in kept.items()}
        for specimen_id, kept in near.before.items()
    }
    for specimen_id, kept in near.after.items():
        own = found.setdefault(specimen_id, {})
        for test_id, one in kept.items():
            known = own.get(test_id)
            own[test_id] = Neighbours(known.previous if known is not None else None, results[one.version_id])
    return found


def nearer(known: Neighbours | None, result: PreviousResult, *, later: bool) -> Neighbours:
    """With another candidate: the nearest on its side stays."""
    previous, next_ = (known.previous, known.later) if known is not None else (None, None)
    if later:
        return Neighbours(previous, result if next_ is None or next_.at > result.at else next_)
    return Neighbours(result if previous is None or previous.at < result.at else previous, next_)


def _sides(asked: Sequence[Asked]) -> list[_Side]:
    sides: list[_Side] = []
    for one in asked:
        specimen = one.specimen
        times = list(one.times.values())
        alike = not times or times.count(times[0]) == len(times)  # nearly always: it was collected then
        for at in times[:1] if alike else dict.fromkeys(times):
            tests: Collection[str] = one.times if alike else [test for test, own in one.times.items() if own == at]
            sides += [
                _Side(patient_id, specimen.id, at, specimen.type, specimen.time_point_min, tests)
                for patient_id in specimen.person
            ]
    return sides


async def _all(connection: Connection, sides: Sequence[_Side], near: _Near) -> list[_Side]:
    """What is near of persons of whom little is known; returns the sides of the others."""
    left = [side for side in sides if len(side.tests) < _MANY]
    many = [side for side in sides if len(side.tests) >= _MANY]
    if not many:
        return left
    patients, most = [side.patient_id for side in many], [2 * len(side.tests) + _MANY for side in many]
    for row in await connection.fetch(_ALL, list(range(len(many))), patients, most):
        number, specimen_id, at, type_, time_point, tests, versions, more = row
        side = many[number]
        if more:
            left.append(side)
        elif (type_, time_point) == (side.type, side.time_point) and specimen_id != side.specimen_id:
            near.take_all(side, at, specimen_id, tests.split(), versions.split())
    return left


async def _newest(connection: Connection, sides: Sequence[_Side], near: _Near) -> list[_Side]:
    """The newest results that are near; and what it is still to be asked for."""
    patients = [side.patient_id for side in sides]
    rows = await connection.fetch(_NEWEST, list(range(len(sides))), patients, *_questions(sides)) if sides else []
    if not rows:
        return []
    of = list({row[2] for row in rows if row[2] is not None})
    tubes = {row[0]: (row[1], row[2]) for row in await connection.fetch(_TUBES, of)}
    left: dict[int, list[str]] = defaultdict(list)
    for number, test_id, specimen_id, at, version_id in rows:
        side = sides[number]
        same = tubes.get(specimen_id) == (side.type, side.time_point)
        if same and at <= side.at and specimen_id != side.specimen_id:
            near.take(side.specimen_id, test_id, _Result(at, version_id, specimen_id), later=False)
        else:
            left[number].append(test_id)
    return [sides[number]._replace(tests=tests) for number, tests in left.items()]


def _questions(sides: Sequence[_Side]) -> tuple[list[int], list[int], list[str]]:
    """Of each side the place of its first and of its last test; and all of them."""
    lasts = list(accumulate([len(side.tests) for side in sides]))
    return [1, *(last + 1 for last in lasts[:-1])], lasts, [test_id for side in sides for test_id in side.tests]


async def _previous(connection: Connection, results: Sequence[_Result]) -> dict[str, PreviousResult]:
    """The results with their values, by version."""
    wanted = {one.version_id: one for one in results}
    runs: dict[str, list[str]] = {}  # the versions of one specimen that were made in the same millisecond
    made = specimen_id = ""
    run: list[str] = []
    for version_id, one in wanted.items():
        if one.specimen_id != specimen_id or not version_id.startswith(made):
            made, specimen_id = version_id[:_MILLISECOND], one.specimen_id
            run = runs.setdefault(made + specimen_id, [])
        run.append(version_id)
    if not runs:
        return {}
    # Others may lie between: not many, as a rule. Where there are, these are read one by one.
    bounds = [(min(run), max(run), 2 * len(run)) for run in runs.values()]
    found: dict[str, PreviousResult] = {}
    for row in await connection.fetch(_VALUES, *map(list, zip(*bounds, strict=True))):
        ids: list[str] = row[0].split()
        kinds: list[str] = row[1].split()
        signs: list[str] = row[2].split(" ")  # most have none
        values: list[str] = row[3]
        units: list[str] = row[4]
        for at, version_id in enumerate(ids):
            known = wanted.get(version_id)
            if known is not None:
                value = value_as_kept(kinds[at], signs[at], values[at])
                found[version_id] = PreviousResult(value, units[at], known.at, version_id, known.specimen_id)
    missing = sorted([version_id for version_id in wanted if version_id not in found])
    if missing:
        for version_id, kind, sign, text, unit in await connection.fetch(_VALUE, missing, missing[0], missing[-1]):
            one = wanted[version_id]
            value = value_as_kept(kind, sign, text)
            found[version_id] = PreviousResult(value, unit, one.at, version_id, one.specimen_id)
    return found
