"""Which daemons there are, and which of them has which link and decides for which organization.

`lab.lease` was there from the first migration and was never used.
"""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
DAEMON = """
create table lab.daemon (
    id uuid not null,
    name text default '' not null,
    place text default '' not null,
    roles text[] default '{}' not null,
    version text default '' not null,
    configuration text default '' not null,
    lease_ms integer default 0 not null,
    started_at timestamptz default now() not null,
    beat bigint default 0 not null,
    ended_at timestamptz,
    ended_by uuid,
    gone_at timestamptz,
    constraint daemon_pkey primary key (id)
)
"""
LEASE = """
create table lab.lease (
    organization_id uuid not null,
    id uuid not null,
    link_id uuid,
    daemon_id uuid,
    epoch bigint default 0 not null,
    since timestamptz,
    status jsonb default '{}' not null,
    constraint lease_pkey primary key (organization_id, id),
    constraint lease_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint lease_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
)
"""
# Called by the statements that only a daemon that is not ended may run; see `store.leases`.
REFUSE = """
create function lab.refuse_ended() returns boolean language plpgsql volatile as $$
begin
    raise exception 'this daemon was ended by another' using errcode = 'LB001';
end
$$
"""


def upgrade() -> None:
    op.execute(DAEMON)
    op.execute("create index daemon_gone_at_idx on lab.daemon (id) where gone_at is null")
    op.execute("grant select, insert, update on lab.daemon to labora_app")
    op.execute("drop table lab.lease")
    op.execute(LEASE)
    op.execute("alter table lab.lease enable row level security")
    op.execute("alter table lab.lease force row level security")
    op.execute(f"create policy organization on lab.lease using ({OWN}) with check ({OWN})")
    op.execute("grant select, insert, update on lab.lease to labora_app")
    op.execute(REFUSE)
