"""The key of each organization that page links are sealed with, so that every process opens them and a restart does
not end them."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
PAGE_KEY = """
create table lab.page_key (
    organization_id uuid not null,
    key bytea not null,
    created_at timestamptz default now() not null,
    constraint page_key_pkey primary key (organization_id),
    constraint page_key_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
"""


def upgrade() -> None:
    op.execute(PAGE_KEY)
    op.execute("alter table lab.page_key enable row level security")
    op.execute("alter table lab.page_key force row level security")
    op.execute(f"create policy organization on lab.page_key using ({OWN}) with check ({OWN})")
    op.execute("grant select, insert on lab.page_key to labora_app")
