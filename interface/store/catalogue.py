"""The shipped catalogue and code maps: from `mappings/` into an organization, and back as a `Catalogue` for decisions.

Shipped rows are loaded once and never changed by loading again; a site's own rows win. Every function works in the
caller's connection, which must already act for the organization (row-level security), and in the caller's transaction
when there is one. Driver errors pass as `store.db` raises them.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from interface.domain.barcodes import ControlNames, control_names
from interface.domain.model import CodeMapping, Interval, IntervalUse, LabTest, Sex, ValueKind
from interface.domain.units import UNKNOWN_SUBSTANCE, Substance, UnitAliases
from interface.settings import packaged
from interface.store.db import Connection
from interface.store.ids import uuid7

DAYS_PER_YEAR: Final = Decimal("365.25")  # age limits are shipped in years or months; a birthday is met to within a day
SHIPPED: Final = "shipped"
SITE: Final = "site"


@dataclass(frozen=True, slots=True)
class CatalogueCounts:
    """How many rows were loaded; all zero when the organization had a catalogue already."""

    tests: int = 0
    panels: int = 0
    intervals: int = 0
    specimen_types: int = 0


@dataclass(frozen=True, slots=True)
class ShippedTest:
    code: str
    name: str
    loinc: str
    unit: str
    decimals: int | None
    kind: ValueKind
    department: str
    specimen_types: tuple[str, ...]
    substance: Substance = UNKNOWN_SUBSTANCE


@dataclass(frozen=True, slots=True)
class ShippedPanel:
    code: str
    name: str
    loinc: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShippedInterval:
    """A reference interval of `mappings/intervals/`; `source` is the full reference, also of the critical limits."""

    test: str
    unit: str
    source: str
    low: Decimal | None
    high: Decimal | None
    critical_low: Decimal | None
    critical_high: Decimal | None
    sex: Sex | None
    age_low_d: int
    age_high_d: int | None
    specimen_type: str
    text: str
    priority: int
    age_low_h: int | None = None
    age_high_h: int | None = None
    pregnant: bool | None = None
    gestation_low_w: int | None = None
    gestation_high_w: int | None = None
    method: str = ""
    use: IntervalUse = IntervalUse.BOTH
    normal_values: tuple[str, ...] = ()
    abnormal_values: tuple[str, ...] = ()
    critical_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShippedCode:
    """One row of a code map. `verified` False: no document names it, so it is not loaded; `note` says why."""

    code: str
    test: str
    specimen_type: str = ""
    unit: str = ""
    verified: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class ShippedCodeMap:
    driver: str
    revision: int
    source: str
    codes: tuple[ShippedCode, ...]


# ---- the files -------------------------------------------------------------------------------------------------------


def _read(name: str) -> Mapping[str, Any]:
    with (packaged("mappings") / name).open("rb") as file:
        return tomllib.load(file)


@cache
def shipped_tests() -> tuple[ShippedTest, ...]:
    """The tests of `mappings/tests/`, a file each department."""
    files = sorted(path.name for path in (packaged("mappings") / "tests").glob("*.toml"))
    return tuple(
        ShippedTest(
            code=row["code"],
            name=row["name"],
            loinc=row.get("loinc", ""),
            unit=row.get("unit", ""),
            decimals=row.get("decimals"),
            kind=ValueKind(row.get("kind", ValueKind.NUMERIC)),
            department=row.get("department", ""),
            specimen_types=tuple(row.get("specimen_types", ())),
            substance=Substance(_decimal(row.get("molar_mass")), row.get("valence")),
        )
        for name in files
        for row in _read(f"tests/{name}")["tests"]
    )


@cache
def shipped_panels() -> tuple[ShippedPanel, ...]:
    return tuple(
        ShippedPanel(row["code"], row["name"], row.get("loinc", ""), tuple(row["tests"]))
        for row in _read("panels.toml")["panels"]
    )


@cache
def shipped_intervals() -> tuple[ShippedInterval, ...]:
    """The reference intervals of `mappings/intervals/`, a file each department."""
    sources = _read("intervals/sources.toml")["sources"]
    files = sorted(path.name for path in (packaged("mappings") / "intervals").glob("*.toml"))
    return tuple(
        _interval(group, row, sources)
        for name in files
        for group in _read(f"intervals/{name}").get("intervals", ())
        for row in group["ranges"]
    )


def _interval(group: Mapping[str, Any], row: Mapping[str, Any], sources: Mapping[str, str]) -> ShippedInterval:
    critical = group.get("critical_source", group["source"])
    source = sources[group["source"]]
    return ShippedInterval(
        test=group["test"],
        unit=group["unit"],
        source=source if critical == group["source"] else f"{source}; critical limits: {sources[critical]}",
        low=_decimal(row.get("low")),
        high=_decimal(row.get("high")),
        critical_low=_decimal(row.get("critical_low")),
        critical_high=_decimal(row.get("critical_high")),
        sex=Sex(row["sex"]) if "sex" in row else None,
        age_low_d=_age(row, "age_low") or 0,
        age_high_d=_age(row, "age_high"),
        specimen_type=row.get("specimen_type", ""),
        text=row.get("text", ""),
        priority=row.get("priority", 0),
        age_low_h=row.get("age_low_h"),
        age_high_h=row.get("age_high_h"),
        pregnant=row.get("pregnant"),
        gestation_low_w=row.get("gestation_low_w"),
        gestation_high_w=row.get("gestation_high_w"),
        method=row.get("method", ""),
        use=IntervalUse(row.get("use", IntervalUse.BOTH)),
        normal_values=tuple(row.get("normal", ())),
        abnormal_values=tuple(row.get("abnormal", ())),
        critical_values=tuple(row.get("critical", ())),
    )


def _age(row: Mapping[str, Any], limit: str) -> int | None:
    """In days, from whole years, months or days: `age_low_y`, `age_low_m` or `age_low_d`."""
    for key, days in ((f"{limit}_y", DAYS_PER_YEAR), (f"{limit}_m", DAYS_PER_YEAR / 12), (f"{limit}_d", Decimal(1))):
        if key in row:
            return int(row[key] * days)
    return None


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@cache
def shipped_specimen_types() -> tuple[tuple[str, str], ...]:
    """Code and name."""
    return tuple((row["code"], row["name"]) for row in _read("specimen_types.toml")["types"])


@cache
def shipped_specimen_words() -> Mapping[str, str]:
    """What else vendors call a specimen type: case-folded word → code."""
    return {
        word.casefold(): row["code"] for row in _read("specimen_types.toml")["types"] for word in row.get("also", ())
    }


@cache
def shipped_aliases() -> UnitAliases:
    """The unit spellings of `mappings/units.toml`."""
    data = _read("units.toml")
    spellings = {
        raw: (unit["reads"],) if isinstance(unit["reads"], str) else tuple(unit["reads"])
        for unit in data["unit"]
        for raw in unit["written"]
    }
    return UnitAliases(spellings, frozenset(data["refused"]), data["revision"])


@cache
def shipped_code_map(driver_id: str) -> ShippedCodeMap | None:
    """The shipped map of a driver, None when there is none. With `loinc`, every test's LOINC code maps to the test."""
    path = packaged("mappings") / "codes" / f"{driver_id}.toml"
    if not path.is_file():
        return None
    data = _read(f"codes/{driver_id}.toml")
    codes = [
        ShippedCode(
            code=row["code"],
            test=row["test"],
            specimen_type=row.get("specimen_type", ""),
            unit=row.get("unit", ""),
            verified=row.get("verified", True),
            note=row.get("reason", row.get("evidence", "")),
        )
        for row in data["codes"]
    ]
    if data.get("loinc", False):
        codes += [ShippedCode(test.loinc, test.code) for test in shipped_tests() if test.loinc]
    return ShippedCodeMap(data["driver"], data["revision"], data["source"], tuple(codes))


