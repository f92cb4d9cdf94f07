"""An order that is committed while an analyzer begins to be told of its work is due to it all the same.

Whether an analyzer is told of its work is read by the triggers that make items due: until they are committed they share
a lock with whoever changes it (`store.worklists`).
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# Before its first other statement: in a function each statement sees what was committed before it.
SHARED = "perform pg_advisory_xact_lock_shared(hashtextextended('labora worklist ' || {of}::text, 0)){rows};"
ADDED = SHARED.format(of="t.of", rows=" from (select distinct organization_id as of from added) t")
CHANGED = SHARED.format(of="t.of", rows=" from (select distinct organization_id as of from changed) t")
NEW = SHARED.format(of="new.organization_id", rows="")
MEASURABLE = "('received', 'in_progress')"
FUNCTION = """
create or replace function lab.{name}() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
{body}
    return null;
end $$
"""
ITEM = f"""
    if tg_op = 'UPDATE' then
        {NEW}
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
            select id, new.id, new.organization_id from lab.analyzer
            where organization_id = new.organization_id and worklist on conflict do nothing;
    else
        {ADDED}
        insert into lab.work_due (analyzer_id, order_item_id, organization_id)
            select a.id, i.id, i.organization_id from added i join lab.analyzer a using (organization_id)
            where i.status in {MEASURABLE} and a.worklist on conflict do nothing;
    end if;
"""  # noqa: S608 - words of ours
AGAIN = f"""
    {NEW}
    insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id
          from lab.order_item i join lab.analyzer a on a.organization_id = i.organization_id
         where i.organization_id = new.organization_id and i.id = new.order_item_id and i.status in {MEASURABLE}
           and a.worklist
        on conflict do nothing;
"""  # noqa: S608 - words of ours
TEST = f"""
    {CHANGED}
    insert into lab.work_due (analyzer_id, order_item_id, organization_id)
        select a.id, i.id, i.organization_id
          from (select distinct organization_id, test_id from changed where test_id is not null) m
          join lab.analyzer a on a.organization_id = m.organization_id and a.worklist
          join lab.lab_order o on o.organization_id = m.organization_id and o.waiting
          join lab.order_item i on i.order_id = o.id and i.test_id = m.test_id and i.status in {MEASURABLE}
        on conflict do nothing;
"""  # noqa: S608 - words of ours


def upgrade() -> None:
    for name, body in (("item_due", ITEM), ("item_due_again", AGAIN), ("test_due_again", TEST)):
        op.execute(FUNCTION.format(name=name, body=body))
