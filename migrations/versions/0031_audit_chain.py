"""The audit trail as a chain: each row has a position, by which it is known when no more rows can come before it, and
segments seal what was committed (`store.audit_chain`).

A position is the number of the transaction that wrote the row, which PostgreSQL gives in order, plus an offset that is
raised when the database is moved to a server whose numbers begin anew. Rows from before this migration have 0.
"""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    op.execute("create function lab.audit_offset() returns bigint language sql immutable as 'select 0::bigint'")
    op.execute("alter table lab.audit_event add column position bigint default 0 not null")
    op.execute(
        "alter table lab.audit_event alter column position"
        " set default pg_current_xact_id()::text::bigint + lab.audit_offset()"
    )
    op.execute(
        "create index audit_event_organization_id_position_id_idx on lab.audit_event (organization_id, position, id)"
    )
    op.execute(
        "create table lab.audit_segment (organization_id uuid not null, number bigint not null,"
        " began_position bigint not null, began_id uuid not null, ended_position bigint not null,"
        " ended_id uuid not null, sealed_at timestamptz not null, rows integer not null, entries bytea not null,"
        " previous bytea not null, digest bytea not null,"
        " constraint audit_segment_pkey primary key (organization_id, number),"
        " constraint audit_segment_organization_id_fkey foreign key (organization_id)"
        " references lab.organization (id))"
    )
    op.execute("grant select, insert on lab.audit_segment to labora_app")
    op.execute("alter table lab.audit_segment enable row level security")
    op.execute("alter table lab.audit_segment force row level security")
    op.execute(f"create policy organization on lab.audit_segment using ({OWN}) with check ({OWN})")
