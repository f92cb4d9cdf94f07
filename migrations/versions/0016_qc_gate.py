"""What the gate of quality control reads beside 0014.

No index is added for what is looked up when a control fails. Results that wait are found by `result_waiting_idx`, which
holds them and no others; those that were released since a time by `result_organization_id_updated_at_idx`: a result's
current version cannot have been made before it was measured. An index of their own would be one more to keep for every
result that is written, and a control fails seldom.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Whoever decides about patients' results keeps this lock until the transaction ends, so that whoever judges a control
# knows that nothing which was decided before is still on its way; in the order of ids, so that no two wait for each
# other. Volatile: what is read after the lock was waited for is what was committed by then.
DECIDING = """
create function lab.qc_deciding(analyzers uuid[]) returns table (
    analyzer_id uuid, versions bigint, changed_at timestamptz
) language plpgsql volatile set search_path = pg_catalog as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended(
        'labora qc ' || current_setting('labora.org') || a.id::text, 0))
       from (select distinct unnest(analyzers) as id order by 1) a;
    return query
    select s.analyzer_id, sum(s.version)::bigint, max(s.updated_at)
      from lab.qc_stream s where s.analyzer_id = any(analyzers) group by s.analyzer_id;
end $$
"""


def upgrade() -> None:
    op.execute("alter table lab.qc_lookback add column filled_at timestamptz")
    op.execute("create index worksheet_item_result_id_idx on lab.worksheet_item (result_id)")  # of what it was typed
    op.execute(DECIDING)
    op.execute("revoke execute on function lab.qc_deciding(uuid[]) from public")
    op.execute("grant execute on function lab.qc_deciding(uuid[]) to labora_app")
