-- Quality control by the patients' own results. Frozen with its release: nothing edits it. One statement ends at each
-- line that ends in ';'.

create table lab.pbrtqc_plan (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    revision integer default 1 not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    body text not null,
    digest text default '' not null,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint pbrtqc_plan_pkey primary key (id),
    constraint pbrtqc_plan_organization_id_name_revision_key unique (organization_id, name, revision),
    constraint pbrtqc_plan_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint pbrtqc_plan_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint pbrtqc_plan_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint pbrtqc_plan_organization_id_id_key unique (organization_id, id)
);
create index pbrtqc_plan_analyzer_id_test_id_idx on lab.pbrtqc_plan (analyzer_id, test_id);

create table lab.pbrtqc_validation (
    id uuid not null,
    organization_id uuid not null,
    plan_id uuid not null,
    digest text not null,
    engine text not null,
    begin_at timestamptz default now() not null,
    end_at timestamptz default now() not null,
    outcome json not null,
    met boolean not null,
    unmet text[] default '{}' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint pbrtqc_validation_pkey primary key (id),
    constraint pbrtqc_validation_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint pbrtqc_validation_plan_id_fkey foreign key (organization_id, plan_id) references lab.pbrtqc_plan (organization_id, id)
);
create index pbrtqc_validation_plan_id_idx on lab.pbrtqc_validation (plan_id);

create table lab.pbrtqc_use (
    id uuid not null,
    organization_id uuid not null,
    plan_id uuid not null,
    name text not null,
    mode text not null,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint pbrtqc_use_pkey primary key (id),
    constraint pbrtqc_use_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint pbrtqc_use_plan_id_fkey foreign key (organization_id, plan_id) references lab.pbrtqc_plan (organization_id, id),
    constraint pbrtqc_use_organization_id_id_key unique (organization_id, id)
);
create unique index pbrtqc_use_active_idx on lab.pbrtqc_use (organization_id, name) where ended_at is null;
create index pbrtqc_use_plan_id_idx on lab.pbrtqc_use (plan_id);

create table lab.pbrtqc_value (
    use_id uuid not null,
    ordinal bigint not null,
    organization_id uuid not null,
    result_version_id uuid not null,
    measured_at timestamptz default now() not null,
    statistic numeric,
    constraint pbrtqc_value_pkey primary key (use_id, ordinal),
    constraint pbrtqc_value_use_id_result_version_id_key unique (use_id, result_version_id)
);

create table lab.pbrtqc_event (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    plan_id uuid not null,
    use_id uuid not null,
    kind text not null,
    alarm_id uuid,
    mode text default '' not null,
    gates boolean default false not null,
    side text default '' not null,
    statistic numeric,
    bound numeric,
    ordinal bigint,
    since timestamptz default now() not null,
    suspect_from timestamptz,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint pbrtqc_event_pkey primary key (id),
    constraint pbrtqc_event_alarm_id_key unique (alarm_id),
    constraint pbrtqc_event_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint pbrtqc_event_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint pbrtqc_event_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint pbrtqc_event_plan_id_fkey foreign key (organization_id, plan_id) references lab.pbrtqc_plan (organization_id, id),
    constraint pbrtqc_event_use_id_fkey foreign key (organization_id, use_id) references lab.pbrtqc_use (organization_id, id),
    constraint pbrtqc_event_organization_id_id_key unique (organization_id, id),
    constraint pbrtqc_event_alarm_id_fkey foreign key (organization_id, alarm_id) references lab.pbrtqc_event (organization_id, id)
);
create index pbrtqc_event_analyzer_id_test_id_since_idx on lab.pbrtqc_event (analyzer_id, test_id, since);

create table lab.pbrtqc_state (
    use_id uuid not null,
    organization_id uuid not null,
    cursor_id uuid not null,
    ordinal bigint default 0 not null,
    restart bigint default 0 not null,
    statistic numeric,
    last_at timestamptz,
    alarm_id uuid,
    version integer default 1 not null,
    updated_at timestamptz default now() not null,
    constraint pbrtqc_state_pkey primary key (use_id),
    constraint pbrtqc_state_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint pbrtqc_state_use_id_fkey foreign key (organization_id, use_id) references lab.pbrtqc_use (organization_id, id),
    constraint pbrtqc_state_alarm_id_fkey foreign key (organization_id, alarm_id) references lab.pbrtqc_event (organization_id, id)
);
