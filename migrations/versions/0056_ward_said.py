"""When the ward of an order was said, by the hospital's clock: what a hospital said before that and tells late is not
where the patient is now."""

from __future__ import annotations

from alembic import op

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.lab_order add column ward_at timestamptz")
