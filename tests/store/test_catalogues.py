"""Catalogues are read anew, and stay the same object while nothing has changed; links share what is the same."""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from interface.domain.catalogue import Catalogue
from interface.store.catalogue import load_code_map, load_shipped
from interface.store.catalogues import FRESH_S, Catalogues
from interface.store.db import Connection, Database
from interface.store.ids import uuid7
from tests.conftest import Organization

DRIVER = "sysmex_xn"


class Kept:
    def __init__(self, database: Database, organization: Organization) -> None:
        self.database, self.organization = database, organization
        self.catalogues, self.now_s = Catalogues(), 100.0

    async def of(self, link: UUID | None = None, *, driver: str = DRIVER) -> Catalogue:
        async with self.database.organization(self.organization.id) as connection:
            return await self.catalogues.of(connection, self.organization.id, driver, link, self.now_s)

    async def link(self) -> UUID:
        link, analyzer = uuid7(), uuid7()
        async with self.database.transaction(self.organization.id) as connection:
            await connection.execute(
                "insert into lab.analyzer (id, organization_id, name, driver) values ($1, $2, $3, $4)",
                analyzer, self.organization.id, analyzer.hex, DRIVER,
            )  # fmt: skip
            await connection.execute(
                "insert into lab.link (id, organization_id, analyzer_id, name, role, driver)"
                " values ($1, $2, $3, $4, 'analyzer', $5)",
                link, self.organization.id, analyzer, link.hex, DRIVER,
            )  # fmt: skip
        return link

    async def change(self, sql: str, *values: object) -> None:
        async with self.database.transaction(self.organization.id) as connection:
            await connection.execute(sql, *values)

    async def map(self, code: str, link: UUID | None) -> None:
        await self.change(
            "insert into lab.code_map"
            " (id, organization_id, driver, link_id, code, specimen_type, test_id, unit, origin, revision)"
            " select $1, $2, $3, $4, $5, '', (select id from lab.test where code = 'HGB'), '', 'site', 1",
            uuid7(), self.organization.id, DRIVER, link, code,
        )  # fmt: skip


@pytest.fixture
async def kept(database: Database, organization: Organization) -> Kept:
    async with database.transaction(organization.id) as connection:
        await _shipped(connection, organization.id)
    return Kept(database, organization)


async def _shipped(connection: Connection, organization_id: UUID) -> None:
    await load_shipped(connection, organization_id)
    await load_code_map(connection, organization_id, DRIVER)


async def test_while_nothing_changes_it_is_the_same_object_however_often_it_is_read(kept: Kept) -> None:
    first = await kept.of()
    for _ in range(3):
        kept.now_s += FRESH_S + 1
        assert await kept.of() is first


async def test_links_share_what_is_the_same_for_them_and_have_their_own_rows_apart(kept: Kept) -> None:
    one, other, own = await kept.link(), await kept.link(), await kept.link()
    await kept.map("OWN", own)
    assert await kept.of(one) is await kept.of(other)
    theirs, ours = await kept.of(one), await kept.of(own)
    assert (theirs.maps("OWN"), ours.maps("OWN")) == (False, True)
    assert ours.tests is theirs.tests and ours.intervals is theirs.intervals
    assert not (await kept.of(driver="generic_lis2")).mappings


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("update lab.test set name = name || ' new' where code = 'HGB'", "tests"),
        ("update lab.reference_interval set high = high + 1 where high is not null", "intervals"),
        ("update lab.code_map set ended_at = now() where code = 'HGB'", "mappings"),
    ],
)
async def test_a_change_is_seen_once_it_is_read_anew(kept: Kept, sql: str, what: str) -> None:
    before = await kept.of()
    await kept.change(sql)
    kept.now_s += FRESH_S
    assert await kept.of() is before, "as fresh as it is wanted"
    kept.now_s += 1
    after = await kept.of()
    assert getattr(after, what) != getattr(before, what)
    for other in {"tests", "intervals", "mappings"} - {what}:
        assert getattr(after, other) == getattr(before, other)


async def test_the_zone_in_whose_days_ages_are_counted_is_that_of_the_laboratory_s_reports(kept: Kept) -> None:
    assert (await kept.of()).zone == ZoneInfo("UTC")
    await kept.change(
        "insert into lab.report_setting (id, organization_id, zone) values ($1, $2, 'Asia/Jakarta')",
        uuid7(), kept.organization.id,
    )  # fmt: skip
    kept.now_s += FRESH_S + 1
    assert (await kept.of()).zone == ZoneInfo("Asia/Jakarta")


async def test_a_limit_that_gets_another_digit_is_seen_though_it_is_the_same_number(kept: Kept) -> None:
    before = await kept.of()
    await kept.change("update lab.reference_interval set high = round(high, scale(high) + 1) where high is not null")
    kept.now_s += FRESH_S + 1
    after = await kept.of()
    written = [
        {one.id: str(one.high) for several in each.intervals.values() for one in several if one.high is not None}
        for each in (before, after)
    ]
    assert written[0].keys() == written[1].keys()
    assert all(len(new) > len(old) for old, new in zip(*(each.values() for each in written), strict=True))


async def test_of_a_link_that_gets_a_row_of_its_own_the_row_counts(kept: Kept) -> None:
    link = await kept.link()
    before = await kept.of(link)
    await kept.map("HGB", link)
    kept.now_s += FRESH_S + 1
    after = await kept.of(link)
    mapping = after.mapping("HGB", "BLD")
    assert after is not before and mapping is not None and mapping.site
    assert await kept.of(await kept.link()) is not after


async def test_what_is_cleared_is_read_anew(kept: Kept) -> None:
    await kept.of()
    await kept.map("NEW", None)
    assert not (await kept.of()).maps("NEW")
    kept.catalogues.clear()
    assert (await kept.of()).maps("NEW")
