"""That the time of its collection was told of a result that was there: which version it stood in, by which id what is
shown since is known to those who keep it, and since when."""

from __future__ import annotations

from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table lab.result add column told_of uuid, add column told_id uuid, add column told_at timestamptz"
    )
