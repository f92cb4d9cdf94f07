"""What is known of a link once the daemon runs: its rows in the database, its settings, its driver."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from interface.domain.views import Actor, ActorKind
from interface.driver.manifest import Driver
from interface.flow.pinning import Pinned, pinned
from interface.settings import LinkSettings, SerialPort
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
    def said_in(self) -> str:
        """The encoding of what is said, the link's, else the driver's. A line of seven data bits makes others of all
        that is not ASCII, of ü the field delimiter, and the checksum may be right with it."""
        named = self.settings.encoding or self.driver.encoding
        port = self.settings.transport.endpoint
        if not isinstance(port, SerialPort) or port.format.data_bits == 8:
            return named
        return named if named and codecs.lookup(named).name.startswith("iso2022") else "ascii"

    @property
    def leniencies(self) -> frozenset[str]:
        """The driver's, and those of the configuration."""
        return self.driver.leniencies | self.settings.leniencies

    @property
    def actor(self) -> Actor:
        """The link as the one who did it, for the audit."""
        return Actor(ActorKind.LINK, self.link_id, self.name, self.organization_id)


@dataclass(slots=True)
class Before:
    """An organization's links as the last start left them, and what is known of their drivers' revisions: a start reads
    this once and writes only what differs."""

    rows: Mapping[str, asyncpg.Record]
    _pins: dict[tuple[str, str], Pinned] = field(default_factory=dict)
    _written: set[str] = field(default_factory=set)  # analyzers: of those the rows say no more how they are

    @classmethod
    async def read(cls, connection: Connection, organization_id: UUID) -> Before:
        rows = await connection.fetch(
            """SELECT l.id, l.name, l.driver, l.role, l.analyzer_id, l.driver_revision, a.name AS analyzer,
                      a.driver AS analyzer_driver, a.manufacturer, a.model
                 FROM lab.link l JOIN lab.analyzer a ON a.id = l.analyzer_id WHERE l.organization_id = $1""",
            organization_id,
        )
        return cls({row["name"]: row for row in rows})

    async def pinned(self, connection: Connection, organization_id: UUID, driver: Driver, revision: str) -> Pinned:
        """See `flow.pinning`; asked once for all links that run it."""
        key = driver.id, revision
        if (found := self._pins.get(key)) is None:
            found = self._pins[key] = await pinned(connection, organization_id, driver, revision)
        return found

    def same(self, settings: LinkSettings, driver: Driver) -> asyncpg.Record | None:
        """The link's row where all of it is as the configuration and the driver say."""
        analyzer, row = settings.analyzer or settings.id, self.rows.get(settings.id)
        if row is None or analyzer in self._written or (
            (row["driver"], row["role"], row["driver_revision"], row["analyzer"], row["analyzer_driver"],
             row["manufacturer"], row["model"])
            != (settings.driver, settings.role.value, driver.revision, analyzer, settings.driver,
                driver.vendor, driver.model)
        ):  # fmt: skip
            self._written.add(analyzer)
            return None
        return row


async def register(
    connection: Connection,
    organization_id: UUID,
    settings: LinkSettings,
    driver: Driver,
    before: Before | None = None,
) -> LinkContext:
    """Find or make the link's rows in the caller's transaction; its driver's revision is pinned when the row is made.

    The context's driver is the one at that revision, or at the one that the configuration names; `driver` is what the
    folder has now. What the configuration has changed since the last start is audited. `before`: read in the same
    transaction, for all links that are registered in it. Raises DriverError for a revision that nobody knows.
    """
    before = before or await Before.read(connection, organization_id)
    was = before.rows.get(settings.id)
    stays = was["driver_revision"] if was is not None and was["driver"] == settings.driver else ""
    found = await before.pinned(connection, organization_id, driver, settings.driver_revision or stays)
    revision = found.driver.revision
    if (row := before.same(settings, found.driver)) is not None:
        link_id, analyzer_id = row["id"], row["analyzer_id"]
    else:
        link_id, analyzer_id = await _write(connection, organization_id, settings, found.driver)
    context = LinkContext(organization_id, link_id, analyzer_id, settings, found.driver, driver.revision, found.changed)
    now = settings.driver, settings.role.value, analyzer_id, revision
    if was is None or (was["driver"], was["role"], was["analyzer_id"], was["driver_revision"]) != now:
        detail = {
            "driver": settings.driver, "revision": revision, "digest": found.driver.digest,
            "role": settings.role.value,
        }  # fmt: skip
        await audit.record(connection, context.actor, "configure", "link", link_id, detail)
    return context


async def _write(
    connection: Connection, organization_id: UUID, settings: LinkSettings, driver: Driver
) -> tuple[UUID, UUID]:
    """The rows of a link and its analyzer; their ids. Maker and model are as the driver says that runs."""
    analyzer_id: UUID = await connection.fetchval(
        """INSERT INTO lab.analyzer (id, organization_id, name, driver, manufacturer, model)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (organization_id, name) DO UPDATE SET driver = excluded.driver,
               manufacturer = excluded.manufacturer, model = excluded.model
           RETURNING id""",
        uuid7(), organization_id, settings.analyzer or settings.id, settings.driver, driver.vendor, driver.model,
    )  # fmt: skip
    link_id: UUID = await connection.fetchval(
        """INSERT INTO lab.link (id, organization_id, name, analyzer_id, driver, driver_revision, role)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (organization_id, name) DO UPDATE SET analyzer_id = excluded.analyzer_id, role = excluded.role,
               driver_revision = excluded.driver_revision, driver = excluded.driver
           RETURNING id""",
        uuid7(), organization_id, settings.id, analyzer_id, settings.driver, driver.revision, settings.role.value,
    )  # fmt: skip
    return link_id, analyzer_id
