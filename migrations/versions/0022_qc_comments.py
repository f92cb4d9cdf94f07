"""The controls that somebody said something of, by their stream: a chart asks for them, and there are few."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create index qc_result_commented_idx on lab.qc_result (analyzer_id, test_id, measured_at) where comment <> ''"
    )
