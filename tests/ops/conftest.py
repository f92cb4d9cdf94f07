from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interface.store.db import Database
from tests.conftest import Organization
from tests.ops.receivers import MailServer, WebServer, mail_server, web_server
from tests.ops.telling import Telling


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[MailServer]:
    async with mail_server(tmp_path) as server:
        yield server


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebServer]:
    async with web_server(tmp_path) as server:
        yield server


@pytest.fixture
def telling(database: Database, organization: Organization, post: MailServer, web: WebServer) -> Telling:
    return Telling(database, organization, post, web)
