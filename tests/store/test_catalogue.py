"""The shipped catalogue is sound data, is loaded once, and reads back as what decisions need; site rows win."""

from __future__ import annotations

import asyncio
import os
import re
import tomllib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from interface.domain.model import IntervalUse, Sex
from interface.domain.units import canonical, commensurable
from interface.errors import UnknownUnit
from interface.settings import packaged
from interface.store import catalogue
from interface.store.catalogue import (
    CatalogueCounts,
    load_code_map,
    load_shipped,
    shipped_aliases,
    shipped_code_map,
    shipped_intervals,
    shipped_panels,
    shipped_specimen_types,
    shipped_tests,
)
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization

DRIVERS = sorted(path.stem for path in (packaged("mappings") / "codes").glob("*.toml"))
TESTS = {test.code: test for test in shipped_tests()}


# ---- the data --------------------------------------------------------------------------------------------------------


def test_panels_are_of_shipped_tests() -> None:
    assert {panel.code for panel in shipped_panels()} >= {"CBC", "CBC_DIFF", "BMP", "CMP", "LIVER", "LIPID"}
    for panel in shipped_panels():
        assert set(panel.tests) <= set(TESTS)
        assert len(set(panel.tests)) == len(panel.tests)


@pytest.mark.parametrize("one", shipped_intervals(), ids=lambda one: f"{one.test}-{one.sex}-{one.age_low_d}")
def test_every_interval_is_of_a_test_comparable_ordered_and_has_a_source(one: catalogue.ShippedInterval) -> None:
    assert commensurable(one.unit, TESTS[one.test].unit)
    assert len(one.source) > 20
    limits = [limit for limit in (one.critical_low, one.low, one.high, one.critical_high) if limit is not None]
    assert limits
    assert limits == sorted(limits)
    assert one.age_high_d is None or one.age_low_d < one.age_high_d


def test_every_critical_limit_names_the_list_it_is_from_and_no_source_is_left_over() -> None:
    data = [tomllib.loads(path.read_text("utf-8")) for path in (packaged("mappings") / "intervals").glob("*.toml")]
    groups = [group for one in data for group in one.get("intervals", ())]
    critical = [any({"critical_low", "critical_high"} & set(row) for row in group["ranges"]) for group in groups]
    assert critical == ["critical_source" in group for group in groups]
    used = {group[key] for group in groups for key in ("source", "critical_source") if key in group}
    assert used == set(next(one["sources"] for one in data if "sources" in one))


def test_an_age_limit_is_of_days_months_or_years() -> None:
    phosphate = sorted((one.age_low_d, one.age_high_d) for one in shipped_intervals() if one.test == "PHOS_SI")
    assert phosphate == [(0, 28), (28, 365), (365, 1826), (1826, 5478), (6574, None)]
    infants = [one for one in shipped_intervals() if one.test == "TSH" and one.age_low_d == 0]
    assert [one.age_high_d for one in infants] == [182]


def test_no_two_intervals_of_a_test_apply_to_the_same_person() -> None:
    rows = shipped_intervals()
    clashes = [
        (one.test, one.sex, one.age_low_d, other.age_low_d)
        for index, one in enumerate(rows)
        for other in rows[index + 1 :]
        if one.test == other.test
        and (one.sex == other.sex or one.sex is None or other.sex is None)
        and one.age_low_d < (other.age_high_d or 10**6)
        and other.age_low_d < (one.age_high_d or 10**6)
    ]
    assert clashes == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_code_is_mapped_once_to_a_shipped_test_in_a_unit_it_can_be_reported_in(driver: str) -> None:
    shipped = shipped_code_map(driver)
    assert shipped is not None
    assert shipped.driver == driver
    assert shipped.source
    keys = [(one.code, one.specimen_type) for one in shipped.codes]
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    for one in shipped.codes:
        assert one.code == one.code.strip() != ""
        assert not one.unit or commensurable(one.unit, TESTS[one.test].unit)
        assert one.verified or one.note


@pytest.mark.parametrize("driver", ["generic_hl7", "generic_lis2"])
def test_the_generic_maps_know_every_loinc_code_of_the_catalogue(driver: str) -> None:
    shipped = shipped_code_map(driver)
    assert shipped is not None
    assert {(one.code, one.test) for one in shipped.codes} >= {
        (test.loinc, test.code) for test in shipped_tests() if test.loinc
    }


def test_an_unknown_driver_has_no_shipped_map() -> None:
    assert shipped_code_map("nowhere") is None


CORPUS = Path(os.environ.get("LABORA_CORPUS", packaged("mappings").parent.parent / "shared" / "corpus"))
NOT_UNITS = {"C", "cycle number", "RLU", "1", "beats/min", "20190902191654"}  # words, place holders, slips


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of captured messages is not at hand (LABORA_CORPUS)")
@pytest.mark.parametrize(("folder", "record", "field"), [("astm", "R", 4), ("hl7", "OBX", 6)])
def test_the_units_of_captured_messages_are_understood(folder: str, record: str, field: int) -> None:
    unknown = set()
    for path in (CORPUS / folder).iterdir():
        for line in re.split(r"[\r\n\x02\x03\x17]+", path.read_text("latin-1")):
            fields = re.sub(r"^[0-7](?=[A-Z]\|)", "", line).split("|")
            unit = fields[field].split("^")[0].strip() if fields[0] == record and len(fields) > field else ""
            if unit and unit not in NOT_UNITS:
                try:
                    canonical(unit, shipped_aliases())
                except UnknownUnit:
                    unknown.add(unit)
    assert unknown == set()


