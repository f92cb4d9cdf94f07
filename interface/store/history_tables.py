"""The table of what records were before; see `store.history`, migrations 0034 and 0043."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKey, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from interface.store.columns import metadata

record_version = Table(  # append-only, by triggers; of each what FHIR shows of it
    "record_version", metadata, Column("organization_id", Uuid, ForeignKey("lab.organization.id"), primary_key=True),
    Column("kind", Text, primary_key=True), Column("record_id", Uuid, primary_key=True),
    Column("updated_at", DateTime(timezone=True), primary_key=True), Column("version", Integer, primary_key=True),
    Column("body", JSONB, nullable=False),
)  # fmt: skip
