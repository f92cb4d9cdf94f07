"""Which revision of its driver a link runs: the one it was made with, until the configuration names another.

What a revision says is kept by the laboratory at its first use and never changes after: a folder that says otherwise
under the same revision is not what its results were decoded by.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from interface.driver.manifest import Driver
from interface.driver.parse import parse_manifest
from interface.errors import DriverError
from interface.store.db import Connection


@dataclass(frozen=True, slots=True)
class Pinned:
    """`driver`: what the link runs. `changed`: the folder has other content under the revision that it says."""

    driver: Driver
    changed: bool = False


async def keep(connection: Connection, organization_id: UUID, driver: Driver) -> str:
    """Keep a revision's content at its first use; the digest of what is kept under it."""
    await connection.execute(
        """INSERT INTO lab.driver_revision (organization_id, driver, revision, digest, manifest)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING""",
        organization_id, driver.id, driver.revision, driver.digest, driver.manifest,
    )  # fmt: skip
    kept: str = await connection.fetchval(
        "SELECT digest FROM lab.driver_revision WHERE organization_id = $1 AND driver = $2 AND revision = $3",
        organization_id, driver.id, driver.revision,
    )  # fmt: skip
    return kept


async def pinned(connection: Connection, organization_id: UUID, driver: Driver, revision: str) -> Pinned:
    """The driver at `revision` ("": the folder's own). Raises DriverError when nobody knows it."""
    changed = await keep(connection, organization_id, driver) != driver.digest
    wanted = revision or driver.revision
    if wanted == driver.revision and not changed:
        return Pinned(driver)
    text = await read_manifest(connection, organization_id, driver.id, wanted)
    if text is None:
        raise DriverError(f"there is no revision {wanted!r} of {driver.id}: its folder has {driver.revision!r}")
    return Pinned(parse_manifest(text, f"{driver.id}@{wanted}", driver.id), changed)


async def read_manifest(connection: Connection, organization_id: UUID, driver_id: str, revision: str) -> str | None:
    """What a revision says, as it was when it was first used; None when it never was."""
    text: str | None = await connection.fetchval(
        "SELECT manifest FROM lab.driver_revision WHERE organization_id = $1 AND driver = $2 AND revision = $3",
        organization_id, driver_id, revision,
    )  # fmt: skip
    return text
