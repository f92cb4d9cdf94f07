-- Specimens, orders, worksheets: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

alter table lab.lab_order add column ward text default '' not null;
alter table lab.lab_order add column patient_group text default '' not null;
alter table lab.lab_order add column pregnant boolean;
alter table lab.lab_order add column gestation_weeks integer;
alter table lab.lab_order add column cancel_reason text default '' not null;
alter table lab.order_item add column reason text default '' not null;

-- `state` is where the specimen is; `status`, which follows from it, whether it may be measured.
alter table lab.specimen add column state text default 'expected' not null;
update lab.specimen set state = case
    when status = 'rejected' then 'rejected'
    when status <> 'available' then 'exhausted'
    when received_at is not null then 'received'
    when collected_at is not null then 'collected'
    else 'expected' end;
update lab.specimen set status = case status when 'rejected' then 'unsatisfactory' else 'unavailable' end
where status <> 'available';
alter table lab.specimen add constraint specimen_state_check check (status = case state
    when 'expected' then 'available' when 'collected' then 'available' when 'received' then 'available'
    when 'stored' then 'available' when 'rejected' then 'unsatisfactory' when 'exhausted' then 'unavailable'
    when 'disposed' then 'unavailable' when 'cancelled' then 'unavailable' end);
alter table lab.specimen add column container text default '' not null;
alter table lab.specimen add column time_point_min integer;
alter table lab.specimen add column collected_by text default '' not null;
alter table lab.specimen add column received_by text default '' not null;
alter table lab.specimen add column reject_code text default '' not null;
alter table lab.specimen add column rack text default '' not null;
alter table lab.specimen add column position text default '' not null;
create index specimen_parent_id_idx on lab.specimen (parent_id);
create index specimen_organization_id_rack_idx on lab.specimen (organization_id, rack) where rack <> '';

create table lab.specimen_event (
    id uuid not null,
    organization_id uuid not null,
    specimen_id uuid not null,
    action text not null,
    state text not null,
    rack text default '' not null,
    position text default '' not null,
    reason text default '' not null,
    happened_at timestamptz default now() not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint specimen_event_pkey primary key (id),
    constraint specimen_event_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint specimen_event_specimen_id_fkey foreign key (organization_id, specimen_id) references lab.specimen (organization_id, id)
);
create index specimen_event_specimen_id_idx on lab.specimen_event (specimen_id);

create index order_item_open_idx on lab.order_item (organization_id, test_id) where status in ('requested', 'collected', 'received', 'in_progress');

-- No worksheet was ever written: its items had no place of their own and no reference.
alter table lab.worksheet drop column item_ids;
alter table lab.worksheet add column number text not null;
alter table lab.worksheet add column analyzer_id uuid;
alter table lab.worksheet add column test_id uuid;
alter table lab.worksheet add column qc text default '' not null;
alter table lab.worksheet add column note text default '' not null;
alter table lab.worksheet add column version integer default 1 not null;
alter table lab.worksheet add column updated_at timestamptz default now() not null;
alter table lab.worksheet add column created_by text default '' not null;
alter table lab.worksheet add column completed_by text default '' not null;
alter table lab.worksheet add constraint worksheet_organization_id_number_key unique (organization_id, number);
alter table lab.worksheet add constraint worksheet_organization_id_id_key unique (organization_id, id);
alter table lab.worksheet add constraint worksheet_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id);
alter table lab.worksheet add constraint worksheet_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id);

create table lab.worksheet_item (
    id uuid not null,
    organization_id uuid not null,
    worksheet_id uuid not null,
    place integer not null,
    order_item_id uuid not null,
    open boolean default true not null,
    result_id uuid,
    constraint worksheet_item_pkey primary key (id),
    constraint worksheet_item_worksheet_id_place_key unique (worksheet_id, place),
    constraint worksheet_item_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint worksheet_item_worksheet_id_fkey foreign key (organization_id, worksheet_id) references lab.worksheet (organization_id, id),
    constraint worksheet_item_order_item_id_fkey foreign key (organization_id, order_item_id) references lab.order_item (organization_id, id),
    constraint worksheet_item_result_id_fkey foreign key (organization_id, result_id) references lab.result (organization_id, id)
);
-- An item is on one open worksheet at a time, whoever builds them.
create unique index worksheet_item_open_idx on lab.worksheet_item (order_item_id) where open;
