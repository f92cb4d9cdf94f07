-- Frozen with its release: nothing edits it. One statement ends at each line that ends in ';'.

-- Of several runs for one order item exactly one is reportable. `origin`: who measured it: analyzer, manual, calculation.
-- `effective_at`: when what it says was so: collected, else measured, else received.
alter table lab.result add column reportable boolean default true not null;
alter table lab.result add column origin text default 'analyzer' not null;
alter table lab.result add column effective_at timestamptz default now() not null;
alter table lab.result alter column analyzer_id drop not null;

update lab.result r set effective_at = coalesce((select s.collected_at from lab.specimen s where s.id = r.specimen_id),
    (select v.instrument_at from lab.result_version v where v.id = r.version_id), r.created_at);
-- What was released stays what is reported, else what came last.
update lab.result r set reportable = false where order_item_id is not null and exists (
    select from lab.result o where o.order_item_id = r.order_item_id and o.id <> r.id
    and (o.status in ('final', 'corrected', 'amended'), o.id) > (r.status in ('final', 'corrected', 'amended'), r.id));

-- The newest released result of a person's test: that of the delta check.
create index result_previous_idx on lab.result (patient_id, test_id, effective_at) where reportable and status in ('final', 'corrected', 'amended');

-- What follows from a result: another run of it, at a dilution perhaps, or another test. One per result and rule.
create table lab.follow_up (
    id uuid not null,
    organization_id uuid not null,
    kind text not null, -- reflex, rerun, dilution
    result_id uuid not null,
    rule text default '' not null,
    depth integer default 1 not null check (depth > 0),
    order_item_id uuid,
    state text default 'requested' not null, -- sent, done, cancelled
    dilution numeric check (dilution > 0),
    reason text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    constraint follow_up_pkey primary key (id),
    constraint follow_up_organization_id_result_id_rule_key unique (organization_id, result_id, rule),
    constraint follow_up_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint follow_up_result_id_fkey foreign key (organization_id, result_id) references lab.result (organization_id, id),
    constraint follow_up_order_item_id_fkey foreign key (organization_id, order_item_id) references lab.order_item (organization_id, id)
);
create index follow_up_order_item_id_idx on lab.follow_up (order_item_id);
