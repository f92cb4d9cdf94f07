"""What is known of a link once the daemon runs: its rows in the database, its settings, its driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from interface.domain.views import Actor, ActorKind
from interface.driver.manifest import Driver
from interface.flow.pinning import pinned
from interface.settings import LinkSettings
from interface.store import audit
from interface.store.db import Connection
from interface.store.ids import uuid7


def _nobody(link_id: UUID) -> LinkContext | None:
    return None


@dataclass(frozen=True, slots=True)
class LinkContext:
    """One configured link of one organization."""

    organization_id: UUID
    link_id: UUID
    analyzer_id: UUID
    settings: LinkSettings
    driver: Driver
    offered_revision: str = ""  # what the driver's folder has; the link runs `driver.revision`
    driver_changed: bool = False  # under the revision that the folder says there is other content than was first used
    # The links as they are now, for what one of an analyzer's links says in the other's place.
    others: Callable[[UUID], LinkContext | None] = field(default=_nobody, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.settings.id

    @property
    def leniencies(self) -> frozenset[str]:
        """The driver's, and those of the configuration."""
        return self.driver.leniencies | self.settings.leniencies

    @property
    def actor(self) -> Actor:
        """The link as the one who did it, for the audit."""
        return Actor(ActorKind.LINK, self.link_id, self.name, self.organization_id)


async def register(
    connection: Connection, organization_id: UUID, settings: LinkSettings, driver: Driver
) -> LinkContext:
    """Find or make the link's rows in the caller's transaction; its driver's revision is pinned when the row is made.

    The context's driver is the one at that revision, or at the one that the configuration names; `driver` is what the
    folder has now. What the configuration has changed since the last start is audited. Raises DriverError for a
    revision that nobody knows.
    """
    before = await connection.fetchrow(
        "SELECT driver, role, analyzer_id, driver_revision FROM lab.link WHERE organization_id = $1 AND name = $2",
        organization_id, settings.id,
    )  # fmt: skip
    stays = before["driver_revision"] if before is not None and before["driver"] == settings.driver else ""
    found = await pinned(connection, organization_id, driver, settings.driver_revision or stays)
    analyzer_id = await connection.fetchval(
        """INSERT INTO lab.analyzer (id, organization_id, name, driver) VALUES ($1, $2, $3, $4)
           ON CONFLICT (organization_id, name) DO UPDATE SET driver = excluded.driver RETURNING id""",
        uuid7(), organization_id, settings.analyzer or settings.id, settings.driver,
    )  # fmt: skip
    revision = found.driver.revision
    link_id = await connection.fetchval(
        """INSERT INTO lab.link (id, organization_id, name, analyzer_id, driver, driver_revision, role)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (organization_id, name) DO UPDATE SET analyzer_id = excluded.analyzer_id, role = excluded.role,
               driver_revision = excluded.driver_revision, driver = excluded.driver
           RETURNING id""",
        uuid7(), organization_id, settings.id, analyzer_id, settings.driver, revision, settings.role.value,
    )  # fmt: skip
    context = LinkContext(organization_id, link_id, analyzer_id, settings, found.driver, driver.revision, found.changed)
    if before is None or tuple(before) != (settings.driver, settings.role.value, analyzer_id, revision):
        detail = {
            "driver": settings.driver, "revision": revision, "digest": found.driver.digest,
            "role": settings.role.value,
        }  # fmt: skip
        await audit.record(connection, context.actor, "configure", "link", link_id, detail)
    return context
