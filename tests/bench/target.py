"""Our daemon as a target of the yardstick's compare.py: `python -m tests.bench.target mllp|astm|http PORT`.

The database, BENCH_DSN, is brought up to date, and `labora run`, as configured by default, takes this process's place:
with one link on PORT, or with two workers that serve there. What a link gets has no orders, so it registers them:
parsing, mapping, deciding and storing, for each of the 25 results of a message. What is served are 100,000
observations, filled in before PORT is open, to LABORA_BENCH_TOKEN; the URLs to ask for are in LABORA_BENCH_FOLDER by
then, as `read-PORT` and `search-PORT`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import asyncpg

from interface.store import actors as rows
from interface.store import catalogue
from interface.store.db import Database
from tests.bench.api import FEW, asked_for, reads_of, searches_of
from tests.bench.stored import fill
from tests.bench.yardstick import LINK, daemon, free_port, program, scratch_folder, upgrade

KINDS = {"mllp": ("generic_hl7", "mllp-listen"), "astm": ("generic_lis2", "tcp-listen")}
TOKEN, FOLDER = "LABORA_BENCH_TOKEN", "LABORA_BENCH_FOLDER"
LIFETIME_S = 86_400.0


async def _organization(url: str, organization_id: UUID) -> bool:
    """Have the organization of the token, as a first start makes it; whether it was made now."""
    database = await Database.connect(url)
    try:
        if await database.find_organization("main") is not None:
            return False
        async with database.transaction(organization_id) as connection:
            await rows.insert_organization(connection, organization_id, "main", "")
            await catalogue.load_shipped(connection, organization_id)
        return True
    finally:
        await database.close()


async def _served(url: str, port: int) -> None:
    """The token is valid, and the URLs are written down."""
    _, results, patients = await asked_for(url, FEW)
    connection = await asyncpg.connect(url)
    try:
        client = await connection.fetchrow("select id, organization_id from lab.client limit 1")
        assert client is not None
        digest = sha256(os.environ[TOKEN].encode()).digest()
        if not await connection.fetchval("select exists (select from lab.access_token where token_hash = $1)", digest):
            await rows.insert_token(
                connection, client["organization_id"], digest, LIFETIME_S, client_id=client["id"],
                scopes=["system/*.rs"],
            )  # fmt: skip
    finally:
        await connection.close()
    base, folder = f"http://127.0.0.1:{port}/fhir", Path(os.environ[FOLDER])
    (folder / f"read-{port}").write_text("\n".join(reads_of(base, results)))
    (folder / f"search-{port}").write_text("\n".join(searches_of(base, patients)))


def _serves(url: str, folder: Path, port: int) -> str:
    """Fills the database, if nobody has; the configuration."""
    if asyncio.run(_organization(url, UUID(os.environ[TOKEN].split(".")[1]))):
        with scratch_folder() as first, daemon(url, first, astm=0):
            pass  # the first start makes the links
        asyncio.run(fill(url, FEW))
    asyncio.run(_served(url, port))
    return (
        f'state_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{port}"\nworkers = 2\nclient_rate = 0\naddress_rate = 0\n'
    )


def _links(kind: str, folder: Path, port: int) -> str:
    driver, transport = KINDS[kind]
    link = LINK.format(name=kind, number=0, driver=driver, transport=transport, port=port)
    return f'state_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{free_port()}"\n{link}unsolicited = "register"\n'


def main() -> None:
    """Never returns; SIGTERM ends what it has become."""
    kind, port = sys.argv[1], int(sys.argv[2])
    url = os.environ["BENCH_DSN"]
    upgrade(url)
    folder = Path(tempfile.mkdtemp(prefix="labora-bench-", dir=os.environ.get(FOLDER)))
    config = folder / "config.toml"
    config.write_text(_serves(url, folder, port) if kind == "http" else _links(kind, folder, port))
    os.execve(program(), ["labora", "--config", str(config), "run"], {**os.environ, "LABORA_DATABASE_URL": url})  # noqa: S606


if __name__ == "__main__":
    main()
