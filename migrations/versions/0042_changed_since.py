"""What has changed since, and what somebody asked for, are found by an index: EMRs poll by `_lastUpdated`.

Of results it is; patients, specimens and orders were read one after the other, and so were orders by who had asked.
"""

from __future__ import annotations

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

CHANGED = ("patient", "specimen", "lab_order")


def upgrade() -> None:
    for table in CHANGED:
        name = f"{table}_organization_id_updated_at_idx"
        op.execute(f"create index {name} on lab.{table} (organization_id, updated_at)")
    op.execute("create index lab_order_requester_id_idx on lab.lab_order (requester_id) where requester_id is not null")
