"""What was ordered since is found by an index: who works off requests asks for today's by `authored`."""

from __future__ import annotations

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index lab_order_organization_id_ordered_at_idx on lab.lab_order (organization_id, ordered_at)")
