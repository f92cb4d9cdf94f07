"""The migrations, the metadata and the program agree."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from interface.store import migrate
from interface.store.tables import PARTITIONED, SCHEMA, metadata
from tests.conftest import owner_of


def _ours(item: Any, name: str | None, kind: str, reflected: bool, _compared: Any) -> bool:
    """Leave out partitions (they differ by date) and Alembic's own table."""
    table = str(name) if kind == "table" else str(item.table.name) if hasattr(item, "table") else ""
    partition = any(table.startswith(f"{parent}_") and table != parent for parent in PARTITIONED)
    return not (reflected and (partition or table == "alembic_version"))


def _differences(connection: SyncConnection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
            "include_object": _ours,
        },
    )
    return list(compare_metadata(context, metadata))


async def test_the_migrated_schema_is_the_one_the_program_was_written_for(database_url: str) -> None:
    async def connect(*_args: Any, **_kwargs: Any) -> Any:
        return await asyncpg.connect(owner_of(database_url))

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(_differences) == []
    finally:
        await engine.dispose()
