"""Reports of orders, each version as it was issued, and the files that were made of it.

Whatever may change what an EMR sees of an order puts the order among those whose report is to be looked at
(`report_due`), whoever changes it: a version is made of it soon after, or at once by who reads it. The rows have no
unique key, so that transactions that change one order do not wait for each other here.
"""

from __future__ import annotations

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
TABLES = (
    """create table lab.report_file (
        id uuid not null,
        organization_id uuid not null,
        report_id uuid not null,
        paper text not null,
        language text not null,
        sha1 bytea not null,
        size integer default 0 not null,
        body bytea not null,
        created_at timestamptz default now() not null,
        constraint report_file_pkey primary key (id),
        constraint report_file_report_id_paper_language_key unique (report_id, paper, language),
        constraint report_file_organization_id_fkey foreign key (organization_id) references lab.organization (id),
        constraint report_file_report_id_fkey foreign key (organization_id, report_id)
            references lab.report (organization_id, id)
    )""",
    """create table lab.report_setting (
        id uuid not null,
        organization_id uuid not null,
        address text default '' not null,
        phone text default '' not null,
        director text default '' not null,
        accreditation text default '' not null,
        zone text default 'UTC' not null,
        paper text default 'a4' not null,
        language text default 'en' not null,
        version integer default 1 not null,
        updated_at timestamptz default now() not null,
        constraint report_setting_pkey primary key (id),
        constraint report_setting_organization_id_key unique (organization_id),
        constraint report_setting_organization_id_fkey foreign key (organization_id) references lab.organization (id)
    )""",
    """create table lab.turnaround_target (
        id uuid not null,
        organization_id uuid not null,
        test_code text default '' not null,
        department text default '' not null,
        priority text default '' not null,
        stage text not null,
        minutes integer not null,
        updated_at timestamptz default now() not null,
        constraint turnaround_target_pkey primary key (id),
        constraint turnaround_target_key
            unique (organization_id, test_code, department, priority, stage),
        constraint turnaround_target_organization_id_fkey foreign key (organization_id)
            references lab.organization (id)
    )""",
    """create table lab.report_due (
        id uuid not null,
        organization_id uuid not null,
        order_id uuid not null,
        created_at timestamptz default now() not null,
        constraint report_due_pkey primary key (id)
    )""",
)
GRANTS = {"report_file": "select, insert", "report_setting": "select, insert, update",
          "report_due": "select, insert, update, delete",
          "turnaround_target": "select, insert, update, delete"}  # fmt: skip
DUE = "insert into lab.report_due (id, organization_id, order_id) select gen_random_uuid(),"
# What an EMR sees (`store.lab`), or may have seen.
SEEN = """order_id is not null
          and (released_at is not null
               or status in ('preliminary', 'final', 'corrected', 'amended') and held = '{}')"""
REPORTED = "exists (select from lab.report p where p.order_id = {of})"
FUNCTIONS = {
    "report_due_of_results": f"""c.organization_id, c.order_id
          from (select distinct organization_id, order_id from changed where {SEEN}) c""",  # noqa: S608
    "report_due_of_changed_results": f"""c.organization_id, c.order_id
          from (select organization_id, order_id from former where {SEEN}
                union select organization_id, order_id from changed where {SEEN}) c""",  # noqa: S608
    "report_due_of_order": f"new.organization_id, new.id where {REPORTED.format(of='new.id')}",
    "report_due_of_item": f"""new.organization_id, new.order_id
          where new.status = 'rejected' or {REPORTED.format(of='new.order_id')}""",
    "report_due_of_new_items": f"""c.organization_id, c.order_id
          from (select distinct organization_id, order_id from added) c where {REPORTED.format(of='c.order_id')}""",  # noqa: S608
    "report_due_of_specimen": f"""new.organization_id, o.id
          from (select new.order_id as id union select i.order_id from lab.order_item i where i.specimen_id = new.id) o
         where o.id is not null and (new.state = 'rejected' or {REPORTED.format(of='o.id')})""",  # noqa: S608
    "report_due_of_patient": f"""new.organization_id, o.id from lab.lab_order o
         where (o.patient_id = new.id
                or o.patient_id in (select m.id from lab.patient m where m.merged_into_id = new.id))
           and {REPORTED.format(of='o.id')}""",  # noqa: S608
    "report_due_of_identifier": f"""new.organization_id, o.id from lab.lab_order o
         where (o.patient_id = new.patient_id
                or o.patient_id in (select m.id from lab.patient m where m.merged_into_id = new.patient_id))
           and {REPORTED.format(of='o.id')}""",  # noqa: S608
}  # fmt: skip
OF_ROWS = (
    "create trigger report_due_added after insert on lab.result referencing new table as changed"
    " for each statement execute function lab.report_due_of_results()",
    "create trigger report_due_changed after update on lab.result referencing old table as former new table as changed"
    " for each statement execute function lab.report_due_of_changed_results()",
    "create trigger report_due_added after insert on lab.order_item referencing new table as added"
    " for each statement execute function lab.report_due_of_new_items()",
    "create trigger report_due_added after insert on lab.patient_identifier"
    " for each row execute function lab.report_due_of_identifier()",
)
# For each row of these tables where one of these columns has changed.
OF_COLUMNS = {
    "lab_order": (
        "order",
        "number placer_number patient_id priority requester_id clinical_history ordered_at cancelled_at ward",
    ),
    "order_item": ("item", "test_id specimen_id reason"),
    "specimen": ("specimen", "barcode type collected_at received_at reject_code reject_reason order_id"),
    "patient": ("patient", "family given birth_date sex merged_into_id"),
    "patient_identifier": ("identifier", "authority value type ended_at patient_id"),
}  # fmt: skip
ENDED = "('cancelled', 'rejected')"


def upgrade() -> None:
    op.execute("alter table lab.report add constraint report_organization_id_id_key unique (organization_id, id)")
    for statement in TABLES:
        op.execute(statement)
    op.execute("create index report_due_order_id_idx on lab.report_due (order_id)")
    op.execute(
        "alter table lab.report add column digest bytea, add column preliminary boolean default false not null,"
        " add column paper text default 'a4' not null, add column language text default 'en' not null"
    )
    op.execute("revoke update on lab.report from labora_app")
    for name, granted in GRANTS.items():
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
        op.execute(f"grant {granted} on lab.{name} to labora_app")
    for name, body in FUNCTIONS.items():
        op.execute(
            f"create function lab.{name}() returns trigger language plpgsql set search_path = pg_catalog as $$"
            f"begin {DUE} {body}; return null; end $$"
        )
    for statement in OF_ROWS:
        op.execute(statement)
    for table, (kind, columns) in OF_COLUMNS.items():
        changed = " or ".join(f"old.{column} is distinct from new.{column}" for column in columns.split())
        if table == "order_item":  # of its steps an EMR's report says only that there will be no result
            changed += f" or (old.status in {ENDED} or new.status in {ENDED}) and old.status <> new.status"
        op.execute(
            f"create trigger report_due_changed after update on lab.{table} for each row when ({changed})"
            f" execute function lab.report_due_of_{kind}()"
        )
