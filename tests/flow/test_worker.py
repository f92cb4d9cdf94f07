"""The worker and a database that comes and goes: nothing stays claimed by somebody who does not work on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from interface.errors import StoreUnavailable
from interface.store import results as store
from interface.store.db import Connection
from tests.flow.laboratory import laboratory, message

RECORDS = ("P|1||P-1", "O|1|S1||^^^CBC|R", "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000")


@pytest.mark.parametrize("broken", ["organization", "transaction"])
async def test_what_was_claimed_when_the_database_went_away_is_due_again_at_once_and_not_counted(
    database_url: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """`organization`: the messages cannot be read; `transaction`: nor decided, nor given back."""
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(*RECORDS))
        away = {broken}

        def breaking(name: str) -> None:
            real = getattr(lab.database, name)

            @asynccontextmanager
            async def gone(*arguments: UUID) -> AsyncIterator[Connection]:
                if name in away:
                    away.add("system")  # from now on the claim cannot be given back either
                    raise StoreUnavailable("the database cannot be reached")
                async with real(*arguments) as connection:
                    yield connection

            monkeypatch.setattr(lab.database, name, gone)

        for name in ("organization", "transaction", "system"):
            breaking(name)
        try:
            await lab.worker.work()
        except StoreUnavailable:
            pass
        assert (await lab.owner.fetchval("select not_before > now() from lab.queue")) is True
        away.clear()
        assert await lab.worker.work() == 1
        assert await lab.messages() == [("complete", "released")]
        assert await lab.owner.fetchval("select attempts from lab.message") == 1


async def test_when_the_process_is_killed_again_and_again_only_what_was_alone_at_work_is_parked(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        for number in range(5):
            await lab.order(f"S{number}", "WBC", patient_id=f"P-{number}")
            records = (f"P|1||P-{number}", f"O|1|S{number}||^^^CBC|R", RECORDS[2])
            await lab.send(message(*records, control=f"C{number}"))
        taken = []
        for _ in range(3):  # claimed, and then the process is gone
            async with lab.database.system() as system:
                taken.append(len(await store.claim(system, 64)))
                await store.free_all(system, [lab.organization_id])
        assert taken == [5, 1, 1]
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), *[("complete", "released")] * 4]
