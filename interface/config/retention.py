"""`[retention]`: how long each class of data is kept."""

from __future__ import annotations

from interface.config.table import Table
from interface.settings import RetentionSettings


def read_retention(table: Table | None) -> RetentionSettings:
    """What `[retention]` says, its problems collected; 0 is for ever."""
    default = RetentionSettings()
    if table is None:
        return default
    settings = RetentionSettings(
        table.whole("frames_months", default.frames_months, 0, 1200),
        table.whole("audit_months", default.audit_months, 0, 1200),
        table.whole("feed_months", default.feed_months, 0, 1200),
        table.whole("wire_log_days", default.wire_log_days, 0, 36500),
        table.whole("exports_days", default.exports_days, 0, 36500),
        table.whole("tokens_days", default.tokens_days, 0, 36500),
        table.whole("alerts_months", default.alerts_months, 0, 1200),
    )
    table.close()
    return settings
