"""A number that came to stand for an item which somebody had ordered without one says so: only they cancel it."""

from __future__ import annotations

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table lab.placer_item add column ordered_before boolean default false not null")
