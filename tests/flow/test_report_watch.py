"""Versions are made by themselves soon after a change, and printed once; one that fails keeps nobody from theirs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from typing import Any
from uuid import UUID

import pytest

from interface.domain.report import StoredReport
from interface.domain.views import Audience
from interface.flow import report_watch, reports, review
from interface.settings import ApiSettings, Preliminary, Settings
from interface.store import reports as rows
from interface.store.db import Connection, Database
from tests.conftest import Organization
from tests.flow.test_reports import contents, done, due, transaction
from tests.records import Laboratory, found


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def _released(laboratory: Laboratory) -> UUID:
    placed = await laboratory.order()
    await done(laboratory, review.release, await laboratory.result(placed))
    return placed.id


async def test_a_round_makes_the_versions_and_prints_them(laboratory: Laboratory) -> None:
    orders = [await _released(laboratory) for _ in range(3)]
    waiting = await laboratory.order()
    await laboratory.result(waiting)  # preliminary: nothing that an EMR sees
    assert await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, deque()) == 4 + 3
    async with transaction(laboratory) as connection:
        told = await reports.attached(connection, [*orders, waiting.id], Audience.EMR)
    assert set(told) == set(orders)
    assert all(one.hash is not None and one.size is not None for one in told.values())
    assert await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, deque()) == 0


async def test_a_version_is_made_of_what_changed_while_the_clock_was_ahead(laboratory: Laboratory) -> None:
    """Else none would be before that time has come, and what was shown until then stood in no version."""
    order = await _released(laboratory)
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.report_due set created_at = now() + interval '7 h'")
    assert await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, deque()) == 2
    assert not await due(laboratory, order)


async def test_a_fault_with_one_order_keeps_no_other_from_its_report(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = await _released(laboratory), await _released(laboratory)
    material = rows.material

    async def failing(connection: Connection, order_id: UUID, audience: Audience) -> rows.Material | None:
        if order_id == broken:
            raise ZeroDivisionError
        return await material(connection, order_id, audience)

    monkeypatch.setattr(rows, "material", failing)
    await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, deque())
    assert await due(laboratory, broken) and not await due(laboratory, whole)
    assert await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, deque()) == 0, (
        "put off"
    )
    monkeypatch.undo()
    assert len(await contents(laboratory, broken)) == 1, "who reads it has it"


async def test_a_version_that_cannot_be_printed_keeps_no_other_from_it(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = await _released(laboratory), await _released(laboratory)
    unprinted: deque[StoredReport] = deque()
    async with transaction(laboratory) as connection:
        unprinted.append(await reports.version_of(connection, broken, Audience.EMR))
    content_of, report = rows.content_of, unprinted[0].id

    async def damaged(connection: Connection, report_id: UUID) -> bytes:
        return b"{}" if report_id == report else await content_of(connection, report_id)

    monkeypatch.setattr(rows, "content_of", damaged)
    for expected in (3, 0):  # two to be printed and an order to be looked at; nothing is tried again
        look = report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, unprinted)
        assert await look == expected
    async with transaction(laboratory) as connection:
        told = await reports.attached(connection, [broken, whole], Audience.EMR)
    assert told[broken].size is None and told[whole].size is not None
    monkeypatch.undo()
    async with transaction(laboratory) as connection:
        assert (await reports.pdf_of(connection, broken, Audience.EMR)).body, "printed when it is read"


_ROUND = """
import asyncio, sys
from collections import deque
from uuid import UUID
from interface.domain.views import Audience
from interface.flow import report_watch
from interface.store.db import Database

async def round():
    database = await Database.connect(sys.argv[1])
    print(await report_watch.look(database, UUID(sys.argv[2]), Audience.EMR, deque()))
    await database.close()

asyncio.run(round())
print(*sys.modules)
"""


async def test_who_has_reports_printed_ahead_does_not_carry_what_prints_them(
    laboratory: Laboratory, shared_database_url: str
) -> None:
    await _released(laboratory)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ROUND, shared_database_url, str(laboratory.organization_id), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    printed, *modules = said.decode().split()
    assert printed == "2", "an order and its version"
    assert not {"PIL", "anyascii", "fontpkg_arimo", "reportlab"}.intersection(modules)


async def test_a_round_ends_when_results_are_being_decided(laboratory: Laboratory) -> None:
    orders = [await _released(laboratory) for _ in range(3)]
    asked = iter([False, False, True, True])
    unprinted: deque[StoredReport] = deque()
    round = report_watch.look(
        laboratory.database, laboratory.organization_id, Audience.EMR, unprinted, lambda: next(asked)
    )
    assert await round == 2 and len(unprinted) == 2
    assert [await due(laboratory, one) for one in orders] == [False, False, True], "the one that waits longest first"
    assert await report_watch.look(laboratory.database, laboratory.organization_id, Audience.EMR, unprinted) == 1 + 3


def test_reports_tell_what_emrs_may_see() -> None:
    from pathlib import Path

    for preliminary, audience in ((Preliminary.HIDDEN, Audience.EMR), (Preliminary.VISIBLE, Audience.EMR_PRELIMINARY)):
        settings = Settings(Path("unused"), api=ApiSettings(preliminary=preliminary))
        assert report_watch.emr_audience(settings) is audience


async def test_results_that_are_being_decided_go_first_but_not_for_ever(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rounds, waits, pressed = [0.0], 0, list[float](), list[bool]()

    async def looked(*said: Any) -> int:
        nonlocal rounds
        rounds += 1
        pressed.append(said[-1]())
        if rounds == 3:
            raise asyncio.CancelledError
        return 0

    async def slept(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(report_watch, "look", looked)
    monkeypatch.setattr(report_watch, "monotonic", lambda: now[0])
    monkeypatch.setattr("interface.flow.report_watch.asyncio.sleep", slept)
    busy = iter([True, True, False, *[True] * 100])
    with pytest.raises(asyncio.CancelledError):
        await report_watch.watch_reports(
            laboratory.database, lambda: [laboratory.organization_id], Audience.EMR, lambda: next(busy)
        )
    assert len(waits) == 3 + 30, "until the pause, then no longer than LONGEST_S"
    assert pressed == [False, True, False], (
        "a round is over when deciding begins, but not one that waited for long enough"
    )
