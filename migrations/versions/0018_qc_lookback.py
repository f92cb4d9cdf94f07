"""What was calculated of a result on a look-back list is on the list too.

`of_result_id` says of which: by that one's measurement it is there, and that one is measured again.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """alter table lab.qc_lookback_item add column of_result_id uuid,
           add constraint qc_lookback_item_of_result_id_fkey foreign key (organization_id, of_result_id)
               references lab.result (organization_id, id)"""
    )
