"""One index less for every result: a first version is found by its own id, which is its result's.

Only later versions are found by whose they are, and those that were made before this migration, whose ids are others.
"""

from __future__ import annotations

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("drop index lab.result_version_result_id_idx")
    op.execute("create index result_version_result_id_idx on lab.result_version (result_id) where id <> result_id")
