"""Answers of changes that were made under a client's own key, to be given again when the change is sent again."""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    op.execute(
        "create table lab.idempotency_key (organization_id uuid not null, actor_id uuid not null, key text not null,"
        " request bytea default '' not null, status smallint default 0 not null, media text default '' not null,"
        " location text default '' not null, etag text default '' not null, body bytea default '' not null,"
        " created_at timestamptz default now() not null,"
        " constraint idempotency_key_pkey primary key (organization_id, actor_id, key),"
        " constraint idempotency_key_organization_id_fkey foreign key (organization_id)"
        " references lab.organization (id))"
    )
    op.execute("grant select, insert, update, delete on lab.idempotency_key to labora_app")
    op.execute("alter table lab.idempotency_key enable row level security")
    op.execute("alter table lab.idempotency_key force row level security")
    op.execute(f"create policy organization on lab.idempotency_key using ({OWN}) with check ({OWN})")
