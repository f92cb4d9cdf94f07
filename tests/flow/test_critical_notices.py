"""A ward is called for a critical result once it is released, by whatever way it came to be released."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.roster import NoticeKind
from interface.flow import review
from interface.flow.correction import NewValue
from interface.store import changes, notices
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_judged_for_certain import CRITICAL, intervals, measured


async def called(lab: Laboratory) -> int:
    """How often since it was asked last."""
    async with lab.database.transaction(lab.organization_id) as connection:
        await changes.seal(connection, lab.organization_id)
    async with lab.database.transaction(lab.organization_id) as connection:
        found = await notices.happened(connection, lab.organization_id)
    return sum(one.what is NoticeKind.CRITICAL for one in found)


async def ordered(lab: Laboratory) -> None:
    await intervals(lab, "K", CRITICAL | {"low": 3.5, "high": 5.1})
    await lab.order("S-1", "K", at=datetime.now(UTC) - timedelta(hours=1))
    assert await called(lab) == 0, "what happened before is no news"


async def test_when_a_person_releases_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await ordered(lab)
        found = await measured(lab, "K", "8.1")
        assert (found.flags, await called(lab)) == (("HH",), 0)
        await lab.release(found.id)
        assert await called(lab) == 1
        assert await called(lab) == 0


@pytest.mark.parametrize("comment", [False, True])
async def test_when_it_is_corrected_to_one_or_commented_first(database_url: str, comment: bool) -> None:
    async with laboratory(database_url) as lab:
        await ordered(lab)
        found = await measured(lab, "K", "8.1" if comment else "4.1")
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.release(connection, lab.director, found.id)
            if comment:
                await review.comment(connection, lab.director, found.id, "haemolysed")
            else:
                await review.correct(connection, lab.director, found.id, NewValue("8.1"), comment="typed wrongly")
        assert await called(lab) == 1
        assert await called(lab) == 0


async def test_not_by_a_change_that_waits_beside_what_is_released(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await ordered(lab)
        found = await measured(lab, "K", "4.1")
        await lab.release(found.id)
        assert (await measured(lab, "K", "8.1")).pending
        assert await called(lab) == 0
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.accept_change(connection, lab.director, found.id, comment="as sent")
        assert await called(lab) == 1
