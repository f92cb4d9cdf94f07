"""`scripts/upgrade --back`: the database as it was before a release that failed; what that one has told others is said,
and no work id that it gave is given again. (That nobody is refused meanwhile: `test_service`.)"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from tests.ops.system_cluster import ROLES, SUPERUSER, SystemCluster

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def cluster() -> AsyncIterator[SystemCluster]:
    if os.geteuid() != 0 or shutil.which("psql") is None:
        pytest.skip("needs root and psql, as scripts/upgrade does")
    made = SystemCluster()
    try:
        made.make()
        await made.start()
        await made.execute(*ROLES)
        await upgrade(made.url())
        yield made
    finally:
        made.remove()


def back(cluster: SystemCluster, folder: Path, stored: str = "") -> subprocess.CompletedProcess[str]:
    """The way back. `stored`: what was noted before the new release began."""
    return script(cluster, folder, "--back", stored)


def script(cluster: SystemCluster, folder: Path, step: str, stored: str = "") -> subprocess.CompletedProcess[str]:
    """The script with its two folders elsewhere."""
    etc, state = folder / "etc", folder / "state"
    for each in (etc, state):
        each.mkdir(exist_ok=True)
    (etc / "owner.env").write_text(f"LABORA_DATABASE_URL={cluster.url()}\n")
    (state / "upgrade.stored").write_text(stored or script(cluster, folder, "--stored", "unknown").stdout)
    for name in ("upgrade", "service"):
        text = (ROOT / "scripts" / name).read_text()
        text = text.replace("/etc/labora", str(etc)).replace("/var/lib/labora", str(state))
        (folder / name).write_text(text.replace("  --back)", "  --stored) stored; exit 0 ;;\n  --back)"))
    return subprocess.run(
        ["bash", str(folder / "upgrade"), step], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


SUBSCRIPTION = UUID("00000000-0000-7000-8000-000000000001")


@asynccontextmanager
async def connected(cluster: SystemCluster) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(cluster.url(SUPERUSER))
    try:
        yield connection
    finally:
        await connection.close()


async def told(cluster: SystemCluster) -> None:
    """Since the copy was made an analyzer was told of work, and an EMR was sent something."""
    organization, analyzer, dispatch, client = uuid7(), uuid7(), uuid7(), uuid7()
    async with connected(cluster) as connection:
        await connection.execute("insert into lab.organization (id, name) values ($1, 'main')", organization)
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name, driver) values ($1, $2, 'xn-1', 'generic_lis2')",
            analyzer, organization,
        )  # fmt: skip
        await connection.execute(
            "insert into lab.client (id, organization_id, name) values ($1, $2, 'emr')", client, organization
        )
        await connection.execute(
            """insert into lab.subscription (id, organization_id, client_id, status, resource, criteria, endpoint)
               values ($1, $2, $3, 'active', 'Observation', '', '')""",
            SUBSCRIPTION, organization, client,
        )  # fmt: skip
    await cluster.execute("create database labora_before template labora owner labora_owner", "select 1")
    async with connected(cluster) as connection:
        await connection.execute("select setval('lab.dispatch_work_id_seq', 5)")
        await connection.execute(
            """insert into lab.dispatch (id, organization_id, order_item_id, specimen_id, analyzer_id, work_id, code,
                   state) values ($1, $2, $3, $4, $5, 5, 'WBC', 'sent')""",
            dispatch, organization, uuid4(), uuid4(), analyzer,
        )  # fmt: skip
        await connection.execute(
            """insert into lab.dispatch_event (id, organization_id, dispatch_id, kind, state, actor_kind)
               values ($1, $2, $3, 'new', 'sent', 'link')""",
            uuid7(), organization, dispatch,
        )  # fmt: skip
        await connection.execute("update lab.subscription set sent = sent + 1")


async def test_what_a_failed_release_has_told_others_is_said_and_its_work_ids_are_not_given_again(
    cluster: SystemCluster, tmp_path: Path
) -> None:
    await told(cluster)
    done = back(cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "state" / "upgrade.said").read_text().splitlines()
    assert said == [
        "analyzer xn-1 was told 1 works, and is told again what is still to be done: work ids 5",
        f"subscription {SUBSCRIPTION} was sent to, and is sent the same again",
    ]
    assert await cluster.execute("select count(*) from lab.dispatch", database="labora") == 0
    assert await cluster.execute("select nextval('lab.dispatch_work_id_seq')", database="labora") == 6


async def test_what_was_stored_by_a_failed_release_is_not_thrown_away(cluster: SystemCluster, tmp_path: Path) -> None:
    await told(cluster)
    before = script(cluster, tmp_path, "--stored", "unknown").stdout
    async with connected(cluster) as connection:
        await connection.execute(
            """insert into lab.audit_event (id, organization_id, actor_kind, action, entity_kind)
               select $1, id, 'user', 'release', 'result' from lab.organization""",
            uuid7(),
        )
    done = back(cluster, tmp_path, before)
    assert (done.returncode, done.stderr) == (1, "something was stored by the new release\n")
    assert await cluster.execute("select count(*) from lab.dispatch", database="labora") == 1


@pytest.mark.parametrize("table", ["message", "audit_event"])
async def test_nor_is_what_was_stored_after_a_clock_that_had_been_ahead_was_put_right(
    cluster: SystemCluster, tmp_path: Path, table: str
) -> None:
    """The newest by its id is from then, and stays so."""
    await told(cluster)
    ahead = uuid7((time.time_ns() // 1_000_000) + 365 * 86_400_000)
    await stored(cluster, table, ahead)
    before = script(cluster, tmp_path, "--stored", "unknown").stdout
    await stored(cluster, table, uuid7())
    done = back(cluster, tmp_path, before)
    assert (done.returncode, done.stderr) == (1, "something was stored by the new release\n")


async def stored(cluster: SystemCluster, table: str, id: UUID) -> None:
    async with connected(cluster) as connection:
        if table == "audit_event":
            await connection.execute(
                """insert into lab.audit_event (id, organization_id, actor_kind, action, entity_kind)
                   select $1, id, 'user', 'release', 'result' from lab.organization""", id,
            )  # fmt: skip
            return
        await connection.execute(
            """insert into lab.link (id, organization_id, name, analyzer_id, driver, role)
               select gen_random_uuid(), organization_id, 'l', id, 'generic_lis2', 'analyzer' from lab.analyzer
               on conflict do nothing"""
        )
        await connection.execute(
            """insert into lab.message (id, organization_id, link_id, protocol, state, reply, received_at)
               select $1, organization_id, id, 'hl7', 'complete', 'sent', now() from lab.link""", id,
        )  # fmt: skip
