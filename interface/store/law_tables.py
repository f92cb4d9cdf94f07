"""What analyzers that speak IHE LAW have asked for, until it is answered over the other connection."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text, text

from interface.store.columns import at, key, metadata, read_before, ref, string, tenant

law_query = Table(  # one for each specimen, or place, that a LAB-27 asks for
    "law_query", metadata, key(), tenant(), ref("analyzer_id", "analyzer", True), ref("link_id", "link", True),
    ref("message_id", "message", True),  # the query
    Column("asking", Text, nullable=False),  # specimen, all, rack, tray
    string("specimen_id"),  # as it was asked for
    string("rack"), string("rack_position"), string("tray"), string("tray_position"), string("location"),
    # MSH-3 to -6 of what answers it, as they stand there
    string("application"), string("facility"), string("peer_application"), string("peer_facility"),
    at("created_at", True), at("told_at"), read_before("sending_id"),  # the last LAB-28 that answers it
    Index("law_query_owed_idx", "analyzer_id", "id", postgresql_where=text("told_at is null")),
    Index("law_query_last_idx", "analyzer_id", "id"),
    Index("law_query_sending_idx", "sending_id", postgresql_where=text("told_at is null")),
)  # fmt: skip
