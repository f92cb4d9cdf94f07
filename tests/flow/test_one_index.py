"""Whatever decides reads what it compares with by one index, also where it is not the worker of a link: beside many
small organizations two of them would be read for all that a large one has (`tests/store/test_neighbours.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from interface.flow import entry, replay
from interface.flow.entry import Entry
from interface.store.db import Connection
from tests.flow.laboratory import laboratory
from tests.flow.rulebook import RULES, put_in_force, sent


def watched(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[str]:
    """Whether two indexes may be read for one question, after each call of this."""
    said: list[str] = []
    called: Callable[..., Awaitable[Any]] = getattr(module, name)

    async def watch(connection: Connection, *arguments: object) -> object:
        done = await called(connection, *arguments)
        said.append(await connection.fetchval("show enable_bitmapscan"))
        return done

    monkeypatch.setattr(module, name, watch)
    return said


async def test_a_replay(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    said = watched(monkeypatch, replay, "add_neighbours")
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES)
        await lab.order("S1", "K")
        await lab.send(sent("S1", {"K": "4.1"}))
        await lab.settle()
        (found,) = await lab.results()
        assert found.message_id is not None
        await replay.replay(lab.database, lab.director, found.message_id, lab.contexts.get, dry_run=True)
    assert said == ["off"]


async def test_a_value_that_is_typed(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    said = watched(monkeypatch, entry, "add_neighbours_of")
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES)
        await lab.order("S1", "K")
        item = await lab.owner.fetchval("select id from lab.order_item")
        async with lab.database.transaction(lab.organization_id) as connection:
            await entry.enter(connection, lab.director, [Entry(item, "4.1")])
        async with lab.database.organization(lab.organization_id) as connection:
            said.append(await connection.fetchval("show enable_bitmapscan"))
    assert said == ["off", "on"]
