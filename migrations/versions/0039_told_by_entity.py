"""A changed order looks for what its transaction has said of it among what was said of it, not among all that waits.

Counted while nothing waited for its position, the index of what waits looks like the shorter way; in a burst each
released order then read all that waited.
"""

from __future__ import annotations

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

# Only of rows that have no position yet: the transaction's number comes again after four billion others.
ORDER_CHANGED = """
create or replace function lab.order_changed() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    if not exists (
        select from (select seq, xmin from lab.outbox where entity_id = new.id offset 0) o
        where o.seq is null and o.xmin = pg_current_xact_id()::xid
    ) then
        insert into lab.outbox (id, organization_id, kind, entity_id, entity_version)
            values (lab.new_id(), new.organization_id, 'order', new.id, new.version);
    end if;
    return null;
end $$
"""


def upgrade() -> None:
    op.execute(ORDER_CHANGED)
