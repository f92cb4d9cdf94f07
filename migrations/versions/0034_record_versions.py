"""What patients, practitioners, specimens and orders were before: each version as it stood when it was committed.

A trigger keeps a version, at the end of the transaction that made it, so that nobody has to think of it and identifiers
or items that the same transaction adds are in it. What results change of an order is not kept here: their versions are
append-only themselves, and an order as it stood at an instant is put together from both (`store.history`). None of the
triggers is due to a statement that writes results: those set other columns than these name.
"""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
TABLE = """
create table lab.record_version (
    organization_id uuid not null,
    kind text not null,
    record_id uuid not null,
    updated_at timestamptz not null,
    version integer not null,
    body jsonb not null,
    constraint record_version_pkey primary key (organization_id, kind, record_id, updated_at, version),
    constraint record_version_organization_id_fkey foreign key (organization_id) references lab.organization (id)
)
"""
IDENTIFIERS = """coalesce((
    select jsonb_agg(jsonb_build_array(i.authority, i.value, i.type) order by i.id)
    from lab.{table} i where i.{column} = t.id and i.ended_at is null), '[]')"""
BODIES = {
    "patient": f"""jsonb_build_object('family', t.family, 'given', t.given, 'birth_date', t.birth_date, 'sex', t.sex,
        'birth_at', t.birth_at, 'active', t.active, 'merged_into', t.merged_into_id,
        'replaces', coalesce((
            select jsonb_agg(o.id order by o.id) from lab.patient o where o.merged_into_id = t.id), '[]'),
        'identifiers', {IDENTIFIERS.format(table="patient_identifier", column="patient_id")})""",  # noqa: S608 - words of ours
    "practitioner": f"""jsonb_build_object('family', t.family, 'given', t.given, 'role', t.role, 'active', t.active,
        'identifiers', {IDENTIFIERS.format(table="practitioner_identifier", column="practitioner_id")})""",
    "specimen": """jsonb_build_object('barcode', t.barcode, 'type', t.type, 'status', t.status, 'state', t.state,
        'patient_id', t.patient_id, 'order_id', t.order_id, 'collected_at', t.collected_at,
        'received_at', t.received_at, 'reject_code', t.reject_code, 'reject_reason', t.reject_reason,
        'container', t.container, 'parent_id', t.parent_id, 'collected_by', t.collected_by,
        'time_point_min', t.time_point_min, 'received_by', t.received_by)""",
    "lab_order": """jsonb_build_object('number', t.number, 'placer_number', t.placer_number,
        'placer_authority', t.placer_authority, 'priority', t.priority, 'ordered_at', t.ordered_at,
        'patient_id', t.patient_id, 'clinical_history', t.clinical_history, 'ward', t.ward,
        'cancelled', t.cancelled_at is not null, 'cancel_reason', t.cancel_reason,
        'requester_id', t.requester_id,
        'items', coalesce((
            select jsonb_agg(jsonb_build_object('id', i.id, 'test_code', m.code, 'test_name', m.name, 'loinc', m.loinc,
                'status', i.status, 'reason', i.reason, 'specimen_id', i.specimen_id) order by i.id)
            from lab.order_item i join lab.test m on m.id = i.test_id
            where i.organization_id = t.organization_id and i.order_id = t.id), '[]'))""",
}
# `{id}`: of the record that a row of the table belongs to. Several rows of one transaction keep one version.
KEEP = """
create function lab.keep_{name}() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)
        select t.organization_id, '{kind}', t.id, t.updated_at, t.version, {body}
          from lab.{kind} t
         where t.organization_id = new.organization_id and t.id = {id} and not exists (
             select from lab.record_version k
              where k.organization_id = t.organization_id and k.kind = '{kind}' and k.record_id = t.id
                and k.updated_at = t.updated_at and k.version = t.version)
        on conflict do nothing;
    return null;
end $$
"""
TRIGGER = """
create constraint trigger {name} after {when} on lab.{table} deferrable initially deferred
    for each row {condition}execute function lab.keep_{function}()
"""
# Those that results change are not among them: version, updated_at, waiting.
ORDER_COLUMNS = (
    "number, placer_number, placer_authority, priority, ordered_at, patient_id, requester_id, clinical_history, ward,"
    " cancelled_at, cancel_reason"
)
ENDED = "('cancelled', 'rejected')"


def upgrade() -> None:
    op.execute(TABLE)
    for kind, body in BODIES.items():
        # As far back as is known. The owner is held to the policies too, of which none is about all organizations.
        tables = {
            kind,
            "patient_identifier",
            "practitioner_identifier",
            "order_item",
            "test",
            "practitioner",
            "patient",
        }
        for table in sorted(tables):
            op.execute(f"alter table lab.{table} no force row level security")
        op.execute(
            "insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)"  # noqa: S608
            f" select t.organization_id, '{kind}', t.id, t.updated_at, t.version, {body} from lab.{kind} t"
        )
        for table in sorted(tables):
            op.execute(f"alter table lab.{table} force row level security")
        op.execute(KEEP.format(name=kind, kind=kind, body=body, id="new.id"))
    op.execute(KEEP.format(name="order_item", kind="lab_order", body=BODIES["lab_order"], id="new.order_id"))
    for kind in ("patient", "practitioner", "specimen"):
        triggers(kind, "insert or update", "")
    triggers("lab_order", f"insert or update of {ORDER_COLUMNS}", "")
    triggers("order_item", "insert or update of specimen_id, test_id", "")
    ends = f"when (old.status in {ENDED} is distinct from new.status in {ENDED}) "
    triggers("order_item", "update of status", ends, name="order_item_ended")
    op.execute("alter table lab.record_version enable row level security")
    op.execute("alter table lab.record_version force row level security")
    op.execute(f"create policy organization on lab.record_version using ({OWN}) with check ({OWN})")
    op.execute("grant select, insert on lab.record_version to labora_app")


def triggers(table: str, when: str, condition: str, name: str = "") -> None:
    named = f"{name or table}_version"
    op.execute(TRIGGER.format(name=named, when=when, table=table, condition=condition, function=table))
