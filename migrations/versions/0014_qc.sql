-- Quality control. Frozen with its release: nothing edits it. One statement ends at each line that ends in ';'.
-- No row was ever written to qc_material, qc_lot, qc_target and qc_action before this migration.

alter table lab.qc_material add column catalogue_number text default '' not null;
alter table lab.qc_material add column note text default '' not null;
alter table lab.qc_material add column created_at timestamptz default now() not null;
alter table lab.qc_material add column version integer default 1 not null;
alter table lab.qc_material add column closed_at timestamptz;
alter table lab.qc_lot add column level_number integer default 1 not null;
alter table lab.qc_lot add column identifiers text[] default '{}' not null;
alter table lab.qc_lot add column analyzer_ids uuid[] default '{}' not null;
alter table lab.qc_lot add column version integer default 1 not null;
alter table lab.qc_lot add column note text default '' not null;
alter table lab.qc_lot add column created_at timestamptz default now() not null;
alter table lab.qc_lot add column closed_at timestamptz;

alter table lab.qc_target add column module text default '' not null;
alter table lab.qc_target add column source text default 'laboratory' not null;
alter table lab.qc_target add column kind text default 'fixed' not null;
alter table lab.qc_target add column points integer default 0 not null;
alter table lab.qc_target add column reagent_lot text default '' not null;
alter table lab.qc_target add column note text default '' not null;
alter table lab.qc_target add column actor_kind text not null;
alter table lab.qc_target add column actor_id uuid;
alter table lab.qc_target add column actor_name text default '' not null;
alter table lab.qc_target add column created_at timestamptz default now() not null;
alter table lab.qc_target add column ended_at timestamptz;
alter table lab.qc_target add column ended_by uuid;
alter table lab.qc_target add column ended_by_name text default '' not null;
alter table lab.qc_target add column end_reason text default '' not null;
alter table lab.qc_target add constraint qc_target_organization_id_id_key unique (organization_id, id);
create index qc_target_analyzer_id_test_id_lot_id_idx on lab.qc_target (analyzer_id, test_id, lot_id);

alter table lab.qc_result add column module text default '' not null;
alter table lab.qc_result add column lot_as_sent text default '' not null;
alter table lab.qc_result add column level_as_sent text default '' not null;
alter table lab.qc_result add column reagent_lot text default '' not null;
alter table lab.qc_result add column calibrator_lot text default '' not null;
alter table lab.qc_result add column origin text default 'analyzer' not null;
alter table lab.qc_result add column measured_at timestamptz default now() not null;
update lab.qc_result set measured_at = coalesce(instrument_at, created_at);
alter table lab.qc_result add column comment text default '' not null;
alter table lab.qc_result add column actor_kind text;
alter table lab.qc_result add column actor_id uuid;
create index qc_result_organization_id_created_at_idx on lab.qc_result (organization_id, created_at);

alter table lab.qc_action alter column qc_result_id drop not null;
alter table lab.qc_action drop column user_id;
alter table lab.qc_action add column analyzer_id uuid not null;
alter table lab.qc_action add column module text default '' not null;
alter table lab.qc_action add column test_id uuid not null;
alter table lab.qc_action add column kind text not null;
alter table lab.qc_action add column measured text default '' not null;
alter table lab.qc_action add column actor_kind text not null;
alter table lab.qc_action add column actor_id uuid;
alter table lab.qc_action add column actor_name text default '' not null;
alter table lab.qc_action add constraint qc_action_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id);
alter table lab.qc_action add constraint qc_action_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id);
create index qc_action_analyzer_id_test_id_created_at_idx on lab.qc_action (analyzer_id, test_id, created_at);

alter table lab.result_version add column module text default '' not null;
alter table lab.result_version add column reagent_lot text default '' not null;
alter table lab.result_version add column calibrator_lot text default '' not null;

create index qc_result_message_id_idx on lab.qc_result (message_id);
create index qc_result_calibrated_idx on lab.qc_result (analyzer_id, test_id, measured_at) where role = 'calibrator';

alter table lab.message_key add column taken boolean default false not null;
alter table lab.message_key add column before_id uuid;

create table lab.qc_point (
    qc_result_id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    lot_id uuid not null,
    target_id uuid,
    level_number integer default 1 not null,
    run_id uuid not null,
    measured_at timestamptz default now() not null,
    number numeric,
    z numeric,
    reagent_lot text default '' not null,
    calibrator_lot text default '' not null,
    verdict text not null,
    rules text[] default '{}' not null,
    insufficient text[] default '{}' not null,
    steps json not null,
    created_at timestamptz default now() not null,
    excluded_at timestamptz,
    excluded_by uuid,
    excluded_by_name text default '' not null,
    exclude_reason text default '' not null,
    constraint qc_point_pkey primary key (qc_result_id),
    constraint qc_point_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_point_qc_result_id_fkey foreign key (organization_id, qc_result_id) references lab.qc_result (organization_id, id),
    constraint qc_point_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_point_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint qc_point_lot_id_fkey foreign key (organization_id, lot_id) references lab.qc_lot (organization_id, id),
    constraint qc_point_target_id_fkey foreign key (organization_id, target_id) references lab.qc_target (organization_id, id)
);
create index qc_point_organization_id_created_at_idx on lab.qc_point (organization_id, created_at);
create index qc_point_stream_idx on lab.qc_point (analyzer_id, test_id, module, measured_at);
create index qc_point_level_idx on lab.qc_point (analyzer_id, test_id, module, level_number, measured_at);

