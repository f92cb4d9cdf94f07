"""Clients that sign instead of knowing a secret (SMART Backend Services): their public keys, and the assertions that
were taken, so that none is taken twice."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"


def upgrade() -> None:
    op.execute("alter table lab.client alter column secret_hash drop not null")
    op.execute("alter table lab.client add column jwks jsonb default '{}' not null")
    op.execute("alter table lab.client add column jwks_url text default '' not null")
    op.execute(
        "alter table lab.client add constraint client_one_method_check"
        " check ((secret_hash is not null)::int + (jwks <> '{}')::int + (jwks_url <> '')::int <= 1)"
    )
    op.execute(
        "create table lab.client_assertion (organization_id uuid not null, client_id uuid not null,"
        " jti_digest bytea not null, expires_at timestamptz not null,"
        " constraint client_assertion_pkey primary key (organization_id, client_id, jti_digest),"
        " constraint client_assertion_organization_id_fkey foreign key (organization_id)"
        " references lab.organization (id),"
        " constraint client_assertion_client_id_fkey foreign key (organization_id, client_id)"
        " references lab.client (organization_id, id))"
    )
    op.execute("grant select, insert, update, delete on lab.client_assertion to labora_app")
    op.execute("alter table lab.client_assertion enable row level security")
    op.execute("alter table lab.client_assertion force row level security")
    op.execute(f"create policy organization on lab.client_assertion using ({OWN}) with check ({OWN})")
