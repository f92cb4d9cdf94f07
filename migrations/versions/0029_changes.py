"""What an EMR is owed becomes the feed of changes: in one order that nothing is ever added before.

Ids are made before the commit, so that a row with a smaller id may be committed after one with a greater: who read the
rows "after id X" would miss it. `seq` is given after the commit, one pass at a time (`store.changes`), and what is read
after a position is all there will ever be after it. `place` is the order in which rows were written; of two changes of
one record the second is written when the first is committed, for it waits for the record.

Orders, patients and specimens say of themselves that they changed, by triggers on what counts their versions: whoever
changes one cannot forget it. Of an order of which results were released, the releasing statement has said so already.

A subscription's position is how far it has been told. What its endpoint refused is kept as a letter.
"""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
# RFC 9562 5.7, from a random one: 48 bits of milliseconds, version 7.
NEW_ID = """
create function lab.new_id() returns uuid language sql volatile parallel safe set search_path = pg_catalog as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
        substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$
"""
# Only of rows that have no position yet: the transaction's number comes again after four billion others.
ORDER_CHANGED = """
create function lab.order_changed() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    if not exists (
        select from lab.outbox where entity_id = new.id and seq is null and xmin = pg_current_xact_id()::xid
    ) then
        insert into lab.outbox (id, organization_id, kind, entity_id, entity_version)
            values (lab.new_id(), new.organization_id, 'order', new.id, new.version);
    end if;
    return null;
end $$
"""
RECORD_CHANGED = """
create function lab.record_changed() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.outbox (id, organization_id, kind, entity_id, entity_version)
        values (lab.new_id(), new.organization_id, tg_argv[0], new.id, new.version);
    return null;
end $$
"""
CRITICAL_CHANGED = """
create function lab.critical_changed() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.outbox (id, organization_id, kind, entity_id, note)
        values (lab.new_id(), new.organization_id, 'critical', new.notification_id, new.what);
    return null;
end $$
"""
QC_PROBLEM = """
create function lab.qc_problem_noted() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.outbox (id, organization_id, kind, entity_id, note)
        values (lab.new_id(), new.organization_id, 'qc_problem', new.qc_result_id, new.kind);
    return null;
end $$
"""
SUBSCRIPTION = """
create table lab.subscription (
    id uuid not null,
    organization_id uuid not null,
    client_id uuid not null,
    status text not null,
    resource text not null,
    criteria text not null,
    endpoint text not null,
    payload text default '' not null,
    headers text[] default '{}' not null,
    reason text default '' not null,
    ends_at timestamptz,
    scopes text[] default '{}' not null,
    position bigint default 0 not null,
    done integer default 0 not null,
    error text default '' not null,
    attempts integer default 0 not null,
    due_at timestamptz default now() not null,
    claimed_by uuid,
    claimed_until timestamptz,
    sent bigint default 0 not null,
    sent_at timestamptz,
    version integer default 1 not null,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    ended_at timestamptz,
    constraint subscription_pkey primary key (id),
    constraint subscription_organization_id_id_key unique (organization_id, id),
    constraint subscription_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint subscription_client_id_fkey foreign key (organization_id, client_id)
        references lab.client (organization_id, id)
)
"""
LETTER = """
create table lab.subscription_letter (
    id uuid not null,
    organization_id uuid not null,
    subscription_id uuid not null,
    seq bigint not null,
    resource_id uuid not null,
    error text default '' not null,
    attempts integer default 0 not null,
    created_at timestamptz default now() not null,
    again_at timestamptz,
    sent_at timestamptz,
    constraint subscription_letter_pkey primary key (id),
    constraint subscription_letter_organization_id_fkey foreign key (organization_id)
        references lab.organization (id),
    constraint subscription_letter_subscription_id_fkey foreign key (organization_id, subscription_id)
        references lab.subscription (organization_id, id)
)
"""
EXPORT = """
create table lab.export_job (
    id uuid not null,
    organization_id uuid not null,
    client_id uuid not null,
    state text not null,
    request text not null,
    level text not null,
    types text[] default '{}' not null,
    filters text[] default '{}' not null,
    since timestamptz,
    scopes text[] default '{}' not null,
    transaction_time timestamptz,
    progress bigint default 0 not null,
    files jsonb default '[]' not null,
    error text default '' not null,
    attempts integer default 0 not null,
    claimed_by uuid,
    claimed_until timestamptz,
    created_at timestamptz default now() not null,
    started_at timestamptz,
    ended_at timestamptz,
    expires_at timestamptz,
    removed_at timestamptz,
    constraint export_job_pkey primary key (id),
    constraint export_job_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint export_job_client_id_fkey foreign key (organization_id, client_id)
        references lab.client (organization_id, id)
)
"""
INDEXES = (
    "create index outbox_unsealed_idx on lab.outbox (organization_id, place) where seq is null",
    "create unique index outbox_organization_id_seq_idx on lab.outbox (organization_id, seq) where seq is not null",
    "create index outbox_organization_id_sealed_at_idx on lab.outbox (organization_id, sealed_at)",
    "create index subscription_client_id_idx on lab.subscription (client_id)",
    "create index subscription_live_idx on lab.subscription (organization_id) where status in ('active', 'error')",
    "create index subscription_letter_subscription_id_id_idx on lab.subscription_letter (subscription_id, id)",
    "create index export_job_client_id_idx on lab.export_job (client_id)",
    "create index export_job_kept_idx on lab.export_job (organization_id, state) where removed_at is null",
)


def upgrade() -> None:
    op.execute("drop index lab.outbox_due_idx")
    op.execute("alter table lab.outbox rename column delivered_at to sealed_at")
    op.execute(
        """alter table lab.outbox drop column destination, drop column attempts, drop column not_before,
               drop column error, add column place bigint generated by default as identity,
               add column seq bigint, add column note text not null default ''"""
    )
    for table in (SUBSCRIPTION, LETTER, EXPORT):
        op.execute(table)
    for index in INDEXES:
        op.execute(index)
    for name in ("subscription", "subscription_letter", "export_job"):
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
        op.execute(f"grant select, insert, update on lab.{name} to labora_app")
    triggers()


def triggers() -> None:
    for function in (NEW_ID, ORDER_CHANGED, RECORD_CHANGED, CRITICAL_CHANGED, QC_PROBLEM):
        op.execute(function)
    for table, call in (
        ("lab_order", "lab.order_changed()"),
        ("patient", "lab.record_changed('patient')"),
        ("specimen", "lab.record_changed('specimen')"),
    ):
        op.execute(f"create trigger told_new after insert on lab.{table} for each row execute function {call}")
        op.execute(
            f"""create trigger told_changed after update on lab.{table} for each row
                when (old.updated_at is distinct from new.updated_at or old.version <> new.version)
                execute function {call}"""
        )
    op.execute(
        "create trigger told after insert on lab.critical_event for each row execute function lab.critical_changed()"
    )
    op.execute(
        "create trigger told after insert on lab.qc_problem for each row execute function lab.qc_problem_noted()"
    )
