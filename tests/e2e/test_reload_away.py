"""SIGHUP while the database goes away in the middle of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface import config
from interface.errors import LaboraError, StoreUnavailable
from interface.links import Links
from interface.store.db import Database, database_problem
from tests.conftest import FOUNDED
from tests.e2e.daemon import free_ports

CONFIG = """
[[link]]
id = "hema-1"
organization = "{organization}"
driver = "{driver}"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}
"""


@pytest.mark.parametrize("error", [StoreUnavailable("away for a moment"), database_problem("refused the login")])
async def test_a_reload_that_could_not_take_its_links_changes_nothing(
    founded_url: str, tmp_path: Path, error: LaboraError
) -> None:
    """It says so; what is under way must not be read by a driver that is not in force, nor the rest come by itself."""
    [port] = free_ports(1)
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(organization=FOUNDED, driver="generic_lis2", port=port))
    database = await Database.connect(founded_url)
    links = Links(database, config.load(file, {}))
    [before] = await links.prepare(links.settings())
    known = links.contexts[0].link_id

    async def away() -> None:
        raise error

    links.taking = away
    file.write_text(CONFIG.format(organization=FOUNDED, driver="sysmex_xn", port=port))
    await links.reload()
    assert links.served() == (before,)
    assert [one.driver.id for one in links.contexts] == ["generic_lis2"]
    found = links.worker._find_link(known)
    assert found is not None and found.driver.id == "generic_lis2"
    links.taking = None
    await links.reload()
    assert [one.settings.driver for one in links.served()] == ["sysmex_xn"]
    await links.supervisor.stop(0.0)
    await links.close()
    await database.close()
