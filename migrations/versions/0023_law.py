"""What analyzers that speak IHE LAW have asked for, until it is answered over the other connection."""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
QUERY = """
create table lab.law_query (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    link_id uuid not null,
    message_id uuid not null,
    asking text not null,
    specimen_id text default '' not null,
    rack text default '' not null,
    rack_position text default '' not null,
    tray text default '' not null,
    tray_position text default '' not null,
    location text default '' not null,
    application text default '' not null,
    facility text default '' not null,
    peer_application text default '' not null,
    peer_facility text default '' not null,
    created_at timestamptz default now() not null,
    told_at timestamptz,
    sending_id uuid,
    constraint law_query_pkey primary key (id),
    constraint law_query_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint law_query_analyzer_id_fkey foreign key (organization_id, analyzer_id)
        references lab.analyzer (organization_id, id),
    constraint law_query_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint law_query_message_id_fkey foreign key (organization_id, message_id)
        references lab.message (organization_id, id)
)
"""


def upgrade() -> None:
    op.execute(QUERY)
    op.execute("create index law_query_owed_idx on lab.law_query (analyzer_id, id) where told_at is null")
    op.execute("create index law_query_last_idx on lab.law_query (analyzer_id, id)")
    op.execute("create index law_query_sending_idx on lab.law_query (sending_id) where told_at is null")
    op.execute("alter table lab.law_query enable row level security")
    op.execute("alter table lab.law_query force row level security")
    op.execute(f"create policy organization on lab.law_query using ({OWN}) with check ({OWN})")
    op.execute("grant select, insert, update on lab.law_query to labora_app")
