"""One index less for every result: what an analyzer called its specimen begins the result's natural key.

Of ids longer than what the key has of them, which many specimens may begin with, there is still one, and of what was
typed or calculated, whose specimen may have got another barcode since.
"""

from __future__ import annotations

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

NAME = "result_version_organization_id_specimen_as_sent_idx"


def upgrade() -> None:
    op.execute(f"drop index lab.{NAME}")
    op.execute(
        f"create index {NAME} on lab.result_version (organization_id, specimen_as_sent text_pattern_ops)"
        " where octet_length(specimen_as_sent) > 12 or code = ''"
    )
