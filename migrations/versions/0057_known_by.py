"""The placers' numbers by which each test of an order is known, in what is kept of the order's versions too.

An order that several services share has the number of the first, or of their group; each of its requests says its own.
"""

from __future__ import annotations

from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None

# [authority, number] of each service that an item is of, before them the order's own where it is no service's but that
# of a group of theirs; null of an item that is of none. One that ended, or was changed to be without it, asks for it no
# more: what others ask for is not known by it; what nobody does is known by all that did. In plpgsql, which plans it
# once for each connection: SQL would for each order that is read or kept.
KNOWN_BY = """
create function lab.known_by(item uuid, status text, number text, authority text) returns jsonb
language plpgsql stable as $$
begin
    return case when exists (select from lab.placer_item w where w.order_item_id = item) then (
        with p as (
            select q.* from lab.placer_item w join lab.placer_order q on q.id = w.placer_order_id
             where w.order_item_id = item and (
                w.dropped_at is null and q.ended_at is null or known_by.status in ('cancelled', 'rejected')))
        select coalesce(jsonb_agg(jsonb_build_array(x.authority, x.number) order by x.place, x.id), '[]') from (
            select 0 as place, null::uuid as id, known_by.authority, known_by.number
             where known_by.number <> '' and exists (
                select from p where p.group_number = known_by.number and p.group_authority = known_by.authority)
               and not exists (
                select from lab.placer_order q
                 where q.number = known_by.number and q.authority = known_by.authority)
            union all
            select 1, p.id, p.authority, p.number from p) x) end;
end $$
"""
# As in 0034, with the numbers of each item.
KEEP = """
create or replace function lab.keep_{name}() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)
        select t.organization_id, 'lab_order', t.id, t.updated_at, t.version,
            jsonb_build_object('number', t.number, 'placer_number', t.placer_number,
            'placer_authority', t.placer_authority, 'priority', t.priority, 'ordered_at', t.ordered_at,
            'patient_id', t.patient_id, 'clinical_history', t.clinical_history, 'ward', t.ward,
            'cancelled', t.cancelled_at is not null, 'cancel_reason', t.cancel_reason,
            'requester_id', t.requester_id,
            'items', coalesce((
                select jsonb_agg(jsonb_build_object('id', i.id, 'test_code', m.code, 'test_name', m.name,
                    'loinc', m.loinc, 'status', i.status, 'reason', i.reason, 'specimen_id', i.specimen_id,
                    'placers', lab.known_by(i.id, i.status, t.placer_number, t.placer_authority)) order by i.id)
                from lab.order_item i join lab.test m on m.id = i.test_id
                where i.organization_id = t.organization_id and i.order_id = t.id), '[]'))
          from lab.lab_order t
         where t.organization_id = new.organization_id and t.id = {id} and not exists (
             select from lab.record_version k
              where k.organization_id = t.organization_id and k.kind = 'lab_order' and k.record_id = t.id
                and k.updated_at = t.updated_at and k.version = t.version)
        on conflict do nothing;
    return null;
end $$
"""
# Whose a number's items are.
OF_ITEM = "(select i.order_id from lab.order_item i where i.id = new.order_item_id)"
OF_NUMBER = """any(array(select i.order_id from lab.placer_item w join lab.order_item i on i.id = w.order_item_id
    where w.placer_order_id = new.id))"""


def upgrade() -> None:
    op.execute(KNOWN_BY)
    op.execute("revoke execute on function lab.known_by(uuid, text, text, text) from public")
    op.execute("grant execute on function lab.known_by(uuid, text, text, text) to labora_app")
    of = {"lab_order": "new.id", "order_item": "new.order_id", "placer_item": OF_ITEM, "placer_order": OF_NUMBER}
    for name, id in of.items():
        op.execute(KEEP.format(name=name, id=id))
    for name, when in (("placer_item", "insert or update of dropped_at"), ("placer_order", "update of ended_at")):
        op.execute(
            f"create constraint trigger {name}_version after {when} on lab.{name} deferrable initially deferred"
            f" for each row execute function lab.keep_{name}()"
        )
