"""What the analyzer itself says against a control is kept with it: whoever judges it later is told too."""

from __future__ import annotations

from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.qc_result add column doubts text[] default '{}' not null")
