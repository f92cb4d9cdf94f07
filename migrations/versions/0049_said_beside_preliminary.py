"""An order that changes says so also where a result of it that is not released was told of in the same transaction.

An EMR that may not see such a result was told of neither: of a test that a rule added to the order it heard with the
order's next change.
"""

from __future__ import annotations

from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

# As in 0047, but for `kind`.
ORDERS_CHANGED = """
create or replace function lab.orders_changed() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.outbox (id, organization_id, kind, entity_id, entity_version)
        select lab.new_id(), n.organization_id, 'order', n.id, n.version
          from (select organization_id, id, max(version) filter (where now_so) as version
                  from (select organization_id, id, updated_at, version, false as now_so from former
                        union all select organization_id, id, updated_at, version, true from changed) each
                 group by organization_id, id
                having min(updated_at) <> max(updated_at) or min(version) <> max(version)) n
         where not exists (
            select from (select seq, kind, xmin from lab.outbox where entity_id = n.id offset 0) o
             where o.seq is null and o.kind = 'order' and o.xmin = pg_current_xact_id()::xid);
    return null;
end $$
"""


def upgrade() -> None:
    op.execute(ORDERS_CHANGED)
