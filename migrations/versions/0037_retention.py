"""What is kept longer than its class says, and where an audit trail begins once its oldest part is gone.

Only the schema's owner deletes. An anchor hides nothing by itself: rows and segments before it that are still there are
found (`store.audit_chain.verify`).
"""

from __future__ import annotations

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
TABLES = {
    "legal_hold": (
        """create table lab.legal_hold (
        id uuid not null,
        organization_id uuid not null,
        kind text not null,
        subject_id uuid not null,
        reason text default '' not null,
        actor_kind text not null,
        actor_id uuid,
        actor_name text default '' not null,
        created_at timestamptz default now() not null,
        ended_at timestamptz,
        ended_by uuid,
        ended_by_name text default '' not null,
        end_reason text default '' not null,
        constraint legal_hold_pkey primary key (id),
        constraint legal_hold_organization_id_fkey foreign key (organization_id) references lab.organization (id)
    )""",
        "select, insert, update (ended_at, ended_by, ended_by_name, end_reason)",
    ),
    "audit_anchor": (
        """create table lab.audit_anchor (
        organization_id uuid not null,
        number bigint not null,
        digest bytea not null,
        ended_position bigint not null,
        ended_id uuid not null,
        sealed_at timestamptz not null,
        rows bigint not null,
        created_at timestamptz default now() not null,
        constraint audit_anchor_pkey primary key (organization_id, number),
        constraint audit_anchor_organization_id_fkey foreign key (organization_id) references lab.organization (id)
    )""",
        "select, insert",
    ),
}


def upgrade() -> None:
    for name, (table, rights) in TABLES.items():
        op.execute(table)
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
        op.execute(f"grant {rights} on lab.{name} to labora_app")
    op.execute(
        """create unique index legal_hold_standing_idx on lab.legal_hold (organization_id, kind, subject_id)
            where ended_at is null"""
    )
