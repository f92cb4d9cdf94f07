-- Rule sets in use: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

-- A revision says what it says for ever; when it is in force is said beside it.
alter table lab.rule_set drop column active_from;
alter table lab.rule_set drop column active_to;
alter table lab.rule_set add column digest text default '' not null;
alter table lab.rule_set add column source text default '' not null;
alter table lab.rule_set add column reason text default '' not null;
alter table lab.rule_set add column actor_kind text default '' not null;
alter table lab.rule_set add column actor_id uuid;
alter table lab.rule_set add column actor_name text default '' not null;
alter table lab.rule_set add constraint rule_set_organization_id_id_key unique (organization_id, id);

create table lab.rule_validation (
    id uuid not null,
    organization_id uuid not null,
    rule_set_id uuid not null,
    digest text not null,
    engine text not null,
    catalogue text not null,
    vectors integer default 0 not null,
    cases integer default 0 not null,
    uncovered integer default 0 not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint rule_validation_pkey primary key (id),
    constraint rule_validation_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint rule_validation_rule_set_id_fkey foreign key (organization_id, rule_set_id)
        references lab.rule_set (organization_id, id)
);
create index rule_validation_rule_set_id_idx on lab.rule_validation (rule_set_id);

create table lab.rule_use (
    id uuid not null,
    organization_id uuid not null,
    rule_set_id uuid not null,
    name text not null,
    mode text default 'shadow' not null,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint rule_use_pkey primary key (id),
    constraint rule_use_mode check (mode in ('active', 'shadow')),
    constraint rule_use_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint rule_use_rule_set_id_fkey foreign key (organization_id, rule_set_id)
        references lab.rule_set (organization_id, id)
);
-- One revision of a name is active, whoever activates two at the same moment.
create unique index rule_use_active_idx on lab.rule_use (organization_id, name)
    where ended_at is null and mode = 'active';
create unique index rule_use_shadow_idx on lab.rule_use (rule_set_id) where ended_at is null and mode = 'shadow';
create index rule_use_rule_set_id_idx on lab.rule_use (rule_set_id);

create table lab.rule_switch (
    id uuid not null,
    organization_id uuid not null,
    scope text default 'organization' not null,
    key text default '' not null,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint rule_switch_pkey primary key (id),
    constraint rule_switch_scope check (scope in ('organization', 'analyzer', 'test')),
    constraint rule_switch_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);
create unique index rule_switch_off_idx on lab.rule_switch (organization_id, scope, key) where ended_at is null;

create table lab.shadow_verdict (
    id uuid not null,
    organization_id uuid not null,
    rule_set_id uuid not null,
    result_id uuid not null,
    result_version_id uuid not null,
    test_code text default '' not null,
    action text not null,
    against text[] default '{}' not null,
    created_at timestamptz default now() not null,
    constraint shadow_verdict_pkey primary key (id),
    constraint shadow_verdict_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint shadow_verdict_rule_set_id_fkey foreign key (organization_id, rule_set_id)
        references lab.rule_set (organization_id, id)
);
create index shadow_verdict_rule_set_id_id_idx on lab.shadow_verdict (rule_set_id, id);
create index shadow_verdict_result_id_idx on lab.shadow_verdict (result_id);
