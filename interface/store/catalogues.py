"""The catalogues that results are decided by: read anew every so often, and the same object for as long as nothing in
them has changed, so that what was worked out of one stays. Links share what is the same for them: of many links of a
laboratory each would else keep thousands of rows of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record

from interface.domain.barcodes import NO_CONTROLS, ControlNames
from interface.domain.catalogue import Catalogue
from interface.domain.model import CodeMapping, Interval, LabTest
from interface.store import catalogue as rows
from interface.store.db import Connection

FRESH_S = 15.0


@dataclass(frozen=True, slots=True, eq=False)
class _Laboratory:
    """Tests and intervals of an organization, and its time zone."""

    tests: dict[str, LabTest]
    retired: dict[str, LabTest]
    intervals: dict[str, tuple[Interval, ...]]
    zone: tzinfo


@dataclass(frozen=True, slots=True, eq=False)
class _CodeMap:
    """The code map of a driver; of links that have rows of their own, theirs."""

    of_all: dict[tuple[str, str], CodeMapping]
    of_links: dict[UUID, dict[tuple[str, str], CodeMapping]]


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What a catalogue was made of."""

    laboratory: _Laboratory
    mappings: dict[tuple[str, str], CodeMapping]
    controls: ControlNames

    def same(self, other: _Parts) -> bool:
        """Of the same objects, which are never changed."""
        at_once = self.laboratory is other.laboratory and self.mappings is other.mappings
        return at_once and self.controls == other.controls


_Made = TypeVar("_Made")
_LaboratoryRows: TypeAlias = tuple[Sequence[LabTest], Sequence[LabTest], Sequence[Record], str]


class _Shelf(Generic[_Made]):
    """What was made of rows, by whose they are: for FRESH_S without asking, then again where the rows are the same."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[float, Any, _Made]] = {}

    def clear(self) -> None:
        self._kept.clear()

    async def take(
        self, key: Any, now_s: float, read: Callable[[], Awaitable[Any]], make: Callable[[Any], _Made]
    ) -> _Made:
        known = self._kept.get(key)
        if known is not None and now_s - known[0] <= FRESH_S:
            return known[2]
        given = await read()
        if known is not None and known[1] == given:
            _, given, made = known  # what `made` was made of, and not the same once more
        else:
            made = make(given)
        self._kept[key] = now_s, given, made
        return made


class Catalogues:
    """`of` gives what was valid for a link at most FRESH_S ago; everything it gives is never changed."""

    def __init__(self) -> None:
        self._laboratories: _Shelf[_Laboratory] = _Shelf()
        self._code_maps: _Shelf[_CodeMap] = _Shelf()
        self._controls: _Shelf[ControlNames] = _Shelf()
        self._made: dict[UUID | None, tuple[_Parts, Catalogue]] = {}  # by link

    def clear(self) -> None:
        """Read everything anew."""
        for shelf in (self._laboratories, self._code_maps, self._controls):
            shelf.clear()

    async def of(
        self, connection: Connection, organization_id: UUID, driver_id: str, link_id: UUID | None, now_s: float
    ) -> Catalogue:
        """`now_s`: of a clock that only goes on."""

        async def laboratory_rows() -> _LaboratoryRows:
            tests = await rows.read_tests(connection, organization_id)
            retired = await rows.read_tests(connection, organization_id, active=False)
            intervals = await rows.read_intervals(connection, organization_id)
            return tests, retired, intervals, await rows.read_zone(connection, organization_id)

        laboratory = await self._laboratories.take(organization_id, now_s, laboratory_rows, _laboratory)
        read_map = partial(rows.read_code_map, connection, organization_id, driver_id)
        code_map = await self._code_maps.take((organization_id, driver_id), now_s, read_map, _code_map)
        controls, mappings = NO_CONTROLS, code_map.of_all
        if link_id is not None:
            mappings = code_map.of_links.get(link_id, mappings)
            read_names = partial(rows.read_control_names, connection, link_id)
            controls = await self._controls.take(link_id, now_s, read_names, lambda names: names)
        parts = _Parts(laboratory, mappings, controls)
        if (known := self._made.get(link_id)) is None or not known[0].same(parts):
            same = (made for of, made in self._made.values() if of.same(parts))
            made = next(same, None) or Catalogue(
                laboratory.tests, laboratory.intervals, mappings, rows.shipped_aliases(), controls,
                laboratory.zone, laboratory.retired,
            )  # fmt: skip
            known = self._made[link_id] = parts, made
        return known[1]


def _laboratory(given: _LaboratoryRows) -> _Laboratory:
    tests, retired, intervals, zone = given
    by_test = rows.intervals_by_test(rows.lab_interval(row) for row in intervals)
    return _Laboratory({one.id: one for one in tests}, {one.id: one for one in retired}, by_test, ZoneInfo(zone))


def _code_map(codes: Sequence[Record]) -> _CodeMap:
    links = {row["link_id"] for row in codes} - {None}
    of_links = {link: _mappings(row for row in codes if row["link_id"] in (None, link)) for link in links}
    return _CodeMap(_mappings(row for row in codes if row["link_id"] is None), of_links)


def _mappings(codes: Iterable[Record]) -> dict[tuple[str, str], CodeMapping]:
    """The last, strongest row of each code and specimen type stays."""
    return {(row["code"], row["specimen_type"]): rows.code_mapping(row) for row in codes}


async def read_catalogue(
    connection: Connection, organization_id: UUID, driver_id: str, link_id: UUID | None
) -> Catalogue:
    """What is valid now for one link: active tests, their intervals, and the code map of its driver."""
    return await Catalogues().of(connection, organization_id, driver_id, link_id, 0.0)
