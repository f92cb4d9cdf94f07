"""`scripts/uninstall --purge`: no database of Labora's stays, and no role. (That all else goes: `test_service`.)"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interface.store.migrate import upgrade
from tests.ops.system_cluster import ROLES, SystemCluster

ROOT = Path(__file__).parent.parent.parent
LEFT = (
    "labora_before", "labora_before_new", "labora_replaced_20261126t172935z", "labora_restoring", "put aside",
)  # fmt: skip


@pytest.fixture
async def cluster() -> AsyncIterator[SystemCluster]:
    if os.geteuid() != 0 or shutil.which("psql") is None:
        pytest.skip("needs root and psql, as scripts/uninstall does")
    made = SystemCluster()
    try:
        made.make()
        await made.start()
        await made.execute(*ROLES)
        await upgrade(made.url())
        yield made
    finally:
        made.remove()


def purged(cluster: SystemCluster) -> subprocess.CompletedProcess[str]:
    """What the script does of databases and roles, as the server's superuser, and nothing else of it."""
    text = (ROOT / "scripts" / "uninstall").read_text()
    part = text[text.index("  ask()") : text.index("  for file in /etc/postgresql")]
    env = cluster.folder / "owner.env"
    part = part.replace("runuser -u postgres -- ", "").replace("/etc/labora/owner.env", str(env))
    env.write_text("LABORA_DATABASE_URL='postgresql:///labora?host=/run&port=5432'\n")
    lines = f"set -eu\n. {ROOT}/scripts/service\n{part}"
    return subprocess.run(["bash", "-c", lines], env=cluster.environment, capture_output=True, text=True, check=False)


async def test_what_restores_and_upgrades_left_goes_too(cluster: SystemCluster) -> None:
    """It ended at the first role, which those databases are full of: with the database gone and all else there."""
    for name in LEFT:
        await cluster.execute(f'create database "{name}" template labora owner labora_owner')
    # Restored with an administrator's URL: its roles have what is in it, and it is not theirs.
    await cluster.execute("alter database labora_replaced_20261126t172935z owner to postgres")
    await cluster.execute("create database labora_replaced_by_us", "create database other")
    done = purged(cluster)
    assert done.returncode == 0, done.stderr
    assert await cluster.execute("select count(*) from pg_roles where rolname ~ 'labora'") == 0
    left = await cluster.execute("select string_agg(datname, ' ' order by datname) from pg_database where oid > 16000")
    assert left == "labora_replaced_by_us other", "what is somebody else's stays"
    assert "database labora_before\n" in done.stdout
    again = purged(cluster)
    assert again.returncode == 0, again.stderr
