-- Frozen with its release: nothing edits it. One statement ends at each line that ends in ';'.

-- The first of two people who verify a result; null: nobody has, or one is enough.
alter table lab.result_version add column verified_by uuid;

-- What waits for a person, in the order of its arrival.
create index result_waiting_idx on lab.result (organization_id, created_at) where status in ('registered', 'preliminary') or pending_version_id is not null;

-- How an organization, or one of its tests, is reviewed. Null: as the organization says, and it by default.
create table lab.review_policy (
    id uuid not null,
    organization_id uuid not null,
    test_id uuid,
    two_steps boolean,
    critical_minutes integer[],
    updated_at timestamptz default now() not null,
    constraint review_policy_pkey primary key (id),
    constraint review_policy_organization_id_test_id_key unique (organization_id, test_id),
    constraint review_policy_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint review_policy_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create unique index review_policy_organization_idx on lab.review_policy (organization_id) where test_id is null;

-- The task to tell somebody of a critical result. No row was ever written to it before this migration.
-- `kind`: critical, no_longer_critical. `subject_id`: the order item, whose runs are one matter; the result where there is no item.
alter table lab.critical_notification add column subject_id uuid not null;
alter table lab.critical_notification add column result_version_id uuid not null;
alter table lab.critical_notification add column kind text default 'critical' not null;
alter table lab.critical_notification add column follows_id uuid;
alter table lab.critical_notification add column escalate_at timestamptz[] default '{}' not null;
alter table lab.critical_notification add column aimed_at timestamptz default now() not null;
alter table lab.critical_notification add column practitioner_id uuid;
alter table lab.critical_notification add column notified_at timestamptz;
alter table lab.critical_notification add column means text default '' not null;
alter table lab.critical_notification add column version integer default 1 not null;
alter table lab.critical_notification add column updated_at timestamptz default now() not null;
alter table lab.critical_notification add constraint critical_notification_organization_id_id_key unique (organization_id, id);
alter table lab.critical_notification add constraint critical_notification_follows_id_fkey foreign key (organization_id, follows_id) references lab.critical_notification (organization_id, id);
alter table lab.critical_notification add constraint critical_notification_practitioner_id_fkey foreign key (organization_id, practitioner_id) references lab.practitioner (organization_id, id);
-- Closed is: somebody was told, at a time, and read it back. Whatever a program does.
alter table lab.critical_notification add constraint critical_notification_closed_check check (state <> 'closed' or (notified <> '' and notified_at is not null and read_back and closed_at is not null));
alter table lab.critical_notification add constraint critical_notification_withdrawn_check check (state <> 'withdrawn' or notified_at is null);
create index critical_notification_result_id_idx on lab.critical_notification (result_id);
create index critical_notification_subject_id_idx on lab.critical_notification (subject_id);
create unique index critical_notification_live_idx on lab.critical_notification (organization_id, subject_id) where state in ('open', 'attempted') or (state = 'notified' and not read_back);
create index critical_notification_waiting_idx on lab.critical_notification (organization_id, created_at) where state not in ('closed', 'withdrawn');

-- Who did what about it: append-only.
create table lab.critical_event (
    id uuid not null,
    organization_id uuid not null,
    notification_id uuid not null,
    what text not null, -- opened, aimed, attempted, notified, closed, withdrawn
    kind text not null,
    result_version_id uuid not null,
    happened_at timestamptz default now() not null,
    person text default '' not null,
    practitioner_id uuid,
    means text default '' not null,
    outcome text default '' not null,
    read_back boolean,
    comment text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint critical_event_pkey primary key (id),
    constraint critical_event_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint critical_event_notification_id_fkey foreign key (organization_id, notification_id) references lab.critical_notification (organization_id, id),
    constraint critical_event_practitioner_id_fkey foreign key (organization_id, practitioner_id) references lab.practitioner (organization_id, id)
);
create index critical_event_notification_id_idx on lab.critical_event (notification_id);
