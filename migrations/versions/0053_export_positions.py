"""Where the feed of changes stood when an export began: what came after it is known by that, whatever a clock said."""

from __future__ import annotations

from alembic import op

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.export_job add column position bigint")