# ---- into an organization --------------------------------------------------------------------------------------------

# What a row has of what is shipped, and its type.
_OF_A_TEST: Final = dict.fromkeys(("code", "name", "loinc", "unit", "kind", "department"), "text") | {
    "decimals": "smallint", "specimen_types": "text[]",
}  # fmt: skip
_OF_AN_INTERVAL: Final = {
    **dict.fromkeys(("low", "high", "critical_low", "critical_high"), "numeric"),
    **dict.fromkeys(("age_low_d", "age_high_d", "age_low_h", "age_high_h", "priority"), "integer"),
    **dict.fromkeys(("gestation_low_w", "gestation_high_w"), "integer"), "pregnant": "boolean",
    **dict.fromkeys(("unit", "sex", "specimen_type", "text", "source", "method", "use"), "text"),
    **dict.fromkeys(("normal_values", "abnormal_values", "critical_values"), "text[]"),
}  # fmt: skip


async def load_shipped(connection: Connection, organization_id: UUID) -> CatalogueCounts:
    """Tests, panels, reference intervals and specimen types into an organization that has no test yet."""
    async with connection.transaction():
        await _lock(connection, organization_id, "catalogue")
        if await connection.fetchval(
            "SELECT EXISTS (SELECT FROM lab.test WHERE organization_id = $1)", organization_id
        ):
            return CatalogueCounts()
        ids = await _insert_tests(connection, organization_id)
        panels = await _insert_panels(connection, organization_id, ids)
        intervals = await _insert_intervals(connection, organization_id, ids)
        types = [(uuid7(), organization_id, code, name) for code, name in shipped_specimen_types()]
        await connection.executemany(
            "INSERT INTO lab.specimen_type (id, organization_id, code, name) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (organization_id, code) DO NOTHING",
            types,
        )
    return CatalogueCounts(len(ids), panels, intervals, len(types))


