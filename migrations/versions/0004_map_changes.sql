-- Changes of the code maps: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

create table lab.map_change (
    id uuid not null,
    organization_id uuid not null,
    number integer not null,
    kind text not null,
    reason text default '' not null,
    source text default '' not null,
    undoes_id uuid,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint map_change_pkey primary key (id),
    constraint map_change_organization_id_id_key unique (organization_id, id),
    constraint map_change_organization_id_number_key unique (organization_id, number),
    constraint map_change_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint map_change_undoes_id_fkey foreign key (organization_id, undoes_id) references lab.map_change (organization_id, id)
);

-- Null: the site wants the code held, whatever a map below this one says.
alter table lab.code_map alter column test_id drop not null;
alter table lab.code_map add column note text default '' not null;
alter table lab.code_map add column change_id uuid;
alter table lab.code_map add column ended_at timestamptz;
alter table lab.code_map add column ended_by uuid;
alter table lab.code_map add constraint code_map_change_id_fkey foreign key (organization_id, change_id) references lab.map_change (organization_id, id);
alter table lab.code_map add constraint code_map_ended_by_fkey foreign key (organization_id, ended_by) references lab.map_change (organization_id, id);
create index code_map_change_id_idx on lab.code_map (change_id);
create index code_map_ended_by_idx on lab.code_map (ended_by);
