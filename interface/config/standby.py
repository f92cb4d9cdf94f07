"""`[standby]`: several daemons on one database."""

from __future__ import annotations

from interface.config.table import Table
from interface.settings import DatabaseSettings, StandbySettings

LEAST_LEASE_S, LONGEST_LEASE_S = 2.0, 60.0


def read_standby(table: Table | None, database: DatabaseSettings) -> StandbySettings:
    """The settings; what is wrong is noted in the table."""
    default = StandbySettings()
    if table is None:
        return default
    enabled = table.flag("enabled") or False
    if enabled and database.url == "embedded":
        table.problem(
            "enabled",
            "needs a database server of its own ([database] url): the embedded one ends with the daemon that has it",
        )
    settings = StandbySettings(
        enabled=enabled,
        name=table.name("name"),
        lease_s=table.seconds("lease_s", default.lease_s, LEAST_LEASE_S, LONGEST_LEASE_S),
    )
    table.close()
    return settings
