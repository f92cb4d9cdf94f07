-- Placers' numbers: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

alter table lab.lab_order add column placer_authority text default '' not null;

create table lab.placer_order (
    id uuid not null,
    organization_id uuid not null,
    authority text default '' not null,
    number text not null,
    group_authority text default '' not null,
    group_number text default '' not null,
    order_id uuid not null,
    link_id uuid,
    filler_number text not null,
    content bytea,
    first_content bytea,
    ended_by bytea,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    ended_at timestamptz,
    constraint placer_order_pkey primary key (id),
    constraint placer_order_organization_id_authority_number_key unique (organization_id, authority, number),
    constraint placer_order_organization_id_id_key unique (organization_id, id),
    constraint placer_order_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint placer_order_order_id_fkey foreign key (organization_id, order_id) references lab.lab_order (organization_id, id),
    constraint placer_order_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
);
create index placer_order_order_id_idx on lab.placer_order (order_id);
create index placer_order_group_idx on lab.placer_order (organization_id, group_authority, group_number) where group_number <> '';
create index placer_order_organization_id_number_idx on lab.placer_order (organization_id, number);

create table lab.placer_item (
    organization_id uuid not null,
    placer_order_id uuid not null,
    order_item_id uuid not null,
    dropped_at timestamptz,
    constraint placer_item_pkey primary key (placer_order_id, order_item_id),
    constraint placer_item_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint placer_item_placer_order_id_fkey foreign key (organization_id, placer_order_id) references lab.placer_order (organization_id, id),
    constraint placer_item_order_item_id_fkey foreign key (organization_id, order_item_id) references lab.order_item (organization_id, id)
);
create index placer_item_order_item_id_idx on lab.placer_item (order_item_id);

-- An order's id serves as the id of its placer's number: it has one.
insert into lab.placer_order (id, organization_id, number, order_id, filler_number)
select distinct on (organization_id, placer_number) id, organization_id, placer_number, id, number
from lab.lab_order where placer_number <> '' order by organization_id, placer_number, id;
insert into lab.placer_item (organization_id, placer_order_id, order_item_id)
select i.organization_id, p.id, i.id from lab.placer_order p join lab.order_item i on i.order_id = p.order_id;