# ---- the database ----------------------------------------------------------------------------------------------------


async def test_the_shipped_catalogue_is_loaded_once(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        counts = await load_shipped(connection, organization.id)
        assert counts == CatalogueCounts(
            len(shipped_tests()), len(shipped_panels()), len(shipped_intervals()), len(shipped_specimen_types())
        )
        assert await load_shipped(connection, organization.id) == CatalogueCounts()
        assert await connection.fetchval("SELECT count(*) FROM lab.test") == len(shipped_tests())
        assert await connection.fetchval("SELECT count(*) FROM lab.reference_interval") == len(shipped_intervals())


async def test_two_starts_at_once_load_once(database: Database, organization: Organization) -> None:
    async def start() -> tuple[int, int]:
        async with database.transaction(organization.id) as connection:
            counts = await load_shipped(connection, organization.id)
            return counts.tests, await load_code_map(connection, organization.id, "sysmex_xn")

    loaded = sorted(await asyncio.gather(start(), start()))
    assert loaded[0] == (0, 0)
    assert loaded[1][0] == len(shipped_tests())
    assert loaded[1][1] > 20


async def test_a_panel_s_tests_are_those_it_names(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        codes = await connection.fetchval(
            """SELECT array_agg(test.code ORDER BY place) FROM lab.panel
               CROSS JOIN LATERAL unnest(test_ids) WITH ORDINALITY AS member (id, place)
               JOIN lab.test ON test.id = member.id WHERE panel.code = 'BMP'"""
        )
    assert tuple(codes) == next(panel.tests for panel in shipped_panels() if panel.code == "BMP")


async def test_it_reads_back_exactly(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await load_code_map(connection, organization.id, "sysmex_xn")
        read = await read_catalogue(connection, organization.id, "sysmex_xn", None)
    assert {test.code for test in read.tests.values()} == set(TESTS)
    haemoglobin = read.by_code("HGB")
    assert haemoglobin is not None
    assert (haemoglobin.loinc, haemoglobin.unit, haemoglobin.decimals) == ("718-7", "g/dL", 1)
    women = next(one for one in read.intervals[haemoglobin.id] if one.sex is Sex.FEMALE and one.high)
    assert (women.low, women.high, women.unit, women.age_low_d) == (Decimal(120), Decimal(150), "g/L", 6574)
    assert "Dorset" in women.source
    mapping = read.mapping("HGB", "BLD")
    assert mapping is not None
    assert (mapping.test_id, mapping.revision) == (haemoglobin.id, 1)
    assert read.mapping("NEWTEST", "BLD") is None
    assert read.mapping("", "") is None
    assert read.aliases == shipped_aliases()


async def test_a_code_map_is_loaded_once_and_without_what_nobody_verified(
    database: Database, organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        loaded = await load_code_map(connection, organization.id, "roche_cobas_c311")
        assert await load_code_map(connection, organization.id, "roche_cobas_c311") == 0
        assert await load_code_map(connection, organization.id, "nowhere") == 0
        read = await read_catalogue(connection, organization.id, "roche_cobas_c311", None)
    shipped = shipped_code_map("roche_cobas_c311")
    assert shipped is not None
    assert loaded == len(read.mappings) == sum(one.verified for one in shipped.codes) < len(shipped.codes)
    for one in shipped.codes:
        assert (read.mapping(one.code, "SER") is not None) is one.verified


async def test_a_code_map_without_a_catalogue_loads_nothing_that_points_nowhere(
    database: Database, organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        assert await load_code_map(connection, organization.id, "sysmex_xn") == 0


async def make_link(connection: Connection, organization_id: UUID) -> UUID:
    analyzer, link = uuid7(), uuid7()
    await connection.execute(
        "INSERT INTO lab.analyzer (id, organization_id, name) VALUES ($1, $2, $3)", analyzer, organization_id, str(link)
    )
    await connection.execute(
        "INSERT INTO lab.link (id, organization_id, name, analyzer_id, driver, role)"
        " VALUES ($1, $2, $3, $4, 'sysmex_xn', 'analyzer')",
        link, organization_id, str(link), analyzer,
    )  # fmt: skip
    return link


async def add_mapping(
    connection: Connection, organization_id: UUID, test: str, origin: str, link: UUID | None = None, revision: int = 1,
    valid: bool = True,
) -> None:  # fmt: skip
    await connection.execute(
        """INSERT INTO lab.code_map (id, organization_id, driver, link_id, code, test_id, origin, revision, valid_to)
           SELECT $1, $2, 'sysmex_xn', $3, 'HGB', id, $4, $5, now() + $6::text::interval
             FROM lab.test WHERE code = $7""",
        uuid7(), organization_id, link, origin, revision, "1 year" if valid else "-1 hour", test,
    )  # fmt: skip


async def test_the_site_s_own_mapping_wins_then_the_link_s_then_the_newest(
    database: Database, organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await load_code_map(connection, organization.id, "sysmex_xn")
        link = await make_link(connection, organization.id)
        other = await make_link(connection, organization.id)

        async def mapped_to() -> str:
            read = await read_catalogue(connection, organization.id, "sysmex_xn", link)
            mapping = read.mapping("HGB", "BLD")
            assert mapping is not None
            return read.tests[mapping.test_id].code

        assert await mapped_to() == "HGB"
        await add_mapping(connection, organization.id, "WBC", "shipped", revision=2)
        assert await mapped_to() == "WBC"
        await add_mapping(connection, organization.id, "RBC", "site")
        assert await mapped_to() == "RBC"
        await add_mapping(connection, organization.id, "MCV", "shipped", link, revision=9)
        await add_mapping(connection, organization.id, "MCV", "site", other)
        await add_mapping(connection, organization.id, "MCV", "site", link, valid=False)
        assert await mapped_to() == "RBC"
        await add_mapping(connection, organization.id, "PLT", "site", link)
        assert await mapped_to() == "PLT"


async def test_what_is_no_longer_valid_or_active_is_not_read(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await connection.execute("UPDATE lab.test SET active = false WHERE code = 'K'")
        await add_mapping(connection, organization.id, "NA", "site", valid=False)
        read = await read_catalogue(connection, organization.id, "generic_hl7", None)
    assert read.by_code("K") is None
    assert read.mapping("HGB", "BLD") is None


async def test_an_interval_is_read_with_all_it_depends_on_also_when_it_has_ended(
    database: Database, organization: Organization
) -> None:
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await connection.execute(
            """UPDATE lab.reference_interval
                  SET age_low_h = 6, age_high_h = 72, pregnant = true, gestation_low_w = 13, gestation_high_w = 28,
                      method = 'ISE', analyzer = 'xn-1', use = 'critical', valid_from = $1, valid_to = $2,
                      normal_values = '{Neg}', abnormal_values = '{Pos}', critical_values = '{Very pos}'
                WHERE test_id = (SELECT id FROM lab.test WHERE code = 'NA')""",
            start, end,
        )  # fmt: skip
        read = await read_catalogue(connection, organization.id, "generic_hl7", None)
    sodium = read.by_code("NA")
    assert sodium is not None
    one = read.intervals[sodium.id][0]
    assert (one.age_low_h, one.age_high_h, one.pregnant, one.gestation_low_w, one.gestation_high_w) == (
        6, 72, True, 13, 28,
    )  # fmt: skip
    assert (one.method, one.analyzer, one.use, one.valid_from, one.valid_to) == (
        "ISE", "xn-1", IntervalUse.CRITICAL, start, end,
    )  # fmt: skip
    assert (one.normal_values, one.abnormal_values, one.critical_values) == (("Neg",), ("Pos",), ("Very pos",))
    potassium = read.by_code("K")
    assert potassium is not None
    assert {row.valid_from for row in read.intervals[potassium.id]} == {None}  # what is shipped was valid ever since


async def test_one_organization_s_catalogue_is_not_another_s(
    database: Database, organization: Organization, other_organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await load_code_map(connection, organization.id, "sysmex_xn")
    async with database.organization(other_organization.id) as connection:
        theirs = await read_catalogue(connection, other_organization.id, "sysmex_xn", None)
        stolen = await read_catalogue(connection, organization.id, "sysmex_xn", None)
    assert (theirs.tests, theirs.mappings, stolen.tests, stolen.mappings) == ({}, {}, {}, {})


async def test_a_row_that_was_ended_is_not_read_and_one_without_a_test_hides_those_below_it(
    database: Database, organization: Organization
) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await load_code_map(connection, organization.id, "sysmex_xn")
        await connection.execute(
            "INSERT INTO lab.code_map (id, organization_id, driver, code, origin)"
            " VALUES ($1, $2, 'sysmex_xn', 'HGB', 'site')",
            uuid7(),
            organization.id,
        )
        held = (await read_catalogue(connection, organization.id, "sysmex_xn", None)).mapping("HGB", "BLD")
        assert held is not None
        assert (held.test_id, held.site) == ("", True)
        await connection.execute("UPDATE lab.code_map SET ended_at = now() WHERE origin = 'site'")
        mapping = (await read_catalogue(connection, organization.id, "sysmex_xn", None)).mapping("HGB", "BLD")
        assert mapping is not None
        assert (mapping.test_id != "", mapping.site) == (True, False)


async def test_what_a_row_of_a_map_says_cannot_be_changed(database: Database, organization: Organization) -> None:
    async with database.organization(organization.id) as connection:
        await load_shipped(connection, organization.id)
        await load_code_map(connection, organization.id, "sysmex_xn")
        for change in ("test_id = null", "valid_to = now()", "valid_from = now()", "code = 'X'", "origin = 'site'"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"UPDATE lab.code_map SET {change}")  # noqa: S608
