create table lab.sending (
    id uuid not null,
    organization_id uuid not null,
    link_id uuid not null,
    query_id uuid,
    bytes bytea not null,
    created_at timestamptz default now() not null,
    constraint sending_pkey primary key (id),
    constraint sending_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint sending_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint sending_query_id_fkey foreign key (organization_id, query_id) references lab.message (organization_id, id)
);
create index sending_query_id_idx on lab.sending (query_id);

alter table lab.follow_up add constraint follow_up_organization_id_id_key unique (organization_id, id);
create sequence lab.dispatch_work_id_seq as bigint;
alter table lab.dispatch
    drop constraint dispatch_order_item_id_fkey,
    alter column link_id drop not null,
    add column specimen_id uuid,
    add column analyzer_id uuid,
    add column work_id bigint not null,
    add column kind text default 'new' not null,
    add column code text default '' not null,
    add column reason text default '' not null,
    add column follow_up_id uuid,
    add column dilution numeric,
    add column specimen_told text default '' not null,
    add column attempts integer default 0 not null,
    add column sending_id uuid,
    add column sent_at timestamptz,
    add column answered_at timestamptz,
    add column ended_at timestamptz,
    add constraint dispatch_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    add constraint dispatch_follow_up_id_fkey foreign key (organization_id, follow_up_id) references lab.follow_up (organization_id, id),
    add constraint dispatch_organization_id_id_key unique (organization_id, id),
    add constraint dispatch_organization_id_work_id_key unique (organization_id, work_id);
alter table lab.dispatch alter column specimen_id set not null, alter column analyzer_id set not null;
create unique index dispatch_open_idx on lab.dispatch (order_item_id, analyzer_id, code) where state not in ('resulted', 'cancelled');
create index dispatch_due_idx on lab.dispatch (analyzer_id, id) where state = 'queued';
create index dispatch_alert_idx on lab.dispatch (organization_id, id) where state in ('refused', 'failed');

create table lab.dispatch_event (
    id uuid not null,
    organization_id uuid not null,
    dispatch_id uuid not null,
    kind text not null,
    state text not null,
    answer text default '' not null,
    reason text default '' not null,
    sending_id uuid,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint dispatch_event_pkey primary key (id),
    constraint dispatch_event_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint dispatch_event_dispatch_id_fkey foreign key (organization_id, dispatch_id) references lab.dispatch (organization_id, id)
);
create index dispatch_event_dispatch_id_idx on lab.dispatch_event (dispatch_id);

create table lab.route (
    id uuid not null,
    organization_id uuid not null,
    test_id uuid not null,
    specimen_type text default '' not null,
    analyzer_id uuid not null,
    place smallint not null,
    share integer default 0 not null,
    when_down text default 'next' not null,
    codes text[] default '{}' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint route_pkey primary key (id),
    constraint route_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint route_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint route_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id)
);
create unique index route_active_idx on lab.route (test_id, specimen_type, analyzer_id) where ended_at is null;

create table lab.analyzer_down (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint analyzer_down_pkey primary key (id),
    constraint analyzer_down_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint analyzer_down_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id)
);
create unique index analyzer_down_active_idx on lab.analyzer_down (analyzer_id) where ended_at is null;

create table lab.link_state (
    link_id uuid not null,
    organization_id uuid not null,
    connected boolean not null,
    changed_at timestamptz default now() not null,
    heard_at timestamptz,
    looked_at timestamptz default now() not null,
    constraint link_state_pkey primary key (link_id),
    constraint link_state_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint link_state_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
);

alter table lab.analyzer add column worklist boolean default false not null;
create table lab.work_due (
    analyzer_id uuid not null,
    order_item_id uuid not null,
    organization_id uuid not null,
    since timestamptz default now() not null,
    constraint work_due_pkey primary key (analyzer_id, order_item_id),
    constraint work_due_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
