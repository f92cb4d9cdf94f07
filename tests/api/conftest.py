from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.store.db import Database
from tests.api.bench import Bench, Laboratory, found_laboratory, serving


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    """A server over the shared database."""
    async with serving(database) as bench:
        yield bench


@pytest.fixture
async def laboratory(database: Database) -> Laboratory:
    """A laboratory of the test's own."""
    return await found_laboratory(database)