async def _lock(connection: Connection, organization_id: UUID, what: str) -> None:
    """Two starts at once load once: the second waits here and then finds the rows."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"labora {what} {organization_id}"
    )


async def _insert(
    connection: Connection, organization_id: UUID, table: str, types: Mapping[str, str], rows: list[dict[str, Any]]
) -> None:
    """All of them in one statement: an organization has some thousand, and to begin and end one for each is most of
    the work. `types`: of the columns that each row names."""
    names, typed = ", ".join(types), ", ".join(f"{name} {type}" for name, type in types.items())
    await connection.execute(
        f"INSERT INTO lab.{table} (organization_id, {names})"  # noqa: S608 - names of ours
        f" SELECT $1, {names} FROM json_to_recordset($2::text::json) AS t({typed})",
        organization_id, orjson.dumps(rows, default=str).decode(),
    )  # fmt: skip


async def _insert_tests(connection: Connection, organization_id: UUID) -> dict[str, UUID]:
    ids = {test.code: uuid7() for test in shipped_tests()}
    rows = [
        {name: getattr(test, name) for name in _OF_A_TEST}
        | {"id": ids[test.code], "source": SHIPPED}
        | {"molar_mass": test.substance.molar_mass, "valence": test.substance.valence}
        for test in shipped_tests()
    ]
    types = _OF_A_TEST | {"id": "uuid", "source": "text", "molar_mass": "numeric", "valence": "smallint"}
    await _insert(connection, organization_id, "test", types, rows)
    return ids


async def _insert_panels(connection: Connection, organization_id: UUID, ids: Mapping[str, UUID]) -> int:
    rows = [
        (uuid7(), organization_id, panel.code, panel.name, panel.loinc, [ids[code] for code in panel.tests])
        for panel in shipped_panels()
    ]
    await connection.executemany(
        "INSERT INTO lab.panel (id, organization_id, code, name, loinc, test_ids) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (organization_id, code) DO NOTHING",
        rows,
    )
    return len(rows)


async def _insert_intervals(connection: Connection, organization_id: UUID, ids: Mapping[str, UUID]) -> int:
    rows = [
        {name: getattr(one, name) for name in _OF_AN_INTERVAL} | {"id": uuid7(), "test_id": ids[one.test]}
        for one in shipped_intervals()
    ]
    types = _OF_AN_INTERVAL | {"id": "uuid", "test_id": "uuid"}
    await _insert(connection, organization_id, "reference_interval", types, rows)
    return len(rows)


async def load_code_map(connection: Connection, organization_id: UUID, driver_id: str) -> int:
    """The shipped code map of a driver, once: an organization that has any revision of it keeps that one.

    Rows that are not verified, and rows whose test the organization does not have, are left out. Returns the number of
    rows loaded; 0 also when nothing is shipped for the driver.
    """
    shipped = shipped_code_map(driver_id)
    if shipped is None:
        return 0
    async with connection.transaction():
        await _lock(connection, organization_id, f"code map {driver_id}")
        if await connection.fetchval(
            "SELECT EXISTS (SELECT FROM lab.code_map WHERE organization_id = $1 AND driver = $2 AND origin = $3)",
            organization_id, driver_id, SHIPPED,
        ):  # fmt: skip
            return 0
        tests = await connection.fetch("SELECT code, id FROM lab.test WHERE organization_id = $1", organization_id)
        ids = {row["code"]: row["id"] for row in tests}
        rows = [
            (
                uuid7(), organization_id, driver_id, one.code, one.specimen_type, ids[one.test], one.unit, SHIPPED,
                shipped.revision,
            )
            for one in shipped.codes
            if one.verified and one.test in ids
        ]  # fmt: skip
        await connection.executemany(
            """INSERT INTO lab.code_map (id, organization_id, driver, code, specimen_type, test_id, unit, origin,
                                         revision)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
            rows,
        )
    return len(rows)


# ---- back, for decisions ---------------------------------------------------------------------------------------------


async def read_control_names(connection: Connection, link_id: UUID) -> ControlNames:
    """What the open lots of controls are called that the link may send."""
    rows = await connection.fetch(
        """SELECT DISTINCT unnest(l.identifiers) AS name FROM lab.qc_lot l JOIN lab.link k ON k.id = $1
            WHERE l.closed_at IS NULL AND (l.analyzer_ids = '{}' OR k.analyzer_id = ANY(l.analyzer_ids))""",
        link_id,
    )
    return control_names([row["name"] for row in rows])


