-- People and the laboratory's own catalogue: frozen, nothing edits it.
-- One statement ends at each line that ends in ';'.

-- `birth_date` is the day where the person was born; `birth_at` the instant, where the hour is known (newborns).
alter table lab.patient add column birth_at timestamptz;
-- The survivor, never a patient that is merged itself: what merged whom is in lab.patient_merge.
alter table lab.patient add column merged_into_id uuid;
alter table lab.patient add constraint patient_merged_into_id_fkey foreign key (organization_id, merged_into_id) references lab.patient (organization_id, id);
alter table lab.patient add constraint patient_merged_into_id_check check (merged_into_id <> id);
create index patient_merged_into_id_idx on lab.patient (merged_into_id) where merged_into_id is not null;
create index patient_organization_id_birth_date_idx on lab.patient (organization_id, birth_date);
-- Names are found by lab.patient_word.
drop index lab.patient_organization_id_idx;

-- An identifier that has ended may be given to another patient; nobody has two at a time.
alter table lab.patient_identifier add column ended_at timestamptz;
alter table lab.patient_identifier drop constraint patient_identifier_organization_id_authority_value_key;
create unique index patient_identifier_current_idx on lab.patient_identifier (organization_id, authority, value) where ended_at is null;
create index patient_identifier_organization_id_value_idx on lab.patient_identifier (organization_id, value);

-- Each word of a name, without accents and case. A table and not a text search: row-level security lets an index be
-- used only by operators that are leakproof, which comparisons of text are, and @@ and LIKE are not.
create table lab.patient_word (
    organization_id uuid not null,
    word text collate "C" not null,
    patient_id uuid not null,
    part text not null,
    constraint patient_word_pkey primary key (organization_id, word, patient_id, part),
    constraint patient_word_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint patient_word_patient_id_fkey foreign key (organization_id, patient_id) references lab.patient (organization_id, id)
);
create index patient_word_patient_id_idx on lab.patient_word (patient_id);

-- `undoes_id`: an unmerge, of that merge.
create table lab.patient_merge (
    id uuid not null,
    organization_id uuid not null,
    prior_id uuid not null,
    survivor_id uuid not null,
    undoes_id uuid,
    reason text not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    created_at timestamptz default now() not null,
    constraint patient_merge_pkey primary key (id),
    constraint patient_merge_organization_id_id_key unique (organization_id, id),
    constraint patient_merge_undoes_id_key unique (undoes_id),
    constraint patient_merge_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint patient_merge_prior_id_fkey foreign key (organization_id, prior_id) references lab.patient (organization_id, id),
    constraint patient_merge_survivor_id_fkey foreign key (organization_id, survivor_id) references lab.patient (organization_id, id),
    constraint patient_merge_undoes_id_fkey foreign key (organization_id, undoes_id) references lab.patient_merge (organization_id, id)
);
create index patient_merge_prior_id_idx on lab.patient_merge (prior_id);
create index patient_merge_survivor_id_idx on lab.patient_merge (survivor_id);

alter table lab.practitioner add column role text default '' not null;
alter table lab.practitioner add column active boolean default true not null;
alter table lab.practitioner add column version integer default 1 not null;
alter table lab.practitioner add column updated_at timestamptz default now() not null;
create table lab.practitioner_identifier (
    id uuid not null,
    organization_id uuid not null,
    practitioner_id uuid not null,
    authority text default '' not null,
    value text not null,
    type text default '' not null,
    ended_at timestamptz,
    constraint practitioner_identifier_pkey primary key (id),
    constraint practitioner_identifier_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint practitioner_identifier_practitioner_id_fkey foreign key (organization_id, practitioner_id) references lab.practitioner (organization_id, id)
);
create index practitioner_identifier_practitioner_id_idx on lab.practitioner_identifier (practitioner_id);
create unique index practitioner_identifier_current_idx on lab.practitioner_identifier (organization_id, authority, value) where ended_at is null;

alter table lab.test add column version integer default 1 not null;
alter table lab.panel add column version integer default 1 not null;
alter table lab.panel add column source text default '' not null;
alter table lab.panel add column active boolean default true not null;
alter table lab.specimen_type add column source text default '' not null;
alter table lab.specimen_type add column active boolean default true not null;
