"""A server that stands still, or one table of it: who reads is told so, and does not wait until it goes on."""

from __future__ import annotations

import asyncio
import signal

import asyncpg
import pytest

from interface.errors import StoreError, StoreUnavailable
from interface.store import db
from interface.store.db import Database, Use
from interface.store.ids import uuid7
from tests.cluster import new_state_dir, owner_of
from tests.fault.server import Server, postmaster, signal_all, signal_each

_LOCKED = "lock table lab.result in access exclusive mode"


async def test_a_server_that_stands_still_holds_up_no_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "ANSWER_S", 0.2)
    server = Server(new_state_dir())
    try:
        await server.found()
        database = await Database.connect(server.url())
        for use in (database.searching, database.at_once):
            async with use(organization_id := uuid7()) as connection:
                assert await connection.fetchval("select 1") == 1
            frozen = signal_all(postmaster(server.data), signal.SIGSTOP)
            try:
                async with asyncio.timeout(30):
                    with pytest.raises(StoreError):
                        async with use(organization_id) as connection:
                            await connection.fetchval("select 1")
            finally:
                signal_each(frozen, signal.SIGCONT)
        await database.close()
    finally:
        server.remove()


async def test_who_searches_behind_a_lock_is_not_told_to_search_for_less(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(db._SETTINGS, Use.SEARCH, db._SETTINGS[Use.SEARCH] | {"lock_timeout": "50"})
    owner, database = await asyncpg.connect(owner_of(database_url)), await Database.connect(database_url)
    async with owner.transaction():
        await owner.execute(_LOCKED)
        with pytest.raises(StoreUnavailable, match="55P03"):
            async with database.searching(uuid7()) as connection:
                await connection.fetch("select id from lab.result")
    await owner.close()
    await database.close()


def test_a_lock_is_waited_for_less_long_than_a_search_may_take() -> None:
    settings = db._SETTINGS[Use.SEARCH]
    assert 0 < int(settings["lock_timeout"]) < int(settings["statement_timeout"]) < 1000 * db.ANSWER_S