async def read_tests(
    connection: Connection, organization_id: UUID | None = None, *, active: bool = True
) -> list[LabTest]:
    """The tests that are in use, or those that are not any more, of the organization that the connection acts for
    unless another is asked for."""
    rows = await connection.fetch(
        "SELECT id, code, name, loinc, unit, decimals, kind, molar_mass, valence FROM lab.test"
        " WHERE active = $2 AND ($1::uuid IS NULL OR organization_id = $1) ORDER BY code",
        organization_id, active,
    )  # fmt: skip
    return [_lab_test(row) for row in rows]


async def read_zone(connection: Connection, organization_id: UUID) -> str:
    """The laboratory's time zone, which its reports are in as well (`report settings --zone`)."""
    query = "SELECT zone FROM lab.report_setting WHERE organization_id = $1"
    return str(await connection.fetchval(query, organization_id) or "UTC")


async def read_intervals(
    connection: Connection, organization_id: UUID, test_id: UUID | None = None
) -> list[asyncpg.Record]:
    """Every interval (of a test) as a row for `lab_interval`, also those that have ended: a specimen is judged by what
    was valid when it was collected. `digits`: rows whose limits are written otherwise (5.0, 5.00) are not equal."""
    rows: list[asyncpg.Record] = await connection.fetch(
        """SELECT id, test_id, unit, low, high, critical_low, critical_high, sex, age_low_d, age_high_d, specimen_type,
                  text, source, priority, age_low_h, age_high_h, pregnant, gestation_low_w, gestation_high_w, method,
                  analyzer, use, valid_from, valid_to, normal_values, abnormal_values, critical_values,
                  concat_ws(' ', low, high, critical_low, critical_high) AS digits
             FROM lab.reference_interval
            WHERE organization_id = $1 AND ($2::uuid IS NULL OR test_id = $2) ORDER BY id""",
        organization_id,
        test_id,
    )
    return rows


async def read_code_map(connection: Connection, organization_id: UUID, driver_id: str) -> list[asyncpg.Record]:
    """What is valid now of a driver's code map, for all links and for single ones, the weakest first: for one code and
    specimen type a site's row wins over a shipped one, then the link's own over the driver's, then the newest."""
    rows: list[asyncpg.Record] = await connection.fetch(
        """SELECT id, code, test_id, specimen_type, unit, revision, origin, link_id, method FROM lab.code_map
            WHERE organization_id = $1 AND driver = $2 AND ended_at IS NULL
              AND valid_from <= now() AND (valid_to IS NULL OR valid_to > now())
            ORDER BY (origin = $3), (link_id IS NOT NULL), revision, id""",
        organization_id, driver_id, SITE,
    )  # fmt: skip
    return rows


def intervals_by_test(intervals: Iterable[Interval]) -> dict[str, tuple[Interval, ...]]:
    grouped: defaultdict[str, list[Interval]] = defaultdict(list)
    for interval in intervals:
        grouped[interval.test_id].append(interval)
    return {test_id: tuple(group) for test_id, group in grouped.items()}


def _lab_test(row: asyncpg.Record) -> LabTest:
    return LabTest(
        id=str(row["id"]),
        code=row["code"],
        name=row["name"],
        loinc=row["loinc"],
        unit=row["unit"],
        decimals=row["decimals"],
        kind=ValueKind(row["kind"]),
        substance=Substance(row["molar_mass"], row["valence"]),
    )


def lab_interval(row: asyncpg.Record) -> Interval:
    return Interval(
        id=str(row["id"]),
        test_id=str(row["test_id"]),
        unit=row["unit"],
        low=row["low"],
        high=row["high"],
        critical_low=row["critical_low"],
        critical_high=row["critical_high"],
        sex=Sex(row["sex"]) if row["sex"] else None,
        age_low_d=row["age_low_d"],
        age_high_d=row["age_high_d"],
        specimen_type=row["specimen_type"],
        text=row["text"],
        source=row["source"],
        priority=row["priority"],
        age_low_h=row["age_low_h"],
        age_high_h=row["age_high_h"],
        pregnant=row["pregnant"],
        gestation_low_w=row["gestation_low_w"],
        gestation_high_w=row["gestation_high_w"],
        method=row["method"],
        analyzer=row["analyzer"],
        use=IntervalUse(row["use"]),
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        normal_values=tuple(row["normal_values"]),
        abnormal_values=tuple(row["abnormal_values"]),
        critical_values=tuple(row["critical_values"]),
    )


def code_mapping(row: asyncpg.Record) -> CodeMapping:
    return CodeMapping(
        row["code"],
        str(row["test_id"]) if row["test_id"] else "",
        row["specimen_type"],
        row["unit"],
        row["revision"],
        row["origin"] == SITE,
        str(row["id"]),
        row["method"],
    )