create table lab.qc_problem (
    qc_result_id uuid not null,
    organization_id uuid not null,
    kind text not null,
    text text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint qc_problem_pkey primary key (qc_result_id),
    constraint qc_problem_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_problem_qc_result_id_fkey foreign key (organization_id, qc_result_id) references lab.qc_result (organization_id, id)
);
create index qc_problem_open_idx on lab.qc_problem (organization_id, created_at) where ended_at is null;

create table lab.qc_plan (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid,
    test_id uuid,
    mode text default 'modern' not null,
    rules text[] default '{}' not null,
    levels integer default 0 not null,
    run_minutes integer default 60 not null,
    interval_minutes integer,
    before_first boolean default false not null,
    timezone text default 'UTC' not null,
    loose_r4s boolean default false not null,
    allowable_error numeric,
    version integer default 1 not null,
    updated_at timestamptz default now() not null,
    ended_at timestamptz,
    constraint qc_plan_pkey primary key (id),
    constraint qc_plan_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_plan_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_plan_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);

create index qc_plan_organization_id_idx on lab.qc_plan (organization_id);

create table lab.qc_stream (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    state text not null,
    since timestamptz default now() not null,
    last_ok_at timestamptz,
    last_ok_id uuid,
    failed_id uuid,
    action_due boolean default false not null,
    expires_at timestamptz,
    reason text default '' not null,
    version integer default 1 not null,
    updated_at timestamptz default now() not null,
    history jsonb default '{}' not null,
    plan text default '' not null,
    alarm text default '' not null,
    alarm_since timestamptz,
    alarm_reason text default '' not null,
    swept integer default 0 not null,
    constraint qc_stream_pkey primary key (id),
    constraint qc_stream_organization_id_analyzer_id_module_test_id_key unique (organization_id, analyzer_id, module, test_id),
    constraint qc_stream_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_stream_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_stream_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);

create index qc_stream_sweep_idx on lab.qc_stream (organization_id) where swept < version;

create table lab.qc_event (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    state text not null,
    since timestamptz default now() not null,
    point_id uuid,
    action_id uuid,
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint qc_event_pkey primary key (id),
    constraint qc_event_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_event_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_event_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index qc_event_analyzer_id_test_id_since_idx on lab.qc_event (analyzer_id, test_id, since);

create table lab.qc_lookback (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid not null,
    qc_result_id uuid,
    reagent_lot text default '' not null,
    reason text default '' not null,
    from_at timestamptz,
    to_at timestamptz,
    state text not null,
    version integer default 1 not null,
    created_at timestamptz default now() not null,
    closed_at timestamptz,
    constraint qc_lookback_pkey primary key (id),
    constraint qc_lookback_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_lookback_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_lookback_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint qc_lookback_qc_result_id_fkey foreign key (organization_id, qc_result_id) references lab.qc_result (organization_id, id),
    constraint qc_lookback_organization_id_id_key unique (organization_id, id)
);
create index qc_lookback_open_idx on lab.qc_lookback (organization_id, created_at) where state = 'open';

create table lab.qc_lookback_item (
    id uuid not null,
    organization_id uuid not null,
    lookback_id uuid not null,
    result_id uuid not null,
    result_version_id uuid not null,
    state text default 'waiting' not null,
    reason text default '' not null,
    decided_by uuid,
    decided_by_name text default '' not null,
    decided_at timestamptz,
    constraint qc_lookback_item_pkey primary key (id),
    constraint qc_lookback_item_lookback_id_result_id_key unique (lookback_id, result_id),
    constraint qc_lookback_item_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_lookback_item_lookback_id_fkey foreign key (organization_id, lookback_id) references lab.qc_lookback (organization_id, id),
    constraint qc_lookback_item_result_id_fkey foreign key (organization_id, result_id) references lab.result (organization_id, id)
);
create index qc_lookback_item_result_id_idx on lab.qc_lookback_item (result_id);

create table lab.qc_peer (
    id uuid not null,
    organization_id uuid not null,
    lot_id uuid not null,
    test_id uuid not null,
    peer_group text not null,
    unit text default '' not null,
    period text not null,
    laboratories integer default 0 not null,
    points integer default 0 not null,
    mean numeric not null,
    sd numeric not null,
    source text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint qc_peer_pkey primary key (id),
    constraint qc_peer_organization_id_lot_id_test_id_peer_group_period_key unique (organization_id, lot_id, test_id, peer_group, period),
    constraint qc_peer_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_peer_lot_id_fkey foreign key (organization_id, lot_id) references lab.qc_lot (organization_id, id),
    constraint qc_peer_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);

create table lab.analyzer_lot (
    id uuid not null,
    organization_id uuid not null,
    analyzer_id uuid not null,
    module text default '' not null,
    test_id uuid,
    kind text not null,
    lot text not null,
    expires_on date,
    from_at timestamptz default now() not null,
    message_id uuid,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    ended_at timestamptz,
    ended_by uuid,
    ended_by_name text default '' not null,
    end_reason text default '' not null,
    constraint analyzer_lot_pkey primary key (id),
    constraint analyzer_lot_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint analyzer_lot_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint analyzer_lot_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index analyzer_lot_analyzer_id_kind_from_at_idx on lab.analyzer_lot (analyzer_id, kind, from_at);
create index analyzer_lot_analyzer_id_ended_at_idx on lab.analyzer_lot (analyzer_id, ended_at);
