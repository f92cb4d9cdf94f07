"""The kinds of columns that the tables of the schema `lab` are made of, and the metadata they belong to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from interface.store.schema import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    },
)


def key() -> Column[Any]:
    return Column("id", Uuid, primary_key=True)


def tenant() -> Column[Any]:
    return Column("organization_id", Uuid, ForeignKey("lab.organization.id"), nullable=False)


def tenant_seen_to() -> Column[Any]:
    """Where rows are many or an analyzer waits: another reference or the policy's check says already that it exists."""
    return Column("organization_id", Uuid, nullable=False)


def tenant_key(*, seen_to: bool = False) -> tuple[Column[Any], Column[Any]]:
    """Where rows are many, one key: what refers to them names the organization too, and row-level security asks it."""
    reference = () if seen_to else (ForeignKey("lab.organization.id"),)
    return Column("organization_id", Uuid, *reference, primary_key=True), Column("id", Uuid, primary_key=True)


def read_before(name: str) -> Column[Any]:
    """A reference that is not checked again: it was read, under the organization's row-level security and with its row
    locked, in the transaction that writes it, and no row of its target is ever deleted."""
    return Column(name, Uuid, nullable=True)


def at(name: str, required: bool = False) -> Column[Any]:
    """An instant; `required` ones default to the transaction's time."""
    return Column(
        name, DateTime(timezone=True), nullable=not required, server_default=text("now()") if required else None
    )


def ref(name: str, target: str, required: bool = False, key: bool = False) -> Column[Any]:
    """A reference to a row of the same organization (see the end of `tables`); `key`: also the primary key's."""
    return Column(name, Uuid, primary_key=key, nullable=not (required or key), info={"target": target})


def string(name: str, required: bool = True) -> Column[Any]:
    """Text; required text is never null and defaults to ''."""
    return Column(name, Text, nullable=not required, server_default=text("''") if required else None)


def word(name: str, default: str) -> Column[Any]:
    """Text that is one of ours; `default` is one too."""
    return Column(name, Text, nullable=False, server_default=text(f"'{default}'"))


def strings(name: str) -> Column[Any]:
    return Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'"))


def integer(name: str, default: int = 0) -> Column[Any]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def flag(name: str, default: bool) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=text("true" if default else "false"))


def document(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'"))


def did() -> tuple[Column[Any], ...]:
    """Who did it and when."""
    return (
        Column("actor_kind", Text, nullable=False), Column("actor_id", Uuid, nullable=True), string("actor_name"),
        at("created_at", True),
    )  # fmt: skip


def ended() -> tuple[Column[Any], ...]:
    """By whom a row was ended, and why: all that is ever written to a row that exists."""
    return at("ended_at"), Column("ended_by", Uuid, nullable=True), string("ended_by_name"), string("end_reason")
