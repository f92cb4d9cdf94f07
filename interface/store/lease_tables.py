"""Which daemons there are, and which of them has what: see `store.leases` and `store.membership`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Uuid, text

from interface.store.columns import at, document, integer, key, metadata, ref, string, strings, tenant_key

# One life of a daemon's process. It is of no laboratory and knows of no patient, so it is outside row-level security.
daemon = Table(
    "daemon", metadata, key(), string("name"),
    string("place"),  # the same for all lives that cannot be at the same time
    strings("roles"), string("version"),
    string("configuration"),  # a digest: all that share links should have the same
    integer("lease_ms"),  # without a beat for so long it is taken for dead
    at("started_at", True), Column("beat", BigInteger, nullable=False, server_default=text("0")),
    at("ended_at"), Column("ended_by", Uuid, nullable=True),  # from then on nothing it writes is taken
    at("gone_at"),  # and from then on nothing of it is under way: others may have what it had
    Index("daemon_gone_at_idx", "id", postgresql_where=text("gone_at is null")),
)  # fmt: skip
lease = Table(  # of a link, whose id is the row's, or of deciding for an organization, whose id it then is
    "lease", metadata, *tenant_key(), ref("link_id", "link"),
    Column("daemon_id", Uuid, nullable=True),  # None: given back
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),  # how often it was taken
    at("since"), document("status"),  # how the link is, as its daemon says
)  # fmt: skip
