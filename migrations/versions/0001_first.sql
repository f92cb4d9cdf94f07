-- The first schema, frozen: later migrations change it, nothing edits it. One statement ends at each line that ends in ';'.

create table lab.organization (
    id uuid not null,
    name text not null,
    title text default '' not null,
    created_at timestamptz default now() not null,
    constraint organization_pkey primary key (id),
    constraint organization_name_key unique (name)
);

create table lab.queue (
    message_id uuid not null,
    organization_id uuid not null,
    lane uuid not null,
    priority smallint default 5 not null,
    attempts integer default 0 not null,
    not_before timestamptz default now() not null,
    constraint queue_pkey primary key (message_id)
);
create index queue_priority_message_id_idx on lab.queue (priority, message_id);

create table lab.analyzer (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    driver text default '' not null,
    serial text default '' not null,
    created_at timestamptz default now() not null,
    constraint analyzer_pkey primary key (id),
    constraint analyzer_organization_id_id_key unique (organization_id, id),
    constraint analyzer_organization_id_name_key unique (organization_id, name),
    constraint analyzer_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.app_user (
    id uuid not null,
    organization_id uuid not null,
    username text not null,
    full_name text default '' not null,
    password_hash text not null,
    roles text[] default '{}' not null,
    created_at timestamptz default now() not null,
    disabled_at timestamptz,
    failed_logins integer default 0 not null,
    locked_until timestamptz,
    constraint app_user_pkey primary key (id),
    constraint app_user_organization_id_id_key unique (organization_id, id),
    constraint app_user_organization_id_username_key unique (organization_id, username),
    constraint app_user_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.audit_event (
    id uuid not null,
    organization_id uuid not null,
    at timestamptz default now() not null,
    actor_kind text not null,
    actor_id uuid,
    actor_name text default '' not null,
    action text not null,
    entity_kind text not null,
    entity_id uuid,
    address text default '' not null,
    outcome text default '' not null,
    detail jsonb default '{}' not null,
    constraint audit_event_pkey primary key (id),
    constraint audit_event_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
 partition by range (id);
create index audit_event_organization_id_at_idx on lab.audit_event (organization_id, at);
create index audit_event_organization_id_entity_id_idx on lab.audit_event (organization_id, entity_id);

create table lab.client (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    secret_hash bytea not null,
    scopes text[] default '{}' not null,
    created_at timestamptz default now() not null,
    disabled_at timestamptz,
    constraint client_pkey primary key (id),
    constraint client_organization_id_id_key unique (organization_id, id),
    constraint client_organization_id_name_key unique (organization_id, name),
    constraint client_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.counter (
    organization_id uuid not null,
    name text not null,
    value bigint default 0 not null,
    constraint counter_pkey primary key (organization_id, name),
    constraint counter_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.decision (
    result_version_id uuid not null,
    organization_id uuid not null,
    steps jsonb not null,
    driver_revision text default '' not null,
    map_revision integer default 0 not null,
    created_at timestamptz default now() not null,
    constraint decision_pkey primary key (result_version_id),
    constraint decision_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.frame (
    id uuid not null,
    organization_id uuid not null,
    message_id uuid not null,
    ordinal integer not null,
    attempt smallint not null,
    fn smallint,
    bytes bytea not null,
    start integer,
    stop integer,
    digest bytea not null,
    received_at timestamptz not null,
    constraint frame_pkey primary key (id),
    constraint frame_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
 partition by range (id);

create table lab.outbox (
    id uuid not null,
    organization_id uuid not null,
    destination text default '' not null,
    kind text not null,
    entity_id uuid not null,
    entity_version integer default 0 not null,
    attempts integer default 0 not null,
    created_at timestamptz default now() not null,
    not_before timestamptz,
    delivered_at timestamptz,
    error text default '' not null,
    constraint outbox_pkey primary key (id),
    constraint outbox_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);
create index outbox_due_idx on lab.outbox (organization_id, destination, id) where delivered_at is null;

create table lab.panel (
    id uuid not null,
    organization_id uuid not null,
    code text not null,
    name text not null,
    loinc text default '' not null,
    test_ids uuid[] not null,
    constraint panel_pkey primary key (id),
    constraint panel_organization_id_code_key unique (organization_id, code),
    constraint panel_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.patient (
    id uuid not null,
    organization_id uuid not null,
    family text default '' not null,
    given text default '' not null,
    birth_date date,
    sex text default 'unknown' not null,
    active boolean default true not null,
    version integer default 1 not null,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    constraint patient_pkey primary key (id),
    constraint patient_organization_id_id_key unique (organization_id, id),
    constraint patient_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);
create index patient_organization_id_idx on lab.patient (organization_id, lower(family));

create table lab.practitioner (
    id uuid not null,
    organization_id uuid not null,
    identifier text default '' not null,
    family text default '' not null,
    given text default '' not null,
    created_at timestamptz default now() not null,
    constraint practitioner_pkey primary key (id),
    constraint practitioner_organization_id_id_key unique (organization_id, id),
    constraint practitioner_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.qc_material (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    manufacturer text default '' not null,
    constraint qc_material_pkey primary key (id),
    constraint qc_material_organization_id_id_key unique (organization_id, id),
    constraint qc_material_organization_id_name_key unique (organization_id, name),
    constraint qc_material_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.result_version (
    id uuid not null,
    organization_id uuid not null,
    result_id uuid not null,
    version integer default 1 not null,
    status text not null,
    held text[] default '{}' not null,
    message_id uuid,
    location text default '' not null,
    specimen_as_sent text default '' not null,
    code text default '' not null,
    code_path text default '' not null,
    raw_value text default '' not null,
    raw_unit text default '' not null,
    raw_flags text default '' not null,
    raw_status text default '' not null,
    raw_reference text default '' not null,
    instrument_time text default '' not null,
    instrument_at timestamptz,
    comments text[] default '{}' not null,
    test_code text default '' not null,
    test_name text default '' not null,
    loinc text default '' not null,
    kind text not null,
    comparator text default '' not null,
    number numeric,
    value text default '' not null,
    unit text default '' not null,
    low numeric,
    high numeric,
    reference text default '' not null,
    flags text[] default '{}' not null,
    note text default '' not null,
    actor_kind text not null,
    actor_id uuid,
    created_at timestamptz default now() not null,
    constraint result_version_pkey primary key (id),
    constraint result_version_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
 partition by range (id);
create index result_version_message_id_idx on lab.result_version (message_id);
create index result_version_organization_id_specimen_as_sent_idx on lab.result_version (organization_id, specimen_as_sent);
create index result_version_result_id_idx on lab.result_version (result_id);

create table lab.rule_set (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    revision integer default 1 not null,
    body text not null,
    created_at timestamptz default now() not null,
    active_from timestamptz,
    active_to timestamptz,
    constraint rule_set_pkey primary key (id),
    constraint rule_set_organization_id_name_revision_key unique (organization_id, name, revision),
    constraint rule_set_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.specimen_type (
    id uuid not null,
    organization_id uuid not null,
    code text not null,
    name text not null,
    constraint specimen_type_pkey primary key (id),
    constraint specimen_type_organization_id_code_key unique (organization_id, code),
    constraint specimen_type_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.test (
    id uuid not null,
    organization_id uuid not null,
    code text not null,
    name text not null,
    loinc text default '' not null,
    unit text default '' not null,
    decimals smallint,
    kind text default 'numeric' not null,
    department text default '' not null,
    specimen_types text[] default '{}' not null,
    source text default '' not null,
    active boolean default true not null,
    constraint test_pkey primary key (id),
    constraint test_organization_id_id_key unique (organization_id, id),
    constraint test_organization_id_code_key unique (organization_id, code),
    constraint test_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.value_map (
    id uuid not null,
    organization_id uuid not null,
    driver text not null,
    code text default '' not null,
    raw text not null,
    value text not null,
    origin text not null,
    revision integer default 1 not null,
    valid_from timestamptz default now() not null,
    valid_to timestamptz,
    constraint value_map_pkey primary key (id),
    constraint value_map_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);
create index value_map_organization_id_driver_idx on lab.value_map (organization_id, driver);

create table lab.worksheet (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    state text not null,
    item_ids uuid[] not null,
    created_at timestamptz default now() not null,
    completed_at timestamptz,
    constraint worksheet_pkey primary key (id),
    constraint worksheet_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.access_token (
    token_hash bytea not null,
    organization_id uuid not null,
    client_id uuid,
    user_id uuid,
    scopes text[] default '{}' not null,
    issued_at timestamptz default now() not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    constraint access_token_pkey primary key (token_hash),
    constraint access_token_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint access_token_client_id_fkey foreign key (organization_id, client_id) references lab.client (organization_id, id),
    constraint access_token_user_id_fkey foreign key (organization_id, user_id) references lab.app_user (organization_id, id)
);

create table lab.lab_order (
    id uuid not null,
    organization_id uuid not null,
    number text not null,
    placer_number text default '' not null,
    patient_id uuid,
    priority text default 'routine' not null,
    requester_id uuid,
    clinical_history text default '' not null,
    version integer default 1 not null,
    ordered_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    cancelled_at timestamptz,
    constraint lab_order_pkey primary key (id),
    constraint lab_order_organization_id_id_key unique (organization_id, id),
    constraint lab_order_organization_id_number_key unique (organization_id, number),
    constraint lab_order_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint lab_order_patient_id_fkey foreign key (organization_id, patient_id) references lab.patient (organization_id, id),
    constraint lab_order_requester_id_fkey foreign key (organization_id, requester_id) references lab.practitioner (organization_id, id)
);
create index lab_order_organization_id_placer_number_idx on lab.lab_order (organization_id, placer_number);
create index lab_order_patient_id_idx on lab.lab_order (patient_id);

create table lab.link (
    id uuid not null,
    organization_id uuid not null,
    name text not null,
    analyzer_id uuid not null,
    driver text not null,
    driver_revision text default '' not null,
    role text not null,
    created_at timestamptz default now() not null,
    constraint link_pkey primary key (id),
    constraint link_organization_id_id_key unique (organization_id, id),
    constraint link_organization_id_name_key unique (organization_id, name),
    constraint link_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint link_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id)
);

create table lab.patient_identifier (
    id uuid not null,
    organization_id uuid not null,
    patient_id uuid not null,
    authority text default '' not null,
    value text not null,
    type text default '' not null,
    constraint patient_identifier_pkey primary key (id),
    constraint patient_identifier_organization_id_authority_value_key unique (organization_id, authority, value),
    constraint patient_identifier_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint patient_identifier_patient_id_fkey foreign key (organization_id, patient_id) references lab.patient (organization_id, id)
);
create index patient_identifier_patient_id_idx on lab.patient_identifier (patient_id);

create table lab.qc_lot (
    id uuid not null,
    organization_id uuid not null,
    material_id uuid not null,
    lot text not null,
    level text default '' not null,
    expires_on date,
    constraint qc_lot_pkey primary key (id),
    constraint qc_lot_organization_id_id_key unique (organization_id, id),
    constraint qc_lot_material_id_lot_level_key unique (material_id, lot, level),
    constraint qc_lot_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_lot_material_id_fkey foreign key (organization_id, material_id) references lab.qc_material (organization_id, id)
);

create table lab.qc_result (
    id uuid not null,
    organization_id uuid not null,
    natural_key bytea not null,
    analyzer_id uuid not null,
    message_id uuid,
    role text not null,
    specimen_as_sent text default '' not null,
    code text default '' not null,
    test_id uuid,
    kind text not null,
    number numeric,
    value text default '' not null,
    raw_value text default '' not null,
    unit text default '' not null,
    raw_flags text default '' not null,
    instrument_time text default '' not null,
    instrument_at timestamptz,
    location text default '' not null,
    created_at timestamptz default now() not null,
    constraint qc_result_pkey primary key (id),
    constraint qc_result_organization_id_id_key unique (organization_id, id),
    constraint qc_result_organization_id_natural_key_key unique (organization_id, natural_key),
    constraint qc_result_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_result_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_result_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index qc_result_analyzer_id_created_at_idx on lab.qc_result (analyzer_id, created_at);

create table lab.reference_interval (
    id uuid not null,
    organization_id uuid not null,
    test_id uuid not null,
    unit text default '' not null,
    low numeric,
    high numeric,
    critical_low numeric,
    critical_high numeric,
    sex text,
    age_low_d integer default 0 not null,
    age_high_d integer,
    specimen_type text default '' not null,
    text text default '' not null,
    source text default '' not null,
    priority integer default 0 not null,
    valid_from timestamptz default now() not null,
    valid_to timestamptz,
    constraint reference_interval_pkey primary key (id),
    constraint reference_interval_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint reference_interval_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index reference_interval_test_id_idx on lab.reference_interval (test_id);

create table lab.code_map (
    id uuid not null,
    organization_id uuid not null,
    driver text not null,
    link_id uuid,
    code text not null,
    specimen_type text default '' not null,
    test_id uuid not null,
    unit text default '' not null,
    origin text not null,
    revision integer default 1 not null,
    valid_from timestamptz default now() not null,
    valid_to timestamptz,
    constraint code_map_pkey primary key (id),
    constraint code_map_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint code_map_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint code_map_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index code_map_organization_id_driver_idx on lab.code_map (organization_id, driver);

create table lab.lease (
    link_id uuid not null,
    organization_id uuid not null,
    holder text default '' not null,
    epoch bigint default 0 not null,
    expires_at timestamptz,
    constraint lease_pkey primary key (link_id),
    constraint lease_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint lease_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.message (
    id uuid not null,
    organization_id uuid not null,
    link_id uuid not null,
    protocol text not null,
    state text not null,
    settled text,
    reply text not null,
    control_id text default '' not null,
    message_type text default '' not null,
    reason text default '' not null,
    digest bytea,
    duplicate_of uuid,
    bytes integer default 0 not null,
    attempts integer default 0 not null,
    problems text[] default '{}' not null,
    received_at timestamptz not null,
    sealed_at timestamptz,
    settled_at timestamptz,
    peer text default '' not null,
    constraint message_pkey primary key (id),
    constraint message_organization_id_id_key unique (organization_id, id),
    constraint message_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint message_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint message_duplicate_of_fkey foreign key (organization_id, duplicate_of) references lab.message (organization_id, id)
);
create index message_link_id_idx on lab.message (link_id) where state = 'receiving';
create index message_organization_id_control_id_idx on lab.message (organization_id, control_id);
create index message_organization_id_received_at_idx on lab.message (organization_id, received_at);

create table lab.message_key (
    link_id uuid not null,
    digest bytea not null,
    organization_id uuid not null,
    message_id uuid not null,
    sealed_at timestamptz not null,
    constraint message_key_pkey primary key (link_id, digest),
    constraint message_key_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id),
    constraint message_key_organization_id_fkey foreign key (organization_id) references lab.organization (id)
);

create table lab.qc_action (
    id uuid not null,
    organization_id uuid not null,
    qc_result_id uuid not null,
    text text default '' not null,
    user_id uuid not null,
    created_at timestamptz default now() not null,
    constraint qc_action_pkey primary key (id),
    constraint qc_action_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_action_qc_result_id_fkey foreign key (organization_id, qc_result_id) references lab.qc_result (organization_id, id)
);

create table lab.qc_target (
    id uuid not null,
    organization_id uuid not null,
    lot_id uuid not null,
    analyzer_id uuid not null,
    test_id uuid not null,
    mean numeric not null,
    sd numeric not null,
    unit text default '' not null,
    valid_from timestamptz default now() not null,
    valid_to timestamptz,
    constraint qc_target_pkey primary key (id),
    constraint qc_target_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint qc_target_lot_id_fkey foreign key (organization_id, lot_id) references lab.qc_lot (organization_id, id),
    constraint qc_target_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint qc_target_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);

create table lab.rejected_frame (
    id uuid not null,
    organization_id uuid not null,
    link_id uuid not null,
    reason text default '' not null,
    bytes bytea not null,
    received_at timestamptz not null,
    constraint rejected_frame_pkey primary key (id),
    constraint rejected_frame_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint rejected_frame_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
);
create index rejected_frame_link_id_received_at_idx on lab.rejected_frame (link_id, received_at);

create table lab.report (
    id uuid not null,
    organization_id uuid not null,
    order_id uuid not null,
    version integer default 1 not null,
    status text not null,
    body bytea,
    created_at timestamptz default now() not null,
    constraint report_pkey primary key (id),
    constraint report_order_id_version_key unique (order_id, version),
    constraint report_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint report_order_id_fkey foreign key (organization_id, order_id) references lab.lab_order (organization_id, id)
);

create table lab.specimen (
    id uuid not null,
    organization_id uuid not null,
    barcode text not null,
    type text default '' not null,
    order_id uuid,
    patient_id uuid,
    parent_id uuid,
    status text default 'available' not null,
    reject_reason text default '' not null,
    version integer default 1 not null,
    collected_at timestamptz,
    received_at timestamptz,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    constraint specimen_pkey primary key (id),
    constraint specimen_organization_id_id_key unique (organization_id, id),
    constraint specimen_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint specimen_order_id_fkey foreign key (organization_id, order_id) references lab.lab_order (organization_id, id),
    constraint specimen_patient_id_fkey foreign key (organization_id, patient_id) references lab.patient (organization_id, id),
    constraint specimen_parent_id_fkey foreign key (organization_id, parent_id) references lab.specimen (organization_id, id)
);
create index specimen_order_id_idx on lab.specimen (order_id);
create index specimen_organization_id_barcode_idx on lab.specimen (organization_id, barcode);
create index specimen_patient_id_idx on lab.specimen (patient_id);

create table lab.delivery (
    id uuid not null,
    organization_id uuid not null,
    message_id uuid not null,
    destination text default '' not null,
    state text not null,
    bytes bytea,
    attempts integer default 0 not null,
    error text default '' not null,
    created_at timestamptz default now() not null,
    delivered_at timestamptz,
    constraint delivery_pkey primary key (id),
    constraint delivery_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint delivery_message_id_fkey foreign key (organization_id, message_id) references lab.message (organization_id, id)
);
create index delivery_message_id_idx on lab.delivery (message_id);

create table lab.order_item (
    id uuid not null,
    organization_id uuid not null,
    order_id uuid not null,
    test_id uuid not null,
    specimen_id uuid,
    status text default 'requested' not null,
    updated_at timestamptz default now() not null,
    constraint order_item_pkey primary key (id),
    constraint order_item_organization_id_id_key unique (organization_id, id),
    constraint order_item_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint order_item_order_id_fkey foreign key (organization_id, order_id) references lab.lab_order (organization_id, id),
    constraint order_item_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id),
    constraint order_item_specimen_id_fkey foreign key (organization_id, specimen_id) references lab.specimen (organization_id, id)
);
create index order_item_order_id_idx on lab.order_item (order_id);
create index order_item_specimen_id_idx on lab.order_item (specimen_id);

create table lab.dispatch (
    id uuid not null,
    organization_id uuid not null,
    order_item_id uuid not null,
    link_id uuid not null,
    state text not null,
    answer text default '' not null,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    constraint dispatch_pkey primary key (id),
    constraint dispatch_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint dispatch_order_item_id_fkey foreign key (organization_id, order_item_id) references lab.order_item (organization_id, id),
    constraint dispatch_link_id_fkey foreign key (organization_id, link_id) references lab.link (organization_id, id)
);
create index dispatch_order_item_id_idx on lab.dispatch (order_item_id);

create table lab.result (
    id uuid not null,
    organization_id uuid not null,
    natural_key bytea not null,
    analyzer_id uuid not null,
    specimen_id uuid,
    patient_id uuid,
    order_id uuid,
    order_item_id uuid,
    test_id uuid,
    version_id uuid not null,
    version integer default 1 not null,
    status text not null,
    held text[] default '{}' not null,
    pending_version_id uuid,
    created_at timestamptz default now() not null,
    updated_at timestamptz default now() not null,
    released_at timestamptz,
    constraint result_pkey primary key (id),
    constraint result_organization_id_id_key unique (organization_id, id),
    constraint result_organization_id_natural_key_key unique (organization_id, natural_key),
    constraint result_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint result_analyzer_id_fkey foreign key (organization_id, analyzer_id) references lab.analyzer (organization_id, id),
    constraint result_specimen_id_fkey foreign key (organization_id, specimen_id) references lab.specimen (organization_id, id),
    constraint result_patient_id_fkey foreign key (organization_id, patient_id) references lab.patient (organization_id, id),
    constraint result_order_id_fkey foreign key (organization_id, order_id) references lab.lab_order (organization_id, id),
    constraint result_order_item_id_fkey foreign key (organization_id, order_item_id) references lab.order_item (organization_id, id),
    constraint result_test_id_fkey foreign key (organization_id, test_id) references lab.test (organization_id, id)
);
create index result_held_idx on lab.result (organization_id, created_at) where held <> '{}';
create index result_order_id_idx on lab.result (order_id);
create index result_organization_id_updated_at_idx on lab.result (organization_id, updated_at);
create index result_patient_id_updated_at_idx on lab.result (patient_id, updated_at);
create index result_specimen_id_idx on lab.result (specimen_id);

create table lab.critical_notification (
    id uuid not null,
    organization_id uuid not null,
    result_id uuid not null,
    state text not null,
    notified text default '' not null,
    read_back boolean default false not null,
    created_at timestamptz default now() not null,
    closed_at timestamptz,
    constraint critical_notification_pkey primary key (id),
    constraint critical_notification_organization_id_fkey foreign key (organization_id) references lab.organization (id),
    constraint critical_notification_result_id_fkey foreign key (organization_id, result_id) references lab.result (organization_id, id)
);
