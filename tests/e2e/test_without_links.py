"""A laboratory without a link works by hand, and is looked after as every other is."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from interface import config
from interface.daemon import started
from interface.domain.alerts import Subject
from interface.errors import ConfigError
from interface.flow import criticals
from interface.ops import alert_center, doctor
from interface.store.criticals import Judged
from interface.store.db import Database
from tests.cluster import owner_of
from tests.conftest import make_organization
from tests.e2e.daemon import eventually, free_ports
from tests.records import found

DAEMON = """
state_dir = "{state}"
organizations = {organizations}
[database]
url = "{url}"
[api]
listen = "127.0.0.1:{port}"
"""


async def test_its_critical_results_are_alerts_and_what_is_wrong_in_it_is_found(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody on shift was called, nor did the doctor see it: only laboratories of links were looked at."""
    monkeypatch.setattr(alert_center, "LOOK_S", 0.05)
    file, port = tmp_path / "config.toml", free_ports(1)[0]

    def configured(*organizations: str) -> None:
        said = list(organizations)
        file.write_text(DAEMON.format(state=tmp_path, organizations=said, url=database_url, port=port))

    owner = await asyncpg.connect(owner_of(database_url))
    made = await make_organization(owner)
    await owner.close()
    configured()
    async with started(config.load(file, {})) as daemon:
        database = await Database.connect(database_url)
        laboratory = await found(database, made.id)
        result_id = await laboratory.result(await laboratory.order())
        async with database.transaction(laboratory.organization_id) as connection:
            version = await connection.fetchval("select version_id from lab.result where id = $1", result_id)
            judged = Judged(result_id, version, critical=True, fresh=True)
            await criticals.open_for(connection, laboratory.technologist, [judged])

        async def called() -> bool:
            async with database.organization(laboratory.organization_id) as connection:
                return bool(await connection.fetchval("select exists (select from lab.alert)"))

        configured(made.name)
        await daemon.reload()
        await eventually(called)
        await database.close()
        looked_at = {one.subject async for one in doctor.examine(config.load(file, {}))}
        assert Subject("organization", made.name) in looked_at
    configured(made.name, "nobody")
    with pytest.raises(ConfigError, match=r"organizations\[1\].*there is no organization nobody"):
        async with started(config.load(file, {})):
            pass
