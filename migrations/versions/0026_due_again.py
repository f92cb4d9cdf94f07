"""Analyzers that are told of their work without asking look again at what is to be measured although its order item
stays as it is: another run of a result that is held, a result that a person discarded, a test that a code map names
since a moment."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

MEASURABLE = "('received', 'in_progress')"
ITEM = f"""
create function lab.item_due_again() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id
          from lab.order_item i join lab.analyzer a on a.organization_id = i.organization_id
         where i.organization_id = new.organization_id and i.id = new.order_item_id and i.status in {MEASURABLE}
           and a.worklist
        on conflict do nothing;
    return null;
end $$
"""  # noqa: S608 - words of ours
TEST = f"""
create function lab.test_due_again() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id
          from (select distinct organization_id, test_id from changed where test_id is not null) m
          join lab.analyzer a on a.organization_id = m.organization_id and a.worklist
          join lab.lab_order o on o.organization_id = m.organization_id and o.waiting
          join lab.order_item i on i.order_id = o.id and i.test_id = m.test_id and i.status in {MEASURABLE}
        on conflict do nothing;
    return null;
end $$
"""  # noqa: S608 - words of ours


def upgrade() -> None:
    op.execute(ITEM)
    op.execute(TEST)
    op.execute(
        "create trigger follow_up_due after insert on lab.follow_up for each row"
        " when (new.kind in ('rerun', 'dilution')) execute function lab.item_due_again()"
    )
    op.execute(
        "create trigger result_due after update of status on lab.result for each row"
        " when (new.status in ('cancelled', 'entered-in-error') and old.status <> new.status"
        " and new.order_item_id is not null) execute function lab.item_due_again()"
    )
    for what in ("insert", "update"):
        op.execute(
            f"create trigger code_map_due_{what} after {what} on lab.code_map referencing new table as changed"
            " for each statement execute function lab.test_due_again()"
        )
